//! Revisions of one contract, one after the other.
//!
//! Callers queue what they want; a task of its own takes all that waits into one revision, so neither
//! a slow host nor a cancelled caller leaves a revision half made. After a lost answer the host is
//! asked what it has: whatever it shows doubly signed is adopted, and what is still missing is sent
//! again. The renter's signature is on disk before a revision leaves.

use std::collections::BTreeSet;

use samara_protocol::contract::{Revision, SignedRevision};
use samara_protocol::hash::SectorRoot;
use samara_protocol::host::message::{
    Commit, ContractCall, HostResponse, MAX_COMMIT, Refusal, SealedDescriptor,
};
use samara_protocol::sector::SectorEntry;
use samara_protocol::signature::Signature;
use samara_protocol::sync::lock;
use tokio::sync::oneshot;

use super::error::ContractError;
use super::handle::ContractHandle;
use super::queue::{Data, Job, Prepared, Sectors};
use super::records::LiveRecord;
use crate::world::{Lane, Write};

/// Most bytes of descriptors in one revision, so that a commit stays a small message.
const MAX_DESCRIPTOR_BYTES: usize = 512 << 10;
/// Times that one batch is sent, with a look at the host's state in between.
const ATTEMPTS: u32 = 3;

impl ContractHandle {
    /// Appends and removes sectors and files descriptors, all in one new revision, durable at the
    /// host when it returns. Repeating it is harmless: sectors already there are not appended again,
    /// those not there are not missed.
    ///
    /// # Errors
    /// [`ContractError`]. After one that [may have taken effect](ContractError::is_in_doubt), the
    /// next commit finds out.
    pub async fn commit(
        &self,
        append: Vec<SectorEntry>,
        remove: Vec<SectorRoot>,
        descriptors: Vec<SealedDescriptor>,
    ) -> Result<SignedRevision, ContractError> {
        self.0.link.check_fence()?;
        let mut answers = Vec::new();
        let mut append = append.into_iter();
        let mut remove = remove.into_iter();
        let mut descriptors = descriptors.into_iter();
        loop {
            let (reply, answer) = oneshot::channel();
            let job = Job {
                append: append.by_ref().take(MAX_COMMIT / 2).collect(),
                remove: remove.by_ref().take(MAX_COMMIT / 2).collect(),
                descriptors: descriptors.by_ref().take(16).collect(),
                reply,
            };
            if job.is_empty() && !answers.is_empty() {
                break;
            }
            enqueue(self, job);
            answers.push(answer);
        }
        let mut last = self.revision();
        for answer in answers {
            let stopped = || ContractError::Stopped { host: self.host() };
            last = answer.await.map_err(|_| stopped())??;
        }
        Ok(last)
    }
}

impl ContractHandle {
    /// Whether the list of sectors behind the latest doubly signed revision has one: its host owes it.
    ///
    /// # Errors
    /// [`ContractError`] if the host has to be asked for the list and does not give it.
    pub async fn owes(&self, root: &SectorRoot) -> Result<bool, ContractError> {
        self.with_sectors(|sectors| sectors.present.contains(root)).await
    }

    /// The sectors of the latest revision, as its data root proves, each with its bytes.
    ///
    /// # Errors
    /// [`ContractError`].
    pub(crate) async fn listed(&self) -> Result<Vec<(SectorRoot, u64)>, ContractError> {
        let row = |entry: &SectorEntry| (entry.root, u64::from(entry.size.bytes()));
        self.with_sectors(|sectors| sectors.entries.iter().map(row).collect()).await
    }

    /// Reads the list behind the latest revision, once the host has shown which that is.
    async fn with_sectors<T>(&self, read: impl FnOnce(&Sectors) -> T) -> Result<T, ContractError> {
        let mut data = self.0.commits.data.lock().await;
        if !data.agreed {
            agree(self, &mut data).await?;
        }
        Ok(read(known(self, &mut data).await?))
    }
}

fn enqueue(handle: &ContractHandle, job: Job) {
    let mut waiting = handle.0.commits.lock();
    waiting.jobs.push_back(job);
    if std::mem::replace(&mut waiting.running, true) {
        return;
    }
    drop(waiting);
    let driver = drive(handle.clone());
    let spawner = handle.0.link.world().spawner.clone();
    spawner.spawn("contract commits", Box::pin(driver)).detach();
}

