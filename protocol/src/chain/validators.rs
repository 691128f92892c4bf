//! The set of validators whose votes finalise blocks.

use serde::{Deserialize, Serialize};

use crate::hash::{Digest, digest};
use crate::signature::PublicKey;

/// One validator: its key and the weight of its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// Key that signs its votes.
    pub key: PublicKey,
    /// Weight of its vote, at least 1.
    pub power: u64,
}

/// Validators ordered by key, no key twice, at least one, at most [`ValidatorSet::MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Validator>", into = "Vec<Validator>")]
pub struct ValidatorSet(Vec<Validator>);

/// Why a list of validators is no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// No validator at all.
    #[error("a validator set needs at least one validator")]
    Empty,
    /// More than [`ValidatorSet::MAX`].
    #[error("{0} validators are more than the {max} allowed", max = ValidatorSet::MAX)]
    TooMany(usize),
    /// A key twice.
    #[error("validator {0} is listed twice")]
    Duplicate(PublicKey),
    /// A weight of zero, or a sum over `u32::MAX`.
    #[error("validator powers must be at least 1 and sum to at most 2^32 - 1")]
    Power,
}

impl ValidatorSet {
    /// Most validators a set may have; bounds certificates.
    pub const MAX: usize = 128;

    /// Sorts and checks a list.
    ///
    /// # Errors
    /// [`ValidatorSetError`] for each broken rule.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        if validators.is_empty() {
            return Err(ValidatorSetError::Empty);
        }
        if validators.len() > Self::MAX {
            return Err(ValidatorSetError::TooMany(validators.len()));
        }
        validators.sort_by_key(|validator| validator.key);
        if let Some(pair) = validators.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(ValidatorSetError::Duplicate(pair[0].key));
        }
        let sum = validators.iter().try_fold(0u64, |sum, v| sum.checked_add(v.power));
        if validators.iter().any(|v| v.power == 0) || sum.is_none_or(|s| s > u64::from(u32::MAX)) {
            return Err(ValidatorSetError::Power);
        }
        Ok(Self(validators))
    }

    /// The validators, ordered by key.
    #[must_use]
    pub fn as_slice(&self) -> &[Validator] {
        &self.0
    }

    /// The validator with this key.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Option<&Validator> {
        self.0.binary_search_by_key(key, |v| v.key).ok().map(|index| &self.0[index])
    }

    /// Sum of all powers.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.0.iter().map(|v| v.power).sum()
    }

    /// Whether `power` is more than two thirds of the whole.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total_power()) * 2
    }

    /// Digest that headers carry.
    #[must_use]
    pub fn hash(&self) -> Digest {
        digest("samara v1 validator set", self)
    }
}

impl TryFrom<Vec<Validator>> for ValidatorSet {
    type Error = ValidatorSetError;

    fn try_from(validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        Self::new(validators)
    }
}

impl From<ValidatorSet> for Vec<Validator> {
    fn from(set: ValidatorSet) -> Self {
        set.0
    }
}
