//! The decoders of an archive's documents: for the fuzz targets, which are in another crate.

use samara_protocol::journal::VaultId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ArchiveLimits;
use super::format::{
    ArchivedEvent, ArchivedVersion, FormatDocument, ManifestEntry, SettingsDocument,
    SignatureDocument, UsersDocument,
};
use super::read::{Fold, ManifestReader};

/// Reads one of the documents. The corpus counts on this order.
const READERS: [fn(&[u8]); 9] = [
    again::<FormatDocument>,
    again::<ArchivedEvent>,
    again::<ArchivedVersion>,
    again::<UsersDocument>,
    again::<SettingsDocument>,
    again::<SignatureDocument>,
    again::<ManifestEntry>,
    manifest,
    history,
];

/// Gives bytes to the reader with a number. What reads is written such that it reads the same.
///
/// # Panics
/// If it does not.
pub fn document(which: u8, bytes: &[u8]) {
    READERS[usize::from(which) % READERS.len()](bytes);
}

fn again<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) {
    let read = match serde_json::from_slice::<T>(bytes) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Ok(text) = serde_json::to_vec(&read) else { panic!("what was read cannot be written") };
    let same = serde_json::from_slice::<T>(&text).is_ok_and(|again| again == read);
    assert!(same, "what was written reads otherwise");
}

/// A manifest says the same in whatever pieces it comes.
fn manifest(bytes: &[u8]) {
    let read = |size: usize| {
        let mut reader = ManifestReader::new("manifest.json".into());
        let mut parts = 0;
        let mut fed = bytes.chunks(size).try_for_each(|piece| {
            reader.feed(piece, |_| {
                parts += 1;
                Ok(())
            })
        });
        fed = fed.and_then(|()| reader.finish());
        fed.ok().map(|()| parts)
    };
    assert_eq!(read(7), read(64 << 10), "a manifest depends on how it is read");
}

/// Events, one in a line, in their order: what follows and what does not.
fn history(bytes: &[u8]) {
    let mut fold = Fold::new(VaultId([0xab; 16]), ArchiveLimits::default().paths);
    for (seq, line) in (0u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let Ok(event) = serde_json::from_slice::<ArchivedEvent>(line) else { return };
        if let Err(error) = fold.take(ArchivedEvent { seq, ..event }) {
            return assert!(!error.to_string().is_empty());
        }
    }
    assert!(fold.versions().windows(2).all(|pair| pair[0] < pair[1]));
}
