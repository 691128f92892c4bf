//! Encryption of a whole archive under a passphrase: the `age` format with its scrypt recipient.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use age::scrypt::{Identity, Recipient};
use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{ArchiveError, WriteError};
use super::limits::ArchiveLimits;
use super::output::Output;

/// What an age file begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// Most bytes of a header with one passphrase; it has some 200.
const LONGEST_HEADER: usize = 1_024;

/// A passphrase. Zeroized when dropped, never printed; serialized as it is, on its way to the node that is to
/// use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Passphrase(#[schemars(with = "String")] Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase over.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    fn secret(&self) -> SecretString {
        SecretString::from(self.0.as_str())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

/// How an archive is encrypted.
#[derive(Clone, Debug)]
pub struct Seal {
    /// Under what.
    pub passphrase: Passphrase,
    /// The logarithm of scrypt's N.
    pub work_factor: u8,
}

impl Seal {
    /// 128 MiB of memory, about half a second.
    pub const WORK_FACTOR: u8 = 17;

    /// With the work that guessing should take.
    #[must_use]
    pub const fn new(passphrase: Passphrase) -> Self {
        Self { passphrase, work_factor: Self::WORK_FACTOR }
    }
}

/// Takes an archive's bytes.
pub(super) enum Sink {
    /// As they are.
    Plain(Output),
    /// Encrypted.
    Sealed(Box<StreamWriter<Output>>),
}

impl Sink {
    /// Begins an archive. This is where scrypt does its work.
    pub(super) fn new(output: Output, seal: Option<&Seal>) -> Result<Self, WriteError> {
        let Some(seal) = seal else { return Ok(Self::Plain(output)) };
        let failed = |error: &dyn fmt::Display| WriteError::Seal(error.to_string());
        let mut recipient = Recipient::new(seal.passphrase.secret());
        recipient.set_work_factor(seal.work_factor.clamp(1, 30));
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
        let writer = encryptor.wrap_output(output).map_err(|error| failed(&error))?;
        Ok(Self::Sealed(Box::new(writer)))
    }

    /// Writes what is left.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Sealed(writer) => writer.finish().map(drop),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Sealed(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive's bytes, whether they are encrypted or not.
pub(super) enum Unsealed<R> {
    /// As they are.
    Plain(R),
    /// Encrypted.
    Sealed(Box<StreamReader<R>>),
}

impl<R: Read + Seek> Unsealed<R> {
    /// Opens what may be encrypted, and says how many bytes there are inside.
    pub(super) fn open(
        mut inner: R,
        passphrase: Option<&Passphrase>,
        limits: &ArchiveLimits,
    ) -> Result<(Self, u64), ArchiveError> {
        let failed = |error: io::Error| ArchiveError::Read(error.to_string());
        let length = inner.seek(SeekFrom::End(0)).map_err(failed)?;
        let (what, limit) = ("a size", limits.total);
        if length > limit {
            return Err(ArchiveError::Limit { what, found: length, limit });
        }
        inner.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut start = Vec::with_capacity(LONGEST_HEADER);
        inner.by_ref().take(LONGEST_HEADER as u64).read_to_end(&mut start).map_err(failed)?;
        inner.seek(SeekFrom::Start(0)).map_err(failed)?;
        match (start.starts_with(MAGIC), passphrase) {
            (false, None) => Ok((Self::Plain(inner), length)),
            (false, Some(_)) => Err(ArchiveError::NotSealed),
            (true, None) => Err(ArchiveError::Sealed),
            (true, Some(passphrase)) => {
                check_header(&start)?;
                let mut reader = unseal(inner, passphrase, limits)?;
                // Fails unless the last part is there and is the last.
                let end = reader.seek(SeekFrom::End(0));
                let length =
                    end.map_err(|_| ArchiveError::Truncated("its last part is missing"))?;
                Ok((Self::Sealed(Box::new(reader)), length))
            }
        }
    }
}

/// A header that does not end would be read for ever.
fn check_header(start: &[u8]) -> Result<(), ArchiveError> {
    let end = start.windows(4).position(|window| window == b"\n---");
    let ends = end.is_some_and(|end| start[end + 1..].contains(&b'\n'));
    if ends { Ok(()) } else { Err(ArchiveError::Seal("its header does not end")) }
}

fn unseal<R: Read>(
    inner: R,
    passphrase: &Passphrase,
    limits: &ArchiveLimits,
) -> Result<StreamReader<R>, ArchiveError> {
    let decryptor = Decryptor::new(inner).map_err(|error| refused(&error))?;
    if !decryptor.is_scrypt() {
        return Err(ArchiveError::Seal("it is for somebody's key"));
    }
    let mut identity = Identity::new(passphrase.secret());
    identity.set_max_work_factor(limits.work_factor);
    let identities = std::iter::once(&identity as &dyn age::Identity);
    decryptor.decrypt(identities).map_err(|error| refused(&error))
}

fn refused(error: &DecryptError) -> ArchiveError {
    match error {
        DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::NoMatchingKeys => ArchiveError::Passphrase,
        DecryptError::ExcessiveWork { .. } => {
            ArchiveError::Seal("opening it would take too much work")
        }
        DecryptError::Io(error) => ArchiveError::Read(error.to_string()),
        _ => ArchiveError::Seal("its header is damaged"),
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(buffer),
            Self::Sealed(reader) => reader.read(buffer),
        }
    }
}

impl<R: Read + Seek> Seek for Unsealed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(inner) => inner.seek(to),
            Self::Sealed(reader) => reader.seek(to),
        }
    }
}
