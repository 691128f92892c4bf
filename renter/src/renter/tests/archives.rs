//! Vaults into archives, and what is read out of them.

use std::collections::BTreeMap;
use std::io::Cursor;

use samara_protocol::journal::UserId;
use zeroize::Zeroizing;

use super::recover;
use crate::RenterConfig;
use crate::archive::{
    Archive, ArchiveLimits, ArchivedUser, ExportReport, ExportRequest, Passphrase, Seal, Signer,
    VerifiedArchive,
};
use crate::progress::{Phase, ProgressEvent, Silent, Unit};
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, config, noise};
use crate::vault::{FileRow, ListOptions, ListRow};

/// A checkpoint after every few entries, so that most events are read from its tree.
pub(super) fn small() -> RenterConfig {
    let mut small = config();
    small.journal.spill = 4 << 10;
    small.journal.checkpoint_entries = 12;
    small
}

pub(super) async fn blank(network: &TestNetwork) -> Node {
    Node::with(network, MortalStore::immortal(), MemoryFiles::default(), small()).await
}

/// Waits until nothing is on its way into a checkpoint.
async fn quiet(node: &Node) {
    let journal = &node.renter.inner.journal;
    let mut watch = journal.watch();
    while !journal.named().await.unwrap().quiet {
        watch.changed().await.unwrap();
    }
}

/// A vault in which everything has happened that can.
pub(super) async fn lived_in(network: &TestNetwork) -> Node {
    let node = blank(network).await;
    node.start(network).await;
    for number in 0..20 {
        node.files.put(&format!("/home/many/{number}"), &noise(number, 300), 10);
    }
    node.files.put("/home/large", &noise(100, 900_000), 10);
    node.files.put("/home/empty", b"", 10);
    node.files.put("/home/é/日本.txt", &noise(101, 20_000), 10);
    node.files.put_folder("/home/nothing");
    node.put("/home", "home").await;
    quiet(&node).await;
    node.files.put("/home/large", &noise(102, 700_000), 20);
    node.files.put("/home/many/1", &noise(103, 400), 20);
    node.put("/home", "home").await;
    node.put("/home", "other").await;
    node.renter.move_file("home", "many/2", "moved/two").await.unwrap();
    node.renter.remove("home", "many/3", false).await.unwrap();
    let first = versions(&node, "large").await[0];
    node.renter.remove_version("home", "large", first).await.unwrap();
    node.renter.rename_vault("home", "house").await.unwrap();
    node
}

pub(super) async fn files(node: &Node, vault: &str) -> Vec<FileRow> {
    let options = ListOptions { recursive: true, versions: true, ..ListOptions::default() };
    let rows = node.renter.list(vault, &options).await.unwrap();
    let file = |row| match row {
        ListRow::File(row) => Some(row),
        ListRow::Folder { .. } => None,
    };
    rows.into_iter().filter_map(file).collect()
}

async fn versions(node: &Node, path: &str) -> Vec<u64> {
    let rows = files(node, "home").await;
    let row = rows.into_iter().find(|row| row.path == path).unwrap();
    row.versions.iter().map(|version| version.version).collect()
}

pub(super) fn request(vault: &str, to: &str) -> ExportRequest {
    let user = |id: u8| ArchivedUser { id: UserId([id; 8]), email: format!("{id}@example.org") };
    let users = vec![user(2), user(1), user(2)];
    ExportRequest { vault: vault.into(), destination: to.into(), users, seal: None }
}

async fn export(node: &Node, to: &str) -> (ExportReport, Vec<u8>) {
    let report = node.renter.export_vault(request("house", to), &Silent).await.unwrap();
    (report, node.files.bytes(to).unwrap())
}

fn open(
    node: &Node,
    bytes: &[u8],
    passphrase: Option<&Passphrase>,
) -> VerifiedArchive<Cursor<Vec<u8>>> {
    let limits = ArchiveLimits::default();
    let archive = Archive::open(Cursor::new(bytes.to_vec()), passphrase, limits).unwrap();
    archive.verify(Some(&node.renter.archive_key())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_archive_has_all_that_the_vault_has() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let (report, bytes) = export(&node, "/out/a.zip").await;
    let written = &report.written;
    assert_eq!(written.size, bytes.len() as u64);
    assert_eq!(written.hash.0, *blake3::hash(&bytes).as_bytes());
    // Most of the history was not in the local journal's last part alone.
    let checkpoint = node.renter.inner.journal.status().checkpoint.unwrap();
    assert!(checkpoint > 20 && checkpoint < report.position, "{checkpoint} {report:?}");

    let row = node.renter.vaults().into_iter().find(|row| row.name == "house").unwrap();
    let mut archive = open(&node, &bytes, None);
    let counts = archive.counts().clone();
    assert_eq!(counts, written.counts);
    assert_eq!(
        (counts.events, counts.versions, counts.files),
        (row.events, row.versions, row.files)
    );
    assert_eq!((counts.users, archive.users().unwrap().len()), (2, 2));
    assert_eq!(archive.signer(), Signer::Ours);
    assert_eq!((archive.vault().name.as_str(), archive.vault().created), ("house", row.created));
    assert_eq!(archive.events().map(Result::unwrap).count() as u64, row.events);
    assert!(archive.check_files(|_| true).unwrap());
    let expected: BTreeMap<(String, u64), String> = files(&node, "house")
        .await
        .into_iter()
        .flat_map(|row| {
            let path = row.path.clone();
            row.versions.into_iter().map(move |v| ((path.clone(), v.version), v.hash))
        })
        .collect();
    let found = archive.versions().map(Result::unwrap);
    let found = found
        .map(|version| ((version.path.to_string(), version.version), version.hash.to_string()));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);

    // The same vault gives the same bytes, on another machine too.
    assert_eq!(export(&node, "/out/b.zip").await.1, bytes);
    node.lose().await;
    let node = blank(&network).await;
    recover(&node).await;
    assert_eq!(export(&node, "/out/c.zip").await.1, bytes);
}

