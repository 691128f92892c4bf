//! The words on disk: sealed under a passphrase, or plain in a 0600 file for nodes that must start
//! with nobody there.

use std::path::{Path, PathBuf};

use samara_protocol::keys::phrase::normalize;
use samara_protocol::keys::sealed::{
    self, Argon2Parameters, OpenError, SealHeader, SealedFormatError, SealedPhrase, SealingKey,
};
use samara_protocol::keys::{Phrase, PhraseError, phrase};
use zeroize::Zeroizing;

use super::private_file::{self, PrivateFileError, Readers};
pub use crate::stretch::StretchError;

/// Why words were not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A seal that anyone opens.
    #[error("an empty passphrase seals nothing")]
    EmptyPassphrase,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    /// The passphrase could not be stretched.
    #[error(transparent)]
    Stretch(#[from] StretchError),
    /// The file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
}

/// Why stored words were not read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("cannot use {}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SealedFormatError,
    },
    /// The passphrase could not be stretched.
    #[error(transparent)]
    Stretch(#[from] StretchError),
    /// The passphrase is another one, or the file was altered.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cipher's verdict.
        source: OpenError,
    },
    /// The plain file is not text.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The plain file's words are not a phrase.
    #[error("the words in {} are not a phrase", path.display())]
    Phrase {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: PhraseError,
    },
}

/// Stores words sealed under a passphrase, in a new file of mode 0600. Takes about 64 MiB of memory
/// and a fraction of a second.
///
/// # Errors
/// [`StoreError`]; nothing is left behind and nothing was overwritten.
pub fn store_sealed(path: &Path, phrase: &Phrase, passphrase: &str) -> Result<(), StoreError> {
    store_sealed_with(path, phrase, passphrase, Argon2Parameters::RECOMMENDED)
}

fn store_sealed_with(
    path: &Path,
    phrase: &Phrase,
    passphrase: &str,
    parameters: Argon2Parameters,
) -> Result<(), StoreError> {
    if passphrase.is_empty() {
        return Err(StoreError::EmptyPassphrase);
    }
    private_file::check_absent(path)?;
    let mut header = SealHeader { parameters, salt: [0; 16], nonce: [0; 24] };
    getrandom::fill(&mut header.salt).map_err(StoreError::Random)?;
    getrandom::fill(&mut header.nonce).map_err(StoreError::Random)?;
    let key = stretch(passphrase, &header)?;
    let sealed = SealedPhrase::seal(phrase, header, &key);
    Ok(private_file::create(path, &sealed.encode())?)
}

/// Reads words that [`store_sealed`] stored. Who else may read the file does not matter.
///
/// # Errors
/// [`LoadError`]; a wrong passphrase is [`LoadError::Open`].
pub fn load_sealed(path: &Path, passphrase: &str) -> Result<Phrase, LoadError> {
    let bytes = private_file::read(path, sealed::MAX_LEN, Readers::Anyone)?;
    let sealed = SealedPhrase::decode(&bytes)
        .map_err(|source| LoadError::Format { path: path.to_owned(), source })?;
    let key = stretch(passphrase, sealed.header())?;
    sealed.open(&key).map_err(|source| LoadError::Open { path: path.to_owned(), source })
}

/// Stores words as they are, on one line of a new file of mode 0600. Whoever reads that file, or a
/// backup of its disk, owns everything: for unattended nodes, if the operator says so.
///
/// # Errors
/// [`PrivateFileError`]; nothing was overwritten.
pub fn store_plain(path: &Path, phrase: &Phrase) -> Result<(), PrivateFileError> {
    // Room for 24 words and the line's end: growing would leave a copy behind.
    let mut line = Zeroizing::new(String::with_capacity(24 * 9 + 1));
    line.push_str(&phrase.line());
    line.push('\n');
    private_file::create(path, line.as_bytes())
}

/// Reads words from a plain file, which must be ours and for us alone (0600 or 0400).
///
/// # Errors
/// [`LoadError`].
pub fn load_plain(path: &Path) -> Result<Phrase, LoadError> {
    let bytes = private_file::read(path, phrase::MAX_TEXT_LEN, Readers::OwnerOnly)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| LoadError::NotText { path: path.to_owned() })?;
    Phrase::parse(text).map_err(|source| LoadError::Phrase { path: path.to_owned(), source })
}

