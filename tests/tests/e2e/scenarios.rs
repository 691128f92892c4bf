//! What must hold whatever happens to machines and disks.

use std::path::{Path, PathBuf};

use samara_tests::noise;
use serde_json::Value;

use crate::network::{
    Renter, Shared, Stored, advanced, assert_same, play, play_alone, sample, text,
};
use crate::wire::find;

/// Files in folders below one.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_put_comes_back_and_is_listed() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let source = scratch.path().join("source");
        let files = sample(&source, 3_000_000);

        let report = renter.run(&["put", text(&source), "home/files"]).await.ok();
        assert_eq!(report["stored_files"], files.files.len(), "{report}");
        let again = renter.run(&["put", text(&source), "home/files"]).await.ok();
        assert_eq!((&again["stored_files"], &again["unchanged_files"]), (&0.into(), &6.into()));
        let stages = ["acknowledged", "settled"];
        assert!(stages.contains(&report["stage"].as_str().unwrap()), "{report}");
        assert!(report["hosts_ok"].as_u64() <= report["hosts_total"].as_u64(), "{report}");

        let listing = renter.run(&["ls", "home/files", "--recursive"]).await.ok();
        let names = listing.as_array().unwrap().iter().filter(|row| row["kind"] == "file");
        assert_eq!(names.count(), files.files.len(), "{listing}");
        // All hosts get the names in the background.
        let mut settled = false;
        for _ in 0..400 {
            let listing = renter.run(&["ls", "home/files", "--recursive"]).await.ok();
            let mut rows = listing.as_array().unwrap().iter().filter(|row| row["kind"] == "file");
            settled = rows.all(|row| row["stage"] == "settled" && row["position"].is_u64());
            if settled {
                break;
            }
        }
        assert!(settled, "{listing}");
        renter.run(&["backup", "create", "first"]).await.ok();
        let backups = renter.run(&["backup", "list"]).await.ok();
        assert_eq!(backups[0]["status"], "completed", "{backups}");

        let limits = renter.run(&["limits", "--upload", "2 GB"]).await.ok();
        assert_eq!((&limits["upload"], &limits["download"]), (&2_000_000_000.into(), &0.into()));
        assert_eq!(renter.run(&["limits"]).await.ok()["upload"], limits["upload"]);
        let limits = renter.run(&["limits", "--reset", "--download", "1 GB"]).await.ok();
        assert_eq!((&limits["upload"], &limits["download"]), (&0.into(), &1_000_000_000.into()));

        let target = scratch.path().join("target");
        renter.run(&["get", "home/files", text(&target)]).await.ok();
        assert_same(&files, &source, &target);

        let missing = renter.run(&["get", "home/nothing", text(&target)]).await;
        assert_eq!(missing.code, 10, "{:?}", missing.last());
        assert_eq!(missing.last()["message_type"], "error");
    });
}

#[test]
fn a_lost_machine_is_recovered_from_its_words() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 1_000_000);
        renter.run(&home.put()).await.ok();
        renter.run(&["backup", "create", "first", "--description", "all of it"]).await.ok();
        renter.lose().await;

        let machine = shared.machine(&renter.words).await;
        let report = machine.run(&["recover", "start"]).await.ok();
        assert_eq!(report["outcome"], "done", "{report}");
        assert_eq!(report["files"], home.files.files.len());
        let backups = machine.run(&["backup", "list"]).await.ok();
        assert_eq!(backups[0]["name"], "first");
        home.assert_in_backup(&machine, "first", scratch.path()).await;
        home.assert_back(&machine, scratch.path()).await;
    });
}

#[test]
fn a_deleted_database_comes_back_by_itself() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 300_000);
        renter.run(&home.put()).await.ok();
        renter.run(&["backup", "create", "first"]).await.ok();
        let more = scratch.path().join("more");
        std::fs::write(&more, "more").unwrap();
        renter.run(&["put", text(&more), "home/more"]).await.ok();
        renter.run(&["backup", "create", "second"]).await.ok();
        renter.crash().await;
        std::fs::remove_file(renter.folder().join("renter.redb")).unwrap();
        renter.restart().await;
        let client = renter.client();
        loop {
            let status: Value = client.get("/v1/renter").await.unwrap();
            if status["state"] == "active" {
                break;
            }
            // The answer is the node's, in its own time.
            tokio::task::yield_now().await;
        }
        home.assert_in_backup(&renter, "first", scratch.path()).await;
        let found = renter.run(&["backup", "diff", "first", "second"]).await.ok();
        assert_eq!((&found["added"], &found["removed"]), (&1.into(), &0.into()), "{found}");
        assert_eq!(found["files"][0]["path"], "more");
    });
}