#[tokio::test(start_paused = true)]
async fn an_archive_shows_one_moment() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let before = node.renter.vaults().into_iter().find(|row| row.name == "house").unwrap();
    let meanwhile = async {
        for round in 0..4 {
            node.files.put("/more/x", &noise(round, 5_000), round);
            node.put("/more", "house").await;
            node.renter.remove("house", &format!("many/{}", round + 5), false).await.unwrap();
        }
        node.renter.collect().await;
    };
    let (exported, ()) = futures::join!(export(&node, "/out/a.zip"), meanwhile);
    let mut archive = open(&node, &exported.1, None);
    let counts = archive.counts().clone();
    assert_eq!((counts.events, counts.files), (before.events, before.files));
    assert!(archive.check_files(|_| true).unwrap());
    let after = export(&node, "/out/b.zip").await.0;
    // The collector has moved bytes, which are events too.
    assert!(after.written.counts.events >= before.events + 8);
}

#[tokio::test(start_paused = true)]
async fn an_export_that_fails_leaves_nothing() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let export = |to: &str| node.renter.export_vault(request("house", to), &Silent);
    let missing = node.renter.export_vault(request("home", "/out/a.zip"), &Silent).await;
    assert_eq!(missing.unwrap_err().code(), "no_vault");
    node.files.put("/out/taken.zip", b"mine", 1);
    assert_eq!(export("/out/taken.zip").await.unwrap_err().code(), "exists");
    // Somebody else was faster.
    node.files.intrude("/out/a.zip", b"theirs");
    assert_eq!(export("/out/a.zip").await.unwrap_err().code(), "exists");
    assert_eq!(node.files.bytes("/out/a.zip").unwrap(), b"theirs");
    // Dropped in the middle.
    {
        let events = std::sync::Mutex::new(0);
        let progress = |_: ProgressEvent| *events.lock().unwrap() += 1;
        let dropped = node.renter.export_vault(request("house", "/out/b.zip"), &progress);
        tokio::pin!(dropped);
        while *events.lock().unwrap() < 5 {
            assert!(futures::poll!(&mut dropped).is_pending());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(node.files.bytes("/out/b.zip"), None);
    // Too few hosts for any file.
    network.set(0..8, Fault::Dead);
    let error = export("/out/b.zip").await.unwrap_err();
    assert_eq!(error.code(), "too_few_hosts");
    let named =
        ["large", "many/", "日本", "moved/two"].iter().any(|name| error.to_string().contains(name));
    assert!(named, "{error}");
    assert_eq!(node.files.bytes("/out/b.zip"), None);
    network.set(0..8, Fault::None);
    export("/out/b.zip").await.unwrap();
    assert_eq!(node.files.bytes("/out/taken.zip").unwrap(), b"mine");
}

#[tokio::test(start_paused = true)]
async fn an_archive_can_be_encrypted_and_shows_how_far_it_is() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let passphrase = Passphrase::new(Zeroizing::new("correct horse".to_owned()));
    let seal = Seal { passphrase: passphrase.clone(), work_factor: 4 };
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |event: ProgressEvent| seen.lock().unwrap().push(event);
    let sealed = ExportRequest { seal: Some(seal), ..request("house", "/out/a.zip.age") };
    let report = node.renter.export_vault(sealed, &progress).await.unwrap();
    let bytes = node.files.bytes("/out/a.zip.age").unwrap();
    assert_eq!(report.written.hash.0, *blake3::hash(&bytes).as_bytes());
    let mut archive = open(&node, &bytes, Some(&passphrase));
    assert!(archive.check_files(|_| true).unwrap());
    let seen = seen.into_inner().unwrap();
    for (of, most) in
        [(Unit::Events, report.written.counts.events), (Unit::Bytes, report.written.counts.bytes)]
    {
        let last = seen.iter().rev().find_map(|event| match event {
            ProgressEvent::Advanced { phase: Phase::Archiving, done, total, unit, .. }
                if *unit == of =>
            {
                Some((*done, *total))
            }
            _ => None,
        });
        assert_eq!(last, Some((most, Some(most))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_vault_without_files_is_an_archive() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.renter.create_vault("house").await.unwrap();
    let (report, bytes) = export(&node, "/out/a.zip").await;
    assert_eq!((report.written.counts.events, report.written.counts.versions), (1, 0));
    assert_eq!(open(&node, &bytes, None).versions().count(), 0);
}