/// Commits what waits until nothing does.
async fn drive(handle: ContractHandle) {
    while let Some(batch) = next_batch(&handle) {
        let outcome = Box::pin(run(&handle, &batch)).await;
        // One caller's mistake (a sector that the host has dropped) must not fail the others.
        let alone = batch.len() > 1 && matches!(outcome, Err(ContractError::Refused { .. }));
        for job in batch {
            let (job, outcome) = if alone {
                let single = [job];
                let outcome = Box::pin(run(&handle, &single)).await;
                let [job] = single;
                (job, outcome)
            } else {
                (job, outcome.clone())
            };
            // A caller that was cancelled does not listen any more; its change was made all the same.
            let _ = job.reply.send(outcome);
        }
    }
}

/// Takes as many jobs as fit into one revision; nothing if none waits, and the driver ends.
fn next_batch(handle: &ContractHandle) -> Option<Vec<Job>> {
    let mut waiting = handle.0.commits.lock();
    let (mut batch, mut append, mut remove, mut bytes) = (Vec::new(), 0, 0, 0);
    while let Some(job) = waiting.jobs.front() {
        append += job.append.len();
        remove += job.remove.len();
        bytes += job.descriptor_bytes();
        let full = append > MAX_COMMIT || remove > MAX_COMMIT || bytes > MAX_DESCRIPTOR_BYTES;
        if full && !batch.is_empty() {
            break;
        }
        batch.extend(waiting.jobs.pop_front());
    }
    if batch.is_empty() {
        waiting.running = false;
        return None;
    }
    Some(batch)
}

/// Brings one batch into a revision, whatever happened to the one before.
async fn run(handle: &ContractHandle, batch: &[Job]) -> Result<SignedRevision, ContractError> {
    let mut data = handle.0.commits.data.lock().await;
    let mut sent: Option<Revision> = None;
    let mut failure = None;
    for _ in 0..ATTEMPTS {
        handle.0.link.check_fence()?;
        if !data.agreed {
            agree(handle, &mut data).await?;
        }
        let latest = handle.revision();
        if sent.is_some_and(|sent| sent == latest.revision) {
            return Ok(latest);
        }
        let prepared = prepare(handle, &mut data, batch).await?;
        let descriptors: Vec<_> = batch.iter().flat_map(|job| job.descriptors.clone()).collect();
        if prepared.append.is_empty() && prepared.remove.is_empty() && descriptors.is_empty() {
            return Ok(latest);
        }
        sent = Some(prepared.revision);
        match send(handle, &mut data, prepared, descriptors).await {
            Ok(signed) => return Ok(signed),
            Err(error) if is_conflict(&error) || error.is_in_doubt() => {
                data.agreed = false;
                failure = Some(error);
            }
            Err(error) => {
                data.pending = None;
                if let ContractError::Refused { refusal: Refusal::Payment { needed, .. }, .. } =
                    error
                {
                    return Err(handle.out_of_money(needed));
                }
                return Err(match error {
                    // The one thing that a host demands of growth beside its room.
                    ContractError::Refused { host, refusal: Refusal::Terms(reason) } => {
                        ContractError::Unfunded { host, contract: handle.id(), reason }
                    }
                    error => error,
                });
            }
        }
    }
    // The last answer was lost too: one more look decides.
    if agree(handle, &mut data).await.is_ok() {
        let latest = handle.revision();
        if sent.is_some_and(|sent| sent == latest.revision) {
            return Ok(latest);
        }
    }
    Err(failure.expect("invariant: every attempt that did not return left its failure"))
}

/// The list behind the latest revision, which the host was asked for.
async fn known<'a>(
    handle: &ContractHandle,
    data: &'a mut Data,
) -> Result<&'a Sectors, ContractError> {
    if data.known.is_none() {
        let listed = handle.0.link.sectors(&handle.revision()).await;
        // A commit that was given up may have come late: the list is then of a later revision.
        data.agreed &= listed.is_ok();
        data.known = Some(Sectors::of(listed?));
    }
    Ok(data.known.as_ref().expect("invariant: filled just above"))
}

/// Does `work` while revisions stand still: none is in flight, and the host has shown which is its
/// latest.
pub(super) async fn frozen<T>(
    handle: &ContractHandle,
    work: impl Future<Output = T>,
) -> Result<T, ContractError> {
    let mut data = handle.0.commits.data.lock().await;
    agree(handle, &mut data).await?;
    Ok(work.await)
}

fn is_conflict(error: &ContractError) -> bool {
    matches!(error, ContractError::Refused { refusal: Refusal::RevisionConflict { .. }, .. })
}

