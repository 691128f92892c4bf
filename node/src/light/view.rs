//! What the light client answers: the renter's [`ChainView`], and what a host needs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use samara_protocol::chain::light::LightError;
use samara_protocol::chain::query::{
    ChainRequest, ChainResponse, Finalized, MAX_KEYS, ScannedBlock, TransactionStatus,
};
use samara_protocol::chain::{Certificate, Genesis, Transaction, ValidatorSet};
use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::TransactionId;
use samara_protocol::host::HostAnnouncement;
use samara_protocol::ledger::state::{Account, Contract, StateKey, StateProof};
use samara_protocol::ledger::verify_proof;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{ChainTime, Height};
use samara_renter::world::{ChainError, ChainView};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::peers::{Rejection, unexpected};
use super::{Inner, LightClient, LightStatus};

/// How long one question to one peer may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long the first contact may take before a question fails.
const CONTACT: Duration = Duration::from_secs(15);
/// How often peers that lag behind the trusted tip are asked again.
const ROUNDS: u32 = 10;
/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(200);
/// Keys of hosts in one question; their values with proofs take about 3 KB each.
const HOST_KEYS: usize = 256;
/// Most announced hosts that are taken; bounds what a false list can cost.
const MAX_HOSTS: usize = 100_000;
/// Most transactions kept to be handed in again.
const KEPT: usize = 1_024;
/// Longest wait for a new block before a transaction is asked about again.
const RECHECK: Duration = Duration::from_secs(1);
/// How often a transaction may be unknown to all peers, though handed in again, before it counts as
/// dropped.
const STRIKES: u32 = 8;
/// The same for one that was not handed in here.
const FOREIGN_STRIKES: u32 = 3;
/// How long the block of an included transaction may take to be verified here.
const REACHED: Duration = Duration::from_secs(60);

/// Values of state keys, encoded, in the order of the keys.
type Values = Vec<Option<Vec<u8>>>;

#[async_trait]
impl ChainView for LightClient {
    fn genesis(&self) -> &Genesis {
        &self.inner.genesis
    }

    fn time(&self) -> ChainTime {
        let tip = self.watch().borrow().tip.as_ref().map(|tip| tip.header.time);
        tip.unwrap_or(self.inner.genesis.time)
    }

    async fn tip(&self) -> Result<Option<Finalized>, ChainError> {
        let mut status = self.watch();
        let contacted = timeout(CONTACT, status.wait_for(|status| status.contacted)).await;
        match contacted {
            Ok(Ok(status)) => Ok(status.tip.clone()),
            _ => Err(ChainError::Unreachable("no peer has told its tip yet".to_owned())),
        }
    }

    async fn tip_above(&self, height: Height) -> Result<Finalized, ChainError> {
        let above = |status: &LightStatus| {
            status.contacted && status.tip.as_ref().is_some_and(|tip| tip.header.height > height)
        };
        let mut status = self.watch();
        let seen = tokio::select! {
            biased;
            seen = status.wait_for(above) => seen.ok().and_then(|status| status.tip.clone()),
            () = self.inner.stop.cancelled() => None,
        };
        seen.ok_or_else(|| ChainError::Unreachable("the light client has stopped".to_owned()))
    }

    async fn account(&self, key: &PublicKey) -> Result<Account, ChainError> {
        Ok(self.value(StateKey::Account(*key)).await?.unwrap_or_default())
    }

    async fn contract(&self, id: &ContractId) -> Result<Option<Contract>, ChainError> {
        self.value(StateKey::Contract(*id)).await
    }

    async fn announced_hosts(&self) -> Result<Vec<(PublicKey, HostAnnouncement)>, ChainError> {
        let mut hosts = Vec::new();
        let mut after = None;
        while hosts.len() < MAX_HOSTS {
            let keys = self.host_keys(after).await?;
            let Some(last) = keys.last() else { break };
            after = Some(*last);
            let states = keys.iter().map(|key| StateKey::Host(*key)).collect();
            for (key, value) in keys.iter().zip(self.values(states).await?) {
                if let Some(value) = value {
                    hosts.push((*key, decode_value(&value)?));
                }
            }
        }
        Ok(hosts)
    }

    async fn submit(&self, transaction: Transaction) -> Result<TransactionId, ChainError> {
        let id = self.inner.hand_in(&transaction).await?;
        let mut submitted = self.inner.submitted();
        if submitted.len() >= KEPT {
            submitted.pop_first();
        }
        submitted.insert(id, transaction);
        Ok(id)
    }

