//! A load of changes, and what is known of each path.
//!
//! Each writer has paths of its own and one change under way at a time, so all that a path may hold is
//! known: its last acknowledged state, or that of a later change whose answer never came.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use samara_node::api::client::Client;
use samara_node::api::error::ApiError;
use samara_tests::noise;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::network::Renter;

const WRITERS: u64 = 8;
/// Paths that each writer changes again and again.
const PATHS: u64 = 12;

/// What a path holds: nothing, or bytes made from a number.
type State = Option<u64>;

/// What a path may hold.
#[derive(Clone, Debug, Default)]
pub struct Known {
    acknowledged: State,
    /// Later changes whose answer never came.
    in_doubt: Vec<State>,
}

impl Known {
    fn settled(state: State) -> Self {
        Self { acknowledged: state, in_doubt: Vec::new() }
    }

    /// What the path holds, if that is known.
    fn certain(&self) -> Option<State> {
        self.in_doubt.is_empty().then_some(self.acknowledged)
    }
}

pub type Model = BTreeMap<String, Known>;

/// The bytes of a number: every fourth too many to ride in the journal.
pub fn bytes_of(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(4) { 5_000 + number % 300_000 } else { number % 4_096 };
    noise(&number.to_le_bytes(), usize::try_from(length).unwrap())
}

pub fn object(path: &str) -> String {
    format!("/v1/vaults/home/objects/{path}")
}

async fn change(client: &Client, path: &str, state: State) -> Result<(), ApiError> {
    match state {
        Some(number) => {
            let request = client.request(reqwest::Method::PUT, &object(path));
            client.send(request.body(bytes_of(number))).await.map(|_| ())
        }
        None => {
            let body = json!({ "path": path });
            client.post::<_, Value>("/v1/vaults/home/remove", &body).await.map(|_| ())
        }
    }
}

pub async fn read(client: &Client, path: &str) -> Result<Vec<u8>, ApiError> {
    let answer = client.send(client.request(reqwest::Method::GET, &object(path))).await?;
    let bytes = answer.bytes().await;
    Ok(bytes.map_err(|error| ApiError::new("cut_short", error.to_string()))?.to_vec())
}

