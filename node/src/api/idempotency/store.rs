//! Requests that have keys, and their answers: `requests.redb` in the data folder.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `version` (1), `next` | number |
//! | `requests` | number | a row: key, time, digest of the request, answer |
//! | `keys` | digest of who asks and the key (32 bytes) | the number |
//!
//! Invariants: a request is here before its work begins; its answer is added once, after the work; at most
//! `CAPACITY` are kept, the newest, and none for longer than a day.

use std::path::Path;

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use samara_protocol::encoding;
use samara_protocol::units::{ChainTime, Millis};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::database::{META, Reopening};

const REQUESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("requests");
const KEYS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("keys");
const VERSION: u64 = 1;
const ROW_VERSION: u8 = 1;
/// Most requests that are kept.
const CAPACITY: u64 = 4_096;
/// How long a request is kept: a day.
const LIFETIME: Millis = Millis(24 * 3_600_000);

/// Why requests cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RequestsError {
    /// The database.
    #[error("the database of requests failed")]
    Database(#[from] redb::Error),
    /// Written by a newer program.
    #[error(
        "the database of requests has version {0}, this program reads {VERSION}: use a newer samara"
    )]
    Newer(u64),
}

/// An answer as it is given again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Where what was made is.
    pub location: Option<String>,
    /// Media type of the body.
    pub content_type: String,
    /// The body; nothing if it is too large to be kept.
    pub body: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    version: u8,
    key: [u8; 32],
    since: ChainTime,
    /// Digest of method, path and body.
    request: [u8; 32],
    answer: Option<Answer>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing was: the request is kept now, under this number, and its work may begin.
    First(u64),
    /// It came before.
    Before {
        /// With this request.
        request: [u8; 32],
        /// That was answered so; nothing if its end is not known.
        answer: Option<Answer>,
    },
}

/// The requests on disk. Every change is durable when it returns; all of it blocks.
#[derive(Debug)]
pub struct Requests {
    database: Reopening,
    capacity: u64,
}

impl Requests {
    /// Opens the file, making it if it is not there.
    ///
    /// # Errors
    /// [`RequestsError`].
    pub fn open(path: &Path) -> Result<Self, RequestsError> {
        Self::with_capacity(path, CAPACITY)
    }

    pub(super) fn with_capacity(path: &Path, capacity: u64) -> Result<Self, RequestsError> {
        let database = Reopening::file(path)?;
        let version = database.versioned(VERSION, |write| {
            write.open_table(REQUESTS)?;
            write.open_table(KEYS)?;
            Ok(())
        })?;
        if version > VERSION {
            return Err(RequestsError::Newer(version));
        }
        Ok(Self { database, capacity })
    }

    /// Cancelled when the disk failed: the process must end.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.database.broken()
    }

    /// Keeps a request, unless its key is known already.
    ///
    /// # Errors
    /// [`RequestsError::Database`].
    pub fn begin(
        &self,
        key: [u8; 32],
        request: [u8; 32],
        now: ChainTime,
    ) -> Result<Begun, RequestsError> {
        let begun = self.database.with(|database| {
            let write = database.begin_write()?;
            let begun = {
                let (mut requests, mut keys) =
                    (write.open_table(REQUESTS)?, write.open_table(KEYS)?);
                make_room(&mut requests, &mut keys, now, self.capacity)?;
                let known = keys.get(key)?.map(|number| number.value());
                let known = known.map(|number| requests.get(number)).transpose()?.flatten();
                match known.and_then(|row| decoded(row.value())) {
                    Some(row) => Begun::Before { request: row.request, answer: row.answer },
                    None => {
                        let mut meta = write.open_table(META)?;
                        let number = meta.get("next")?.map_or(1, |next| next.value());
                        meta.insert("next", number.saturating_add(1))?;
                        let version = ROW_VERSION;
                        let row = Row { version, key, since: now, request, answer: None };
                        requests.insert(number, encoding::encode(&row).as_slice())?;
                        keys.insert(key, number)?;
                        Begun::First(number)
                    }
                }
            };
            write.commit()?;
            Ok(begun)
        })?;
        Ok(begun)
    }

    /// Keeps the answer to a request, if that is still here.
    ///
    /// # Errors
    /// [`RequestsError::Database`].
    pub fn keep(&self, number: u64, answer: Answer) -> Result<(), RequestsError> {
        self.change(number, |row| Some(Row { answer: Some(answer), ..row }))
    }

    /// Forgets a request: its key may be used again.
    ///
    /// # Errors
    /// [`RequestsError::Database`].
    pub fn forget(&self, number: u64) -> Result<(), RequestsError> {
        self.change(number, |_| None)
    }

    fn change(
        &self,
        number: u64,
        change: impl FnOnce(Row) -> Option<Row>,
    ) -> Result<(), RequestsError> {
        self.database.with(|database| {
            let write = database.begin_write()?;
            {
                let (mut requests, mut keys) =
                    (write.open_table(REQUESTS)?, write.open_table(KEYS)?);
                let row = requests.get(number)?.and_then(|row| decoded(row.value()));
                let Some(row) = row else { return Ok(()) };
                let key = row.key;
                match change(row) {
                    Some(row) => {
                        requests.insert(number, encoding::encode(&row).as_slice())?;
                    }
                    None => {
                        requests.remove(number)?;
                        keys.remove(key)?;
                    }
                }
            }
            write.commit()?;
            Ok(())
        })?;
        Ok(())
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        use redb::ReadableDatabase as _;
        let count =
            |database: &redb::Database| Ok(database.begin_read()?.open_table(REQUESTS)?.len()?);
        self.database.with(count).unwrap()
    }
}

