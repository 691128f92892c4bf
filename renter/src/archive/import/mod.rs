//! An archive into a new vault of this renter.
//!
//! ```text
//! name reserved ──► archive verified ──► bytes stored, or found here ──► events ──► counts compared ──► opened
//!       │                                                                                              with its users
//!       └── whatever fails: the vault ends, unseen, and so does the reservation
//! ```
//!
//! The vault *arrives*: from its reservation on it has its name and is not listed, and its events follow
//! under the numbers and times that the archive has. One entry opens it, together with the users that come
//! with it. So a crash leaves a reservation that nobody works on, which upkeep ends; and until it is opened
//! nobody has seen anything of it. Bytes that this renter has already are shared, not stored again.

mod error;
mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;

use samara_protocol::journal::{Change, Content, Made, UserId, VaultEvent, VaultId, VaultState};
use samara_protocol::units::Amount;

pub use self::error::ImportError;
use self::files::Places;
use super::error::ArchiveError;
use super::format::{ArchivedEvent, ArchivedUser, ManifestCounts, VaultHead};
use super::limits::ArchiveLimits;
use super::read::Signer;
use super::seal::Passphrase;
use super::shelf::Shelf;
use crate::contract::Budget;
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::vault::{Arrival, VaultError, Vaults, append_changes};
use crate::world::random_bytes;

/// Events that are read from an archive at a time.
const EVENTS: u64 = 256;
/// Longest new name, bytes.
const LONGEST_NAME: usize = 64;

/// An archive to be brought in.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// The file.
    pub source: PathBuf,
    /// Name of the new vault; that in the archive if none.
    pub name: Option<String>,
    /// What opens it, if it is encrypted.
    pub passphrase: Option<Passphrase>,
    /// How much of it is looked at.
    pub limits: ArchiveLimits,
    /// The most that storing it may cost.
    pub max_cost: Option<Amount>,
    /// Events and files that it must have, where somebody has agreed to so many.
    pub announced: Option<(u64, u64)>,
    /// Only look.
    pub dry_run: bool,
}

/// Whose the vault becomes, and which users come with it.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Its owner: who brings it in.
    pub owner: Option<UserId>,
    /// Who is who here, by the archive's ids. Those that are missing appear as nobody in particular.
    pub users: BTreeMap<UserId, UserId>,
    /// Settings of the renter that make those who are new known, written with the entry that opens the vault.
    pub settings: Vec<(String, Vec<u8>)>,
}

/// What was brought in, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportReport {
    /// The vault, as the archive calls it.
    pub vault: VaultHead,
    /// Its name here.
    pub name: String,
    /// Its id here; nothing after a dry run.
    pub id: Option<VaultId>,
    /// What the archive has.
    pub counts: ManifestCounts,
    /// Who has signed it.
    pub signer: Signer,
    /// Versions whose bytes this renter has already.
    pub shared_versions: u64,
    /// Their bytes.
    pub shared_bytes: u64,
    /// Bytes that were stored, or would be.
    pub stored_bytes: u64,
    /// What storing them costs at most.
    pub price: Amount,
    /// What it has cost.
    pub cost: Amount,
}

/// Tells how far an import is.
pub trait ImportLog: Send + Sync {
    /// A line for the log.
    fn say(&self, text: String);
    /// Who the users of an archive are here. Asked once, before anything is stored.
    fn admit(&self, users: &[ArchivedUser]) -> Admission;
    /// All is there, and the vault is about to be opened: from then on it is whole, whatever becomes of the
    /// caller. `false` gives it up.
    fn opening(&self, report: &ImportReport) -> bool;
}

impl Vaults {
    /// Brings an archive in. `ours` is the archive key of this node's words.
    pub(crate) async fn import(
        &self,
        request: &ImportRequest,
        ours: samara_protocol::signature::PublicKey,
        log: &dyn ImportLog,
        progress: &dyn Progress,
    ) -> Result<ImportReport, ImportError> {
        let wanted = request.name.as_deref().map(check_name).transpose()?;
        if request.dry_run {
            let shelf = self.open_archive(request, ours).await?;
            let name = wanted.map_or_else(|| shelf.vault().name.clone(), str::to_owned);
            self.check_free(&name)?;
            return self.look(request, shelf, name).await.map(|(report, ..)| report);
        }
        // A name that is given is taken before a byte is read.
        let (shelf, name) = match wanted {
            Some(name) => (None, name.to_owned()),
            None => {
                let shelf = self.open_archive(request, ours).await?;
                let name = shelf.vault().name.clone();
                (Some(shelf), name)
            }
        };
        let arrival = self.reserve(&name).await?;
        let id = arrival.id;
        log.say(format!("the name '{name}' is reserved"));
        let arrived = async {
            let shelf = match shelf {
                Some(shelf) => shelf,
                None => self.open_archive(request, ours).await?,
            };
            self.arrive(request, (id, name), shelf, log, progress).await
        };
        let arrived = arrived.await;
        if let Err(error) = &arrived {
            log.say(format!("it failed: {error}"));
            match self.end_arrival(id).await {
                Ok(()) => log.say("nothing of it is left, and the name is free again".to_owned()),
                Err(error) => log.say(format!("the name is freed later: {error}")),
            }
        }
        arrived
    }

