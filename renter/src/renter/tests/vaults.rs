//! Files in and out.

use std::time::Duration;

use samara_protocol::host::message::Refusal;
use samara_protocol::journal::Change;
use samara_protocol::units::{Amount, Millis};

use crate::contract::Allowance;
use crate::progress::Silent;
use crate::rows::RenterState;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{MemoryFiles, MortalStore, Node, allowance, config, get, noise, put};
use crate::vault::{Conflict, ListOptions, ListRow, PutStreamRequest};
use crate::world::Lane;

fn fill(node: &Node) {
    node.files.put("/home/small.txt", b"hello", 10);
    node.files.put("/home/empty", b"", 11);
    node.files.put("/home/sub/medium.bin", &noise(1, 20_000), 12);
    node.files.put("/home/sub/large.bin", &noise(2, 700_000), 13);
    node.files.put("/home/sub/skip.tmp", b"no", 14);
}

#[tokio::test(start_paused = true)]
async fn a_folder_comes_back_as_it_was() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    fill(&node);
    let mut request = put("/home", "home");
    request.exclude = vec!["*.tmp".into()];
    let report = node.renter.put(request.clone(), &Silent).await.unwrap();
    assert_eq!((report.stored_files, report.stored_bytes), (4, 720_005));
    let again = node.renter.put(request, &Silent).await.unwrap();
    assert_eq!((again.stored_files, again.unchanged_files), (0, 4));

    let restored = node.get("home", "/back", Conflict::Keep).await;
    assert_eq!((restored.restored_files, restored.failed.len()), (4, 0));
    let mut expected = node.files.below("/home");
    expected.remove("sub/skip.tmp");
    assert_eq!(node.files.below("/back"), expected);

    let range = node.renter.read_range("home", "sub/large.bin", None, 300_000..301_000).await;
    assert_eq!(range.unwrap(), noise(2, 700_000)[300_000..301_000]);
    let status = node.renter.status();
    assert_eq!(status.state, RenterState::Active);
    assert_eq!((status.files, status.bytes, status.unacknowledged), (4, 720_005, 0));
}

#[tokio::test(start_paused = true)]
async fn changed_files_get_versions_and_old_ones_can_be_fetched() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", &noise(1, 9_000), 10);
    node.put("/home", "home").await;
    node.files.put("/home/a", &noise(2, 9_000), 11);
    assert_eq!(node.put("/home", "home").await.stored_files, 1);
    // Only its time has changed: no byte is sent again.
    node.files.put("/home/a", &noise(2, 9_000), 12);
    let stored: u64 = network.hosts.iter().map(|host| host.calls("store")).sum();
    assert_eq!(node.put("/home", "home").await.stored_files, 1);
    assert_eq!(network.hosts.iter().map(|host| host.calls("store")).sum::<u64>(), stored);
    // A change that hides behind size and time is found by its hash.
    node.files.put("/home/a", &noise(3, 9_000), 12);
    assert_eq!(node.put("/home", "home").await.unchanged_files, 1);
    let mut request = put("/home", "home");
    request.checksum = true;
    assert_eq!(node.renter.put(request, &Silent).await.unwrap().stored_files, 1);

    let options = ListOptions { versions: true, ..ListOptions::default() };
    let rows = node.renter.list("home", &options).await.unwrap();
    let [ListRow::File(row)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(row.versions.len(), 4);
    let mut request = get("home", "/old", Conflict::Keep);
    (request.path, request.version) = ("a".into(), Some(row.versions[0].version));
    node.renter.get(request, &Silent).await.unwrap();
    assert_eq!(node.files.bytes("/old").unwrap(), noise(1, 9_000));

    node.renter.remove("home", "a", false).await.unwrap();
    assert_eq!(node.renter.status().files, 0);
    node.renter.remove_version("home", "a", row.versions[0].version).await.unwrap();
    let rows = node.renter.list("home", &options).await.unwrap();
    let [ListRow::File(row)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.deleted, row.versions.len()), (true, 3));
}

