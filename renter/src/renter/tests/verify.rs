//! Backups read back from the hosts: what is found, what is said, what it costs.

use std::path::PathBuf;
use std::sync::Arc;

use samara_protocol::host::Prices;
use samara_protocol::journal::SlabRecord;
use samara_protocol::sector::GROUP;
use samara_protocol::units::{Amount, Millis};

use super::fill;
use crate::archive::Passphrase;
use crate::backup::{
    BackupError, BackupKind, BackupRequest, VerifyOptions, VerifyProblemKind, VerifyReport,
};
use crate::progress::Silent;
use crate::testing::Node;
use crate::testing::world::{Fault, TestNetwork, prices};
use crate::world::{Store as _, Write};

const WHOLE: VerifyOptions = VerifyOptions {
    read_data: 1_000,
    every_shard: false,
    dry_run: false,
    max_price: None,
    passphrase: None,
};
const SHARDS: VerifyOptions = VerifyOptions {
    read_data: 1_000,
    every_shard: true,
    dry_run: false,
    max_price: None,
    passphrase: None,
};

/// A machine with a backup whose checkpoint is stored.
async fn backed_up(network: &TestNetwork) -> Node {
    let node = Node::fresh(network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    let request = BackupRequest { name: "daily".into(), ..BackupRequest::default() };
    node.renter.create_backup(request, &Silent).await.unwrap();
    node.renter.compare_backups("daily", "daily", None).await.unwrap();
    node
}

async fn verify(node: &Node, options: VerifyOptions) -> Result<VerifyReport, BackupError> {
    node.renter.verify_backup("daily", &options, &Silent).await
}

fn kinds(report: &VerifyReport) -> Vec<VerifyProblemKind> {
    let mut kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
    kinds.dedup();
    kinds
}

/// The slab that a file lies in.
fn slab_of(node: &Node, path: &str) -> SlabRecord {
    node.renter.inner.journal.read(|state| {
        let (_, vault) = state.vault_named("home").unwrap();
        let file = vault.files.iter().find(|(stored, _)| stored.as_str() == path).unwrap().1;
        let slab = file.current().unwrap().file.content.extents()[0].slab;
        state.slabs[&slab].record.clone()
    })
}

/// Damages a slab's sectors on some of its hosts' disks; gives the hosts' keys.
async fn damage(
    node: &Node,
    network: &TestNetwork,
    slab: &SlabRecord,
    count: usize,
) -> Vec<String> {
    let book = node.renter.book();
    let downloader = node.renter.inner.vaults.slabs.downloader(crate::transfer::SlabClass::Data);
    let descriptor = downloader.slab_descriptor(slab).await.unwrap();
    let mut hosts = Vec::new();
    for (index, shard) in slab.hosts.iter().zip(&descriptor.shards).take(count) {
        let key = book.host(*index).unwrap();
        let host = network.hosts.iter().find(|host| host.key.public() == key).unwrap();
        let step = GROUP as usize;
        for offset in (0..descriptor.geometry.column().bytes() as usize).step_by(step) {
            assert!(host.disk.corrupt(&shard.root, offset));
        }
        hosts.push(key.to_string());
    }
    hosts
}

#[tokio::test(start_paused = true)]
async fn a_sound_backup_is_read_whole_and_its_age_is_kept() {
    let network = TestNetwork::empty(8).await;
    let node = backed_up(&network).await;
    let calls = |kind| network.hosts.iter().map(|host| host.calls(kind)).sum::<u64>();
    let reads = calls("read");
    let dry = verify(&node, VerifyOptions { dry_run: true, ..SHARDS }).await.unwrap();
    assert!(dry.dry_run && dry.price > Amount::ZERO && calls("read") == reads);
    assert_eq!(node.renter.backups()[0].date_verified, None);

    let report = verify(&node, SHARDS).await.unwrap();
    assert!(report.sound, "{report:?}");
    assert_eq!((report.heads_ok, report.heads_total), (8, 8));
    assert!(report.nodes >= 3 && report.node_bytes > 0);
    assert_eq!((report.slabs, report.files), (report.slabs_total, 3));
    assert_eq!(report.slab_bytes, 320_005);
    // All slabs have shards on all hosts: those of files, of the trees, and of the root.
    assert!(report.shards >= 8 * 3 && report.shards.is_multiple_of(8), "{}", report.shards);
    assert!(Amount::ZERO < report.cost && report.cost <= report.price, "{report:?}");
    assert_eq!(report.price, dry.price);
    let row = node.renter.backup("daily").await.unwrap().row;
    assert_eq!(row.verified_sound, Some(true));
    assert!(row.date_verified >= row.date_completed && row.date_verified.is_some());

    // A share is drawn by slabs, and none is nothing but names.
    let names = verify(&node, VerifyOptions::default()).await.unwrap();
    assert_eq!((names.slabs, names.slab_bytes, names.sound), (0, 5, true));
    assert!(names.cost < report.cost && names.price < report.price);
    let some = verify(&node, VerifyOptions { read_data: 1, ..WHOLE }).await.unwrap();
    assert_eq!(some.slabs, 1);
}

#[tokio::test(start_paused = true)]
async fn copies_of_this_machine_do_not_count() {
    let network = TestNetwork::empty(6).await;
    let node = backed_up(&network).await;
    // Damaged copies here are nothing to the backup, and are whole again afterwards.
    for (key, mut value) in node.store.disk.scan(b"checkpoint/", None, 1_000).await.unwrap() {
        value[0] ^= 1;
        node.store.disk.commit(vec![Write::Put(key, value)]).await.unwrap();
    }
    assert!(verify(&node, WHOLE).await.unwrap().sound);
    // The copies are whole; what the hosts send is not.
    network.set(0..6, Fault::Flips);
    let report = verify(&node, VerifyOptions::default()).await.unwrap();
    assert_eq!((report.sound, kinds(&report)), (false, vec![VerifyProblemKind::Metadata]));
    assert_eq!((report.heads_ok, report.nodes), (6, 0));
    let problem = &report.problems[0];
    assert!(!problem.hosts.is_empty() && problem.advice.contains("backup create"), "{problem:?}");
    assert_eq!(node.renter.backup("daily").await.unwrap().row.verified_sound, Some(false));
    network.set(0..6, Fault::None);
    assert!(verify(&node, WHOLE).await.unwrap().sound);
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_is_found_and_its_host_is_named() {
    let network = TestNetwork::empty(8).await;
    let node = backed_up(&network).await;
    let slab = slab_of(&node, "sub/large.bin");
    let bad = damage(&node, &network, &slab, 1).await;
    // Others make up for it, so the files are sound.
    assert!(verify(&node, WHOLE).await.unwrap().sound);
    let report = verify(&node, SHARDS).await.unwrap();
    assert_eq!((report.sound, kinds(&report)), (false, vec![VerifyProblemKind::Shard]));
    let problem = &report.problems[0];
    assert_eq!(problem.hosts[0].host.as_ref(), Some(&bad[0]));
    assert_eq!(problem.slab, Some(slab.id.to_string()));
    // Whoever looks after slabs has heard of it.
    let suspects = node.renter.book().reports().take_suspects();
    assert!(
        suspects.iter().any(|(suspect, host)| *suspect == slab.id && host.to_string() == bad[0])
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_file_is_named() {
    let network = TestNetwork::empty(8).await;
    let node = backed_up(&network).await;
    let slab = slab_of(&node, "sub/large.bin");
    damage(&node, &network, &slab, slab.hosts.len()).await;
    let report = verify(&node, WHOLE).await.unwrap();
    assert_eq!((report.sound, kinds(&report)), (false, vec![VerifyProblemKind::File]));
    let lost: Vec<_> = report.problems.iter().filter_map(|p| p.file.as_deref()).collect();
    assert!(lost.contains(&"home/sub/large.bin"), "{lost:?}");
    assert_eq!(report.problems_total, report.problems.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn silent_hosts_are_problems_and_not_errors() {
    let network = TestNetwork::empty(6).await;
    let node = backed_up(&network).await;
    network.set(0..6, Fault::Dead);
    let report = verify(&node, SHARDS).await.unwrap();
    assert_eq!((report.heads_ok, report.nodes, report.files), (0, 0, 1), "{report:?}");
    use VerifyProblemKind::{File, Heads, Metadata, Shard};
    assert_eq!(kinds(&report), [Heads, Metadata, File, Shard]);
    assert_eq!(report.problems[0].hosts.len(), 6);
    assert!(report.problems.iter().all(|problem| problem.advice.contains("samara")));
    network.set(0..6, Fault::None);
    assert!(verify(&node, SHARDS).await.unwrap().sound);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_spent_above_what_was_agreed_to() {
    let network = TestNetwork::empty(6).await;
    let node = backed_up(&network).await;
    let calls = || network.hosts.iter().map(|host| host.calls("read")).sum::<u64>();
    let before = calls();
    let poor = VerifyOptions { max_price: Some(Amount(1)), ..WHOLE };
    assert_eq!(verify(&node, poor).await.unwrap_err().code(), "quote_exceeded");
    assert_eq!(calls(), before);

    // Hosts that become dearer meanwhile are not paid.
    let price = verify(&node, VerifyOptions { dry_run: true, ..WHOLE }).await.unwrap().price;
    let dear = Prices { download: price, ..prices() };
    for host in &network.hosts {
        host.offer_at(dear, network.world.chain.time());
    }
    network.chain.pass(Millis::hours(1));
    let agreed = VerifyOptions { max_price: Some(price), ..WHOLE };
    assert_eq!(verify(&node, agreed).await.unwrap_err().code(), "quote_exceeded");
    assert_eq!(node.renter.backup("daily").await.unwrap().row.date_verified, None);
}

/// A machine with an archive, and the archive's file.
async fn archived(network: &TestNetwork, passphrase: Option<&str>) -> (Node, PathBuf, Vec<u8>) {
    let node = backed_up(network).await;
    node.renter.keep_archives_in("/archives".into(), Arc::new(Vec::new)).await.unwrap();
    let passphrase = passphrase.map(|text| Passphrase::new(text.to_owned().into()));
    let request = BackupRequest {
        kind: BackupKind::Archive,
        name: "carry".into(),
        vault: Some("home".into()),
        passphrase,
        ..BackupRequest::default()
    };
    node.renter.create_backup(request, &Silent).await.unwrap();
    let (path, ..) = node.renter.archive_file("carry").unwrap();
    let bytes = node.files.bytes(path.to_str().unwrap()).unwrap();
    (node, path, bytes)
}

#[tokio::test(start_paused = true)]
async fn an_archive_is_read_whole_and_what_is_wrong_with_its_file_is_said() {
    let network = TestNetwork::empty(8).await;
    let (node, path, bytes) = archived(&network, None).await;
    let verify = || node.renter.verify_backup("carry", &WHOLE, &Silent);
    let report = verify().await.unwrap();
    assert!(report.sound, "{report:?}");
    assert_eq!(
        (report.kind, report.price, report.cost),
        (BackupKind::Archive, Amount::ZERO, Amount::ZERO)
    );
    assert_eq!(report.file_bytes, bytes.len() as u64);
    assert_eq!(report.files, 3);
    assert!(report.events > 3);
    let row = || async { node.renter.backup("carry").await.unwrap().row };
    assert_eq!(row().await.verified_sound, Some(true));

    let shown = path.to_str().unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for wrong in [flipped, bytes[..bytes.len() - 1].to_vec(), Vec::new()] {
        node.files.put(shown, &wrong, 20);
        let report = verify().await.unwrap();
        assert_eq!((report.sound, kinds(&report)), (false, vec![VerifyProblemKind::Archive]));
        let problem = &report.problems[0];
        assert!(problem.message.contains("is not what was written"), "{problem:?}");
        assert!(problem.advice.contains("backup create --archive"), "{problem:?}");
    }
    assert_eq!(row().await.verified_sound, Some(false));
    node.files.put(shown, &bytes, 20);
    assert!(verify().await.unwrap().sound);
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_archive_is_compared_and_opened_with_its_passphrase_alone() {
    let network = TestNetwork::empty(8).await;
    let (node, ..) = archived(&network, Some("a long enough passphrase")).await;
    let with = |text: &str| VerifyOptions {
        passphrase: Some(Passphrase::new(text.to_owned().into())),
        ..VerifyOptions::default()
    };
    let compared =
        node.renter.verify_backup("carry", &VerifyOptions::default(), &Silent).await.unwrap();
    assert_eq!((compared.sound, compared.events), (true, 0));
    let opened =
        node.renter.verify_backup("carry", &with("a long enough passphrase"), &Silent).await;
    let opened = opened.unwrap();
    assert_eq!((opened.sound, opened.files), (true, 3));
    let wrong = node.renter.verify_backup("carry", &with("another"), &Silent).await;
    assert_eq!(wrong.unwrap_err().code(), "wrong_passphrase");
}
