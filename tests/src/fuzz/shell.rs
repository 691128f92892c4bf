//! What nodes say to each other, what people write for them, and what the API is sent.

use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use samara_node::api::access::Access;
use samara_node::api::stream::Message;
use samara_node::api::{
    AllowanceRequest, ApiError, FaucetRequest, MoveRequest, NameRequest, NotifyRequest,
    RemoveRequest, SendRequest, SignedChange,
};
use samara_node::config::{NetworkFile, NodeConfig};
use samara_node::fetch::{Network, Target};
use samara_node::redundancy::Redundancy;
use samara_node::seed::source::{PassphraseSource, SeedSource};
use samara_node::transport::Channel;
use samara_node::validators::SetChange;
use samara_protocol::encoding::encode;
use samara_protocol::hash::Digest;
use samara_protocol::journal::{StoredPath, entry};
use samara_protocol::keys::Phrase;
use samara_protocol::keys::sealed::SealedPhrase;
use samara_protocol::units::Amount;
use samara_protocol::wire::{NodeRequest, NodeResponse};
use samara_renter::backup::{BackupRequest, RestoreRequest};
use samara_renter::contract::Allowance;
use samara_renter::recovery::RecoveryOptions;
use samara_renter::vault::{GetRequest, ListOptions, PutRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Fields, value};

/// Requests between nodes, with their version.
pub fn wire_request(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match NodeRequest::from_bytes(&bytes) {
        Ok(request) => {
            let again = request.to_bytes();
            assert_eq!(request.to_parts().concat(), again);
            assert_eq!(NodeRequest::from_bytes(&again.into()), Ok(request));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Answers between nodes, with their version.
pub fn wire_response(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match NodeResponse::from_bytes(&bytes) {
        Ok(response) => {
            let again = response.to_bytes();
            assert_eq!(response.to_parts().concat(), again);
            assert_eq!(NodeResponse::from_bytes(&again.into()), Ok(response));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Transport frames: the channel, then what a peer sends on a substream.
pub fn frames(data: &[u8]) {
    let mut fields = Fields(data);
    let channel = if fields.byte() & 1 == 0 { Channel::Control } else { Channel::Bulk };
    let stream = fields.0;
    let requests = samara_node::transport::hostile::requests(channel, stream);
    let frame = |body: &Bytes| [&(body.len() as u32).to_le_bytes()[..], body].concat();
    let again: Vec<u8> = requests.iter().flat_map(frame).collect();
    assert!(stream.starts_with(&again));
    if let Some(body) = samara_node::transport::hostile::response(channel, stream) {
        let header = [&[0][..], &(body.len() as u32).to_le_bytes()].concat();
        assert!(stream.starts_with(&[&header[..], &body].concat()));
    }
}

/// Messages of the consensus engine: each decoder gets the whole input.
pub fn engine_messages(data: &[u8]) {
    samara_node::consensus::hostile::decode_all(data);
}

/// network.toml.
pub fn network_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = toml::from_str::<NetworkFile>(text) else { return };
    let again = toml::to_string_pretty(&file).expect("what was read can be written");
    assert_eq!(toml::from_str::<NetworkFile>(&again), Ok(file.clone()));
    file.peers.iter().for_each(|peer| drop(peer.public_key()));
    match file.genesis() {
        Ok(genesis) => {
            let _ = (genesis.check(), genesis.hash());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// samara.toml.
pub fn samara_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = toml::from_str::<NodeConfig>(text) else { return };
    let _ = config.words.sources(Path::new("/data"));
    let _ = config.renter.as_ref().map(samara_node::config::RenterConfig::to_renter);
    // A text that is no TOML by itself is not written back; whatever is written reads the same.
    if let Ok(again) = toml::to_string_pretty(&config) {
        let config = toml::from_str::<NodeConfig>(&again).expect("what was written can be read");
        assert_eq!(toml::to_string_pretty(&config), Ok(again));
    }
}

/// Sealed words.
pub fn sealed_words(data: &[u8]) {
    match SealedPhrase::decode(data) {
        Ok(sealed) => assert_eq!(sealed.encode(), data),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Bodies of API requests, lines of its answers, `api.json`: which, then JSON.
pub fn api_bodies(data: &[u8]) {
    let mut fields = Fields(data);
    let read = BODIES[usize::from(fields.byte()) % BODIES.len()];
    read(fields.0);
}

/// A reader for each kind of body. The corpus counts on this order.
const BODIES: [fn(&[u8]); 16] = [
    json::<NameRequest>,
    json::<MoveRequest>,
    json::<RemoveRequest>,
    json::<AllowanceRequest>,
    json::<SendRequest>,
    json::<FaucetRequest>,
    json::<PutRequest>,
    json::<GetRequest>,
    json::<ListOptions>,
    json::<BackupRequest>,
    json::<RestoreRequest>,
    json::<RecoveryOptions>,
    json::<Message>,
    json::<Access>,
    json::<ApiError>,
    json::<NotifyRequest>,
];

/// What reads is written in one way.
fn json<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let read = match serde_json::from_slice::<T>(data) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let text = serde_json::to_string(&read).expect("what was read can be written");
    let again = serde_json::from_str::<T>(&text).expect("what was written can be read");
    let again = serde_json::to_string(&again).expect("what was read can be written");
    assert_eq!(again, text);
}

/// Changes of the validator set, as operators send them to each other.
pub fn validator_change(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<SignedChange>(data) else { return };
    match SetChange::read(&document) {
        Ok(change) => assert_eq!(SetChange::read(&change.document()), Ok(change)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Texts that people or other nodes write; and settings of the renter's own.
pub fn texts(data: &[u8]) {
    value::<Allowance>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    written::<Amount>(text);
    written::<Digest>(text);
    written::<Redundancy>(text);
    written::<Network>(text);
    if let Ok(target) = Target::parse(text) {
        let location = target.url().as_str().to_owned();
        assert!(target.join(&location).is_ok_and(|again| again == target));
    }
    let _ = (text.parse::<SeedSource>(), text.parse::<PassphraseSource>());
    let _ = text.parse::<samara_node::transport::Multiaddr>();
    let _ = entry::is_vault_name(text);
    match StoredPath::new(text) {
        Ok(path) => {
            assert_eq!(path.as_str(), text);
            value::<StoredPath>(&encode(&path));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Phrase::parse(text) {
        Ok(phrase) => assert!(Phrase::parse(&phrase.line()).is_ok()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What reads is written such that it reads the same.
fn written<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == value), "'{text}' is not written as it was read");
    }
}
