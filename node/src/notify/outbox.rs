//! Notices on disk: `notices.redb` in the data folder.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `version` (1), `next`, `ended` | number |
//! | `notices` | number | [`Kept`]: a notice, and how far each of its deliveries is |
//! | `ids` | id of a notice (16 bytes) | its number |
//!
//! Invariants: a number is never given twice; a notice is here before anybody is told of it, and its
//! deliveries are noted as done only after they are, so each is made at least once; at most [`CAPACITY`]
//! notices are kept, and those whose deliveries are all over go first.

use std::path::Path;

use redb::{ReadableDatabase as _, ReadableTable, TableDefinition};
use samara_protocol::encoding::DecodeError;
use samara_protocol::units::ChainTime;
use tokio_util::sync::CancellationToken;

use super::kept::{self, Delivery, Kept};
use super::notice::Notice;
use crate::database::{META, Reopening};

const NOTICES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notices");
const IDS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("ids");
/// Version of the database's layout written by this program.
const VERSION: u64 = 1;
/// Most notices that are kept.
pub const CAPACITY: usize = 10_000;

/// Why notices cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The database.
    #[error("the database of notices failed")]
    Database(#[from] redb::Error),
    /// Written by a newer program.
    #[error(
        "the database of notices has version {0}, this program reads {VERSION}: use a newer samara"
    )]
    Newer(u64),
    /// A row is not what was written.
    #[error(
        "notice {number} is damaged: stop the node and delete notices.redb, which holds nothing else"
    )]
    Damaged {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// A notice that is not over: its number, and its deliveries if it is known where it goes.
pub type Waiting = (u64, Option<Vec<Delivery>>);

/// What came of a new notice.
#[derive(Clone, Debug, PartialEq)]
pub struct Inserted {
    /// Its number.
    pub number: u64,
    /// Whether it was not there before.
    pub new: bool,
    /// A notice that had to go while deliveries of it were waiting.
    pub lost: Option<u64>,
}

/// The notices on disk. Every change is durable when it returns; all of it blocks.
#[derive(Debug)]
pub struct Outbox {
    database: Reopening,
    capacity: usize,
}

fn decoded(number: u64, bytes: &[u8]) -> Result<Kept, OutboxError> {
    kept::decode(number, bytes).map_err(|source| OutboxError::Damaged { number, source })
}

type Failable<T> = Result<Result<T, OutboxError>, redb::Error>;

impl Outbox {
    /// Opens the file, making it if it is not there.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn open(path: &Path) -> Result<Self, OutboxError> {
        Self::with_capacity(Reopening::file(path)?, CAPACITY)
    }

    fn with_capacity(database: Reopening, capacity: usize) -> Result<Self, OutboxError> {
        let version = database.versioned(VERSION, |write| {
            write.open_table(NOTICES)?;
            write.open_table(IDS)?;
            Ok(())
        })?;
        if version > VERSION {
            return Err(OutboxError::Newer(version));
        }
        Ok(Self { database, capacity })
    }

    /// Cancelled when the disk failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.database.broken()
    }

    /// Keeps a notice. One whose id is there already is left as it is.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn insert(
        &self,
        notice: Notice,
        taken: ChainTime,
        deliveries: Option<Vec<Delivery>>,
    ) -> Result<Inserted, OutboxError> {
        self.write(|meta, notices, ids| {
            if let Some(number) = ids.get(notice.id.0)?.map(|number| number.value()) {
                return Ok(Ok(Inserted { number, new: false, lost: None }));
            }
            let lost = match make_room(notices, ids, self.capacity)? {
                Ok(lost) => lost,
                Err(error) => return Ok(Err(error)),
            };
            let number = meta.get("next")?.map_or(1, |next| next.value());
            meta.insert("next", number.saturating_add(1))?;
            ids.insert(notice.id.0, number)?;
            let kept = Kept { number, notice, taken, dismissed: false, deliveries };
            notices.insert(number, kept.encode().as_slice())?;
            Ok(Ok(Inserted { number, new: true, lost }))
        })
    }

    /// Changes a notice, and forgets it when it is over and dismissed. `false` if it is not there.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn change(&self, number: u64, change: impl FnOnce(&mut Kept)) -> Result<bool, OutboxError> {
        self.write(|_, notices, ids| {
            let row = notices.get(number)?.map(|row| decoded(number, row.value()));
            let mut kept = match row {
                None => return Ok(Ok(false)),
                Some(Err(error)) => return Ok(Err(error)),
                Some(Ok(kept)) => kept,
            };
            change(&mut kept);
            if kept.dismissed && kept.is_over() {
                notices.remove(number)?;
                ids.remove(kept.notice.id.0)?;
            } else {
                notices.insert(number, kept.encode().as_slice())?;
            }
            Ok(Ok(true))
        })
    }

    /// Up to which time all were told of archives that were finished; nothing if nobody has noted any.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn ended(&self) -> Result<Option<u64>, OutboxError> {
        self.database.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            let ended = meta.get("ended")?.map(|ended| ended.value());
            Ok(Ok(ended))
        })?
    }

    /// Notes it. It never goes back.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn note_ended(&self, time: u64) -> Result<(), OutboxError> {
        self.write(|meta, _, _| {
            let before = meta.get("ended")?.map_or(0, |ended| ended.value());
            meta.insert("ended", before.max(time))?;
            Ok(Ok(()))
        })
    }

    /// One notice.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn get(&self, number: u64) -> Result<Option<Kept>, OutboxError> {
        self.database.with(|database| {
            let notices = database.begin_read()?.open_table(NOTICES)?;
            let row = notices.get(number)?;
            Ok(row.map(|row| decoded(number, row.value())).transpose())
        })?
    }

    /// Notices with numbers above this one that nobody has dismissed, in order, at most so many.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn list(&self, after: u64, limit: usize) -> Result<Vec<Kept>, OutboxError> {
        self.collect(after, limit, |kept| !kept.dismissed)
    }

    /// Numbers and deliveries of notices that are not over.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn waiting(&self) -> Result<Vec<Waiting>, OutboxError> {
        let mut waiting = Vec::new();
        let mut after = 0;
        loop {
            // Pages, so that not all texts are in memory at once.
            let page = self.collect(after, 256, |_| true)?;
            let Some(last) = page.last() else { return Ok(waiting) };
            after = last.number;
            let open = page.into_iter().filter(|kept| !kept.is_over());
            waiting.extend(open.map(|kept| (kept.number, kept.deliveries)));
        }
    }

    fn collect(
        &self,
        after: u64,
        limit: usize,
        wanted: impl Fn(&Kept) -> bool,
    ) -> Result<Vec<Kept>, OutboxError> {
        self.database.with(|database| {
            let notices = database.begin_read()?.open_table(NOTICES)?;
            let mut found = Vec::new();
            for row in notices.range(after.saturating_add(1)..)? {
                if found.len() >= limit {
                    break;
                }
                let (number, row) = row?;
                match decoded(number.value(), row.value()) {
                    Ok(kept) if wanted(&kept) => found.push(kept),
                    Ok(_) => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(found))
        })?
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Meta<'_>, &mut Notices<'_>, &mut Ids<'_>) -> Failable<T>,
    ) -> Result<T, OutboxError> {
        self.database.with(|database| {
            let write = database.begin_write()?;
            let outcome = work(
                &mut write.open_table(META)?,
                &mut write.open_table(NOTICES)?,
                &mut write.open_table(IDS)?,
            )?;
            // Without a commit nothing has changed.
            if outcome.is_ok() {
                write.commit()?;
            }
            Ok(outcome)
        })?
    }
}

