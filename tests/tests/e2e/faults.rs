//! What was acknowledged comes back from the words, whatever was killed meanwhile.

use futures::StreamExt as _;
use futures::future::join_all;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::load::{Load, Model, bytes_of, check, object, read};
use crate::network::{HOSTS, Renter, Shared, play, play_alone};

/// Rounds of kills; a longer run sets `SAMARA_FAULT_ROUNDS`.
const ROUNDS: u64 = 5;
/// Changes between two kills, at most.
const BETWEEN: u64 = 60;
/// Kills in a round, at most.
const KILLS: u64 = 3;

/// Kills nodes at random moments of a load and starts them again; then all that was known of the
/// paths.
async fn round(shared: &Shared, renter: &Renter, random: &mut ChaCha8Rng, model: Model) -> Model {
    let mut load = Load::begin(renter, random, &model);
    for _ in 0..=random.next_u64() % KILLS {
        load.changes(1 + random.next_u64() % BETWEEN).await;
        match random.next_u64() % 3 {
            0 => {
                load.pause();
                renter.crash().await;
                renter.restart().await;
                load.resume(renter);
            }
            1 => bounce(shared, &format!("host-{}", random.next_u64() % HOSTS as u64)).await,
            _ => bounce(shared, "validator-0").await,
        }
    }
    load.changes(1 + random.next_u64() % BETWEEN).await;
    // The machine goes while changes are under way.
    load.pause();
    renter.lose().await;
    load.end().await
}

async fn bounce(shared: &Shared, name: &str) {
    shared.kill(name).await;
    shared.start_again(name).await;
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
