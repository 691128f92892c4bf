//! What was acknowledged comes back from the words, whatever was killed meanwhile.

use futures::StreamExt as _;
use futures::future::join_all;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::load::{Load, Model, bytes_of, check, object, read};
use crate::network::{HOSTS, Renter, Shared, play, play_alone, text};

/// Rounds of kills; a longer run sets `SAMARA_FAULT_ROUNDS`.
const ROUNDS: u64 = 5;
/// Changes between two kills, at most.
const BETWEEN: u64 = 60;
/// Kills in a round, at most.
const KILLS: u64 = 3;

/// What all rounds came to.
#[derive(Debug, Default)]
struct Tally {
    changes: u64,
    reads: u64,
    renters: u64,
    hosts: u64,
    validators: u64,
    backups: Vec<String>,
}

/// Kills nodes at random moments of a load and starts them again; then all that was known of the
/// paths.
async fn round(
    shared: &Shared,
    renter: &Renter,
    random: &mut ChaCha8Rng,
    model: Model,
    tally: &mut Tally,
) -> Model {
    let mut load = Load::begin(renter, random, &model);
    let backup = format!("backup-{}", random.next_u64());
    let (client, body) = (renter.client(), json!({ "name": backup }));
    let backed_up =
        tokio::spawn(async move { client.run::<_, Value>("/v1/backups", &body, drop).await });
    for _ in 0..=random.next_u64() % KILLS {
        load.changes(1 + random.next_u64() % BETWEEN).await;
        match random.next_u64() % 3 {
            0 => {
                load.pause();
                renter.crash().await;
                renter.restart().await;
                load.resume(renter);
                tally.renters += 1;
            }
            1 => {
                bounce(shared, &format!("host-{}", random.next_u64() % HOSTS as u64)).await;
                tally.hosts += 1;
            }
            _ => {
                bounce(shared, "validator-0").await;
                tally.validators += 1;
            }
        }
    }
    load.changes(1 + random.next_u64() % BETWEEN).await;
    // The machine goes while changes are under way.
    load.pause();
    renter.lose().await;
    let (changes, reads) = load.count();
    tally.changes += changes;
    tally.reads += reads;
    if backed_up.await.unwrap().is_ok() {
        tally.backups.push(backup);
    }
    load.end().await
}

async fn bounce(shared: &Shared, name: &str) {
    shared.kill(name).await;
    shared.start_again(name).await;
}

/// Asserts that every backup that was complete is listed, and that the newest one can be restored.
async fn check_backups(shared: &Shared, renter: &Renter, backups: &[String]) {
    let listed = renter.run(&["backup", "list"]).await.ok();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    for backup in backups {
        assert!(names.contains(&backup.as_str()), "{backup} was complete, and there are {names:?}");
    }
    if let Some(newest) = backups.last() {
        let scratch = shared.scratch();
        renter.run(&["backup", "restore", newest, text(&scratch.path().join("target"))]).await.ok();
    }
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
            let (mut model, mut tally) = (Model::new(), Tally::default());
            for number in 0..rounds {
                model = round(&shared, &renter, &mut random, model, &mut tally).await;
                renter = shared.machine(&renter.words).await;
                renter.run(&["recover", "start"]).await.ok();
                model = check(&renter, &model).await;
                check_backups(&shared, &renter, &tally.backups).await;
                println!("round {number}: {} paths as they were known", model.len());
            }
            println!("{tally:?}");
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