#[test]
fn words_that_own_nothing_are_told_so() {
    play(|shared| async move {
        let words = samara_node::seed::command::draw(samara_node::seed::command::WordCount::Twelve)
            .unwrap();
        let machine = shared.machine(&words).await;
        let done = machine.run(&["recover", "start"]).await;
        assert_eq!(done.code, 8, "{:?}", done.last());
    });
}

#[test]
fn a_node_that_was_replaced_stops_writing_and_says_why() {
    play(|shared| async move {
        let old = shared.renter().await;
        let scratch = shared.scratch();
        let file = scratch.path().join("file");
        std::fs::write(&file, "before").unwrap();
        old.run(&["put", text(&file), "home"]).await.ok();
        old.crash().await;

        let new = shared.machine(&old.words).await;
        new.run(&["recover", "start"]).await.ok();
        old.restart().await;
        std::fs::write(&file, "after").unwrap();
        let refused = old.run(&["put", text(&file), "home", "--checksum"]).await;
        assert_eq!(refused.code, 7, "{:?}", refused.last());
        assert_eq!(refused.last()["code"], "fenced");
        let status = old.run(&["status"]).await.ok();
        assert_eq!(status["renter"]["state"], "fenced", "{status}");

        let target = scratch.path().join("target");
        new.run(&["get", "home", text(&target)]).await.ok();
        assert_eq!(std::fs::read(target.join("file")).unwrap(), b"before");
    });
}

#[test]
fn damage_on_one_hosts_disk_is_survived_and_reported() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 2_000_000);
        renter.run(&home.put()).await.ok();

        // Whichever hosts a read asks: each host is the damaged one once.
        for host in shared.hosts().await {
            let damaged = damage(&host.join("sectors"));
            home.assert_back(&renter, scratch.path()).await;
            for (path, bytes) in damaged {
                std::fs::write(path, bytes).unwrap();
            }
        }
        let hosts = renter.run(&["hosts"]).await.ok();
        let reported = |row: &&Value| {
            row["false_answers"].as_u64() > Some(0) || row["last_failure"].is_string()
        };
        assert!(hosts.as_array().unwrap().iter().any(|row| reported(&row)), "{hosts}");
    });
}

/// Flips a bit in the middle of every sector, and gives what was there.
fn damage(sectors: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut before = Vec::new();
    for path in walk(sectors) {
        // A sector of another scenario may go while this one looks.
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        if bytes.len() < 16_384 {
            continue;
        }
        before.push((path.clone(), bytes.clone()));
        for at in (8_000..bytes.len()).step_by(16_384) {
            bytes[at] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    before
}

#[test]
fn hosts_see_neither_names_nor_contents_nor_words() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let folder = scratch.path().join("source");
        std::fs::create_dir_all(&folder).unwrap();
        let (name, content, vault) = (
            "PlantedFileNameZebra.txt",
            "planted content quagga ".repeat(64),
            "planted-vault-okapi",
        );
        std::fs::write(folder.join(name), &content).unwrap();
        std::fs::write(folder.join("large"), content.repeat(2_000)).unwrap();
        renter.run(&["vault", "create", vault]).await.ok();
        renter.run(&["put", text(&folder), vault]).await.ok();
        renter.run(&["backup", "create", "planted-backup-tapir"]).await.ok();

        let words: Vec<&str> = renter.words.words().collect();
        let planted = [
            name,
            "planted content quagga",
            vault,
            "planted-backup-tapir",
            &words[..3].join(" "),
            &words[9..].join(" "),
        ];
        for host in shared.hosts().await {
            let files = walk(&host);
            let sectors = files.iter().filter(|path| path.starts_with(host.join("sectors")));
            assert!(sectors.count() > 0, "{} holds sectors", host.display());
            for path in files {
                // A file may be replaced while this looks.
                let Ok(bytes) = std::fs::read(&path) else { continue };
                let found = find(&bytes, &planted.map(str::as_bytes));
                assert!(found.is_empty(), "{found:?} is in {}", path.display());
            }
        }
    });
}

/// A put that is cut off, by the machine's end, after some bytes were sent. It cannot end before: too
/// few hosts go on for a slab to be acknowledged.
async fn cut_off_put(shared: &Shared, renter: &Renter, files: &Stored) {
    shared.halt_hosts_but("host-0").await;
    let done = renter.run_until(&files.put(), |line| advanced(line, "storing")).await;
    assert!(done.is_none(), "the put was refused: {done:?}");
    renter.crash().await;
    shared.resume_hosts().await;
    renter.restart().await;
}

