//! Nodes of the network that die while a renter writes.

use std::sync::Arc;

use crate::network::{Done, Renter, Shared, Stored, advanced, play_alone};

/// Puts a large folder, and kills a node of the network once bytes of it have been sent. The put cannot
/// end before: too few hosts go on for a slab to be acknowledged.
async fn put_while_dying(shared: &Shared, renter: &Renter, files: &Stored, node: &str) -> Done {
    renter.run(&["vault", "create", "home"]).await.ok();
    shared.halt_hosts_but("host-0").await;
    let mut put = renter.begin(&files.put());
    let begun = put.reach(|line| advanced(line, "storing")).await;
    assert!(begun, "the put was refused");
    shared.kill(node).await;
    shared.resume_hosts().await;
    put.end().await
}

/// A put that meets a crash of another node succeeds or says that it did not, and what was
/// acknowledged is there while the node is away and when it is back.
async fn survives_the_death_of(shared: Arc<Shared>, node: &str) {
    let renter = shared.renter().await;
    let scratch = shared.scratch();
    let safe = Stored::safe(&renter, scratch.path()).await;

    let home = Stored::prepare(scratch.path(), "home", 40_000_000);
    let done = put_while_dying(&shared, &renter, &home, node).await;
    safe.assert_back(&renter, scratch.path()).await;
    if done.code == 0 {
        home.assert_back(&renter, scratch.path()).await;
    } else {
        assert_eq!(done.last()["message_type"], "error", "{:?}", done.last());
        assert!(done.last()["code"].is_string(), "{:?}", done.last());
    }

    shared.start_again(node).await;
    renter.run(&home.put()).await.ok();
    home.assert_back(&renter, scratch.path()).await;
    // All of it comes back from the words, too.
    renter.lose().await;
    let machine = shared.machine(&renter.words).await;
    machine.run(&["recover", "start"]).await.ok();
    safe.assert_back(&machine, scratch.path()).await;
    home.assert_back(&machine, scratch.path()).await;
}

#[test]
fn a_host_that_is_killed_during_a_put_costs_nothing_that_was_acknowledged() {
    play_alone(|_| {}, |shared| survives_the_death_of(shared, "host-0"));
}

#[test]
fn a_validator_that_is_killed_during_a_put_costs_nothing_that_was_acknowledged() {
    play_alone(|_| {}, |shared| survives_the_death_of(shared, "validator-0"));
}
