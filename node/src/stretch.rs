//! Argon2id: what makes guessing at passphrases, passwords and tokens slow.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use samara_protocol::keys::sealed::Argon2Parameters;
use zeroize::{Zeroize as _, Zeroizing};

/// Argon2id did not run.
#[derive(Debug, thiserror::Error)]
pub enum StretchError {
    /// Not enough memory.
    #[error("no memory to stretch the passphrase: {memory_kib} KiB are needed")]
    Memory {
        /// What Argon2id needs.
        memory_kib: u32,
    },
    /// An input that Argon2id refuses, such as a passphrase of 4 GiB.
    #[error("the passphrase cannot be stretched: {0}")]
    Refused(argon2::Error),
}

/// Argon2id (version 0x13) of a secret, 32 bytes, in memory that is wiped afterwards. Blocks for as long
/// as the cost says.
///
/// # Errors
/// [`StretchError`].
pub fn stretch(
    secret: &[u8],
    salt: &[u8; 16],
    cost: Argon2Parameters,
) -> Result<Zeroizing<[u8; 32]>, StretchError> {
    let params = Params::new(cost.memory_kib(), cost.iterations(), cost.lanes(), Some(32))
        .map_err(StretchError::Refused)?;
    let mut memory: Vec<Block> = Vec::new();
    memory
        .try_reserve_exact(params.block_count())
        .map_err(|_| StretchError::Memory { memory_kib: cost.memory_kib() })?;
    memory.resize(params.block_count(), Block::default());
    let mut key = Zeroizing::new([0; 32]);
    let stretched = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(secret, salt, &mut key[..], &mut memory);
    memory.zeroize();
    stretched.map_err(StretchError::Refused)?;
    Ok(key)
}
