//! Limits of transfers.

use samara_protocol::units::Millis;

use crate::contract::LineRates;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{Node, config, noise};
use crate::vault::Conflict;

const RATES: LineRates = LineRates { upload: 50_000, download: 25_000 };

/// Bytes of the sectors at all hosts.
fn at_hosts(node: &Node) -> u64 {
    node.renter.contracts().iter().map(|contract| contract.bytes).sum()
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_everything_and_over_a_restart() {
    let network = TestNetwork::empty(12).await;
    let node = Node::fresh(&network).await;
    assert_eq!(node.renter.line_rates(), LineRates::default());
    node.renter.set_line_rates(Some(RATES)).await.unwrap();
    let clock = network.world.clock.clone();
    let started = clock.now();
    node.files.put("/home/a", &noise(1, 300_000), 1);
    node.files.put("/home/b", &noise(2, 300_000), 2);
    node.put("/home", "home").await;
    // What follows the acknowledgement as well.
    let mut sent = 0;
    while sent < at_hosts(&node) {
        sent = at_hosts(&node);
        clock.sleep(Millis(10_000)).await;
    }
    assert!(sent > 600_000, "{sent}");
    let put = clock.now() - started;
    assert!(put >= (sent - (64 << 10)) / 50, "{sent} bytes in {put} ms");

    let started = clock.now();
    node.get("home", "/back", Conflict::Keep).await;
    assert_eq!(node.files.below("/back"), node.files.below("/home"));
    let got = clock.now() - started;
    assert!(got >= (600_000 - (64 << 10)) / 25, "{got} ms");

    // A repair reads and stores over the same line, and a change of names does not wait for it.
    let (files, store) = (node.files.clone(), node.store.clone());
    node.lose().await;
    let node = Node::with(&network, store, files, config()).await;
    assert_eq!(node.renter.line_rates(), RATES);
    node.renter.set_line_rates(Some(LineRates { upload: 1_000, ..RATES })).await.unwrap();
    network.set([0, 1], Fault::Dead);
    let reads = || -> u64 { network.hosts.iter().map(|host| host.calls("read")).sum() };
    let before = reads();
    let repair = async {
        for _ in 0..90 {
            node.renter.look_after_slabs().await;
            clock.sleep(Millis(60_000)).await;
        }
    };
    let names = async {
        while reads() == before {
            clock.sleep(Millis(1_000)).await;
        }
        let started = clock.now();
        node.renter.create_vault("other").await.unwrap();
        clock.now() - started
    };
    let started = clock.now();
    tokio::select! {
        biased;
        () = repair => panic!("no repair"),
        waited = names => assert!(waited < 1_000, "{waited}"),
    }
    assert!(clock.now() > started);
    node.renter.set_line_rates(None).await.unwrap();
    assert_eq!(node.renter.line_rates(), LineRates::default());
}