/// Asks the host for its latest revision and adopts it.
async fn agree(handle: &ContractHandle, data: &mut Data) -> Result<(), ContractError> {
    let known = handle.revision();
    // A revision below the known one is refused as a lie in there.
    let status = handle.latest().await?;
    handle.0.purse.learn(status.voucher_total, status.consumed);
    let shown = status.revision;
    if shown.revision != known.revision {
        let pending = data.pending.take().filter(|pending| pending.revision == shown.revision);
        match (pending, &mut data.known) {
            (Some(pending), Some(sectors)) => sectors.apply(&pending.append, &pending.remove),
            _ => data.known = None,
        }
        if shown.revision.number == known.revision.number {
            let reason = format!("it shows another revision {}", known.revision.number);
            return Err(handle.0.link.false_answer(reason));
        }
        keep(handle, shown).await?;
    }
    data.agreed = true;
    Ok(())
}

/// Computes the next revision: what the batch wants and the list does not show yet.
async fn prepare(
    handle: &ContractHandle,
    data: &mut Data,
    batch: &[Job],
) -> Result<Prepared, ContractError> {
    let latest = handle.revision();
    let sectors = known(handle, data).await?;
    let unwanted: BTreeSet<SectorRoot> =
        batch.iter().flat_map(|job| job.remove.iter().copied()).collect();
    let mut added = BTreeSet::new();
    let append: Vec<SectorEntry> = batch
        .iter()
        .flat_map(|job| job.append.iter().copied())
        .filter(|entry| !sectors.present.contains(&entry.root) && added.insert(entry.root))
        .collect();
    let remove: Vec<u64> = if unwanted.is_empty() {
        Vec::new()
    } else {
        let listed = (0u64..).zip(&sectors.entries);
        listed.filter(|(_, e)| unwanted.contains(&e.root)).map(|(index, _)| index).collect()
    };
    let (data_root, size) = if remove.is_empty() {
        let mut tree = sectors.tree.clone();
        append.iter().for_each(|entry| tree.append(entry));
        (tree.root(), tree.bytes())
    } else {
        let mut after = sectors.clone();
        after.apply(&append, &remove);
        (after.tree.root(), after.tree.bytes())
    };
    let link = &handle.0.link;
    let revision = Revision {
        contract: link.id(),
        number: latest.revision.number.saturating_add(1),
        size,
        data_root,
        epoch: link.writer().epoch(),
    };
    let renter = link.key().sign(revision.sign_bytes(link.genesis()).as_bytes());
    Ok(Prepared { revision, renter, append, remove })
}

/// Writes the renter's signature down, sends the revision, and keeps the host's answer.
async fn send(
    handle: &ContractHandle,
    data: &mut Data,
    prepared: Prepared,
    descriptors: Vec<SealedDescriptor>,
) -> Result<SignedRevision, ContractError> {
    let link = &handle.0.link;
    let pending = Some((prepared.revision, prepared.renter));
    write_down(handle, handle.revision(), pending).await?;
    data.pending = Some(prepared.clone());
    let Prepared { revision, renter, append, remove } = prepared;
    let commit = Commit { revision, renter, append, remove, descriptors };
    let answer = link.mutate(Lane::Control, ContractCall::Commit(Box::new(commit))).await?;
    let HostResponse::Committed(host) = answer else { return Err(link.unexpected("commit")) };
    let signed = SignedRevision { revision, renter, host };
    if !link.is_signed(&signed) {
        return Err(link.false_answer("its signature of the revision is not true"));
    }
    if let (Some(prepared), Some(sectors)) = (data.pending.take(), &mut data.known) {
        sectors.apply(&prepared.append, &prepared.remove);
    }
    keep(handle, signed).await?;
    Ok(signed)
}

/// Keeps a doubly signed revision, in memory and on disk.
async fn keep(handle: &ContractHandle, signed: SignedRevision) -> Result<(), ContractError> {
    *lock(&handle.0.revision) = signed;
    write_down(handle, signed, None).await
}

async fn write_down(
    handle: &ContractHandle,
    revision: SignedRevision,
    pending: Option<(Revision, Signature)>,
) -> Result<(), ContractError> {
    let record = LiveRecord {
        nonce: handle.0.nonce,
        terms: handle.0.terms.clone(),
        formed: handle.0.link.formed(),
        revision,
        pending,
        voucher_total: handle.voucher_total(),
        ends: handle.0.ends,
        labels: handle.0.labels.clone(),
    };
    let write = Write::Put(LiveRecord::key(handle.index()), record.encode());
    let stored = handle.0.link.world().store.commit(vec![write]).await;
    stored.map_err(|source| ContractError::Store { host: handle.host(), source })
}
