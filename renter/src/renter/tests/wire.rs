//! What hosts are sent, as they read it: the requests behind the transport's encryption.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samara_protocol::encoding;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::signature::PublicKey;

use crate::backup::BackupRequest;
use crate::progress::Silent;
use crate::recovery::RecoveryOptions;
use crate::testing::Node;
use crate::testing::world::TestNetwork;
use crate::vault::Conflict;
use crate::world::{HostCallError, HostClient, Lane};

/// Hands requests on and keeps their bytes.
struct Recorder {
    hosts: Arc<dyn HostClient>,
    sent: Arc<Mutex<Vec<u8>>>,
}

#[async_trait]
impl HostClient for Recorder {
    async fn call(
        &self,
        host: &PublicKey,
        lane: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError> {
        let bytes = encoding::encode(&request);
        self.sent.lock().unwrap().extend_from_slice(&bytes);
        self.hosts.call(host, lane, request).await
    }
}

/// The needles that are in a haystack.
fn found(haystack: &[u8], needles: &[Vec<u8>]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, first) in haystack.iter().enumerate() {
        for needle in needles.iter().filter(|needle| needle[0] == *first) {
            if haystack[at..].starts_with(needle) {
                found.insert(String::from_utf8_lossy(needle).into_owned());
            }
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn requests_hold_no_name_and_no_content() {
    let mut network = TestNetwork::empty(8).await;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let hosts = Arc::clone(&network.world.hosts);
    network.world.hosts = Arc::new(Recorder { hosts, sent: Arc::clone(&sent) });
    let (name, folder) = ("PlantedFileNameZebra.txt", "PlantedFolderIbex");
    let (vault, backup, about) =
        ("planted-vault-okapi", "planted-backup-tapir", "planted description gnu");
    let line = b"planted content quagga, the same line again and again until it fills a block\n";
    let content = line.repeat(4_000);

    let node = Node::fresh(&network).await;
    node.files.put(&format!("/home/{folder}/{name}"), &content, 10);
    node.files.put("/home/PlantedSmallNyala", line, 11);
    node.put("/home", vault).await;
    let request = BackupRequest {
        name: backup.to_owned(),
        description: about.to_owned(),
        ..BackupRequest::default()
    };
    node.renter.create_backup(request, &Silent).await.unwrap();
    node.lose().await;
    let node = Node::blank(&network).await;
    node.renter.recover(RecoveryOptions::default(), &Silent).await.unwrap();
    node.get(vault, "/back", Conflict::Keep).await;
    assert_eq!(node.files.bytes(&format!("/back/{folder}/{name}")).unwrap(), content);

    let sent = sent.lock().unwrap();
    let planted: Vec<Vec<u8>> = [name, folder, "PlantedSmallNyala", vault, backup, about]
        .into_iter()
        .map(|text| text.as_bytes().to_vec())
        .chain(content.chunks_exact(64).take(2 * line.len()).map(<[u8]>::to_vec))
        .collect();
    assert_eq!(found(&sent, &planted), BTreeSet::new());
    // The search finds what is there: each request names its contract.
    assert!(sent.len() > content.len());
    let keys: Vec<Vec<u8>> = node
        .renter
        .contracts()
        .iter()
        .map(|contract| hex::decode(&contract.contract).unwrap())
        .collect();
    assert_eq!(found(&sent, &keys).len(), keys.len());
}
