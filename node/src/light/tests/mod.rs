//! Light clients over peers that hold a real ledger, some of whom lie.

mod peers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::chain::light::{Blame, Need};
use samara_protocol::chain::query::{ChainResponse, TransactionStatus};
use samara_protocol::chain::{Action, ValidatorSet};
use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::recovery::Scan;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime};
use samara_protocol::wire::{NodeRequest, NodeResponse};
use samara_renter::world::{ChainError, ChainView};
use tokio::time::timeout;

use self::peers::{Chain, Lie, Peer, START, secret, validators};
use super::*;
use crate::transport::{Body, Channel, RequestHandler, Transport, TransportConfig};

/// Only a test that hangs ever gets here.
const TIMEOUT: Duration = Duration::from_secs(120);
fn config(chain: &Chain, peers: &[Arc<Peer>], now: u64) -> LightConfig {
    let clock = Arc::new(AtomicU64::new(now));
    LightConfig {
        genesis: chain.genesis.clone(),
        peers: peers.iter().map(|peer| Arc::clone(peer) as Arc<dyn ChainPeer>).collect(),
        store: Arc::new(MemoryPointStore::default()),
        clock: Arc::new(move || ChainTime(clock.load(Ordering::SeqCst))),
    }
}

async fn client(chain: &Chain, peers: &[Arc<Peer>]) -> LightClient {
    LightClient::start(config(chain, peers, chain.tip_time() + 500)).await
}

/// Runs a test that must not hang.
async fn patiently<T>(test: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, test).await.expect("the test hangs")
}

fn announcement(operator: &str) -> HostAnnouncement {
    let zero = Amount::ZERO;
    let prices = Prices {
        storage: zero,
        upload: zero,
        download: zero,
        request: zero,
        collateral_rate: zero,
        maximum_collateral: zero,
        proof_fee: zero,
        maximum_duration: Millis::hours(1_000),
    };
    HostAnnouncement {
        addresses: vec!["/ip4/192.0.2.1/tcp/9000".to_owned()],
        operator: operator.to_owned(),
        capacity: 1 << 40,
        accepting: true,
        prices,
    }
}

#[tokio::test]
async fn follows_the_tip_and_proves_what_it_answers() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(3);
        let hosts: Vec<u8> = vec![60, 61, 62];
        for (nonce, host) in hosts.iter().enumerate() {
            let action = Action::Transfer { to: secret(*host).public(), amount: Amount::coins(1) };
            chain.block(vec![chain.transaction(50, nonce as u64, action, &[])], None);
            let action = Action::AnnounceHost(announcement(&host.to_string()));
            chain.block(vec![chain.transaction(*host, 0, action, &[])], None);
        }
        let client =
            client(&chain, &[Peer::new(90, &chain, None), Peer::new(91, &chain, None)]).await;
        assert_eq!(client.tip().await.unwrap(), chain.tip());
        assert_eq!(client.peers().await, 2);
        let account = client.account(&secret(50).public()).await.unwrap();
        assert_eq!(account.nonce, 3);
        assert_eq!(client.account(&secret(77).public()).await, Ok(Default::default()));
        assert_eq!(client.contract(&secret(77).public()).await, Ok(None));
        let mut expected: Vec<_> = hosts
            .iter()
            .map(|host| (secret(*host).public(), announcement(&host.to_string())))
            .collect();
        expected.sort_by_key(|(key, _)| *key);
        assert_eq!(client.announced_hosts().await.unwrap(), expected);
        chain.grow(1);
        let tip = client.tip_above(Height(9)).await.unwrap();
        assert_eq!(Some(tip), chain.tip());
    })
    .await;
}

#[tokio::test]
async fn a_submitted_transaction_is_seen_when_it_is_included() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(1);
        let client = client(&chain, &[Peer::new(90, &chain, None)]).await;
        let id = client.submit(chain.transfer(0, 70, 5)).await.unwrap();
        assert_eq!(client.included(&id).await, Ok(Height(2)));
        let account = client.account(&secret(70).public()).await.unwrap();
        assert_eq!(account.balance, Amount::coins(5));
        // Nobody knows it, and it was not handed in here.
        let unknown = chain.transfer(7, 70, 5).id();
        assert_eq!(client.included(&unknown).await, Err(ChainError::Dropped(unknown)));
    })
    .await;
}

