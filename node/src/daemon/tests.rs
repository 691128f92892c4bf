//! Whole daemons in one process: who votes, and what is left after the end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::chain::{Action, Transaction, TransactionBody};
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, Height};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{DaemonError, Identity, Running, Starter, faucet};
use crate::access::{Actor, Secret, TOKEN_FILE, UserView};
use crate::api::access::Access;
use crate::api::client::Client;
use crate::api::{ApiError, NoticeRow, NotifyAnswer, NotifyRequest};
use crate::chain::Chain;
use crate::config::{NetworkFile, NodeConfig};
use crate::data::{DataFolder, NEW_VALIDATOR};
use crate::host::{ByteCount, HostConfig, VolumeConfig};
use crate::notify::{NoticeId, Tested};
use crate::testnet::{Layout, Plan, Role};

/// Far more than a test takes; only a hang reaches it.
const TIMEOUT: Duration = Duration::from_secs(120);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(TIMEOUT, work).await;
    done.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// One node's data folder and, while it runs, its parts.
struct TestNode {
    path: PathBuf,
    running: Option<(Running, DataFolder)>,
    key: PublicKey,
}

fn validator_key(path: &Path) -> PublicKey {
    let config = NodeConfig::read(&path.join("samara.toml")).unwrap();
    let network = NetworkFile::read(&config.network).unwrap();
    Identity::read(&config, &network, path).unwrap().validator.unwrap().public()
}

async fn start(path: &Path) -> Result<(Running, DataFolder), DaemonError> {
    let folder = DataFolder::open(path).unwrap();
    let config = NodeConfig::read(&path.join("samara.toml")).unwrap();
    let network = NetworkFile::read(&config.network).unwrap();
    let identity = Identity::read(&config, &network, path).unwrap();
    let starter = Starter { folder: &folder, config: &config, network: &network, identity };
    let running = starter.start(CancellationToken::new()).await?;
    Ok((running, folder))
}

impl TestNode {
    async fn start(&mut self) {
        self.running = Some(start(&self.path).await.unwrap());
    }

    async fn stop(&mut self) {
        let (running, _folder) = self.running.take().unwrap();
        running.shut_down().await;
    }

    fn role(&self) -> &super::ChainRole {
        self.running.as_ref().unwrap().0.parts.chain.as_ref().unwrap()
    }

    fn chain(&self) -> Arc<Chain> {
        self.role().service()
    }

    fn votes(&self) -> bool {
        *self.role().votes().borrow()
    }

    async fn until_it_votes(&self) {
        let mut votes = self.role().votes();
        within("it votes", votes.wait_for(|votes| *votes)).await.unwrap();
    }

    async fn reach(&self, height: Height) {
        let mut tips = self.chain().subscribe();
        let reached =
            tips.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.header.height >= height));
        within("a height is reached", reached).await.unwrap();
    }
}

struct TestNetwork {
    nodes: Vec<TestNode>,
    faucet: SecretKey,
    _root: tempfile::TempDir,
}

impl TestNetwork {
    fn new(validators: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = Plan::local(root.path().join("network"), validators, 0, 0);
        let layout = Layout::create(&plan).unwrap();
        let network = NetworkFile::read(&layout.network_file()).unwrap();
        let node = |path: PathBuf| TestNode { key: validator_key(&path), path, running: None };
        let nodes = layout.of(Role::Validator).map(|place| node(place.folder.clone())).collect();
        Self { nodes, faucet: faucet(&network).unwrap().unwrap(), _root: root }
    }

    async fn start_all(&mut self) {
        let idle = self.nodes.iter_mut().filter(|node| node.running.is_none());
        futures::future::join_all(idle.map(TestNode::start)).await;
    }

