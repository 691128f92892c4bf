//! Fetches the next batches while the caller still verifies the last one.
//!
//! A scan asks for consecutive batches. From the second one on, up to [`AHEAD`] further batches are
//! under way, each from the peer whose turn it is, so network and verification overlap and several
//! peers share the load. At most `AHEAD` answers of [`MAX_ANSWER`] bytes are held.
//!
//! Nothing is verified here. A caller that asks for a height twice was not content with the answer, so
//! what was fetched ahead is dropped and another peer is preferred.
//!
//! [`MAX_ANSWER`]: samara_protocol::chain::query::MAX_ANSWER

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use samara_protocol::chain::query::{ChainRequest, ChainResponse, MAX_BATCH, ScannedBlock};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::Height;
use samara_renter::world::ChainError;
use tokio_util::task::AbortOnDropHandle;

use super::peers::{PeerSet, Rejection, unexpected};

/// Most batches under way ahead of the caller.
pub const AHEAD: usize = 3;
/// How long a batch may take; 5 MiB at 1 Mbit/s take 40 s.
const DEADLINE: Duration = Duration::from_secs(60);
/// Heights for which it is remembered who answered.
const REMEMBERED: usize = 64;

type Fetched = Result<(Vec<ScannedBlock>, PublicKey), ChainError>;

struct Window {
    /// Batches under way by their first height.
    ahead: BTreeMap<Height, AbortOnDropHandle<Fetched>>,
    /// Who answered for which first height.
    served: BTreeMap<Height, PublicKey>,
    /// Height after the last batch that was handed out.
    expected: Option<Height>,
    /// Blocks to ask for; below the caller's limit when peers had to cut batches at a size.
    step: u32,
}

/// How one batch is to be got.
struct Plan {
    ready: Option<AbortOnDropHandle<Fetched>>,
    limit: u32,
    avoid: Option<PublicKey>,
}

pub(super) struct ReadAhead {
    peers: Arc<PeerSet>,
    window: Mutex<Window>,
}

impl ReadAhead {
    pub(super) fn new(peers: Arc<PeerSet>) -> Self {
        let (ahead, served) = (BTreeMap::new(), BTreeMap::new());
        let window = Window { ahead, served, expected: None, step: MAX_BATCH };
        Self { peers, window: Mutex::new(window) }
    }

    /// Blocks from a height; `tip` is the newest height known, behind which nothing is fetched ahead.
    pub(super) async fn batch(
        &self,
        from: Height,
        limit: u32,
        tip: Height,
    ) -> Result<Vec<ScannedBlock>, ChainError> {
        let plan = self.begin(from, limit.clamp(1, MAX_BATCH), tip);
        let fetched = match plan.ready {
            Some(task) => task.await.ok().and_then(Result::ok),
            None => None,
        };
        let (mut blocks, peer) = match fetched {
            Some(fetched) => fetched,
            None => fetch(&self.peers, from, plan.limit, plan.avoid).await?,
        };
        blocks.truncate(plan.limit as usize);
        self.end(from, plan.limit, blocks.len(), peer, tip);
        Ok(blocks)
    }

    /// Takes what is under way for a height and fills the window behind it.
    fn begin(&self, from: Height, limit: u32, tip: Height) -> Plan {
        let mut window = self.lock();
        let avoid = window.served.get(&from).copied();
        if avoid.is_some() || window.expected != Some(from) {
            window.ahead.clear();
            return Plan { ready: None, limit, avoid };
        }
        let limit = limit.min(window.step.max(1));
        let ready = window.ahead.remove(&from);
        window.ahead = window.ahead.split_off(&from);
        let mut next = Height(from.0.saturating_add(u64::from(limit)));
        while window.ahead.len() < AHEAD && next <= tip {
            let most = u32::try_from(tip.0 - next.0).map_or(limit, |left| limit.min(left + 1));
            window.ahead.entry(next).or_insert_with(|| {
                let (peers, from) = (Arc::clone(&self.peers), next);
                let task = async move { fetch(&peers, from, most, None).await };
                AbortOnDropHandle::new(tokio::spawn(task))
            });
            next = Height(next.0.saturating_add(u64::from(limit)));
        }
        Plan { ready, limit, avoid }
    }

    fn end(&self, from: Height, limit: u32, got: usize, peer: PublicKey, tip: Height) {
        let mut window = self.lock();
        window.served.insert(from, peer);
        while window.served.len() > REMEMBERED {
            window.served.pop_first();
        }
        let got = u32::try_from(got).unwrap_or(u32::MAX);
        let next = Height(from.0.saturating_add(u64::from(got)));
        window.expected = Some(next);
        if got < limit && next <= tip {
            // Cut at a size: what was guessed behind it does not fit, and the next is asked for with room.
            window.ahead.clear();
            window.step = got / 8 * 7;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // Worst case after a panic: a batch is fetched twice.
        lock(&self.window)
    }
}

async fn fetch(peers: &PeerSet, from: Height, limit: u32, avoid: Option<PublicKey>) -> Fetched {
    let request = ChainRequest::Batch { from, limit };
    peers
        .ask(&request, DEADLINE, avoid, |response| match response {
            ChainResponse::Batch(blocks) if blocks.len() > limit as usize => {
                Err(Rejection::False(format!("more than {limit} blocks from {from}")))
            }
            ChainResponse::Batch(blocks)
                if blocks.first().is_some_and(|block| block.header.height != from) =>
            {
                Err(Rejection::False(format!("the batch does not begin at block {from}")))
            }
            ChainResponse::Batch(blocks) => Ok(blocks),
            other => Err(unexpected(other)),
        })
        .await
}