type Meta<'a> = redb::Table<'a, &'static str, u64>;
type Notices<'a> = redb::Table<'a, u64, &'static [u8]>;
type Ids<'a> = redb::Table<'a, [u8; 16], u64>;

/// Removes the oldest notice that is over if there are as many as may be; if none is, the oldest one, and
/// says which.
fn make_room(
    notices: &mut Notices<'_>,
    ids: &mut Ids<'_>,
    capacity: usize,
) -> Failable<Option<u64>> {
    use redb::ReadableTableMetadata as _;
    if notices.len()? < capacity as u64 {
        return Ok(Ok(None));
    }
    let mut oldest = None;
    let mut over = None;
    for row in notices.iter()? {
        let (number, row) = row?;
        let number = number.value();
        let kept = match decoded(number, row.value()) {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(error)),
        };
        let is_over = kept.is_over();
        oldest.get_or_insert((number, kept.notice.id));
        if is_over {
            over = Some((number, kept.notice.id));
            break;
        }
    }
    let Some((number, id)) = over.or(oldest) else { return Ok(Ok(None)) };
    notices.remove(number)?;
    ids.remove(id.0)?;
    Ok(Ok(over.is_none().then_some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{News, NoticeId, State, Target};

    fn notice(number: u8) -> Notice {
        News::Test {}.notice(NoticeId([number; 16]), ChainTime(u64::from(number)))
    }

    fn outbox(folder: &tempfile::TempDir, capacity: usize) -> Outbox {
        let database = Reopening::file(&folder.path().join("notices.redb")).unwrap();
        Outbox::with_capacity(database, capacity).unwrap()
    }

    fn due() -> Option<Vec<Delivery>> {
        Some(vec![Delivery::due(Target::Mail, ChainTime(5))])
    }

    fn delivered(kept: &mut Kept) {
        for delivery in kept.deliveries.iter_mut().flatten() {
            delivery.state = State::Delivered(ChainTime(9));
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = outbox(&folder, 10);
        assert_eq!(first.insert(notice(1), ChainTime(3), due()).unwrap().number, 1);
        assert_eq!(first.insert(notice(2), ChainTime(4), None).unwrap().number, 2);
        drop(first);
        let again = outbox(&folder, 10);
        let kept = again.get(1).unwrap().unwrap();
        assert_eq!((kept.notice, kept.taken, kept.deliveries), (notice(1), ChainTime(3), due()));
        assert_eq!(again.waiting().unwrap(), [(1, due()), (2, None)]);
        // A notice that is told twice is one.
        let twice = again.insert(notice(2), ChainTime(9), due()).unwrap();
        assert_eq!(twice, Inserted { number: 2, new: false, lost: None });
        assert_eq!(again.list(0, 99).unwrap().len(), 2);
        assert_eq!(again.list(1, 99).unwrap()[0].number, 2);
        assert_eq!(again.list(0, 1).unwrap()[0].number, 1);
    }

    #[test]
    fn what_is_dismissed_goes_once_it_is_over_and_no_number_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&folder, 10);
        outbox.insert(notice(1), ChainTime(3), due()).unwrap();
        assert!(outbox.change(1, |kept| kept.dismissed = true).unwrap());
        assert!(outbox.list(0, 9).unwrap().is_empty());
        assert_eq!(outbox.waiting().unwrap().len(), 1);
        assert!(outbox.change(1, delivered).unwrap());
        assert_eq!(outbox.get(1).unwrap(), None);
        assert!(!outbox.change(1, delivered).unwrap());
        assert_eq!(outbox.insert(notice(1), ChainTime(3), due()).unwrap().number, 2);
    }

    #[test]
    fn those_that_are_over_make_room_first() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&folder, 3);
        for number in 1..=3 {
            outbox.insert(notice(number), ChainTime(0), due()).unwrap();
        }
        outbox.change(2, delivered).unwrap();
        assert_eq!(outbox.insert(notice(4), ChainTime(0), due()).unwrap().lost, None);
        let numbers = || outbox.list(0, 9).unwrap().iter().map(|k| k.number).collect::<Vec<_>>();
        assert_eq!(numbers(), [1, 3, 4]);
        assert_eq!(outbox.insert(notice(5), ChainTime(0), due()).unwrap().lost, Some(1));
        assert_eq!(numbers(), [3, 4, 5]);
    }

    #[test]
    fn the_time_of_the_last_end_is_kept_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notices.redb");
        let outbox = Outbox::open(&path).unwrap();
        assert_eq!(outbox.ended().unwrap(), None);
        outbox.note_ended(7).unwrap();
        outbox.note_ended(5).unwrap();
        drop(outbox);
        assert_eq!(Outbox::open(&path).unwrap().ended().unwrap(), Some(7));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notices.redb");
        drop(outbox(&folder, 3));
        let database = Reopening::file(&path).unwrap();
        let newer = database.with(|database| {
            let write = database.begin_write()?;
            write.open_table(META)?.insert("version", 2)?;
            write.commit()?;
            Ok(())
        });
        newer.unwrap();
        drop(database);
        assert!(matches!(Outbox::open(&path), Err(OutboxError::Newer(2))));
    }
}