    /// Opens and verifies the archive that is to be brought in.
    async fn open_archive(
        &self,
        request: &ImportRequest,
        ours: samara_protocol::signature::PublicKey,
    ) -> Result<Shelf, ImportError> {
        if self.world.files.stat(&request.source).await?.is_none() {
            return Err(ImportError::NoFile(request.source.clone()));
        }
        let file = self.world.files.open_seekable(&request.source).await?;
        let how = (request.passphrase.clone(), request.limits);
        Ok(Shelf::open(self.world.clone(), file, how, ours).await?)
    }

    /// Takes a name for a vault that is going to arrive.
    async fn reserve(&self, name: &str) -> Result<Arrival, ImportError> {
        crate::vault::check_name(name)?;
        // A name that a crash has left reserved is nobody's.
        self.end_abandoned_arrivals().await?;
        self.check_free(name)?;
        let id = VaultId(random_bytes(self.world.random.as_ref()));
        let change = Change::VaultReserved { vault: id, name: name.to_owned() };
        let arrival = self.arrivals.enter(id);
        let reserved = self.journal.append(vec![change]).await;
        reserved.map_err(|error| match error.code() {
            "exists" => ImportError::from(VaultError::Exists(name.to_owned())),
            _ => error.into(),
        })?;
        Ok(arrival)
    }

    fn check_free(&self, name: &str) -> Result<(), ImportError> {
        let taken = |state: &samara_protocol::journal::JournalState| {
            state.vaults.values().any(|vault| vault.name == name)
        };
        if self.journal.read(taken) {
            return Err(VaultError::Exists(name.to_owned()).into());
        }
        Ok(())
    }

    /// Verifies an archive, and says what bringing it in takes.
    async fn look(
        &self,
        request: &ImportRequest,
        mut shelf: Shelf,
        name: String,
    ) -> Result<(ImportReport, Shelf, Places), ImportError> {
        let counts = shelf.counts().clone();
        if let Some((events, files)) = request.announced {
            check_announced("events", counts.events, events)?;
            check_announced("files", counts.files, files)?;
        }
        let places = Places::find(self, &mut shelf).await?;
        let price = self.price_of_data(places.missing_bytes).await;
        let most = request.max_cost.unwrap_or(price);
        if price > most {
            return Err(ImportError::Price { price, most });
        }
        let report = ImportReport {
            vault: shelf.vault().clone(),
            name,
            id: None,
            signer: shelf.signer(),
            shared_versions: places.shared,
            shared_bytes: places.shared_bytes,
            stored_bytes: places.missing_bytes,
            price,
            cost: Amount::ZERO,
            counts,
        };
        Ok((report, shelf, places))
    }

    /// Everything between the reservation and the end.
    async fn arrive(
        &self,
        request: &ImportRequest,
        (id, name): (VaultId, String),
        shelf: Shelf,
        log: &dyn ImportLog,
        progress: &dyn Progress,
    ) -> Result<ImportReport, ImportError> {
        let (mut report, mut shelf, mut places) = self.look(request, shelf, name).await?;
        let counts = report.counts.clone();
        log.say(format!(
            "the archive is valid: {} events, {} versions, {} files",
            counts.events, counts.versions, counts.files
        ));
        let admission = log.admit(&shelf.users().await?);
        let most = request.max_cost.unwrap_or(report.price);
        let budget = Budget::new(most);
        let paying = self.within(budget.clone());
        let stored = places.store(&paying, &mut shelf, progress).await;
        let packed = stored.map_err(|error| match budget.is_exceeded() {
            // Prices have risen since.
            true => ImportError::Exceeded { most },
            false => error,
        })?;
        report.cost = budget.spent();
        log.say(format!(
            "{} bytes are stored, {} are shared with what is here",
            report.stored_bytes, report.shared_bytes
        ));
        self.replay(id, &mut shelf, &places, &admission, log, progress).await?;
        self.journal.read(|state| check_counts(state.vaults.get(&id), &counts))?;
        report.id = Some(id);
        if !log.opening(&report) {
            return Err(ImportError::Cancelled);
        }
        let settings = admission.settings.into_iter();
        let mut last: Vec<Change> =
            settings.map(|(name, value)| Change::Setting { name, value }).collect();
        last.push(Change::VaultOpened { vault: id, owner: admission.owner });
        self.journal.append(last).await?;
        drop(packed);
        log.say(format!("the vault '{}' is restored", report.name));
        Ok(report)
    }