#[tokio::test(start_paused = true)]
async fn clashes_are_handled_as_was_chosen() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a.txt", b"mine", 10);
    node.put("/home", "home").await;
    node.files.put("/out/a.txt", b"other", 10);
    let kept = node.get("home", "/out", Conflict::Keep).await;
    assert_eq!((kept.restored_files, kept.kept), (0, vec!["a.txt".to_owned()]));
    let renamed = node.get("home", "/out", Conflict::Rename).await;
    assert_eq!(renamed.renamed, vec!["/out/a (restored).txt".to_owned()]);
    assert_eq!(node.files.bytes("/out/a.txt").unwrap(), b"other");
    let mut request = get("home", "/out", Conflict::Replace);
    request.dry_run = true;
    assert_eq!(node.renter.get(request, &Silent).await.unwrap().replaced_files, 1);
    assert_eq!(node.files.bytes("/out/a.txt").unwrap(), b"other");
    assert_eq!(node.get("home", "/out", Conflict::Replace).await.replaced_files, 1);
    assert_eq!(node.files.bytes("/out/a.txt").unwrap(), b"mine");
}

#[tokio::test(start_paused = true)]
async fn many_small_files_share_slabs_and_reads() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    for number in 0..200 {
        node.files.put(&format!("/home/{number}"), &noise(number, 5_000), 10);
    }
    let stored =
        |network: &TestNetwork| network.hosts.iter().map(|host| host.calls("store")).sum::<u64>();
    let before = stored(&network);
    node.put("/home", "home").await;
    // One megabyte in slabs of four columns of 64 KiB: five slabs of eight sectors.
    assert!(stored(&network) - before <= 5 * 8, "{}", stored(&network) - before);
    let reads =
        |network: &TestNetwork| network.hosts.iter().map(|host| host.calls("read")).sum::<u64>();
    node.get("home", "/back", Conflict::Keep).await;
    assert!(reads(&network) <= 5 * 8, "{}", reads(&network));
    assert_eq!(node.files.below("/back"), node.files.below("/home"));
}

#[tokio::test(start_paused = true)]
async fn names_move_and_vaults_are_renamed_and_removed() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    for path in ["a/x", "a/b/y", "c"] {
        node.files.put(&format!("/home/{path}"), path.as_bytes(), 10);
    }
    node.put("/home", "home").await;
    let renter = &node.renter;
    assert_eq!(renter.move_file("home", "a", "d/e").await.unwrap(), 2);
    assert!(renter.move_file("home", "c", "d/e/x").await.is_err());
    assert!(renter.remove("home", "d", false).await.is_err());
    let paths = |rows: Vec<ListRow>| -> Vec<String> {
        let path = |row| match row {
            ListRow::File(file) => file.path,
            ListRow::Folder { path, files, .. } => format!("{path}/ {files}"),
        };
        rows.into_iter().map(path).collect()
    };
    let all = ListOptions { recursive: true, ..ListOptions::default() };
    assert_eq!(paths(renter.list("home", &all).await.unwrap()), ["c", "d/e/b/y", "d/e/x"]);
    let top = ListOptions::default();
    assert_eq!(paths(renter.list("home", &top).await.unwrap()), ["d/ 2", "c"]);
    assert_eq!(renter.remove("home", "d", true).await.unwrap(), 2);
    renter.rename_vault("home", "house").await.unwrap();
    assert!(renter.create_vault("house").await.is_err());
    renter.create_vault("other").await.unwrap();
    renter.remove_vault("house").await.unwrap();
    let names: Vec<String> = renter.vaults().into_iter().map(|vault| vault.name).collect();
    assert_eq!(names, ["other"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_nothing_is_acknowledged_and_nothing_is_lost() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"tiny", 10);
    network.set(0..3, Fault::Dead);
    let error = node.renter.put(put("/home", "home"), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "no_quorum", "{error}");
    assert_eq!(node.renter.status().files, 0);
    network.set(0..3, Fault::None);
    node.put("/home", "home").await;
    assert_eq!(node.renter.status().files, 1);
    assert_eq!(node.renter.vaults()[0].versions, 1);
}

