//! Archives brought in as new vaults.

use std::sync::Mutex;

use samara_protocol::journal::UserId;
use samara_protocol::units::Amount;

use super::archives::{blank, files, lived_in, request};
use crate::archive::{
    Admission, ArchiveLimits, ArchivedUser, ImportError, ImportLog, ImportReport, ImportRequest,
};
use crate::backup::{BackupKind, BackupRequest, BackupStatus};
use crate::progress::Silent;
use crate::testing::Node;
use crate::testing::world::{Fault, TestNetwork};
use crate::vault::{Conflict, FileRow};

const OWNER: UserId = UserId([99; 8]);

/// What an import says, and who its users become: each its own id plus one.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl ImportLog for Log {
    fn opening(&self, report: &ImportReport) -> bool {
        report.id.is_some()
    }

    fn say(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn admit(&self, users: &[ArchivedUser]) -> Admission {
        let other = |id: UserId| UserId(id.0.map(|byte| byte + 1));
        Admission {
            owner: Some(OWNER),
            users: users.iter().map(|user| (user.id, other(user.id))).collect(),
            settings: users
                .iter()
                .map(|user| (format!("user/{}", other(user.id)), user.email.clone().into_bytes()))
                .collect(),
        }
    }
}

fn import(source: &str, name: Option<&str>) -> ImportRequest {
    ImportRequest {
        source: source.into(),
        name: name.map(str::to_owned),
        passphrase: None,
        limits: ArchiveLimits::default(),
        max_cost: None,
        announced: None,
        dry_run: false,
    }
}

async fn bring(node: &Node, request: &ImportRequest) -> Result<ImportReport, ImportError> {
    node.renter.import_archive(request, &Log::default(), &Silent).await
}

/// Paths with all versions' numbers, times, hashes, and whether they are listed.
async fn shown(node: &Node, vault: &str) -> Vec<(String, bool, Vec<(u64, u64, String)>)> {
    let row = |row: FileRow| {
        let version = |v: &crate::vault::VersionRow| (v.version, v.stored, v.hash.clone());
        (row.path, row.deleted, row.versions.iter().map(version).collect())
    };
    files(node, vault).await.into_iter().map(row).collect()
}

async fn archive(node: &Node) -> Vec<u8> {
    node.renter.export_vault(request("house", "/out/a.zip"), &Silent).await.unwrap();
    node.files.bytes("/out/a.zip").unwrap()
}

