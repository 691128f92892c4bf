//! Which entries there are, from their names alone: each at its place, none missing, none twice.

use samara_protocol::journal::VaultId;

use super::super::error::{ArchiveError, shown};
use super::super::format::{Names, ObjectUid, is_safe_tail};
use super::super::limits::ArchiveLimits;

/// What an entry is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event(u64),
    Version(ObjectUid, u64),
    File(ObjectUid, u64),
    Users,
    Settings,
    Records,
    Manifest,
    Signature,
    Format,
}

impl Kind {
    /// Its part's place among the parts.
    const fn rank(self) -> u8 {
        match self {
            Self::Format => 0,
            Self::Event(_) => 1,
            Self::Version(..) => 2,
            Self::File(..) => 3,
            Self::Users => 4,
            Self::Settings => 5,
            Self::Records => 6,
            Self::Manifest => 7,
            Self::Signature => 8,
        }
    }
}

/// The entries of an archive, by number in its directory: the format, the events, the versions, the
/// files, then five by themselves.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) names: Names,
    sid: String,
    rank: u8,
    pub(super) events: u64,
    /// Files and versions, in the order of the numbers.
    pub(super) versions: Vec<(ObjectUid, u64)>,
    files: usize,
}

impl Layout {
    /// After the first entry, which has this name.
    pub(super) fn begin(name: &str) -> Option<Self> {
        let sid = name.strip_suffix("/format.json")?;
        let vault: VaultId = sid.parse().ok()?;
        let (names, sid) = (Names::new(vault), sid.to_owned());
        // In lower case.
        let same = names.format() == name;
        let layout = Self { names, sid, rank: 0, events: 0, versions: Vec::new(), files: 0 };
        same.then_some(layout)
    }

    /// Which of the versions has this number.
    pub(super) fn position(&self, version: u64) -> Option<usize> {
        self.versions.binary_search_by_key(&version, |(_, version)| *version).ok()
    }

    /// Number of an event's entry.
    pub(super) const fn event(&self, seq: u64) -> usize {
        1 + seq as usize
    }

    /// Number of the entry of a version, by its place among them.
    pub(super) const fn version(&self, position: usize) -> usize {
        1 + self.events as usize + position
    }

    /// Number of the entry of a version's bytes.
    pub(super) const fn file(&self, position: usize) -> usize {
        self.version(position) + self.versions.len()
    }

    /// Number of the entry of the users; settings, table, manifest and signature follow.
    pub(super) const fn users(&self) -> usize {
        self.version(0) + 2 * self.versions.len()
    }

