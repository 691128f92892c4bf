//! Hosts that are gone for good while their renter runs.

use std::path::Path;

use samara_node::config::NodeConfig;
use samara_node::redundancy::Redundancy;
use samara_node::seed::command::{WordCount, draw};
use serde_json::Value;

use crate::network::{Renter, Stored, play_among};

/// Enough for the names' quorum without two.
const HOSTS: usize = 7;
/// Four hosts have no shard of a slab.
const REDUNDANCY: Redundancy = Redundancy { data: 1, total: 3 };

/// Has a renter look often, and take a host for missing soon.
fn impatient(folder: &Path) {
    let path = folder.join("samara.toml");
    let mut config = NodeConfig::read(&path).unwrap();
    let renter = config.renter.as_mut().expect("a renter");
    (renter.health_seconds, renter.silence_seconds) = (1, 5);
    config.write(&path).unwrap();
}

/// Asks for the health until it is as wanted.
async fn until(renter: &Renter, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let health = renter.run(&["health"]).await.ok();
        if wanted(&health) {
            return health;
        }
    }
}

fn is_whole(health: &Value) -> bool {
    let only_full = |kind: &str| {
        let counts = health[kind].as_object().expect("counts by class");
        counts.iter().all(|(class, count)| class == "full" || count == 0)
    };
    health["counted"].is_u64() && only_full("data") && only_full("metadata")
}

#[test]
fn what_destroyed_hosts_had_is_put_on_others_by_itself() {
    play_among(
        HOSTS,
        |_| {},
        |shared| async move {
            let words = draw(WordCount::Twelve).unwrap();
            let renter = shared.machine_with(&words, impatient).await;
            let renter = shared.equipped_for(renter, Some(REDUNDANCY)).await;
            let scratch = shared.scratch();
            let home = Stored::prepare(scratch.path(), "home", 3_000_000);
            renter.run(&home.put()).await.ok();
            until(&renter, |health| is_whole(health) && health["data"]["full"] != 0).await;

            // Two of a slab's three shards go with them.
            let contracts = renter.run(&["contracts"]).await.ok();
            let contracts = contracts.as_array().expect("contracts").iter();
            let mut holders = contracts.filter(|row| row["bytes"] != 0);
            let mut holder = || holders.next().expect("a holder")["operator"].as_str().unwrap();
            let gone = [holder(), holder()];
            shared.destroy(gone[0]).await;
            shared.destroy(gone[1]).await;
            let health = until(&renter, |health| {
                is_whole(health) && health["hosts"].as_array().expect("hosts").len() == 2
            })
            .await;
            let story = health["story"].as_array().expect("repairs");
            assert!(story.iter().any(|row| row["repaired"] == true), "{health}");
            let status = renter.run(&["status"]).await.ok();
            assert_eq!(status["renter"]["health"]["slabs"]["critical"], 0, "{status}");

            // Nothing is missed when the last of the first holders goes, too.
            shared.destroy(holder()).await;
            home.assert_back(&renter, scratch.path()).await;
            renter.lose().await;
        },
    );
}