#[tokio::test]
async fn refusals_are_passed_on() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(1);
        let refuse: Lie = |answer| {
            if matches!(answer, ChainResponse::Accepted(_)) {
                *answer = ChainResponse::Refused("no fee".to_owned());
            }
        };
        let client = client(&chain, &[Peer::new(90, &chain, Some(refuse))]).await;
        client.tip().await.unwrap();
        let refused = client.submit(chain.transfer(0, 70, 5)).await;
        assert_eq!(refused, Err(ChainError::Refused("no fee".to_owned())));
    })
    .await;
}

#[tokio::test]
async fn why_a_transaction_was_dropped_is_passed_on() {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    patiently(async {
        let chain = Chain::new();
        chain.grow(1);
        // Takes the transaction once and forgets it.
        let forget: Lie = |answer| match answer {
            ChainResponse::Accepted(_) if TAKEN.swap(true, Ordering::Relaxed) => {
                *answer = ChainResponse::Refused("its nonce is used".to_owned());
            }
            ChainResponse::Transaction(status) => *status = TransactionStatus::Unknown,
            _ => {}
        };
        let client = client(&chain, &[Peer::new(90, &chain, Some(forget))]).await;
        let id = client.submit(chain.transfer(0, 70, 5)).await.unwrap();
        let Err(ChainError::Refused(reason)) = client.included(&id).await else {
            panic!("it is in no block");
        };
        assert!(reason.contains(&id.to_string()) && reason.ends_with("its nonce is used"));
    })
    .await;
}

/// What a peer may lie about; every lie is found out and costs it its place.
const LIES: &[(&str, Lie)] = &[
    ("a tip with a forged signature", |answer| {
        if let ChainResponse::Tip(Some(tip)) = answer {
            tip.certificate.signatures[0].1.0[0] ^= 1;
        }
    }),
    ("a tip of another state", |answer| {
        if let ChainResponse::Tip(Some(tip)) = answer {
            tip.header.state_root.0[0] ^= 1;
        }
    }),
    ("a value that is not in the state", |answer| {
        if let ChainResponse::State { values, .. } = answer {
            values[0].0 = Some(serde_bytes::ByteBuf::from(vec![9, 9]));
        }
    }),
    ("an account that is said not to exist", |answer| {
        if let ChainResponse::State { values, .. } = answer {
            values[0].0 = None;
        }
    }),
    ("a state root of its own", |answer| {
        if let ChainResponse::State { at, .. } = answer {
            at.header.state_root.0[0] ^= 1;
        }
    }),
    ("another answer", |answer| *answer = ChainResponse::Hosts(Vec::new())),
];

#[tokio::test]
async fn liars_are_dropped_and_others_asked() {
    for (what, lie) in LIES {
        patiently(async {
            let chain = Chain::new();
            chain.grow(4);
            let liar = Peer::new(90, &chain, Some(*lie));
            let peers = [Arc::clone(&liar), Peer::new(91, &chain, None)];
            let client = client(&chain, &peers).await;
            assert_eq!(client.tip().await.unwrap(), chain.tip(), "{what}");
            // Each question begins with another peer, so two reach both.
            for _ in 0..4 {
                let account = client.account(&secret(50).public()).await.unwrap();
                assert_eq!(account.balance, Amount::coins(1_000), "{what}");
            }
            assert_eq!(client.peers().await, 1, "{what}");
            let asked = liar.asked.load(Ordering::SeqCst);
            client.account(&secret(50).public()).await.unwrap();
            assert_eq!(liar.asked.load(Ordering::SeqCst), asked, "{what}: dropped for good");
        })
        .await;
    }
}