    /// The vault's id, in hex.
    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self, name: &str) -> Result<(), ArchiveError> {
        let kind = self.kind(name).ok_or_else(|| self.unknown(name))?;
        let rank = kind.rank();
        let misplaced = || Err(ArchiveError::Misplaced(shown(name.as_bytes())));
        let twice = || Err(ArchiveError::Twice(shown(name.as_bytes())));
        if rank < self.rank {
            let known = match kind {
                Kind::Event(seq) => seq < self.events,
                Kind::Version(uid, version) | Kind::File(uid, version) => {
                    self.position(version).is_some_and(|at| self.versions[at] == (uid, version))
                }
                _ => true,
            };
            return if known { twice() } else { misplaced() };
        }
        // What was before this part is all there.
        for passed in self.rank..rank {
            self.end_part(passed)?;
        }
        let again = rank == self.rank;
        self.rank = rank;
        match kind {
            Kind::Event(seq) if seq < self.events => return twice(),
            Kind::Event(found) if found > self.events => {
                return Err(ArchiveError::Gap { missing: self.events, found });
            }
            Kind::Event(_) => self.events = self.events.saturating_add(1),
            Kind::Version(uid, version) => match self.versions.last() {
                Some((_, before)) if version == *before => return twice(),
                Some((_, before)) if version < *before => return misplaced(),
                _ => self.versions.push((uid, version)),
            },
            Kind::File(uid, version) => self.take_file(name, uid, version)?,
            _ if again => return twice(),
            _ => {}
        }
        Ok(())
    }

    fn take_file(&mut self, name: &str, uid: ObjectUid, version: u64) -> Result<(), ArchiveError> {
        let before = self.files.checked_sub(1).and_then(|before| self.versions.get(before));
        match self.versions.get(self.files) {
            Some(expected) if *expected == (uid, version) => {
                self.files += 1;
                Ok(())
            }
            _ if before == Some(&(uid, version)) => {
                Err(ArchiveError::Twice(shown(name.as_bytes())))
            }
            Some((_, expected)) if *expected < version => {
                Err(ArchiveError::NoFile { version: *expected })
            }
            _ => Err(ArchiveError::Additional(shown(name.as_bytes()))),
        }
    }

    /// No entry follows.
    pub(super) fn end(&self) -> Result<(), ArchiveError> {
        (self.rank..=Kind::Signature.rank()).try_for_each(|rank| self.end_part(rank))
    }

    /// Whether a part that is passed is complete: `rank` is the part of the last entry, or behind it.
    fn end_part(&self, rank: u8) -> Result<(), ArchiveError> {
        let names = &self.names;
        let is_there = rank == self.rank;
        let single = match rank {
            1 if self.events == 0 => names.event(0),
            3 => {
                let next = self.versions.get(self.files);
                let missing = next.map(|(_, version)| ArchiveError::NoFile { version: *version });
                return missing.map_or(Ok(()), Err);
            }
            4 if !is_there => names.users(),
            5 if !is_there => names.settings(),
            6 if !is_there => names.records(),
            7 if !is_there => names.manifest(),
            8 if !is_there => names.signature(),
            _ => return Ok(()),
        };
        Err(ArchiveError::Missing(single))
    }

    /// What a name of exactly the format's form means.
    fn kind(&self, name: &str) -> Option<Kind> {
        let names = &self.names;
        let rest = name.strip_prefix(&self.sid)?.strip_prefix('/')?;
        let (folder, rest) = rest.split_once('/').unwrap_or(("", rest));
        match (folder, rest) {
            ("", "format.json") => Some(Kind::Format),
            ("", "manifest.json") => Some(Kind::Manifest),
            ("", "manifest.sig") => Some(Kind::Signature),
            ("meta", "users.json") => Some(Kind::Users),
            ("meta", "settings.json") => Some(Kind::Settings),
            ("meta", "records.csv") => Some(Kind::Records),
            ("events", rest) => {
                let seq = rest.split_once('/')?.1.strip_suffix(".json")?.parse().ok()?;
                Some(Kind::Event(seq)).filter(|_| names.event(seq) == name)
            }
            ("versions", rest) => {
                let (uid, version) = object(rest.strip_suffix(".json")?)?;
                Some(Kind::Version(uid, version)).filter(|_| names.version(uid, version) == name)
            }
            ("files", rest) => {
                let (object_part, tail) = rest.split_once("__")?;
                let (uid, version) = object(object_part)?;
                let canonical = object_part == format!("{uid}_{version}");
                Some(Kind::File(uid, version)).filter(|_| canonical && is_safe_tail(tail))
            }
            _ => None,
        }
    }

    fn unknown(&self, name: &str) -> ArchiveError {
        let lower = name.to_lowercase();
        let shown = shown(name.as_bytes());
        if lower != name && self.kind(&lower).is_some() {
            return ArchiveError::Case(shown);
        }
        ArchiveError::Name { name: shown, reason: "no entry of an archive has such a name" }
    }
}

fn object(text: &str) -> Option<(ObjectUid, u64)> {
    let (uid, version) = text.split_once('_')?;
    Some((ObjectUid::read(uid)?, version.parse().ok()?))
}

/// Refuses names that could lead anywhere but to themselves, each with its reason.
pub(super) fn check_name<'a>(
    name: &'a [u8],
    limits: &ArchiveLimits,
) -> Result<&'a str, ArchiveError> {
    let refused = |reason| ArchiveError::Name { name: shown(name), reason };
    let text = std::str::from_utf8(name).map_err(|_| refused("it is not UTF-8"))?;
    if text.is_empty() {
        return Err(refused("it is empty"));
    }
    if text.contains(char::is_control) {
        return Err(refused("it has control characters"));
    }
    if text.contains('\\') {
        return Err(refused("it has a backslash"));
    }
    if text.starts_with('/') {
        return Err(refused("it is absolute"));
    }
    if text.as_bytes().get(1) == Some(&b':') {
        return Err(refused("it begins with a drive"));
    }
    if text.ends_with('/') {
        return Err(refused("it is a folder"));
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused("a part of it is empty, '.' or '..'"));
    }
    let (what, limit) = ("an entry's nesting", limits.nesting as u64);
    let found = text.matches('/').count() as u64;
    if found > limit {
        return Err(ArchiveError::Limit { what, found, limit });
    }
    Ok(text)
}