    /// Brings the events in, in order.
    async fn replay(
        &self,
        id: VaultId,
        shelf: &mut Shelf,
        places: &Places,
        admission: &Admission,
        log: &dyn ImportLog,
        progress: &dyn Progress,
    ) -> Result<(), ImportError> {
        let total = shelf.counts().events;
        let now = self.world.clock.now();
        let mut meter = Meter::new(progress, Phase::Replaying, Unit::Events, Some(total), now);
        let mut next = 0;
        while next < total {
            let end = next.saturating_add(EVENTS).min(total);
            let events = shelf.events(next..end).await?;
            let changes = events.into_iter().map(|event| change(id, event, places, admission));
            let changes = changes.collect::<Result<Vec<_>, _>>()?;
            append_changes(self, changes).await?;
            next = end;
            meter.done = next;
            meter.report(None, self.world.clock.now());
            log.say(format!("{next} of {total} events restored"));
        }
        Ok(())
    }

    /// Ends a vault that does not arrive.
    async fn end_arrival(&self, id: VaultId) -> Result<(), ImportError> {
        let there = self.journal.read(|state| state.vaults.contains_key(&id));
        if there {
            let removed = crate::vault::vault_event(id, VaultEvent::Removed);
            self.journal.append(vec![removed]).await?;
        }
        Ok(())
    }

    /// Ends vaults that nobody brings in any more: their node has stopped, or lost its disk.
    pub(crate) async fn end_abandoned_arrivals(&self) -> Result<(), ImportError> {
        let arriving: Vec<VaultId> = self.journal.read(|state| {
            let arriving = state.vaults.iter().filter(|(_, vault)| vault.arriving);
            arriving.map(|(id, _)| *id).collect()
        });
        for id in arriving.into_iter().filter(|id| !self.arrivals.contains(*id)) {
            tracing::info!(vault = %id, "a vault that did not arrive is ended");
            self.end_arrival(id).await?;
        }
        Ok(())
    }
}

/// A new name has the form of a host's.
fn check_name(name: &str) -> Result<&str, ImportError> {
    let fits = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if name.len() <= LONGEST_NAME && name.split('-').all(fits) {
        return Ok(name);
    }
    Err(ImportError::Name(name.chars().filter(|c| !c.is_control()).take(80).collect()))
}

const fn check_announced(what: &'static str, found: u64, expected: u64) -> Result<(), ImportError> {
    if found == expected {
        return Ok(());
    }
    Err(ImportError::Announced { what, found, expected })
}

/// Compares what has arrived with what the archive counts.
fn check_counts(vault: Option<&VaultState>, counts: &ManifestCounts) -> Result<(), ImportError> {
    let gone = VaultState::default();
    let vault = vault.unwrap_or(&gone);
    let versions = vault.files.values().flat_map(|file| &file.versions);
    let kept = versions.filter(|version| version.file.content != Content::Erased);
    let (versions, bytes) = kept.fold((0, 0u64), |(count, bytes), version| {
        (count + 1, bytes.saturating_add(version.file.size))
    });
    let listed = vault.listed().filter(|(_, version)| version.file.content != Content::Erased);
    for (what, found, expected) in [
        ("events", vault.next, counts.events),
        ("versions", versions, counts.versions),
        ("files", listed.count() as u64, counts.files),
        ("bytes", bytes, counts.bytes),
    ] {
        if found != expected {
            return Err(ImportError::Counts { what, found, expected });
        }
    }
    Ok(())
}

/// The journal's entry for an event of an archive.
fn change(
    vault: VaultId,
    event: ArchivedEvent,
    places: &Places,
    admission: &Admission,
) -> Result<Change, ArchiveError> {
    let by = event.actor.and_then(|actor| admission.users.get(&actor).copied());
    let made = Made { chain_time: event.chain_time, by, first: Some(event.time) };
    let seq = event.seq;
    let event = event.change.into_event(|_| places.of(seq));
    Ok(Change::Vault { vault, number: seq, made, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_like_those_of_hosts() {
        for name in ["a", "home-2", "a-b-c", "0"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", "-", "a-", "-a", "a--b", "A", "a b", "é", "a/b", "..", long.as_str()] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