#[tokio::test]
async fn a_lone_liar_is_not_believed() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(4);
        let lie = LIES[2].1;
        let client = client(&chain, &[Peer::new(90, &chain, Some(lie))]).await;
        assert!(client.account(&secret(50).public()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn changes_of_validators_are_followed() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(5);
        let change = |from: &[u8], to: &[u8], nonce| {
            let set = ValidatorSet::new(validators(from)).unwrap();
            let action =
                Action::ChangeValidators { current: set.hash(), validators: validators(to) };
            chain.block(vec![chain.transaction(50, nonce, action, from)], Some(to));
        };
        change(&[1, 2, 3], &[4, 5, 6, 7], 0);
        change(&[4, 5, 6, 7], &[7, 8], 1);
        chain.grow(3);
        let client = client(&chain, &[Peer::new(90, &chain, None)]).await;
        assert_eq!(client.tip().await.unwrap(), chain.tip());
        let (set, certificate) = client.decision(Height(7)).await.unwrap();
        assert_eq!(certificate.verify(&chain.genesis.hash(), &set), Ok(()));
        // One more change while it follows, at the tip and beyond.
        change(&[7, 8], &[1, 2, 3], 2);
        client.tip_above(Height(10)).await.unwrap();
        chain.grow(2);
        let tip = client.tip_above(Height(12)).await.unwrap();
        assert_eq!(Some(tip), chain.tip());
        assert_eq!(client.account(&secret(50).public()).await.unwrap().nonce, 3);
    })
    .await;
}

/// Tells when the state was stored.
#[derive(Default)]
struct NotedStore {
    inner: MemoryPointStore,
    saved: Notify,
}

#[async_trait]
impl PointStore for NotedStore {
    async fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        self.inner.load().await
    }

    async fn save(&self, bytes: Vec<u8>) -> std::io::Result<()> {
        self.inner.save(bytes).await?;
        self.saved.notify_one();
        Ok(())
    }
}

#[tokio::test]
async fn the_trusted_point_survives_a_restart() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(8);
        let store = Arc::new(NotedStore::default());
        let peers = [Peer::new(90, &chain, None)];
        let config =
            LightConfig { store: Arc::clone(&store) as _, ..config(&chain, &peers, START) };
        let first = LightClient::start(config.clone()).await;
        first.tip().await.unwrap();
        store.saved.notified().await;
        drop(first);
        let second = LightClient::start(LightConfig { peers: Vec::new(), ..config }).await;
        assert_eq!(second.status().tip, chain.tip(), "known before any peer answers");
        assert!(!second.status().contacted);
        assert_eq!(second.status().stale, None, "nobody has told yet what the tip is");
        second.add_peer(Arc::clone(&peers[0]) as _);
        assert_eq!(second.tip().await.unwrap(), chain.tip());
    })
    .await;
}

#[tokio::test]
async fn files_keep_the_trusted_point() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilePointStore::new(folder.path().join("light"));
    assert_eq!(store.load().await.unwrap(), None);
    for bytes in [vec![1; 100], vec![2; 10]] {
        store.save(bytes.clone()).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(bytes));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[tokio::test]
async fn an_old_tip_is_believed_and_reported() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(4);
        let now = chain.tip_time() + 3_600_000;
        let client = LightClient::start(config(&chain, &[Peer::new(90, &chain, None)], now)).await;
        assert_eq!(client.tip().await.unwrap(), chain.tip());
        assert_eq!(client.status().stale, Some(Millis(3_600_000)));
    })
    .await;
}

#[tokio::test]
async fn a_scan_over_the_client_reads_ahead_and_survives_a_liar() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(95);
        let gap: Lie = |answer| {
            if let ChainResponse::Batch(blocks) = answer
                && blocks.len() > 5
            {
                blocks[4].header.state_root.0[0] ^= 1;
            }
        };
        let peers = [Peer::new(90, &chain, None), Peer::new(91, &chain, Some(gap))];
        let client = client(&chain, &peers).await;
        let now = ChainTime(chain.tip_time());
        let mut scan = Scan::new(&chain.genesis, Rules::walk(&chain.genesis));
        let mut refused = 0;
        loop {
            let result = match scan.next() {
                Need::Tip => scan.supply_tip(client.tip().await.unwrap(), now),
                Need::Batch { from, limit } => {
                    let blocks = client.batch(from, limit.min(10)).await.unwrap();
                    scan.supply_batch(&blocks, |_| false)
                }
                Need::Decision(height) => {
                    let (set, certificate) = client.decision(height).await.unwrap();
                    scan.supply_decision(&set, &certificate)
                }
                Need::Done => break,
            };
            if let Err(error) = result {
                assert_eq!(error.blame(), Blame::Answer);
                refused += 1;
                assert!(refused < 20, "an honest peer is asked after a liar");
            }
        }
        assert_eq!(scan.progress().blocks_certified, 95);
        assert!(refused > 0, "the liar had a turn");
    })
    .await;
}