/// The key that a passphrase makes.
fn stretch(passphrase: &str, header: &SealHeader) -> Result<SealingKey, StretchError> {
    let passphrase = normalize(passphrase);
    let key = crate::stretch::stretch(passphrase.as_bytes(), &header.salt, header.parameters)?;
    Ok(SealingKey::from_bytes(&key))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn phrase() -> Phrase {
        Phrase::from_entropy(&Zeroizing::new([8; 32])).unwrap()
    }

    fn cheap() -> Argon2Parameters {
        Argon2Parameters::new(64, 1, 2).unwrap()
    }

    /// A sealed phrase in a folder of its own.
    fn sealed() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        store_sealed_with(&path, &phrase(), "correct horse", cheap()).unwrap();
        (folder, path)
    }

    #[test]
    fn seals_and_opens_at_full_cost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        store_sealed(&path, &phrase(), "correct horse").unwrap();
        assert_eq!(load_sealed(&path, "correct horse").unwrap(), phrase());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let stored = fs::read(&path).unwrap();
        assert!(!stored.windows(16).any(|window| window == [8; 16]), "entropy lies open");
    }

    #[test]
    fn a_wrong_passphrase_says_so() {
        let (_folder, path) = sealed();
        let error = load_sealed(&path, "correct house").unwrap_err();
        let LoadError::Open { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("wrong passphrase"));
        assert!(matches!(load_sealed(&path, ""), Err(LoadError::Open { .. })));
    }

    #[test]
    fn a_passphrase_may_be_typed_in_another_unicode_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        store_sealed_with(&path, &phrase(), "caf\u{e9}", cheap()).unwrap();
        assert_eq!(load_sealed(&path, "cafe\u{301}").unwrap(), phrase());
    }

    #[test]
    fn salt_and_nonce_are_drawn_for_every_sealing() {
        let ((_one, first), (_two, second)) = (sealed(), sealed());
        let (first, second) = (fs::read(first).unwrap(), fs::read(second).unwrap());
        assert_ne!(first[21..37], second[21..37]);
        assert_ne!(first[37..61], second[37..61]);
    }

    #[test]
    fn tampering_newer_versions_and_other_files_are_refused() {
        let (_folder, path) = sealed();
        let good = fs::read(&path).unwrap();
        let with = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            fs::write(&path, bytes).unwrap();
            load_sealed(&path, "correct horse").unwrap_err()
        };
        let last = good.len() - 1;
        assert!(matches!(with(last, good[last] ^ 1), LoadError::Open { .. }));
        assert!(matches!(with(30, good[30] ^ 1), LoadError::Open { .. }));
        let newer = with(8, 2);
        assert!(matches!(
            newer,
            LoadError::Format { source: SealedFormatError::NewerVersion { found: 2 }, .. }
        ));
        // Memory of 16 TiB is refused, not allocated.
        assert!(matches!(
            with(12, 0xff),
            LoadError::Format { source: SealedFormatError::Parameters(_), .. }
        ));
        fs::write(&path, "legal winner").unwrap();
        assert!(matches!(
            load_sealed(&path, "correct horse"),
            Err(LoadError::Format { source: SealedFormatError::NotSealed, .. })
        ));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_sealed_without_a_passphrase() {
        let (_folder, path) = sealed();
        let other = Phrase::from_entropy(&Zeroizing::new([1; 16])).unwrap();
        assert!(matches!(
            store_sealed_with(&path, &other, "x", cheap()),
            Err(StoreError::File(PrivateFileError::Exists { .. }))
        ));
        assert!(matches!(store_plain(&path, &other), Err(PrivateFileError::Exists { .. })));
        assert_eq!(load_sealed(&path, "correct horse").unwrap(), phrase());
        assert!(matches!(
            store_sealed_with(&path.with_extension("new"), &other, "", cheap()),
            Err(StoreError::EmptyPassphrase)
        ));
    }

    #[test]
    fn plain_words_are_read_only_when_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        store_plain(&path, &phrase()).unwrap();
        assert_eq!(load_plain(&path).unwrap(), phrase());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            load_plain(&path),
            Err(LoadError::File(PrivateFileError::Mode { mode: 0o644, .. }))
        ));
    }
}