    async fn stop_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.running.is_some()) {
            node.stop().await;
        }
    }

    /// Has a transaction included; gives its height.
    async fn make_block(&self) -> Height {
        let chain = self.nodes[0].chain();
        let account = self.faucet.public();
        let body = TransactionBody {
            genesis: *chain.genesis_hash(),
            account,
            nonce: chain.next_nonce(&account).unwrap(),
            fee: chain.genesis().parameters.minimum_fee,
            valid_until: TransactionBody::ALWAYS,
            action: Action::Transfer { to: account, amount: Amount::coins(1) },
        };
        let id = chain.submit(Transaction::signed(body, &[&self.faucet])).unwrap();
        let height = || chain.snapshot().unwrap().transaction_height(&id).unwrap();
        let mut tips = chain.subscribe();
        within("a block is made", tips.wait_for(|_| height().is_some())).await.unwrap();
        height().unwrap()
    }

    fn signed(&self, height: Height, by: PublicKey) -> bool {
        let certificate =
            self.nodes[0].chain().snapshot().unwrap().certificate(height).unwrap().unwrap();
        certificate.signatures.iter().any(|(signer, _)| *signer == by)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_without_its_log_follows_before_it_votes() {
    let mut network = TestNetwork::new(4);
    network.start_all().await;
    let height = network.make_block().await;
    for node in &network.nodes {
        node.reach(height).await;
        assert!(node.votes());
        assert!(!node.path.join(NEW_VALIDATOR).exists());
        for file in ["consensus/consensus.wal", "chain/chain.redb", "light"] {
            let Ok(metadata) = std::fs::metadata(node.path.join(file)) else { continue };
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{file}");
        }
    }
    // The chain is kept; the guard beside it is not.
    network.nodes[3].stop().await;
    std::fs::remove_dir_all(network.nodes[3].path.join("consensus")).unwrap();
    network.nodes[3].start().await;
    let key = network.nodes[3].key;
    for _ in 0..2 {
        assert!(!network.nodes[3].votes());
        let height = network.make_block().await;
        assert!(!network.signed(height, key), "it signed {height}");
        network.nodes[3].reach(height).await;
    }
    network.nodes[3].until_it_votes().await;
    // Of four, three must sign.
    network.nodes[2].stop().await;
    let height = network.make_block().await;
    assert!(network.signed(height, key));

    // With its log, it votes at once.
    network.nodes[2].start().await;
    network.nodes[3].stop().await;
    network.nodes[3].start().await;
    assert!(network.nodes[3].votes());
    network.stop_all().await;
}

/// Damages a log in place.
fn damage(log: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(log).unwrap();
    how(&mut bytes);
    std::fs::write(log, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_with_a_damaged_log_follows_before_it_votes() {
    let mut network = TestNetwork::new(4);
    network.start_all().await;
    let height = network.make_block().await;
    let key = network.nodes[3].key;
    network.nodes[3].reach(height).await;
    let folder = network.nodes[3].path.join("consensus");
    let damages: [fn(&mut Vec<u8>); 2] = [Vec::clear, |bytes| bytes[3] ^= 0x40];
    for how in damages {
        network.nodes[3].stop().await;
        damage(&folder.join("consensus.wal"), how);
        network.nodes[3].start().await;
        assert!(!network.nodes[3].votes());
        assert!(folder.join("consensus.wal.damaged").exists());
        // The engine's new log is not taken for the one that was lost.
        network.nodes[3].stop().await;
        network.nodes[3].start().await;
        assert!(!network.nodes[3].votes());
        for _ in 0..2 {
            let height = network.make_block().await;
            assert!(!network.signed(height, key), "it signed {height}");
            network.nodes[3].reach(height).await;
        }
        network.nodes[3].until_it_votes().await;
    }
    network.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_validator_does_not_vote_while_nobody_answers() {
    let mut network = TestNetwork::new(4);
    network.start_all().await;
    let height = network.make_block().await;
    network.nodes[3].reach(height).await;
    network.stop_all().await;
    for folder in ["chain", "consensus"] {
        std::fs::remove_dir_all(network.nodes[3].path.join(folder)).unwrap();
    }
    network.nodes[3].start().await;
    assert!(!network.nodes[3].votes());
    network.start_all().await;
    let key = network.nodes[3].key;
    // It asks again by itself, so these blocks may be made before it has heard of a tip.
    while !network.nodes[3].votes() {
        let height = network.make_block().await;
        assert!(!network.signed(height, key) || network.nodes[3].votes(), "it signed {height}");
        network.nodes[3].reach(height).await;
    }
    network.nodes[2].stop().await;
    let height = network.make_block().await;
    assert!(network.signed(height, key));
    network.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_network_of_known_words_starts_by_itself() {
    let mut network = TestNetwork::new(3);
    for node in &network.nodes {
        std::fs::remove_file(node.path.join(NEW_VALIDATOR)).unwrap();
    }
    network.start_all().await;
    for node in &network.nodes {
        node.until_it_votes().await;
        node.reach(Height(1)).await;
    }
    network.stop_all().await;
}

/// A node with every role.
fn every_role(root: &Path) -> PathBuf {
    let layout = Layout::create(&Plan::local(root.join("network"), 1, 0, 1)).unwrap();
    let path = layout.of(Role::Validator).next().unwrap().folder.clone();
    let file = path.join("samara.toml");
    let mut config = NodeConfig::read(&file).unwrap();
    let volume = VolumeConfig { path: path.join("sectors"), limit: ByteCount(1 << 30) };
    config.host = Some(HostConfig { volumes: vec![volume], ..HostConfig::default() });
    config.renter = Some(crate::config::RenterConfig::default());
    config.write(&file).unwrap();
    path
}

/// A runtime of one thread: a task that somebody has waited for is gone there, and not only about to
/// go.
fn single_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends the API a request whose body never comes to its end, and waits until the body is asked for.
async fn open_request(path: &Path) -> TcpStream {
    let access = Access::read(path).unwrap();
    let mut stream = TcpStream::connect(access.address).await.unwrap();
    let head = format!(
        "POST /v1/allowance HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        access.address, access.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the body is asked for", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

/// A client of a running node with the token of its folder that stays.
fn administrator(path: &Path) -> Client {
    let text = std::fs::read_to_string(path.join(TOKEN_FILE)).unwrap();
    let token = Secret::new(text.trim().to_owned().into());
    Client::of_folder(path).unwrap().with_token(&token, &path.join(TOKEN_FILE))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrators_token_works_whatever_is_known_and_outlives_a_daemon() {
    let root = tempfile::tempdir().unwrap();
    let path = every_role(root.path());
    let (running, folder) = start(&path).await.unwrap();
    let client = administrator(&path);
    assert_eq!(client.get::<Actor>("/v1/whoami").await.unwrap(), Actor::local());
    // Until it is known what the words own, there is nobody else.
    let user = json!({ "email": "ada@example.org", "role": "operator" });
    let early = client.post::<_, Value>("/v1/users", &user).await.unwrap_err();
    assert_eq!(early.code, "not_started");
    client.post::<_, Value>("/v1/renter/start", &json!({})).await.unwrap();
    assert!(client.get::<Vec<UserView>>("/v1/users").await.unwrap().is_empty());
    // A journal without hosts takes nothing, and no user is shown who would not come back.
    let early = client.post::<_, Value>("/v1/users", &user).await.unwrap_err();
    assert_eq!(early.code, "no_hosts");
    assert!(client.get::<Vec<UserView>>("/v1/users").await.unwrap().is_empty());
    let token = std::fs::read(path.join(TOKEN_FILE)).unwrap();
    running.shut_down().await;
    drop(folder);

    let (running, _folder) = start(&path).await.unwrap();
    assert_eq!(std::fs::read(path.join(TOKEN_FILE)).unwrap(), token);
    let client = administrator(&path);
    assert_eq!(client.get::<Actor>("/v1/whoami").await.unwrap(), Actor::local());
    running.shut_down().await;
}

#[test]
fn no_task_outlives_a_daemon() {
    let root = tempfile::tempdir().unwrap();
    let path = every_role(root.path());
    let runtime = single_thread();
    runtime.block_on(async {
        let (running, _folder) = start(&path).await.unwrap();
        let chain = running.parts.chain.as_ref().unwrap().service();
        let mut tips = chain.subscribe();
        within("the first block is made", tips.wait_for(Option::is_some)).await.unwrap();
        let _request = open_request(&path).await;
        within("the daemon has ended", running.shut_down()).await;
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

#[test]
fn no_task_outlives_a_start_that_fails() {
    let root = tempfile::tempdir().unwrap();
    let path = every_role(root.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = path.join("samara.toml");
    let mut config = NodeConfig::read(&file).unwrap();
    config.api = taken.local_addr().unwrap();
    config.write(&file).unwrap();
    let runtime = single_thread();
    let failed = runtime.block_on(start(&path));
    assert!(matches!(failed, Err(DaemonError::Api { .. })));
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

/// An event stream: its lines, one after the other.
struct EventLines(reqwest::Response, String);

impl EventLines {
    async fn open(client: &Client, last: &str) -> Self {
        let request = client.request(reqwest::Method::GET, "/v1/events");
        let request = request.header("last-event-id", last);
        let response = within("the stream is open", client.send(request)).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response, String::new())
    }

    /// The value of the next line with this field; nothing at the stream's end.
    async fn next(&mut self, field: &str) -> Option<String> {
        loop {
            while let Some((line, rest)) = self.1.split_once('\n') {
                let found = line.strip_prefix(field).and_then(|rest| rest.strip_prefix(": "));
                let found = found.map(str::to_owned);
                self.1 = rest.to_owned();
                if found.is_some() {
                    return found;
                }
            }
            let chunk = within("an event comes", self.0.chunk()).await.unwrap()?;
            self.1.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renter_tells_what_happens_through_the_api() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::create(&Plan::local(root.path().join("network"), 1, 0, 1)).unwrap();
    let folder = |role| layout.of(role).next().unwrap().folder.clone();
    let (validator, _validator_folder) = start(&folder(Role::Validator)).await.unwrap();
    let mut tips = validator.parts.chain.as_ref().unwrap().service().subscribe();
    within("the first block is made", tips.wait_for(Option::is_some)).await.unwrap();
    let (renter, _renter_folder) = start(&folder(Role::Renter)).await.unwrap();
    let other = Client::of_folder(&folder(Role::Validator)).unwrap();
    let refused = other.get::<NotifyAnswer>("/v1/notifications/settings").await.unwrap_err();
    assert_eq!(refused.code, "no_role");

    let client = Client::of_folder(&folder(Role::Renter)).unwrap();
    let early = client.get::<NotifyAnswer>("/v1/notifications/settings").await.unwrap_err();
    assert_eq!(early.code, "not_started");
    let _: serde_json::Value = client.post("/v1/renter/start", &()).await.unwrap();
    let settings: NotifyAnswer = client.get("/v1/notifications/settings").await.unwrap();
    assert_eq!((settings.mail, settings.webhooks.len()), (None, 0));
    let odd =
        serde_json::json!({ "mail": { "server": "", "security": "tls", "from": "a", "to": [] } });
    let refused: Result<NotifyAnswer, ApiError> =
        client.put("/v1/notifications/settings", &odd).await;
    let refused = refused.unwrap_err();
    assert!(refused.code == "invalid" && refused.message.starts_with("server: "), "{refused}");
    let same: Result<NotifyAnswer, ApiError> =
        client.put("/v1/notifications/settings", &NotifyRequest::default()).await;
    same.unwrap();

    let mut events = EventLines::open(&client, "").await;
    let notices = renter.parts.notices.clone().unwrap();
    notices.job(&serde_json::json!({ "job": 1 }));
    assert_eq!(events.next("event").await.unwrap(), "job");
    assert_eq!(events.next("data").await.unwrap(), r#"{"job":1}"#);
    let last = events.next("id").await.unwrap();
    let tested: Vec<Tested> = client.post("/v1/notifications/test", &()).await.unwrap();
    assert!(tested.is_empty());
    assert_eq!(events.next("event").await.unwrap(), "notice");
    let news = crate::notify::News::Test {};
    let notice = news.notice(NoticeId([1; 16]), crate::clock::now());
    let number = notices.publish(notice.clone()).await.unwrap();
    let listed: Vec<NoticeRow> = client.get("/v1/notifications?after=0&limit=5").await.unwrap();
    assert_eq!((listed.len(), listed[0].number, &listed[0].notice), (1, number, &notice));
    assert_eq!(listed[0].deliveries.as_deref(), Some(&[][..]));

    // One that comes back gets what it has not seen; one from another time is told so.
    let mut again = EventLines::open(&client, &last).await;
    assert_eq!(again.next("event").await.unwrap(), "notice");
    let mut odd = EventLines::open(&client, "x").await;
    assert_eq!(odd.next("event").await.unwrap(), "gap");

    let path = format!("/v1/notifications/{number}");
    client.delete::<serde_json::Value>(&path).await.unwrap();
    let gone = client.delete::<serde_json::Value>(&path).await.unwrap_err();
    assert_eq!(gone.code, "not_found");

    // Open streams end with the node.
    within("the renter has ended", renter.shut_down()).await;
    while events.next("event").await.is_some() {}
    within("the validator has ended", validator.shut_down()).await;
}