#[tokio::test]
async fn batches_are_fetched_before_they_are_asked_for() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(100);
        let peer = Peer::new(90, &chain, None);
        let client = client(&chain, &[Arc::clone(&peer)]).await;
        client.tip().await.unwrap();
        for number in 0..10 {
            let blocks = client.batch(Height(1 + number * 10), 10).await.unwrap();
            let heights: Vec<u64> = blocks.iter().map(|block| block.header.height.0).collect();
            assert_eq!(heights, (1 + number * 10..=10 + number * 10).collect::<Vec<_>>());
        }
        let mut asked = peer.batches.lock().unwrap().clone();
        asked.sort_unstable();
        let once: Vec<u64> = (0..10).map(|number| 1 + number * 10).collect();
        assert_eq!(asked, once, "every batch was fetched once");
        assert_eq!(client.batch(Height(101), 10).await, Ok(Vec::new()));
    })
    .await;
}

/// Serves a chain over the network.
struct Server(Arc<Chain>);

#[async_trait]
impl RequestHandler for Server {
    async fn handle(&self, _: PublicKey, _: Channel, body: Bytes) -> Body {
        let response = match NodeRequest::from_bytes(&body) {
            Ok(NodeRequest::Chain(request)) => NodeResponse::Chain(self.0.answer(request).await),
            other => NodeResponse::Refused(format!("no chain request: {other:?}")),
        };
        response.to_bytes().into()
    }
}

#[tokio::test]
async fn follows_a_peer_over_the_network() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(20);
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let server = TransportConfig { listen, ..TransportConfig::new(secret(80)) };
        let (server, _) =
            Transport::start(server, Arc::new(Server(Arc::clone(&chain)))).await.unwrap();
        let nothing = Arc::new(Server(Chain::new()));
        let (transport, _) =
            Transport::start(TransportConfig::new(secret(81)), nothing).await.unwrap();
        for address in server.listen_addresses() {
            transport.add_address(server.local_peer(), address);
        }
        let peer = NetworkPeer::new(transport.clone(), server.local_peer());
        let mut config = config(&chain, &[], chain.tip_time());
        config.peers.push(Arc::new(peer));
        let client = LightClient::start(config).await;
        assert_eq!(client.tip().await.unwrap(), chain.tip());
        let account = client.account(&secret(50).public()).await.unwrap();
        assert_eq!(account.balance, Amount::coins(1_000));
        assert_eq!(client.batch(Height(1), 100).await.unwrap().len(), 20);
        chain.grow(1);
        client.tip_above(Height(20)).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tip_from_the_future_is_refused_and_told_until_it_is_none() {
    patiently(async {
        let chain = Chain::new();
        chain.grow(1);
        let now = Arc::new(AtomicU64::new(chain.tip_time() - 3_600_000));
        let read = Arc::clone(&now);
        let config = LightConfig {
            clock: Arc::new(move || ChainTime(read.load(Ordering::SeqCst))),
            ..config(&chain, &[Peer::new(90, &chain, None)], 0)
        };
        let client = LightClient::start(config).await;
        let mut status = client.watch();
        let refused = status.wait_for(|status| status.ahead.is_some()).await.unwrap().clone();
        assert_eq!(refused.ahead, Some((Height(1), Millis(3_600_000))));
        assert_eq!(refused.tip, None);
        now.store(chain.tip_time(), Ordering::SeqCst);
        let taken = status.wait_for(|status| status.tip.is_some()).await.unwrap().clone();
        assert_eq!((taken.tip, taken.ahead), (chain.tip(), None));
    })
    .await;
}
