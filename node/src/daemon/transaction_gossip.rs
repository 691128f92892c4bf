//! Transactions between chain nodes: what comes in is judged by the chain, what is handed in here goes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use samara_protocol::signature::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::ChainRoleError;
use super::identity;
use crate::chain::{Chain, Gossip, Relay};
use crate::config::NetworkFile;
use crate::transport::{GossipCheck, Topic, Transport, Verdict};

/// Transactions that wait to be published; more are left to the senders' own nodes.
const OUTGOING: usize = 1_024;
/// How long a first connection to another chain node may take before it is left to later.
const CONNECT: Duration = Duration::from_secs(5);
/// How often transactions that still wait here are passed on again, for nodes that were not there.
const REPUBLISH: Duration = Duration::from_secs(30);
/// Most transactions passed on again at once.
const REPUBLISHED: usize = 256;

/// Transactions on their way out.
struct Outgoing(mpsc::Sender<Vec<u8>>);

impl Gossip for Outgoing {
    fn publish(&self, transaction: Vec<u8>) {
        // A full queue means a flood; whoever sent this one asks for it again.
        let _ = self.0.try_send(transaction);
    }
}

/// Joins the gossip and keeps connected with the network's chain nodes. The tasks end with the set.
///
/// # Errors
/// [`ChainRoleError`] for a peer without a usable key or address, or when the topic is taken.
pub(super) async fn join(
    chain: &Arc<Chain>,
    network: &NetworkFile,
    transport: &Transport,
) -> Result<JoinSet<()>, ChainRoleError> {
    let topic = Topic::new(format!("/samara/transactions/1/{}", chain.genesis_hash()));
    let judge = Arc::clone(chain);
    let check: GossipCheck = Arc::new(move |message| match judge.receive(&message.bytes) {
        Relay::Accept => Verdict::Accept,
        Relay::Ignore => Verdict::Ignore,
        Relay::Reject => Verdict::Reject,
    });
    let mut incoming = transport.subscribe(topic.clone(), check).await?;
    // The check has taken each message in already; the queue is only to be emptied.
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { while incoming.recv().await.is_some() {} });
    let (sender, mut outgoing) = mpsc::channel::<Vec<u8>>(OUTGOING);
    chain.connect_gossip(Arc::new(Outgoing(sender)));
    let publisher = transport.clone();
    tasks.spawn(async move {
        while let Some(transaction) = outgoing.recv().await {
            if let Err(error) = publisher.publish(topic.clone(), Bytes::from(transaction)).await {
                tracing::debug!(%error, "transaction not passed on");
            }
        }
    });
    let repeated = Arc::clone(chain);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(REPUBLISH).await;
            let chain = Arc::clone(&repeated);
            // Reads the pool; a panic in it is the pool's to report.
            let _ = tokio::task::spawn_blocking(move || chain.republish(REPUBLISHED)).await;
        }
    });
    for peer in &network.peers {
        let key = peer.public_key()?;
        if key == transport.local_peer() {
            continue;
        }
        for address in identity::addresses("peers.address", std::slice::from_ref(&peer.address))? {
            transport.add_address(key, address);
        }
        tasks.spawn(keep_connected(transport.clone(), key));
    }
    Ok(tasks)
}

/// Gossip flows between connected nodes only: a lost neighbour is dialed again.
async fn keep_connected(transport: Transport, peer: PublicKey) {
    let mut connected = transport.watch_peers();
    loop {
        if !connected.borrow_and_update().contains(&peer)
            && let Err(error) = transport.connect(peer, CONNECT).await
        {
            tracing::debug!(%error, "chain peer not connected");
            tokio::time::sleep(CONNECT).await;
            continue;
        }
        if connected.changed().await.is_err() {
            return;
        }
    }
}
