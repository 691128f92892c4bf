//! `kill -9`: a process that commits under a real engine is killed again and again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use samara_protocol::units::Height;

use super::super::Limits;
use super::{genesis, key, rich, transfer};
use crate::clock;
use crate::consensus::Consensus;
use crate::consensus::testing::config;

/// Set in the process that is killed: the test below, started by itself.
const FOLDER: &str = "SAMARA_TEST_CRASH_FOLDER";
const TEST: &str = "chain::tests::crash::a_killed_validator_keeps_what_it_announced";
const KILLS: usize = 6;

async fn commit_forever(folder: &Path) {
    let genesis = genesis(1);
    let opened = crate::chain::open(
        &folder.join("chain"),
        genesis.clone(),
        Limits::default(),
        clock::system(),
    );
    let (chain, application) = opened.unwrap();
    let config = config(0, true, &folder.join("consensus"), &[]);
    let mut tips = chain.subscribe();
    let _consensus = Consensus::start(config, &genesis, application, chain.wake()).await.unwrap();
    loop {
        let nonce = chain.next_nonce(&rich(0).public()).unwrap();
        chain.submit(transfer(&genesis, &rich(0), nonce, key(9).public())).unwrap();
        tips.changed().await.unwrap();
        println!("\nheight {}", chain.height());
    }
}

/// Runs the child until it has announced some heights, kills it, and gives the last one announced.
fn run_and_kill(folder: &Path, heights: u64, base: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut last = base;
    for line in output.lines() {
        if let Some(height) = line.unwrap().strip_prefix("height ") {
            last = height.parse().unwrap();
        }
        if last >= base + heights {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(last >= base + heights, "the child ended by itself at height {last}");
    last
}

#[test]
fn a_killed_validator_keeps_what_it_announced() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(commit_forever(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut announced = 0;
    for round in 0..KILLS {
        announced = run_and_kill(folder.path(), 3 + round as u64, announced);
        let opened = crate::chain::open(
            &folder.path().join("chain"),
            genesis(1),
            Limits::default(),
            clock::system(),
        );
        let (chain, application) = opened.unwrap();
        assert!(chain.height() >= Height(announced));
        announced = chain.height().0;
        let snapshot = chain.snapshot().unwrap();
        let (mut parent, mut transfers) = (genesis(1).hash(), 0);
        for height in 1..=announced {
            let block = snapshot.block(Height(height)).unwrap().unwrap();
            assert_eq!(block.header.parent, parent);
            parent = block.header.hash();
            transfers += block.transactions.len() as u64;
            let certificate = snapshot.certificate(Height(height)).unwrap().unwrap();
            certificate.verify(&genesis(1).hash(), &genesis(1).validators).unwrap();
        }
        assert_eq!(snapshot.account(&rich(0).public()).unwrap().nonce, transfers);
        drop(application);
    }
}