    async fn included(&self, id: &TransactionId) -> Result<Height, ChainError> {
        let mut strikes = 0;
        loop {
            match self.inner.transaction(id).await? {
                TransactionStatus::Included(height) => {
                    self.inner.submitted().remove(id);
                    self.reached(height).await?;
                    return Ok(height);
                }
                TransactionStatus::Pending => strikes = 0,
                TransactionStatus::Unknown => {
                    strikes += 1;
                    let again = self.inner.hand_in_again(id).await;
                    let limit = if again.is_some() { STRIKES } else { FOREIGN_STRIKES };
                    let refusal = again.and_then(Result::err);
                    if strikes >= limit || refusal.is_some() {
                        return self.dropped(id, refusal).await;
                    }
                }
            }
            // A new block, or time for gossip to arrive.
            let above = self.inner.trusted_height();
            let _ = timeout(RECHECK, self.tip_above(above)).await;
        }
    }

    async fn batch(&self, from: Height, limit: u32) -> Result<Vec<ScannedBlock>, ChainError> {
        let tip = self.inner.trusted_height();
        self.inner.read_ahead.batch(from, limit, tip).await
    }

    async fn decision(&self, height: Height) -> Result<(ValidatorSet, Certificate), ChainError> {
        let request = ChainRequest::Decision(height);
        let answer = self.inner.peers.ask(&request, DEADLINE, None, |response| match response {
            ChainResponse::Decision { validators, certificate } => Ok((validators, *certificate)),
            other => Err(unexpected(other)),
        });
        Ok(answer.await?.0)
    }

    async fn peers(&self) -> usize {
        self.inner.peers.witnesses()
    }
}

impl LightClient {
    /// A value of the state, verified against a header at least as new as the trusted tip.
    ///
    /// # Errors
    /// [`ChainError`] when no peer gives a true answer.
    pub async fn value<T: DeserializeOwned>(&self, key: StateKey) -> Result<Option<T>, ChainError> {
        let values = self.values(vec![key]).await?;
        values.into_iter().flatten().next().map(|bytes| decode_value(&bytes)).transpose()
    }