#[tokio::test(start_paused = true)]
async fn clones_share_bytes_and_outlive_each_other() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    archive(&node).await;
    let log = Log::default();
    let request = import("/out/a.zip", Some("first"));
    let report = node.renter.import_archive(&request, &log, &Silent).await.unwrap();
    assert_eq!((report.stored_bytes, report.price, report.cost), (0, Amount::ZERO, Amount::ZERO));
    assert!(report.shared_bytes > 500_000, "{report:?}");
    bring(&node, &import("/out/a.zip", Some("second"))).await.unwrap();

    let expected = shown(&node, "house").await;
    assert_eq!(shown(&node, "first").await, expected);
    assert_eq!(shown(&node, "second").await, expected);
    let rows = node.renter.vaults();
    let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(row("first").events, row("house").events);
    assert_eq!(row("first").created, row("house").created);
    let said = log.lines();
    let total = row("house").events;
    assert!(said.contains(&format!("{total} of {total} events restored")), "{said:?}");
    let users = node.renter.settings("user/");
    assert_eq!(users[0], (format!("user/{}", UserId([2; 8])), b"1@example.org".to_vec()));

    // What one gives up, the other keeps.
    node.renter.remove_vault("house").await.unwrap();
    node.renter.remove_vault("first").await.unwrap();
    node.renter.collect().await;
    node.get("second", "/back", Conflict::Keep).await;
    assert_eq!(node.files.below("/back").len(), expected.iter().filter(|row| !row.1).count());
    // A clone goes into an archive as its original does, and lives on its own.
    let again = super::archives::request("second", "/out/b.zip");
    let report = node.renter.export_vault(again, &Silent).await.unwrap();
    // The collector may have put bytes elsewhere meanwhile, which is an event.
    assert!(report.written.counts.events >= total);
    node.renter.move_file("second", "empty", "still empty").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn elsewhere_bytes_are_stored_anew_and_paid() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let (bytes, expected) = (archive(&node).await, shown(&node, "house").await);
    let other = TestNetwork::empty(8).await;
    let there = blank(&other).await;
    there.start(&other).await;
    there.files.put("/in/a.zip", &bytes, 5);

    let dry = ImportRequest { dry_run: true, ..import("/in/a.zip", None) };
    let looked = bring(&there, &dry).await.unwrap();
    assert_eq!((looked.id, looked.name.as_str(), looked.shared_bytes), (None, "house", 0));
    assert!(there.renter.vaults().is_empty());
    let cheap = ImportRequest { max_cost: Some(Amount(1)), ..import("/in/a.zip", None) };
    assert_eq!(bring(&there, &cheap).await.unwrap_err().code(), "quote_exceeded");
    let wrong = ImportRequest { announced: Some((1, 1)), ..import("/in/a.zip", None) };
    assert_eq!(bring(&there, &wrong).await.unwrap_err().code(), "not_announced");
    assert!(there.renter.vaults().is_empty());

    let counts = (looked.counts.events, looked.counts.files);
    let fit = ImportRequest { announced: Some(counts), ..import("/in/a.zip", None) };
    let report = bring(&there, &fit).await.unwrap();
    assert!(Amount::ZERO < report.cost && report.cost <= looked.price, "{report:?}");
    assert_eq!(shown(&there, "house").await, expected);
    node.get("house", "/a", Conflict::Keep).await;
    there.get("house", "/a", Conflict::Keep).await;
    assert_eq!(there.files.below("/a"), node.files.below("/a"));
    assert_eq!(bring(&there, &import("/in/a.zip", None)).await.unwrap_err().code(), "exists");

    // The words bring it back like any other vault.
    there.lose().await;
    let found = blank(&other).await;
    super::recover(&found).await;
    assert_eq!(shown(&found, "house").await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_fails_leaves_neither_name_nor_bytes() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let bytes = archive(&node).await;
    let other = TestNetwork::empty(8).await;
    let there = blank(&other).await;
    there.start(&other).await;
    // A file in the middle is damaged: that shows only when its bytes are read.
    let mut damaged = bytes.clone();
    let name = b"__large";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    damaged[at + 5_000] ^= 1;
    there.files.put("/in/damaged.zip", &damaged, 5);
    there.files.put("/in/cut.zip", &bytes[..bytes.len() / 2], 5);
    there.files.put("/in/whole.zip", &bytes, 5);
    for (source, code) in [
        ("/in/damaged.zip", "archive_damaged"),
        ("/in/cut.zip", "archive_truncated"),
        ("/in/none.zip", "no_source"),
    ] {
        let log = Log::default();
        let request = import(source, Some("fresh"));
        let error = there.renter.import_archive(&request, &log, &Silent).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(there.renter.vaults().is_empty());
        let last = log.lines().pop().unwrap();
        assert_eq!(last, "nothing of it is left, and the name is free again", "{source}");
    }
    // A name that is taken is refused before anything is read.
    there.renter.create_vault("fresh").await.unwrap();
    for name in ["fresh", "Not A Name"] {
        let error = bring(&there, &import("/in/none.zip", Some(name))).await.unwrap_err();
        assert!(["exists", "bad_name"].contains(&error.code()), "{error}");
    }
    // Hosts that go away in the middle: the name is freed once they are back.
    other.set(0..8, Fault::Dead);
    bring(&there, &import("/in/whole.zip", Some("later"))).await.unwrap_err();
    other.set(0..8, Fault::None);
    there.renter.upkeep().await;
    bring(&there, &import("/in/whole.zip", Some("later"))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_leaves_all_or_nothing() {
    for commits in (0..).step_by(3) {
        let network = TestNetwork::empty(4).await;
        let node = lived_in(&network).await;
        archive(&node).await;
        let (store, memory) = (node.store.clone(), node.files.clone());
        node.lose().await;
        let dying = store.dies_after(commits);
        let config = super::archives::small();
        let node = Node::with(&network, dying.clone(), memory.clone(), config).await;
        let told = bring(&node, &import("/out/a.zip", Some("clone"))).await.is_ok();
        let dead = dying.is_dead();
        node.lose().await;
        let node = Node::with(&network, store, memory, config).await;
        node.renter.confirm().await.unwrap();
        node.renter.upkeep().await;
        let whole = node.renter.vaults().iter().any(|row| row.name == "clone");
        assert!(whole || !told, "{commits}");
        if whole {
            assert_eq!(shown(&node, "clone").await, shown(&node, "house").await, "{commits}");
        } else {
            bring(&node, &import("/out/a.zip", Some("clone"))).await.unwrap();
        }
        if !dead {
            assert!(told);
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_archive_is_a_backup_with_a_file() {
    let network = TestNetwork::empty(8).await;
    let node = lived_in(&network).await;
    let asked = |name: &str| BackupRequest {
        kind: BackupKind::Archive,
        name: name.into(),
        vault: Some("house".into()),
        ..BackupRequest::default()
    };
    let error = node.renter.create_backup(asked("early"), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "refused");
    let nobody = std::sync::Arc::new(Vec::new);
    node.renter.keep_archives_in("/archives".into(), nobody.clone()).await.unwrap();
    let row = node.renter.create_backup(asked("whole"), &Silent).await.unwrap();
    assert_eq!(row.status, BackupStatus::Completed, "{row:?}");
    let cost = row.cost_actual.unwrap();
    assert!(cost <= row.cost_quoted, "{cost} {}", row.cost_quoted);
    let (path, size, hash) = node.renter.archive_file("whole").unwrap();
    let bytes = node.files.bytes(path.to_str().unwrap()).unwrap();
    assert_eq!((bytes.len() as u64, hash), (size, blake3::hash(&bytes).to_string()));
    assert_eq!(
        (row.stored_size, row.archive_hash),
        (Some(size), Some(blake3::hash(&bytes).to_string()))
    );
    assert_eq!(row.file_path, Some(format!("/v1/backups/{}/content", row.sid)));
    let house = node.renter.vaults().into_iter().find(|row| row.name == "house").unwrap();
    assert_eq!((row.events, row.files), (house.events, house.files));

    // Without its bytes there is an error and no file.
    network.set(0..8, Fault::Dead);
    let error = node.renter.create_backup(asked("cut"), &Silent).await.unwrap_err();
    let row = node.renter.backup("cut").await.unwrap().row;
    let cut = row.sid.clone();
    assert_eq!((row.status, row.error.unwrap().code), (BackupStatus::Error, error.code().into()));
    network.set(0..8, Fault::None);
    assert_eq!(node.files.below("/archives").len(), 1);

    // What a crash has left is cleared, what is a backup's stays until it is deleted, and what is of no
    // backup that is known may be the only copy of somebody.
    let strange = "/archives/5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a.zip";
    node.files.put(strange, b"whose", 5);
    node.files.put(&format!("/archives/{cut}.zip"), b"left", 5);
    node.renter.keep_archives_in("/archives".into(), nobody).await.unwrap();
    assert_eq!(node.files.below("/archives").len(), 2);
    node.renter.delete_backup("whole").await.unwrap();
    assert_eq!(node.files.bytes(strange).unwrap(), b"whose");
    assert_eq!(node.files.below("/archives").len(), 1);
}