/// More than the heads have room for, one after the other.
async fn append_two_megabytes(node: &Node) -> Vec<Result<(), &'static str>> {
    let mut answers = Vec::new();
    for number in 0..500 {
        let change = Change::Setting { name: format!("{number}"), value: noise(number, 4_000) };
        let append = node.renter.inner.journal.append(vec![change]);
        let answer = tokio::time::timeout(Duration::from_secs(3_600), append).await;
        answers.push(answer.expect("an answer").map(drop).map_err(|error| error.code()));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_changes_that_have_no_room_are_answered_too() {
    let network = TestNetwork::empty(5).await;
    let node = Node::fresh(&network).await;
    network.set(0..3, Fault::Dead);
    let answers = append_two_megabytes(&node).await;
    let (kept, dropped) = answers.split_at(answers.partition_point(|a| *a == Err("no_quorum")));
    assert!(kept.len() > 100 && dropped.len() > 100, "{answers:?}");
    assert!(dropped.iter().all(|answer| *answer == Err("heads_full")), "{answers:?}");
    network.set(0..3, Fault::None);
    let answers = append_two_megabytes(&node).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn full_heads_are_spilled_though_little_is_in_them_that_a_spill_waits_for() {
    let network = TestNetwork::empty(5).await;
    let mut config = config();
    config.journal.spill = 4 << 20;
    let files = MemoryFiles::default();
    let node = Node::with(&network, MortalStore::immortal(), files, config).await;
    node.start(&network).await;
    let answers = append_two_megabytes(&node).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_put_and_a_node_that_has_not_started_refuses() {
    let network = TestNetwork::empty(5).await;
    let node = Node::blank(&network).await;
    let request = |path: &str| PutStreamRequest {
        vault: "home".into(),
        create_vault: path != "new",
        path: path.into(),
        modified: Some(5),
        executable: true,
    };
    node.files.put("/in", &noise(4, 100_000), 0);
    let open = || crate::world::Files::open(&node.files, std::path::Path::new("/in"));
    let mut source = open().await.unwrap();
    let refused = node.renter.put_stream(request("a"), source.as_mut(), &Silent).await;
    assert_eq!(refused.unwrap_err().code(), "not_started");
    node.start(&network).await;
    let refused = node.renter.put_stream(request("new"), source.as_mut(), &Silent).await;
    assert_eq!(refused.unwrap_err().code(), "no_vault");
    let row = node.renter.put_stream(request("a"), source.as_mut(), &Silent).await.unwrap();
    assert_eq!((row.version.size, row.version.executable), (100_000, true));
    assert_eq!(row.version.hash, blake3::hash(&noise(4, 100_000)).to_string());
    let mut source = open().await.unwrap();
    assert!(node.renter.put_stream(request("../a"), source.as_mut(), &Silent).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_reported_and_the_rest_is_stored() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"a", 1);
    node.files.put("/home/closed/b", b"b", 2);
    node.files.put_folder("/home/closed");
    node.files.close("/home/closed");
    let report = node.renter.put(put("/home", "home"), &Silent).await.unwrap();
    assert_eq!((report.stored_files, report.stored_folders), (1, 0));
    let failed: Vec<_> = report.failed.iter().map(|f| (&*f.path, &*f.code)).collect();
    assert_eq!(failed, [("/home/closed", "file_failed")]);
}

#[tokio::test(start_paused = true)]
async fn empty_folders_are_stored_listed_moved_removed_and_come_back() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/full/a", b"a", 1);
    for folder in ["/home/full", "/home/void", "/home/void/inner"] {
        node.files.put_folder(folder);
    }
    assert_eq!(node.put("/home", "home").await.stored_folders, 1);
    assert_eq!(node.put("/home", "home").await.stored_folders, 0);
    let rows = async |options: ListOptions| {
        let rows = node.renter.list("home", &options).await.unwrap();
        let name = |row: ListRow| match row {
            ListRow::Folder { path, files, .. } => format!("{path}/ {files}"),
            ListRow::File(file) => file.path,
        };
        rows.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(rows(ListOptions::default()).await, ["full/ 1", "void/ 0"]);
    let all = ListOptions { recursive: true, ..ListOptions::default() };
    assert_eq!(rows(all.clone()).await, ["void/inner/ 0", "full/a"]);

    let report = node.get("home", "/back", Conflict::Keep).await;
    assert_eq!((report.restored_files, report.restored_folders), (1, 1));
    assert!(node.files.has_folder("/back/void/inner"));

    assert_eq!(node.renter.move_file("home", "void", "gone").await.unwrap(), 0);
    assert_eq!(rows(all.clone()).await, ["gone/inner/ 0", "full/a"]);
    let error = node.renter.remove("home", "gone", false).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("is_folder", "'gone' in vault 'home' is a folder")
    );
    node.renter.remove("home", "gone", true).await.unwrap();
    assert_eq!(rows(all).await, ["full/a"]);
}

#[tokio::test(start_paused = true)]
async fn no_path_is_a_file_and_a_folder() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/one/a", b"a", 1);
    node.files.put("/one/c/d", b"d", 1);
    node.put("/one", "home").await;
    node.files.put("/two/a/b", b"b", 1);
    node.files.put("/two/c", b"c", 1);
    let report = node.renter.put(put("/two", "home"), &Silent).await.unwrap();
    assert_eq!(report.stored_files, 0);
    let failed: Vec<_> = report.failed.iter().map(|f| (&*f.code, &*f.reason)).collect();
    let expected = [
        ("name_clash", "'a/b' cannot be in vault 'home': 'a' is a file there"),
        ("name_clash", "'c' cannot be in vault 'home': 'c' is a folder there"),
    ];
    assert_eq!(failed, expected);
    let moves = [
        ("a", "c", "name_clash"),
        ("c", "a/x", "name_clash"),
        ("a", "a/b", "bad_path"),
        ("a", "a", "bad_path"),
        ("c", "c/x", "bad_path"),
    ];
    for (from, to, code) in moves {
        let error = node.renter.move_file("home", from, to).await.unwrap_err();
        assert_eq!(error.code(), code, "{from} {to}");
    }
    // A file that is no longer listed stands in nobody's way.
    node.renter.remove("home", "a", false).await.unwrap();
    node.renter.remove("home", "c", true).await.unwrap();
    assert_eq!(node.put("/two", "home").await.stored_files, 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_appears_while_restoring_is_kept() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"ours", 1);
    node.put("/home", "home").await;
    node.files.intrude("/back/a", b"theirs");
    let report = node.get("home", "/back", Conflict::Keep).await;
    assert_eq!((report.restored_files, report.kept.len(), report.failed.len()), (0, 1, 0));
    assert_eq!(node.files.bytes("/back/a").unwrap(), b"theirs");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_is_refused_before_anything_is_stored() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", b"a", 1);
    let request = |vault: &str, target: &str, create_vault| {
        let target = target.into();
        crate::vault::PutRequest { target, create_vault, ..put("/home", vault) }
    };
    for (request, code) in [
        (request("home", "a/../b", true), "bad_path"),
        (request("home", "a//b", true), "bad_path"),
        (request("no/vault", "", true), "bad_name"),
        (request(".", "", true), "bad_name"),
        (request("..", "", true), "bad_name"),
        (request("typo", "", false), "no_vault"),
    ] {
        assert_eq!(node.renter.put(request, &Silent).await.unwrap_err().code(), code);
    }
    assert_eq!(node.renter.vaults(), vec![]);
    assert_eq!(
        node.renter.put(request("home", "/b/", true), &Silent).await.unwrap().stored_files,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn hosts_out_of_reach_and_slabs_without_a_spare_are_told() {
    let network = TestNetwork::empty(4).await;
    let node = Node::fresh(&network).await;
    node.files.put("/home/a", &noise(1, 50_000), 1);
    node.put("/home", "home").await;
    let told = |node: &Node| {
        let status = node.renter.status();
        (status.unreachable, status.bare > 0, status.unreadable > 0, status.forming)
    };
    assert_eq!(told(&node), (0, false, false, Some(0)));
    // Any two of four bring a file back.
    let die = |hosts: std::ops::Range<usize>| {
        network.set(hosts.clone(), Fault::Dead);
        let error = crate::world::HostCallError::TimedOut { host: Default::default() };
        for host in hosts {
            for _ in 0..3 {
                node.renter.book().reports().failed(&network.hosts[host].key.public(), &error);
            }
        }
    };
    die(0..2);
    assert_eq!(told(&node), (2, true, false, Some(0)));
    assert_eq!(node.renter.hosts().iter().filter(|host| host.unreachable).count(), 2);
    die(2..3);
    assert_eq!(told(&node), (3, false, true, Some(0)));

    // A host that says that the contract has ended, until it answers something else.
    let host = network.hosts[3].key.public();
    let reports = node.renter.book().reports();
    let ended = Refusal::Expired { contract: Default::default(), ended: Default::default() };
    reports.refused(&host, &ended);
    assert_eq!(node.renter.status().ended, 1);
    reports.answered(&host, Lane::Control, 1);
    assert_eq!(node.renter.status().ended, 0);
}

#[tokio::test(start_paused = true)]
async fn an_allowance_that_was_too_small_is_raised_at_once() {
    let network = TestNetwork::empty(6).await;
    let node = Node::blank(&network).await;
    node.renter.start_fresh().await.unwrap();
    // A tenth of what a large shard costs until the end.
    let terms = allowance(&network);
    let hours = terms.period.0 / Millis::hours(1).0 * u64::from(terms.periods);
    let funds = Amount(u128::from(hours) * (4 << 20) / 10 * 6);
    node.renter.set_allowance(Allowance { funds, ..terms }).await.unwrap();
    node.renter.upkeep().await;
    assert_eq!(node.renter.status().poor, 6);
    let before: Vec<String> = node.renter.contracts().into_iter().map(|row| row.contract).collect();
    node.files.put("/home/large", &noise(1, 8 << 20), 10);
    let error = node.renter.put(put("/home", "home"), &Silent).await.unwrap_err();
    assert_eq!(error.code(), "contract_out_of_money", "{error}");
    assert!(error.to_string().contains("has too little money"), "{error}");
    // Nothing is renewed again and again while that brings no more.
    node.renter.upkeep().await;
    let same: Vec<String> = node.renter.contracts().into_iter().map(|row| row.contract).collect();
    assert_eq!(same, before);

    let report = node.renter.set_allowance(terms).await.unwrap();
    assert_eq!((report.done.len(), report.failed), (6, vec![]));
    let renewed: Vec<String> =
        node.renter.contracts().into_iter().map(|row| row.contract).collect();
    assert!(renewed.iter().all(|contract| !before.contains(contract)));
    assert_eq!(node.renter.status().poor, 0);
    node.put("/home", "home").await;
    node.renter.upkeep().await;
    let after: Vec<String> = node.renter.contracts().into_iter().map(|row| row.contract).collect();
    assert_eq!(after, renewed, "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_refused_allowance_is_not_set() {
    let network = TestNetwork::empty(4).await;
    let node = Node::blank(&network).await;
    node.renter.start_fresh().await.unwrap();
    let mut dear = allowance(&network);
    dear.funds = Amount::coins(100_000);
    let error = node.renter.set_allowance(dear).await.unwrap_err();
    assert!(error.to_string().contains("10000 SAM"), "{error}");
    assert_eq!(node.renter.allowance(), None);
    let set = allowance(&network);
    node.renter.set_allowance(set).await.unwrap();
    assert!(node.renter.set_allowance(Allowance { funds: dear.funds, ..set }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_same_put_twice_at_once_sends_its_bytes_once() {
    let network = TestNetwork::empty(8).await;
    let node = Node::fresh(&network).await;
    fill(&node);
    let sent = || -> u64 { network.hosts.iter().map(|host| host.calls("store")).sum() };
    let one = || node.renter.put(put("/home", "home"), &Silent);
    let first = one().await.unwrap();
    let once = sent();
    node.files.put("/home/sub/large.bin", &noise(7, 700_000), 20);
    let other = node.renter.put(put("/home/sub", "other"), &Silent);
    let (a, b, c) = Box::pin(futures::future::join3(one(), one(), other)).await;
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!((a.stored_files, b.stored_files), (1, 0), "{b:?}");
    assert_eq!(b.unchanged_files, first.stored_files);
    assert_eq!(c.stored_files, 3, "another place is another put");
    assert!(sent() <= 3 * once, "{} after {once}", sent());
    // One that is given up lets the next go on.
    node.files.put("/home/sub/large.bin", &noise(8, 700_000), 30);
    {
        let mut dropped = Box::pin(one());
        assert!(futures::poll!(dropped.as_mut()).is_pending());
    }
    assert_eq!(one().await.unwrap().stored_files, 1);
}

#[tokio::test(start_paused = true)]
async fn transfers_that_wait_for_a_block_hold_nobody_up() {
    let network = TestNetwork::empty(4).await;
    let node = Node::fresh(&network).await;
    let (renter, to) = (&node.renter, crate::testing::world::secret(77).public());
    let before = network.chain.account_of(&to).balance;
    network.chain.hold_patiently();
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        renter.upkeep().await;
        renter.set_allowance(allowance(&network)).await.unwrap();
        // In their order: the second is numbered after the first.
        network.chain.release()
    };
    let (first, second) = (renter.transfer(to, Amount(5)), renter.transfer(to, Amount(7)));
    let (first, second, released) = futures::future::join3(first, second, meanwhile).await;
    assert_eq!(released.iter().filter(|result| result.is_ok()).count(), 2, "{released:?}");
    assert!(first.unwrap().1 < second.unwrap().1);
    // Nothing waits any more.
    renter.transfer(to, Amount(1)).await.unwrap();
    assert_eq!(network.chain.account_of(&to).balance, before.saturating_add(Amount(13)));
    // A caller who goes away leaves nothing that others would be numbered after.
    network.chain.hold_patiently();
    {
        let mut left = Box::pin(renter.transfer(to, Amount(100)));
        for _ in 0..20 {
            assert!(futures::poll!(left.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    network.chain.release();
    renter.transfer(to, Amount(2)).await.unwrap();
}