    /// As [`LightClient::value`], for several keys at one height.
    async fn values(&self, keys: Vec<StateKey>) -> Result<Values, ChainError> {
        // Without a first contact the trusted point may be days old.
        self.tip().await?;
        let least = self.inner.trusted_height();
        debug_assert!(keys.len() <= MAX_KEYS, "invariant: callers page");
        let request = ChainRequest::State(keys.clone());
        let mut round = 0;
        let keys = Arc::new(keys);
        loop {
            let answer = self.inner.peers.ask_with(&request, DEADLINE, None, |response| {
                let (inner, keys) = (Arc::clone(&self.inner), Arc::clone(&keys));
                async move {
                    let ChainResponse::State { at, values } = response else {
                        return Err(unexpected(response));
                    };
                    let verifier = Arc::clone(&inner);
                    verifier.verify(move || inner.check(&keys, least, &at, values)).await
                }
            });
            let error = match answer.await {
                Ok((values, _)) => return Ok(values),
                Err(error) => error,
            };
            round += 1;
            if round >= ROUNDS {
                return Err(error);
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Waits until a block in which a transaction is said to be is verified here, so that its effects
    /// are visible.
    async fn reached(&self, height: Height) -> Result<(), ChainError> {
        let below = Height(height.0.saturating_sub(1));
        match timeout(REACHED, self.tip_above(below)).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(ChainError::False(format!(
                "a transaction is said to be in block {height}, which nobody shows"
            ))),
        }
    }

    /// Whether a transaction that seems lost is in a block after all: a refusal to take it again may
    /// mean just that. If not, the refusal is why it was dropped.
    async fn dropped(
        &self,
        id: &TransactionId,
        refusal: Option<String>,
    ) -> Result<Height, ChainError> {
        self.inner.submitted().remove(id);
        match self.inner.transaction(id).await? {
            TransactionStatus::Included(height) => {
                self.reached(height).await?;
                Ok(height)
            }
            _ => Err(refusal.map_or(ChainError::Dropped(*id), |reason| {
                ChainError::Refused(format!("{id} was dropped before a block took it: {reason}"))
            })),
        }
    }

    async fn host_keys(&self, after: Option<PublicKey>) -> Result<Vec<PublicKey>, ChainError> {
        let limit = u32::try_from(HOST_KEYS).unwrap_or(u32::MAX);
        let request = ChainRequest::Hosts { after, limit };
        let answer = self.inner.peers.ask(&request, DEADLINE, None, |response| match response {
            ChainResponse::Hosts(keys) => {
                let rising = keys.windows(2).all(|pair| pair[0] < pair[1]);
                let beyond = keys.first().is_none_or(|first| after.is_none_or(|key| *first > key));
                if rising && beyond && keys.len() <= HOST_KEYS {
                    Ok(keys)
                } else {
                    Err(Rejection::False("its list of hosts is out of order".to_owned()))
                }
            }
            other => Err(unexpected(other)),
        });
        Ok(answer.await?.0)
    }
}

impl Inner {
    /// Checks an answer about the state: the header, and every proof under its state root.
    fn check(
        &self,
        keys: &[StateKey],
        least: Height,
        at: &Finalized,
        values: Vec<(Option<serde_bytes::ByteBuf>, StateProof)>,
    ) -> Result<Values, Rejection> {
        let height = at.header.height;
        if height < least {
            return Err(Rejection::Unusable(format!("its state {height} is behind {least}")));
        }
        self.chain().check_finalized(at).map_err(|error| match error {
            LightError::UnknownSet { .. } => {
                self.wake.notify_one();
                Rejection::Unusable(error.to_string())
            }
            error => Rejection::False(error.to_string()),
        })?;
        if values.len() != keys.len() {
            return Err(Rejection::False("its state answer has not one value per key".to_owned()));
        }
        let mut proven = Vec::with_capacity(keys.len());
        for (key, (value, proof)) in keys.iter().zip(values) {
            let bytes = value.as_ref().map(|bytes| bytes.as_slice());
            verify_proof(&at.header.state_root, key, bytes, &proof)
                .map_err(|error| Rejection::False(error.to_string()))?;
            proven.push(value.map(serde_bytes::ByteBuf::into_vec));
        }
        Ok(proven)
    }

    /// Hands a transaction in at the first peer that takes it.
    async fn hand_in(&self, transaction: &Transaction) -> Result<TransactionId, ChainError> {
        let id = transaction.id();
        let request = ChainRequest::Submit(Box::new(transaction.clone()));
        let mut refusal = None;
        let answer = self.peers.ask(&request, DEADLINE, None, |response| match response {
            ChainResponse::Accepted(accepted) if accepted == id => Ok(id),
            ChainResponse::Accepted(_) => {
                Err(Rejection::False("it accepted another transaction".to_owned()))
            }
            ChainResponse::Refused(reason) => {
                refusal.get_or_insert(reason.clone());
                Err(Rejection::Unusable(reason))
            }
            other => Err(unexpected(other)),
        });
        let answer = answer.await;
        match (answer, refusal) {
            (Ok((id, _)), _) => Ok(id),
            // Somebody understood it and said no; that others are silent does not matter.
            (Err(_), Some(reason)) => Err(ChainError::Refused(reason)),
            (Err(error), None) => Err(error),
        }
    }

    /// Hands a transaction in once more, if it was handed in here. Fails with the reason if it is
    /// refused now.
    async fn hand_in_again(&self, id: &TransactionId) -> Option<Result<(), String>> {
        let transaction = self.submitted().get(id).cloned()?;
        Some(match self.hand_in(&transaction).await {
            Err(ChainError::Refused(reason)) => Err(reason),
            _ => Ok(()),
        })
    }

    /// Where a transaction is, by the first peer that knows it.
    async fn transaction(&self, id: &TransactionId) -> Result<TransactionStatus, ChainError> {
        let request = ChainRequest::Transaction(*id);
        let mut unknown = false;
        let answer = self.peers.ask(&request, DEADLINE, None, |response| match response {
            ChainResponse::Transaction(TransactionStatus::Unknown) => {
                unknown = true;
                Err(Rejection::Unusable("it does not know the transaction".to_owned()))
            }
            ChainResponse::Transaction(status) => Ok(status),
            other => Err(unexpected(other)),
        });
        let answer = answer.await;
        match answer {
            Ok((status, _)) => Ok(status),
            Err(_) if unknown => Ok(TransactionStatus::Unknown),
            Err(error) => Err(error),
        }
    }
}

/// Decodes a proven value; that it does not decode would be the validators' fault, not the peer's.
fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChainError> {
    encoding::decode(bytes).map_err(|error| ChainError::False(error.to_string()))
}
