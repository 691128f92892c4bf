//! `kill -9` in each phase of backups and restores: what is left has a clear state, nothing lies about, and the
//! work can be done again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::network::{Renter, Shared, Stored, advanced, play, text};

/// Bytes that take long enough for each phase to be seen.
const LARGE: usize = 12_000_000;

/// Files below a folder of a node.
fn files(renter: &Renter, folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(renter.folder().join(folder)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Begins a command, and kills the node as soon as a line is seen, or the command has ended before. Says
/// whether the line was seen.
async fn killed_at(
    renter: &Renter,
    arguments: &[&str],
    wanted: impl FnMut(&Value) -> bool,
) -> bool {
    let mut running = renter.begin(arguments);
    let reached = running.reach(wanted).await;
    renter.crash().await;
    running.end().await;
    renter.restart().await;
    reached
}

/// Begins to restore an archive, and kills the node as soon as it is in a phase, or the restore has ended
/// before. Says whether the phase was seen: the node is asked again and again, for what a command shows may
/// be later than a short phase.
async fn killed_in(renter: &Renter, file: &Path, phase: &str) -> bool {
    let job = renter.run(&["restore", text(file), "--detach"]).await.ok();
    let path = format!("/v1/restores/{}", job["id"].as_str().unwrap());
    let client = renter.client();
    let reached = loop {
        let job: Value = client.get(&path).await.unwrap();
        if job["progress"]["phase"] == phase {
            break true;
        }
        if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
            break false;
        }
    };
    renter.crash().await;
    renter.restart().await;
    reached
}

/// The newest restore, once it is known how it ended: the entry that opens a vault may be on its way to the
/// hosts when a node is killed.
async fn ended(renter: &Renter) -> Value {
    loop {
        let jobs = renter.run(&["restore", "list"]).await.ok();
        if jobs[0]["state"] != "running" {
            return jobs[0].clone();
        }
    }
}

#[test]
fn a_kill_in_any_phase_of_a_backup_leaves_a_clear_state() {
    play(|shared| async move {
        let renter = shared.renter().await;
        let scratch = shared.scratch();
        let home = Stored::prepare(scratch.path(), "home", LARGE);
        renter.run(&home.put()).await.ok();
        for (number, phase) in ["acknowledging", "settling", "archiving"].into_iter().enumerate() {
            let name = format!("cut-{number}");
            let mut create = vec!["backup", "create", &name];
            if phase == "archiving" {
                create.extend(["--vault", "home", "--archive"]);
            }
            let reached = killed_at(&renter, &create, |line| line["phase"] == phase).await;
            // The others may be too short to be told of.
            assert!(reached || phase != "archiving", "no archive was being written");
            let row = renter.run(&["backup", "show", &name]).await;
            if row.last()["code"] == "no_backup" {
                // It was cut before it had its place.
                continue;
            }
            let row = row.ok();
            let whole = usize::from(row["status"] == "completed");
            let known = ["completed", "in_progress"].contains(&row["status"].as_str().unwrap());
            assert!(known || row["error"]["code"] == "interrupted", "{row}");
            if phase == "archiving" {
                assert_eq!(files(&renter, "archives").len(), whole, "{row}");
            }
        }
        // Nothing of them is in the way.
        for (name, archive) in [("after", None), ("carried", Some("--archive"))] {
            let create = ["backup", "create", name, "--vault", "home"];
            renter.run(&[&create[..], archive.as_slice()].concat()).await.ok();
        }
        renter.run(&["backup", "verify", "carried"]).await.ok();
        renter.run(&["backup", "verify", "after", "--read-data", "all"]).await.ok();
        home.assert_back(&renter, scratch.path()).await;
    });
}

/// An archive of a vault `home` with large files, and where it is.
async fn archive(shared: &std::sync::Arc<Shared>, scratch: &Path) -> (Renter, Stored, PathBuf) {
    let renter = shared.renter().await;
    let home = Stored::prepare(scratch, "home", LARGE);
    renter.run(&home.put()).await.ok();
    renter.run(&["backup", "create", "carry", "--vault", "home", "--archive"]).await.ok();
    let file = scratch.join("carry.zip");
    renter.run(&["backup", "download", "carry", text(&file)]).await.ok();
    (renter, home, file)
}

#[test]
fn a_kill_in_any_phase_of_an_archives_restore_leaves_all_or_nothing() {
    play(|shared| async move {
        let scratch = shared.scratch();
        let (_, home, file) = archive(&shared, scratch.path()).await;
        let other = shared.renter().await;
        for phase in ["storing", "replaying"] {
            let reached = killed_in(&other, &file, phase).await;
            // The other may be too short to be seen.
            assert!(reached || phase != "storing", "nothing was being stored");
            let job = ended(&other).await;
            let vaults = other.run(&["vault", "list"]).await.ok();
            if job["state"] == "completed" {
                assert_eq!(vaults[0]["name"], "home");
                other.run(&["vault", "remove", "home", "--recursive"]).await.ok();
                continue;
            }
            assert_eq!(
                (&job["state"], &job["error"]["code"]),
                (&json!("failed"), &json!("interrupted"))
            );
            assert!(vaults.as_array().unwrap().is_empty(), "{vaults}");
        }
        // The last one is gone on with, or done once more if it was whole.
        let job = ended(&other).await;
        match job["state"].as_str().unwrap() {
            "completed" => other.run(&["restore", text(&file)]).await.ok(),
            _ => other.run(&["restore", "resume", job["id"].as_str().unwrap()]).await.ok(),
        };
        home.assert_back(&other, scratch.path()).await;
        assert!(files(&other, "restores").iter().all(|path| path.extension().unwrap() == "json"));
    });
}

#[test]
fn a_kill_while_a_network_backup_comes_back_is_gone_on_with() {
    play(|shared| async move {
        let scratch = shared.scratch();
        let renter = shared.renter().await;
        let home = Stored::prepare(scratch.path(), "home", LARGE);
        renter.run(&home.put()).await.ok();
        renter.run(&["backup", "create", "daily"]).await.ok();
        let target = scratch.path().join("back");
        let restore = ["restore", "daily", "--to", text(&target)];
        killed_at(&renter, &restore, |line| advanced(line, "restoring")).await;
        let jobs = renter.run(&["restore", "list"]).await.ok();
        let job = &jobs[0];
        if job["state"] != "completed" {
            assert_eq!(job["error"]["code"], "interrupted", "{job}");
            assert_eq!(job["error"]["retryable"], true);
            renter.run(&["restore", "resume", job["id"].as_str().unwrap()]).await.ok();
        }
        crate::network::assert_same(
            &home.files,
            &scratch.path().join("source/home"),
            &target.join("home"),
        );
    });
}
