//! Revisions: what a commit does to the list of sectors, and the host's signature for it.
//!
//! A period is proven with the revision that the chain knew when it ended. Appending leaves that one's
//! list where it was, at the front; removing does not. So no sector is removed from shortly before
//! a period's end, when the host publishes, until the chain has settled the period.

use super::core::{Ask, Host, Live, bad, fence};
use super::message::{Commit, MAX_COMMIT, Refusal, SealedDescriptor};
use super::store::{HostStore, HostWrite};
use crate::contract::{SignedRevision, storage_pay};
use crate::hash::{Digest, SectorRoot, digest};
use crate::ledger::state::Contract;
use crate::sector::{SectorEntry, SectorTree};
use crate::signature::Signature;
use crate::slab::MAX_DESCRIPTOR;
use crate::units::{Amount, ChainTime, Millis};

/// What a commit makes of a contract's list.
struct Change {
    /// Entries before this index stay.
    from: usize,
    /// What follows them.
    tail: Vec<SectorEntry>,
    removed: Vec<SectorEntry>,
    tree: SectorTree,
}

impl<S: HostStore> Host<S> {
    /// Checks a commit and makes it durable; the contract is locked meanwhile, so one is in flight.
    pub(super) fn commit(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        commit: Commit,
    ) -> Result<Signature, Refusal> {
        // The fence comes first: a writer whose contract another node has renewed learns why.
        fence(ask.epoch(), &live.record.promised)?;
        let contract = ask.running(live)?;
        check_bounds(&commit)?;
        let fingerprint = digest("samara v1 host commit", &commit);
        let latest = live.record.revision.revision;
        if commit.revision.number == latest.number && live.record.commit == fingerprint {
            return Ok(live.record.revision.host);
        }
        self.check_revision(ask, live, &commit)?;
        if !commit.remove.is_empty() && self.is_closing(contract, ask.facts.now) {
            return Err(Refusal::Busy(
                "the period ends: sectors are removed after its proof".into(),
            ));
        }
        let change = self.change(live, &commit)?;
        let (root, size) = (change.tree.root(), change.tree.bytes());
        if (root, size) != (commit.revision.data_root, commit.revision.size) {
            return Err(bad(format!("the sectors give {size} bytes under root {root}")));
        }
        if size > latest.size {
            check_funds(ask.facts.now, contract, live, size)?;
        }
        let descriptors = self.count_descriptors(ask, live, &commit.descriptors)?;
        let listed = (change.from + change.tail.len()) as u64;
        if descriptors > listed.saturating_mul(2).saturating_add(64) {
            return Err(bad(format!("{descriptors} descriptors for {listed} sectors")));
        }
        self.carry_out(ask, live, commit, change, fingerprint, descriptors)
    }

    fn check_revision(&self, ask: &Ask<'_>, live: &Live, commit: &Commit) -> Result<(), Refusal> {
        let revision = &commit.revision;
        let latest = live.record.revision.revision.number;
        if Some(revision.number) != latest.checked_add(1) {
            return Err(Refusal::RevisionConflict { given: revision.number, latest });
        }
        if revision.contract != ask.id || revision.epoch != ask.epoch() {
            return Err(bad("the revision is of another contract or epoch than the request"));
        }
        if self.is_ending(&ask.id, ask.facts.now) {
            return Err(Refusal::Busy("the contract is being renewed or closed".into()));
        }
        let message = revision.sign_bytes(&self.genesis);
        if !ask.id.verify(message.as_bytes(), &commit.renter) {
            return Err(bad("the contract's key did not sign the revision"));
        }
        Ok(())
    }

    fn change(&self, live: &Live, commit: &Commit) -> Result<Change, Refusal> {
        for entry in &commit.append {
            if live.size_of(&entry.root) != Some(entry.size) {
                return Err(Refusal::UnknownSector(entry.root));
            }
            if self.sectors.is_damaged(&entry.root) {
                return Err(Refusal::Damaged(entry.root));
            }
        }
        let length = live.list.len();
        let mut removals = Vec::with_capacity(commit.remove.len());
        for index in &commit.remove {
            match usize::try_from(*index) {
                Ok(index) if index < length => removals.push(index),
                _ => return Err(bad(format!("there is no sector {index} of {length} to remove"))),
            }
        }
        let from = removals.first().copied().unwrap_or(length);
        let mut tail = Vec::with_capacity(length - from + commit.append.len());
        let mut removed = Vec::with_capacity(removals.len());
        let mut next = removals.iter().peekable();
        for (index, entry) in live.list.iter().enumerate().skip(from) {
            if next.next_if(|removal| **removal == index).is_some() {
                removed.push(*entry);
            } else {
                tail.push(*entry);
            }
        }
        tail.extend(&commit.append);
        // Appending to the peaks is cheap; a removal needs the tree again.
        let kept =
            if from == length { live.tree.clone() } else { live.list[..from].iter().collect() };
        let tree = tail.iter().fold(kept, |mut tree, entry| {
            tree.append(entry);
            tree
        });
        Ok(Change { from, tail, removed, tree })
    }