/// A row as it was written. One that is damaged or of another version is as good as none: it is overwritten
/// by the next request with its key.
fn decoded(bytes: &[u8]) -> Option<Row> {
    encoding::decode::<Row>(bytes).ok().filter(|row| row.version == ROW_VERSION)
}

type RequestTable<'a> = redb::Table<'a, u64, &'static [u8]>;
type KeyTable<'a> = redb::Table<'a, [u8; 32], u64>;

/// Removes what is too old, and the oldest if there are as many as may be.
fn make_room(
    requests: &mut RequestTable<'_>,
    keys: &mut KeyTable<'_>,
    now: ChainTime,
    capacity: u64,
) -> Result<(), redb::Error> {
    loop {
        let full = requests.len()? >= capacity;
        let Some((number, row)) =
            requests.first()?.map(|(n, row)| (n.value(), decoded(row.value())))
        else {
            return Ok(());
        };
        let old = row.as_ref().is_none_or(|row| now.0.saturating_sub(row.since.0) >= LIFETIME.0);
        if !full && !old {
            return Ok(());
        }
        requests.remove(number)?;
        match row {
            Some(row) => {
                keys.remove(row.key)?;
            }
            // Its key leads nowhere from now on, and gives way to the next request.
            None => tracing::warn!(number, "a kept request was damaged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: ChainTime = ChainTime(1_000_000);

    fn answer(body: &str) -> Answer {
        let content_type = "application/json".to_owned();
        Answer { status: 200, location: None, content_type, body: Some(body.into()) }
    }

    fn before(answer: Option<Answer>) -> Begun {
        Begun::Before { request: [2; 32], answer }
    }

    #[test]
    fn a_request_is_kept_over_a_crash_and_its_answer_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.redb");
        let begin = || {
            let requests = Requests::open(&path).unwrap();
            let begun = requests.begin([1; 32], [2; 32], NOW).unwrap();
            (requests, begun)
        };
        let (requests, first) = begin();
        assert_eq!(first, Begun::First(1));
        drop(requests);
        let (requests, again) = begin();
        assert_eq!(again, before(None));
        requests.keep(1, answer("{}")).unwrap();
        drop(requests);
        let (requests, again) = begin();
        assert_eq!(again, before(Some(answer("{}"))));
        requests.forget(1).unwrap();
        drop(requests);
        assert_eq!(begin().1, Begun::First(2));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_oldest_go_first_and_all_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let requests = Requests::with_capacity(&folder.path().join("requests.redb"), 3).unwrap();
        let begin = |key: u8, now| requests.begin([key; 32], [2; 32], now).unwrap();
        for key in 1..=4 {
            assert_eq!(begin(key, NOW), Begun::First(key.into()));
        }
        assert_eq!(requests.len(), 3);
        // One that is gone may be kept no more.
        requests.keep(1, answer("{}")).unwrap();
        let later = ChainTime(NOW.0 + LIFETIME.0 - 1);
        assert_eq!(begin(4, later), before(None));
        assert_eq!(begin(4, ChainTime(later.0 + 1)), Begun::First(5));
        assert_eq!(requests.len(), 1);
    }
}
