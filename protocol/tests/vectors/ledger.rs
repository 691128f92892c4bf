//! Golden vectors: these bytes never change.

use samara_protocol::chain::Action;
use samara_protocol::hash::BlockHash;
use samara_protocol::ledger::challenge_seed;
use samara_protocol::units::Amount;

use crate::world::{HOST, RENTER, World, genesis, public};

#[test]
fn ids_and_roots_are_what_they_always_were() {
    let genesis = genesis();
    assert_eq!(
        genesis.hash().to_string(),
        "39b7f0071aa2a6f662ba4bdc6cee45efae5030fc0bd86f9819cd524f723bb8ab"
    );
    let mut world = World::new();
    assert_eq!(
        world.state.root().to_string(),
        "f21e1a2ee9b9095a1ec20c0b15640a4eb4c7e240a60c9af3b61b6548f3bbbd1d"
    );
    let transfer =
        world.body(RENTER, Action::Transfer { to: public(HOST), amount: Amount::coins(1) });
    assert_eq!(
        transfer.id().to_string(),
        "097007486639d71ac3be7a001733d583a26a64fd0e3d6e5bf261739febe60f85"
    );
    world = World::with_contract(5);
    assert_eq!(
        world.blocks[1].transactions[0].id().to_string(),
        "413ad38fdf66272485d075171363a0b252204555d6831dcb953db9cb2267de57"
    );
    let end = world.contract(100).unwrap().ends();
    world.run_to(end);
    let tip = world.tip.unwrap();
    assert_eq!(tip.height.to_string(), "17");
    assert_eq!(
        tip.records_root.to_string(),
        "a04ed2c65f92ae0446bde67f529dee3f8b821b73188ef008ca816024fbec7fe3"
    );
    assert_eq!(
        tip.state_root.to_string(),
        "b138a8ca16b140d52d0752b08dbb9077dbd03c1eb3ef59ecc00b548198f37918"
    );
    assert_eq!(
        tip.hash().to_string(),
        "a6c69bc86bc2036f17fe28059e4603308df71fe5b96818d05f6f29612fa634dc"
    );
    let seed = challenge_seed(&public(100), 2, &[BlockHash([1; 32]), BlockHash([2; 32])]);
    assert_eq!(
        seed.to_string(),
        "7ebef213a282389b6eefbd31f2b1a8839ba1a1ae03c234bf87b929dca0054d77"
    );
}