    fn count_descriptors(
        &self,
        ask: &Ask<'_>,
        live: &Live,
        changes: &[SealedDescriptor],
    ) -> Result<u64, Refusal> {
        let mut count = live.record.descriptors;
        for change in changes {
            let present = self.store.descriptor(&ask.id, &change.tag)?.is_some();
            match (present, change.sealed.is_empty()) {
                (false, false) => count += 1,
                (true, true) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        Ok(count)
    }

    fn carry_out(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        commit: Commit,
        change: Change,
        fingerprint: Digest,
        descriptors: u64,
    ) -> Result<Signature, Refusal> {
        let host = self.key.sign(commit.revision.sign_bytes(&self.genesis).as_bytes());
        let mut record = live.record.clone();
        record.revision = SignedRevision { revision: commit.revision, renter: commit.renter, host };
        record.commit = fingerprint;
        self.raise(ask, &mut record)?;
        record.descriptors = descriptors;
        let settled: Vec<SectorRoot> = {
            let mut roots: Vec<_> = commit.append.iter().map(|entry| entry.root).collect();
            roots.sort_unstable();
            roots.dedup();
            roots.retain(|root| live.temporary.contains_key(root));
            roots
        };
        let mut writes = vec![HostWrite::Tail {
            contract: ask.id,
            from: change.from as u64,
            entries: change.tail.clone(),
        }];
        writes.extend(
            settled.iter().map(|root| HostWrite::TemporaryGone { contract: ask.id, root: *root }),
        );
        writes.extend(commit.descriptors.into_iter().map(|descriptor| HostWrite::Descriptor {
            contract: ask.id,
            tag: descriptor.tag,
            sealed: descriptor.sealed,
        }));
        self.persist(live, record, writes)?;
        live.list.truncate(change.from);
        live.list.extend(change.tail);
        live.tree = change.tree;
        for entry in &commit.append {
            live.committed.entry(entry.root).or_insert((entry.size, 0)).1 += 1;
            self.sectors.need(entry.root);
        }
        for root in settled {
            live.temporary.remove(&root);
            self.sectors.release(&self.store, root);
        }
        for entry in change.removed {
            if let Some((_, count)) = live.committed.get_mut(&entry.root) {
                *count -= 1;
                if *count == 0 {
                    live.committed.remove(&entry.root);
                }
            }
            self.sectors.release(&self.store, entry.root);
        }
        Ok(host)
    }
}

fn check_bounds(commit: &Commit) -> Result<(), Refusal> {
    let bounds = [
        ("appended sectors", commit.append.len(), MAX_COMMIT),
        ("removed sectors", commit.remove.len(), MAX_COMMIT),
        ("descriptors", commit.descriptors.len(), 2 * MAX_COMMIT),
    ];
    for (what, given, limit) in bounds {
        if given > limit {
            return Err(bad(format!("{given} {what} are over the limit of {limit}")));
        }
    }
    if !commit.remove.is_sorted_by(|before, after| before < after) {
        return Err(bad("the indexes to remove do not ascend"));
    }
    if let Some(long) = commit.descriptors.iter().find(|d| d.sealed.len() > MAX_DESCRIPTOR) {
        let length = long.sealed.len();
        return Err(bad(format!("a descriptor of {length} bytes is over {MAX_DESCRIPTOR}")));
    }
    let mut tags: Vec<_> = commit.descriptors.iter().map(|descriptor| descriptor.tag).collect();
    tags.sort_unstable();
    if tags.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad("a tag is listed twice"));
    }
    Ok(())
}

/// Growth must be paid for: until the end of the contract the funds cover the storage of all bytes,
/// the proofs, and what the vouchers owe.
fn check_funds(now: ChainTime, contract: &Contract, live: &Live, size: u64) -> Result<(), Refusal> {
    let terms = &contract.terms;
    let periods = terms.periods.saturating_sub(contract.period);
    let begun = contract.period_end().since(ChainTime(terms.period.0)).0;
    let left = contract.ends().since(ChainTime(begun).min(now));
    let storage = storage_pay(terms.storage_price, size, Millis(left.0));
    let proofs = terms.proof_fee.saturating_mul(u128::from(periods));
    let owed = live.voucher_total().saturating_sub(contract.redeemed);
    let needed = storage.saturating_add(proofs).saturating_add(owed);
    let funds: Amount = contract.funds;
    if needed > funds {
        let reason = format!("{size} bytes until the end need {needed}, and {funds} are left");
        return Err(Refusal::Terms(reason));
    }
    Ok(())
}
