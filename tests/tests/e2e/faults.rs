//! What was acknowledged comes back from the words, whatever was killed meanwhile.
//!
//! Each writer has paths of its own and one change under way at a time, so all that a path may hold is
//! known: its last acknowledged state, or that of a later change whose answer never came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::future::join_all;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use samara_node::api::client::Client;
use samara_node::api::error::ApiError;
use samara_tests::noise;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::network::{HOSTS, Renter, Shared, play, play_alone};

/// Rounds of kills; a longer run sets `SAMARA_FAULT_ROUNDS`.
const ROUNDS: u64 = 5;
const WRITERS: u64 = 8;
/// Paths that each writer changes again and again.
const PATHS: u64 = 12;
/// Changes between two kills, at most.
const BETWEEN: u64 = 60;
/// Kills in a round, at most.
const KILLS: u64 = 3;

/// What a path holds: nothing, or bytes made from a number.
type State = Option<u64>;

/// What a path may hold.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: State,
    /// Later changes whose answer never came.
    in_doubt: Vec<State>,
}

type Model = BTreeMap<String, Known>;

/// The bytes of a number: every fourth too many to ride in the journal.
fn bytes_of(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(4) { 5_000 + number % 300_000 } else { number % 4_096 };
    noise(&number.to_le_bytes(), usize::try_from(length).unwrap())
}

fn object(path: &str) -> String {
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

async fn read(client: &Client, path: &str) -> Result<Vec<u8>, ApiError> {
    let answer = client.send(client.request(reqwest::Method::GET, &object(path))).await?;
    Ok(answer.bytes().await.expect("an answer that began is whole").to_vec())
}

async fn listed(client: &Client) -> Vec<String> {
    let files: Vec<Value> = client.get("/v1/vaults/home/files?recursive=true").await.unwrap();
    let paths = files.iter().filter(|row| row["kind"] == "file");
    paths.map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

/// One round of a mixed load: writers, and somebody who kills.
struct Load {
    /// A client of the renter that runs; none while it is down.
    client: watch::Receiver<Option<Client>>,
    acknowledged: mpsc::UnboundedSender<()>,
    stop: AtomicBool,
    number: AtomicU64,
}

impl Load {
    /// Changes a writer's paths until it is told to stop.
    async fn write(&self, writer: u64, mut random: ChaCha8Rng, mut model: Model) -> Model {
        let mut client = self.client.clone();
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(Some(current)) = client.wait_for(Option::is_some).await.map(|c| c.clone())
            else {
                break;
            };
            let path = format!("{writer}/{}", random.next_u64() % PATHS);
            let known = model.entry(path.clone()).or_default();
            let there = known.acknowledged.is_some() && known.in_doubt.is_empty();
            let removes = there && random.next_u64().is_multiple_of(4);
            let state = (!removes).then(|| self.number.fetch_add(1, Ordering::Relaxed));
            known.in_doubt.push(state);
            if change(&current, &path, state).await.is_ok() {
                *known = Known { acknowledged: state, in_doubt: Vec::new() };
                // Nobody listens any more when the round ends.
                let _ = self.acknowledged.send(());
            }
        }
        model
    }
}

/// Kills nodes at random moments of a load and starts them again; then all that was known of the
/// paths.
async fn round(shared: &Shared, renter: &Renter, random: &mut ChaCha8Rng, model: Model) -> Model {
    let (running, client) = watch::channel(Some(renter.client()));
    let (acknowledged, mut changes) = mpsc::unbounded_channel();
    let number = AtomicU64::new(random.next_u64() >> 16);
    let load = Arc::new(Load { client, acknowledged, stop: AtomicBool::new(false), number });
    let writers = (0..WRITERS).map(|writer| {
        let prefix = format!("{writer}/");
        let own = model.iter().filter(|(path, _)| path.starts_with(&prefix));
        let own: Model = own.map(|(path, known)| (path.clone(), known.clone())).collect();
        let (load, random) = (Arc::clone(&load), ChaCha8Rng::seed_from_u64(random.next_u64()));
        tokio::spawn(async move { load.write(writer, random, own).await })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..=random.next_u64() % KILLS {
        for _ in 0..=random.next_u64() % BETWEEN {
            changes.recv().await.unwrap();
        }
        match random.next_u64() % 3 {
            0 => {
                running.send_replace(None);
                renter.crash().await;
                renter.restart().await;
                running.send_replace(Some(renter.client()));
            }
            1 => bounce(shared, &format!("host-{}", random.next_u64() % HOSTS as u64)).await,
            _ => bounce(shared, "validator-0").await,
        }
    }
    for _ in 0..=random.next_u64() % BETWEEN {
        changes.recv().await.unwrap();
    }
    // The machine goes while changes are under way.
    running.send_replace(None);
    renter.lose().await;
    load.stop.store(true, Ordering::Relaxed);
    drop(running);
    let mut known = Model::new();
    for writer in writers {
        known.extend(writer.await.unwrap());
    }
    known
}

async fn bounce(shared: &Shared, name: &str) {
    shared.kill(name).await;
    shared.start_again(name).await;
}

/// Asserts that a machine has what was known, and gives what it has.
async fn check(renter: &Renter, model: &Model) -> Model {
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
        settled.insert(path.clone(), Known { acknowledged: state, in_doubt: Vec::new() });
    }
    settled
}

#[test]
fn kills_at_random_during_a_load_and_a_wipe_lose_nothing_that_was_acknowledged() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let rounds = setting("SAMARA_FAULT_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("SAMARA_FAULT_SEED").unwrap_or(1);
    play_alone(
        |_| {},
        |shared| async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut renter = shared.renter().await;
            renter.run(&["vault", "create", "home"]).await.ok();
            let mut model = Model::new();
            for number in 0..rounds {
                model = round(&shared, &renter, &mut random, model).await;
                renter = shared.machine(&renter.words).await;
                renter.run(&["recover", "start"]).await.ok();
                model = check(&renter, &model).await;
                println!("round {number}: {} paths as they were known", model.len());
            }
        },
    );
}

#[test]
fn thousands_of_puts_come_back_from_a_wipe_behind_the_last_acknowledgement() {
    const WRITERS: u64 = 16;
    const PUTS: u64 = 5_000;
    play(|shared| async move {
        let renter = shared.renter().await;
        renter.run(&["vault", "create", "home"]).await.ok();
        let client = renter.client();
        // Small ones ride in the journal; each tenth goes to slabs.
        let bytes = |number: u64| {
            bytes_of(if number.is_multiple_of(10) { number * 4 } else { number * 4 + 1 })
        };
        let writers = (0..WRITERS).map(|writer| {
            let client = &client;
            async move {
                for number in (0..PUTS).filter(|number| number % WRITERS == writer) {
                    let path = object(&format!("{writer}/{number}"));
                    let request = client.request(reqwest::Method::PUT, &path).body(bytes(number));
                    client.send(request).await.unwrap();
                }
            }
        });
        join_all(writers).await;
        renter.lose().await;

        let machine = shared.machine(&renter.words).await;
        let report = machine.run(&["recover", "start"]).await.ok();
        assert_eq!(report["files"], PUTS, "{report}");
        let client = machine.client();
        let reads = futures::stream::iter(0..PUTS).map(|number| {
            let path = format!("{}/{number}", number % WRITERS);
            let client = &client;
            async move { (number, read(client, &path).await.unwrap()) }
        });
        let mut reads = reads.buffer_unordered(16);
        while let Some((number, read)) = reads.next().await {
            assert!(read == bytes(number), "object {number}");
        }
    });
}
