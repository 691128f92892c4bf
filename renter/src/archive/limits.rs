//! How much of an archive from anywhere is looked at.

/// Caps on archives that are read. Each is checked before what it caps is read or allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of the archive as it is stored.
    pub total: u64,
    /// Bytes of all entries, unpacked.
    pub unpacked: u64,
    /// Bytes of one entry, unpacked.
    pub entry: u64,
    /// Entries. Each takes some 100 bytes of memory while the archive is open, and each version some 400
    /// more while it is verified.
    pub entries: u64,
    /// Unpacked bytes for each packed one, beyond the first [`ArchiveLimits::SMALL`].
    pub ratio: u64,
    /// Bytes of an entry's name.
    pub name: usize,
    /// Folders in an entry's name.
    pub nesting: usize,
    /// Bytes of a document that is read as a whole.
    pub document: u64,
    /// Largest work factor of a passphrase, the logarithm of scrypt's N: opening takes 2^(factor + 10)
    /// bytes of memory.
    pub work_factor: u8,
}

impl ArchiveLimits {
    /// An entry that is no larger may be packed as well as it can be.
    pub const SMALL: u64 = 1 << 20;

    /// Whether so many bytes may come of so few.
    pub(super) const fn allows_ratio(&self, packed: u64, unpacked: u64) -> bool {
        unpacked <= Self::SMALL || unpacked <= packed.saturating_mul(self.ratio)
    }
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            total: 1 << 40,
            unpacked: 1 << 40,
            entry: 1 << 40,
            entries: 2_000_000,
            ratio: 100,
            name: 255,
            nesting: 4,
            document: 4 << 20,
            work_factor: 18,
        }
    }
}