#[test]
fn a_crash_in_the_middle_of_a_put_loses_nothing_that_was_acknowledged() {
    play_alone(
        |_| {},
        |shared| async move {
            let renter = shared.renter().await;
            let scratch = shared.scratch();
            let safe = Stored::safe(&renter, scratch.path()).await;

            let home = Stored::prepare(scratch.path(), "home", 40_000_000);
            // The vault is made while all hosts are there; a put would wait for them with it.
            renter.run(&["vault", "create", "home"]).await.ok();
            cut_off_put(&shared, &renter, &home).await;
            safe.assert_back(&renter, scratch.path()).await;
            renter.run(&home.put()).await.ok();
            home.assert_back(&renter, scratch.path()).await;
        },
    );
}

#[test]
fn a_crash_in_the_middle_of_a_backup_is_gone_on_from() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 100_000);
        renter.run(&home.put()).await.ok();
        let create = ["backup", "create", "cut"];
        renter.run_until(&create, |line| line["event"].is_string()).await;
        renter.crash().await;
        renter.restart().await;

        // Either nothing is known of it and it can be made, or it is there and completes by itself.
        let again = renter.run(&create).await;
        assert!(again.code == 0 || again.last()["code"] == "exists", "{:?}", again.last());
        renter.run(&["backup", "create", "whole"]).await.ok();
        renter.lose().await;
        let machine = shared.machine(&renter.words).await;
        machine.run(&["recover", "start"]).await.ok();
        for backup in ["cut", "whole"] {
            home.assert_in_backup(&machine, backup, scratch.path()).await;
        }
    });
}

#[test]
fn a_crash_in_the_middle_of_a_recovery_is_gone_on_from() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", 100_000);
        renter.run(&home.put()).await.ok();
        renter.lose().await;

        let machine = shared.machine(&renter.words).await;
        for phase in ["scanning", "claiming", "taking_over"] {
            let met = |line: &Value| line["event"] == "advanced" && line["phase"] == phase;
            if machine.run_until(&["recover", "start"], met).await.is_some() {
                break;
            }
            machine.crash().await;
            machine.restart().await;
        }
        let status = machine.run(&["status"]).await.ok();
        if status["renter"]["state"] != "active" {
            machine.run(&["recover", "start"]).await.ok();
        }
        home.assert_back(&machine, scratch.path()).await;
        // It writes as well.
        let file = scratch.path().join("more");
        std::fs::write(&file, noise(&[9], 5_000)).unwrap();
        machine.run(&["put", text(&file), "home"]).await.ok();
    });
}

/// Bytes that the hosts have signed for under a renter's contracts.
async fn stored(renter: &Renter) -> u64 {
    let rows = renter.run(&["contracts"]).await.ok();
    rows.as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn what_is_given_up_leaves_the_hosts_and_is_paid_for_no_longer() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let (kept, gone) = (scratch.path().join("kept"), scratch.path().join("gone"));
        std::fs::write(&kept, noise(&[1], 300_000)).unwrap();
        std::fs::write(&gone, noise(&[2], 3_000_000)).unwrap();
        renter.run(&["put", text(&kept), "home"]).await.ok();
        let before = stored(&renter).await;
        renter.run(&["put", text(&gone), "home"]).await.ok();
        let full = stored(&renter).await;
        assert!(full > before + 3_000_000, "{full} after {before}");

        renter.run(&["rm", "home/gone"]).await.ok();
        renter.run(&["garbage", "--now"]).await.ok();
        assert!(stored(&renter).await >= full, "a version of it is kept");
        let rows = renter.run(&["ls", "home", "--versions"]).await.ok();
        let row = rows.as_array().unwrap().iter().find(|row| row["path"] == "gone").unwrap();
        let version = row["version"]["version"].as_u64().or(row["version"].as_u64());
        let version = version.or(row["versions"][0]["version"].as_u64()).unwrap().to_string();
        renter.run(&["rm", "home/gone", "--version-number", &version]).await.ok();

        let mut report = Value::Null;
        for _ in 0..20 {
            report = renter.run(&["garbage", "--now"]).await.ok();
            let waits = report["waiting"].as_array().is_some_and(|rows| !rows.is_empty());
            if report["unused"] == 0 && !waits && stored(&renter).await <= before {
                break;
            }
        }
        assert!(stored(&renter).await <= before, "{report}");
        assert!(report["freed_bytes"].as_u64().unwrap() >= full - before, "{report}");
        let target = scratch.path().join("target");
        renter.run(&["get", "home/kept", text(&target)]).await.ok();
        assert_eq!(std::fs::read(target.join("kept")).unwrap(), noise(&[1], 300_000));
    });
}