async fn listed(client: &Client) -> Vec<String> {
    let files: Vec<Value> = client.get("/v1/vaults/home/files?recursive=true").await.unwrap();
    let paths = files.iter().filter(|row| row["kind"] == "file");
    paths.map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

type Life = Option<(u64, Client)>;

/// What writers and the one who kills share.
struct Shared {
    /// Which of its lives the renter is in, and a client of it; nothing while it is down.
    client: watch::Receiver<Life>,
    acknowledged: mpsc::UnboundedSender<()>,
    stop: AtomicBool,
    number: AtomicU64,
    changes: AtomicU64,
    reads: AtomicU64,
}

impl Shared {
    /// Changes a writer's paths until it is told to stop, and reads some of them.
    async fn write(&self, writer: u64, mut random: ChaCha8Rng, mut model: Model) -> Model {
        let mut client = self.client.clone();
        // Which of its last entries were acknowledged a renter that was killed learns from the hosts, before
        // it acknowledges the next. Only then are reads compared.
        let mut caught_up = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(Some((life, current))) =
                client.wait_for(Option::is_some).await.map(|client| client.clone())
            else {
                break;
            };
            let path = format!("{writer}/{}", random.next_u64() % PATHS);
            let other = format!("{writer}/{}", random.next_u64() % PATHS);
            let there = model.get(&path).and_then(Known::certain).flatten();
            let free = model.get(&other).is_none_or(|known| known.certain() == Some(None));
            let changed = match (random.next_u64() % 8, there) {
                (0 | 1, Some(_)) => self.set(&current, &mut model, &path, None).await,
                (2, Some(number)) if free => {
                    self.rename(&current, &mut model, &path, &other, number).await
                }
                (3, Some(number)) if caught_up == Some(life) => {
                    if let Ok(bytes) = read(&current, &path).await {
                        assert!(bytes == bytes_of(number), "{path} is read as something else");
                        self.reads.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                _ => {
                    let number = self.number.fetch_add(1, Ordering::Relaxed);
                    self.set(&current, &mut model, &path, Some(number)).await
                }
            };
            if changed {
                caught_up = Some(life);
                // Nobody listens any more when the round ends.
                let _ = self.acknowledged.send(());
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
        }
        model
    }

    /// Gives a path another state; false if that is in doubt now.
    async fn set(&self, client: &Client, model: &mut Model, path: &str, state: State) -> bool {
        let known = model.entry(path.to_owned()).or_default();
        known.in_doubt.push(state);
        let done = change(client, path, state).await.is_ok();
        if done {
            *known = Known::settled(state);
        }
        done
    }

    /// Moves a file to a path where nothing is; false if both are in doubt now.
    async fn rename(
        &self,
        client: &Client,
        model: &mut Model,
        from: &str,
        to: &str,
        number: u64,
    ) -> bool {
        let after = [(from, None), (to, Some(number))];
        for (path, state) in after {
            model.entry(path.to_owned()).or_default().in_doubt.push(state);
        }
        let body = json!({ "from": from, "to": to });
        let done = client.post::<_, Value>("/v1/vaults/home/move", &body).await.is_ok();
        if done {
            for (path, state) in after {
                model.insert(path.to_owned(), Known::settled(state));
            }
        }
        done
    }
}

/// Writers at work on a renter that may go down and come back.
pub struct Load {
    shared: Arc<Shared>,
    client: watch::Sender<Life>,
    lives: u64,
    acknowledged: mpsc::UnboundedReceiver<()>,
    writers: Vec<JoinHandle<Model>>,
}

impl Load {
    /// Lets writers begin, each with what is known of its paths.
    pub fn begin(renter: &Renter, random: &mut ChaCha8Rng, model: &Model) -> Self {
        let (client, running) = watch::channel(Some((0, renter.client())));
        let (sender, acknowledged) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            client: running,
            acknowledged: sender,
            stop: AtomicBool::new(false),
            number: AtomicU64::new(random.next_u64() >> 16),
            changes: AtomicU64::default(),
            reads: AtomicU64::default(),
        });
        let writers = (0..WRITERS).map(|writer| {
            let prefix = format!("{writer}/");
            let own = model.iter().filter(|(path, _)| path.starts_with(&prefix));
            let own: Model = own.map(|(path, known)| (path.clone(), known.clone())).collect();
            let (shared, random) =
                (Arc::clone(&shared), ChaCha8Rng::seed_from_u64(random.next_u64()));
            tokio::spawn(async move { shared.write(writer, random, own).await })
        });
        let writers = writers.collect();
        Self { shared, client, lives: 0, acknowledged, writers }
    }

    /// Waits for so many changes that are acknowledged from now on or have been since the last call.
    pub async fn changes(&mut self, count: u64) {
        for _ in 0..count {
            self.acknowledged.recv().await.expect("writers go on until they are told to stop");
        }
    }

    /// Forgets the changes that were acknowledged and not waited for.
    pub fn forget(&mut self) {
        while self.acknowledged.try_recv().is_ok() {}
    }

    /// The renter goes down: writers wait.
    pub fn pause(&self) {
        self.client.send_replace(None);
    }

    /// The renter is back.
    pub fn resume(&mut self, renter: &Renter) {
        self.lives += 1;
        self.client.send_replace(Some((self.lives, renter.client())));
    }

    /// How many changes were acknowledged and how many reads compared.
    pub fn count(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.shared.changes), count(&self.shared.reads))
    }

    /// Ends the load, and gives all that is known of the paths.
    pub async fn end(self) -> Model {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(self.client);
        let mut known = Model::new();
        for writer in self.writers {
            known.extend(writer.await.unwrap());
        }
        known
    }
}

/// Asserts that a machine has what was known, and gives what it has.
pub async fn check(renter: &Renter, model: &Model) -> Model {
    let client = renter.client();
    for path in listed(&client).await {
        assert!(model.contains_key(&path), "{path} was never stored");
    }
    let mut settled = Model::new();
    for (path, known) in model {
        let found = match read(&client, path).await {
            Ok(bytes) => Some(bytes),
            Err(error) if error.code == "not_found" => None,
            Err(error) => panic!("{path}: {error:?}; known: {known:?}"),
        };
        let may = known.in_doubt.iter().chain([&known.acknowledged]);
        let state = may.copied().find(|state| state.map(bytes_of) == found);
        let state = state.unwrap_or_else(|| {
            panic!("{path} holds {:?} bytes; known: {known:?}", found.map(|bytes| bytes.len()))
        });
        settled.insert(path.clone(), Known::settled(state));
    }
    settled
}

/// Asserts that a folder has the files of a model whose states are all known.
pub fn compare_files(folder: &Path, model: &Model) {
    for (path, known) in model {
        let found = std::fs::read(folder.join(path)).ok();
        assert!(
            found == known.acknowledged.map(bytes_of),
            "{path}, which was got, holds {:?} bytes; known: {known:?}",
            found.map(|bytes| bytes.len())
        );
    }
}
