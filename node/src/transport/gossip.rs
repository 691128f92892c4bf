//! Gossip of small messages to all nodes that subscribe to a topic.
//!
//! libp2p's gossipsub with signed messages, known by the hash of their content, so that the same
//! bytes from two authors travel once. A message is passed on only after the subscription's check
//! accepted it. Owned by the swarm's task.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, Message, MessageAcceptance, MessageAuthenticity,
    MessageId, PublishError, TopicHash, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::{PeerId, gossipsub};
use samara_protocol::chain::Transaction;
use samara_protocol::signature::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::{GossipError, TransportError};
use super::identity::public_key;

/// Largest gossip message in bytes: the largest transaction, and room for the fields of gossipsub.
pub const MAX_GOSSIP: usize = Transaction::MAX_BYTES + (4 << 10);

/// Messages that a subscriber may leave unread before further ones are dropped for it.
const UNREAD: usize = 1024;

/// The name of a stream of messages, such as `/samara/transactions/1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Cow<'static, str>);

impl Topic {
    /// A topic with this name.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    fn ident(&self) -> IdentTopic {
        IdentTopic::new(self.0.clone())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}", self.0)
    }
}

/// A message of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipMessage {
    /// Who published it (its signature is checked).
    pub source: PublicKey,
    /// The connected peer that passed it on.
    pub forwarder: PublicKey,
    /// What was published.
    pub bytes: Bytes,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it and pass it on.
    Accept,
    /// Drop it without blame, as when it is of no use any more.
    Ignore,
    /// Drop it and hold it against the peer that passed it on.
    Reject,
}

/// Judges a message before it is delivered and passed on. Runs on a thread of its own, which may block.
pub type GossipCheck = Arc<dyn Fn(&GossipMessage) -> Verdict + Send + Sync>;

/// Messages that are judged at a time; what comes beyond is dropped without blame.
const CHECKS: usize = 64;

struct Subscription {
    topic: Topic,
    check: GossipCheck,
    sender: mpsc::Sender<GossipMessage>,
}

/// The subscriptions of this node.
#[derive(Default)]
pub(super) struct Gossip {
    subscriptions: HashMap<TopicHash, Subscription>,
    /// Messages that are being judged, at most [`CHECKS`].
    checks: JoinSet<Judged>,
}

/// A message whose check is over.
pub(super) struct Judged {
    id: MessageId,
    forwarder: PeerId,
    topic: TopicHash,
    message: GossipMessage,
    verdict: Verdict,
}

/// gossipsub as Samara configures it.
pub(super) fn behaviour(keypair: Keypair) -> Result<Behaviour, TransportError> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(MAX_GOSSIP)
        .duplicate_cache_time(Duration::from_secs(120))
        .message_id_fn(message_id)
        .build()
        .map_err(|error| TransportError::Gossip(error.to_string()))?;
    Behaviour::new(MessageAuthenticity::Signed(keypair), config)
        .map_err(|error| TransportError::Gossip(error.to_owned()))
}

fn message_id(message: &Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message.topic.as_str().as_bytes());
    // Topic names hold no zero byte that could shift the boundary unnoticed.
    hasher.update(&[0]);
    hasher.update(&message.data);
    MessageId::new(hasher.finalize().as_bytes())
}

impl Gossip {
    pub(super) fn subscribe(
        &mut self,
        behaviour: &mut Behaviour,
        topic: Topic,
        check: GossipCheck,
    ) -> Result<mpsc::Receiver<GossipMessage>, GossipError> {
        let ident = topic.ident();
        let hash = ident.hash();
        if self.subscriptions.get(&hash).is_some_and(|old| !old.sender.is_closed()) {
            return Err(GossipError::AlreadySubscribed { topic });
        }
        if let Err(source) = behaviour.subscribe(&ident) {
            return Err(GossipError::Subscribe { topic, source });
        }
        let (sender, receiver) = mpsc::channel(UNREAD);
        self.subscriptions.insert(hash, Subscription { topic, check, sender });
        Ok(receiver)
    }

    /// Has a message judged; [`Gossip::judged`] gives it back.
    pub(super) fn receive(
        &mut self,
        behaviour: &mut Behaviour,
        forwarder: PeerId,
        id: MessageId,
        message: Message,
    ) {
        let keys = message.source.as_ref().and_then(public_key).zip(public_key(&forwarder));
        let check = self.subscriptions.get(&message.topic).map(|one| Arc::clone(&one.check));
        let at_once = match (keys, check) {
            (None, _) => MessageAcceptance::Reject,
            (Some((source, from)), Some(check)) if self.checks.len() < CHECKS => {
                let topic = message.topic;
                let bytes = Bytes::from(message.data);
                let message = GossipMessage { source, forwarder: from, bytes };
                self.checks.spawn_blocking(move || {
                    let verdict = check(&message);
                    Judged { id, forwarder, topic, message, verdict }
                });
                return;
            }
            // A flood, or a topic that was left: whoever sent it is not to blame.
            _ => MessageAcceptance::Ignore,
        };
        behaviour.report_message_validation_result(&id, &forwarder, at_once);
    }

    /// The next message whose check is over. Cancel safe; waits for ever while none is being judged.
    pub(super) async fn judged(&mut self) -> Judged {
        loop {
            match self.checks.join_next().await {
                Some(Ok(judged)) => return judged,
                // A check that panicked has logged it; its message is forgotten by gossipsub in time.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Delivers a message that was judged, and lets gossipsub pass it on.
    pub(super) fn settle(&mut self, behaviour: &mut Behaviour, judged: Judged) {
        let (id, forwarder) = (judged.id.clone(), judged.forwarder);
        let acceptance = self.deliver(behaviour, judged);
        behaviour.report_message_validation_result(&id, &forwarder, acceptance);
    }

    fn deliver(&mut self, behaviour: &mut Behaviour, judged: Judged) -> MessageAcceptance {
        let Judged { topic, message, verdict, .. } = judged;
        match verdict {
            Verdict::Accept => {}
            Verdict::Ignore => return MessageAcceptance::Ignore,
            Verdict::Reject => return MessageAcceptance::Reject,
        }
        let Some(subscription) = self.subscriptions.get(&topic) else {
            return MessageAcceptance::Ignore;
        };
        match subscription.sender.try_send(message) {
            Ok(()) => MessageAcceptance::Accept,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(topic = %subscription.topic, "a gossip message was dropped unread");
                MessageAcceptance::Accept
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                behaviour.unsubscribe(&subscription.topic.ident());
                self.subscriptions.remove(&topic);
                MessageAcceptance::Ignore
            }
        }
    }
}

/// Publishes a message. One that was seen before counts as published.
pub(super) fn publish(
    behaviour: &mut Behaviour,
    topic: Topic,
    bytes: &[u8],
) -> Result<(), GossipError> {
    match behaviour.publish(topic.ident(), bytes) {
        Ok(_) | Err(PublishError::Duplicate) => Ok(()),
        Err(PublishError::NoPeersSubscribedToTopic) => Err(GossipError::NoSubscribers { topic }),
        Err(source) => Err(GossipError::Publish { topic, source }),
    }
}

/// Connected peers that subscribe to the topic.
pub(super) fn subscribers(behaviour: &gossipsub::Behaviour, topic: &Topic) -> Vec<PublicKey> {
    let hash = topic.ident().hash();
    behaviour
        .all_peers()
        .filter(|(_, topics)| topics.contains(&&hash))
        .filter_map(|(peer, _)| public_key(peer))
        .collect()
}
