//! The tokens in the data folder: who can read them owns the node.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::secret::Secret;
use crate::seed::private_file::{self, PrivateFileError, Readers};

/// Name of the file in the data folder with the administrator's token. It stays over restarts; without it,
/// the next start makes a new one.
pub const TOKEN_FILE: &str = "administrator.token";

/// What a local token begins with. Tokens of users have an id there, so neither is taken for the other.
const PREFIX: &str = "samara_local_";
/// Hex digits of its secret.
const DIGITS: usize = 64;

/// Why there is no local token.
#[derive(Debug, thiserror::Error)]
pub enum LocalTokenError {
    /// The file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("{} holds no token: delete it, and a new one is made", .0.display())]
    NoToken(PathBuf),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

/// The local administrator's tokens: one for this start, which the command line finds in `api.json`, and
/// one that stays.
pub struct LocalTokens {
    start: Secret,
    digests: [blake3::Hash; 2],
}

impl LocalTokens {
    /// Draws the token of this start, and reads that of the folder. Where there is none, makes one (0600).
    ///
    /// # Errors
    /// [`LocalTokenError`].
    pub fn open(data: &Path) -> Result<Self, LocalTokenError> {
        let start = draw()?;
        let kept = kept(&data.join(TOKEN_FILE))?;
        let digests = [&start, &kept].map(|token| blake3::hash(token.reveal().as_bytes()));
        Ok(Self { start, digests })
    }

    /// The token of this start.
    #[must_use]
    pub const fn of_this_start(&self) -> &Secret {
        &self.start
    }

    /// Whether a text is one of them.
    pub(super) fn knows(&self, shown: &str) -> bool {
        let shown = blake3::hash(shown.as_bytes());
        // Hashes of equal length compare in constant time (blake3::Hash's `==`), and both are compared.
        self.digests.iter().fold(false, |found, digest| found | (*digest == shown))
    }
}

fn draw() -> Result<Secret, getrandom::Error> {
    let mut bytes = Zeroizing::new([0u8; DIGITS / 2]);
    getrandom::fill(&mut bytes[..])?;
    let digits = Zeroizing::new(hex::encode(&bytes[..]));
    Ok(Secret::new(Zeroizing::new([PREFIX, &digits].concat())))
}

/// The token of the folder, made if there is none.
fn kept(path: &Path) -> Result<Secret, LocalTokenError> {
    if !path.try_exists().unwrap_or(true) {
        let token = draw()?;
        let line = Zeroizing::new([token.reveal(), "\n"].concat());
        private_file::create(path, line.as_bytes())?;
        return Ok(token);
    }
    let bytes = private_file::read(path, PREFIX.len() + DIGITS + 2, Readers::OwnerOnly)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let is_token = text.strip_prefix(PREFIX).is_some_and(|secret| {
        secret.len() == DIGITS && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    match is_token {
        true => Ok(Secret::new(Zeroizing::new(text.to_owned()))),
        // One that somebody wrote could be guessed.
        false => Err(LocalTokenError::NoToken(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(folder: &Path) -> String {
        fs::read_to_string(folder.join(TOKEN_FILE)).unwrap().trim().to_owned()
    }

    #[test]
    fn the_administrators_token_is_private_and_stays_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let first = LocalTokens::open(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let kept = token(folder.path());
        assert!(first.knows(&kept) && first.knows(first.of_this_start().reveal()));
        assert!(!first.knows("") && !first.knows(&kept[1..]));

        let second = LocalTokens::open(folder.path()).unwrap();
        assert!(second.knows(&kept));
        assert!(!second.knows(first.of_this_start().reveal()));

        fs::remove_file(folder.path().join(TOKEN_FILE)).unwrap();
        let third = LocalTokens::open(folder.path()).unwrap();
        assert!(!third.knows(&kept) && third.knows(&token(folder.path())));
    }

    #[test]
    fn a_token_that_others_read_or_could_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TOKEN_FILE);
        LocalTokens::open(folder.path()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            LocalTokens::open(folder.path()),
            Err(LocalTokenError::File(PrivateFileError::Mode { .. }))
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for text in ["", "secret", "samara_local_1234"] {
            fs::write(&path, text).unwrap();
            let refused = LocalTokens::open(folder.path());
            assert!(matches!(refused, Err(LocalTokenError::NoToken(_))), "{text}");
        }
    }
}
