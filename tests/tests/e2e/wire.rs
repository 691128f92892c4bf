//! What can be read on the wire: everything between a renter and the network goes through proxies that
//! keep a copy.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use samara_node::config::{NetworkFile, NodeConfig};
use samara_node::seed::command::{WordCount, draw};
use samara_node::testnet::{Layout, Role};
use samara_protocol::keys::Phrase;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::network::{background, play_alone, text};

/// What a node says in the clear before it encrypts.
const CLEAR: [&str; 2] = ["/multistream/1.0.0", "/noise"];
/// Bytes of the planted file.
const LARGE: usize = 3_000_000;

/// The bytes of one direction of a connection.
type Direction = Arc<Mutex<Vec<u8>>>;

/// The bytes of all connections.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Direction>>>);

impl Capture {
    fn buffer(&self) -> Direction {
        let buffer = Direction::default();
        self.0.lock().unwrap().push(Arc::clone(&buffer));
        buffer
    }

    /// Puts a proxy before an address, and gives where it listens.
    fn before(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let capture = self.clone();
        background(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((inside, _)) = listener.accept().await {
                // Without the node behind it, the proxy answers as the node would: not at all.
                let Ok(outside) = TcpStream::connect(target).await else { continue };
                let (inside_read, inside_write) = inside.into_split();
                let (outside_read, outside_write) = outside.into_split();
                background(carry(inside_read, outside_write, capture.buffer()));
                background(carry(outside_read, inside_write, capture.buffer()));
            }
        });
        address
    }

    fn bytes(&self) -> usize {
        self.0.lock().unwrap().iter().map(|buffer| buffer.lock().unwrap().len()).sum()
    }

    /// The needles that were seen in any direction of any connection.
    fn find(&self, needles: &[&[u8]]) -> BTreeSet<String> {
        let buffers = self.0.lock().unwrap();
        buffers.iter().flat_map(|buffer| find(&buffer.lock().unwrap(), needles)).collect()
    }
}

/// Carries bytes one way until either side ends.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, copy: Direction) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        copy.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// The needles that are in a haystack, as text.
pub fn find(haystack: &[u8], needles: &[&[u8]]) -> BTreeSet<String> {
    let mut starts = [false; 256];
    needles.iter().for_each(|needle| starts[usize::from(needle[0])] = true);
    let mut found = BTreeSet::new();
    for (at, first) in haystack.iter().enumerate().filter(|(_, first)| starts[usize::from(**first)])
    {
        for needle in needles.iter().filter(|needle| needle[0] == *first) {
            if haystack[at..].starts_with(needle) {
                found.insert(String::from_utf8_lossy(needle).into_owned());
            }
        }
    }
    found
}

fn multiaddress(address: SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}

fn socket_address(multiaddress: &str) -> SocketAddr {
    let parts: Vec<&str> = multiaddress.split('/').collect();
    format!("{}:{}", parts[2], parts[4]).parse().unwrap()
}

fn change(folder: &Path, change: impl FnOnce(&mut NodeConfig)) {
    let file = folder.join("samara.toml");
    let mut config = NodeConfig::read(&file).unwrap();
    change(&mut config);
    config.write(&file).unwrap();
}

/// Has every host announce a proxy instead of itself.
fn announce_proxies(layout: &Layout, capture: &Capture) {
    for place in layout.of(Role::Host) {
        // Free a moment ago: the host must listen where the proxy looks for it.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        change(&place.folder, |config| {
            config.listen = vec![multiaddress(free)];
            config.external = vec![multiaddress(capture.before(free))];
        });
    }
}

/// Has a renter ask the chain through proxies.
fn ask_proxies(folder: &Path, capture: &Capture) {
    change(folder, |config| {
        let mut network = NetworkFile::read(&config.network).unwrap();
        for peer in &mut network.peers {
            peer.address = multiaddress(capture.before(socket_address(&peer.address)));
        }
        config.network = folder.join("proxied.toml");
        network.write(&config.network).unwrap();
    });
}

/// Words so long that none of them is in so many random bytes by chance.
fn long_words() -> Phrase {
    loop {
        let words = draw(WordCount::Twelve).unwrap();
        if words.words().all(|word| word.len() >= 6) {
            return words;
        }
    }
}

#[test]
fn nothing_on_the_wire_tells_names_contents_or_words() {
    let capture = Capture::default();
    let tap = capture.clone();
    play_alone(
        move |layout| announce_proxies(layout, &tap),
        |shared| async move {
            let scratch = shared.scratch();
            let folder = scratch.path().join("source").join("PlantedFolderIbex");
            std::fs::create_dir_all(&folder).unwrap();
            let line = "planted content quagga, the same line again and again for a whole file\n";
            let content = line.repeat(LARGE / line.len());
            std::fs::write(folder.join("PlantedFileNameZebra.txt"), &content).unwrap();
            std::fs::write(folder.join("PlantedSmallNyala"), line).unwrap();
            let source = folder.parent().unwrap();
            let (vault, backup) = ("planted-vault-okapi", "planted-backup-tapir");

            // A whole life: store, list, back up, lose everything, recover, read again.
            let words = long_words();
            let renter = shared.machine_with(&words, |folder| ask_proxies(folder, &capture)).await;
            let renter = shared.equipped(renter).await;
            renter.run(&["vault", "create", vault]).await.ok();
            renter.run(&["put", text(source), vault]).await.ok();
            renter.run(&["ls", vault, "--recursive"]).await.ok();
            let about = ["--description", "planted description gnu"];
            renter.run(&[["backup", "create", backup].as_slice(), &about].concat()).await.ok();
            let stored = capture.bytes();
            assert!(stored >= content.len(), "the put went past the proxies: {stored}");
            renter.lose().await;
            let machine = shared.machine_with(&words, |folder| ask_proxies(folder, &capture)).await;
            machine.run(&["recover", "start"]).await.ok();
            let target = scratch.path().join("target");
            machine.run(&["get", vault, text(&target)]).await.ok();
            let back = target.join("PlantedFolderIbex/PlantedFileNameZebra.txt");
            assert_eq!(std::fs::read(back).unwrap(), content.as_bytes());
            let read = capture.bytes() - stored;
            assert!(read >= content.len(), "the get went past the proxies: {read}");

            let names = [
                "PlantedFolderIbex",
                "PlantedFileNameZebra",
                "PlantedSmallNyala",
                vault,
                backup,
                "planted description gnu",
            ];
            let blocks = content.as_bytes().chunks_exact(64).take(2 * line.len());
            let secret: Vec<String> = words.words().map(str::to_owned).collect();
            let needles: Vec<&[u8]> = names
                .iter()
                .map(|name| name.as_bytes())
                .chain(secret.iter().map(String::as_bytes))
                .chain(blocks)
                .collect();
            assert_eq!(capture.find(&needles), BTreeSet::new());
            // The search does find what is there.
            assert_eq!(capture.find(&CLEAR.map(str::as_bytes)), CLEAR.map(str::to_owned).into());
        },
    );
}
