//! The story of `samara demo`, as programs read it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::network::{SAMARA, sample};

/// Longer than any sector: such a file never lies on one host alone, where a single survivor could
/// give it back whole.
const LARGE: usize = 5 << 20;

fn demo(folder: &Path, temporary: &Path, killed: usize) -> (Output, Vec<Value>) {
    let output = Command::new(SAMARA)
        .args(["demo", "--json", "--validators", "1", "--hosts", "4", "--redundancy", "2/4"])
        .arg("--kill-hosts")
        .arg(killed.to_string())
        .arg("--dir")
        .arg(folder)
        .env("TMPDIR", temporary)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output, lines)
}

fn play(killed: usize) -> (Option<i32>, Value, usize) {
    let root = tempfile::tempdir().unwrap();
    let (folder, temporary) = (root.path().join("folder"), root.path().join("temporary"));
    std::fs::create_dir_all(&temporary).unwrap();
    let files = sample(&folder, LARGE);
    let (output, lines) = demo(&folder, &temporary, killed);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = lines.last().unwrap_or_else(|| panic!("{errors}")).clone();
    let left = std::fs::read_dir(&temporary).unwrap().count();
    assert_eq!(left, 0, "the demo leaves nothing behind: {errors}");
    (output.status.code(), last, files.files.len())
}

#[test]
fn as_many_hosts_as_the_redundancy_allows_may_be_lost() {
    let (code, last, files) = play(2);
    assert_eq!(code, Some(0), "{last}");
    assert_eq!((&last["message_type"], &last["equal"]), (&"result".into(), &files.into()));
}

#[test]
fn with_one_host_more_the_missing_files_are_named() {
    let (code, last, files) = play(3);
    assert_eq!(code, Some(3), "{last}");
    let missing = last["missing"].as_array().unwrap();
    assert_eq!(missing.len() as u64 + last["equal"].as_u64().unwrap(), files as u64);
    assert!(missing.contains(&"large".into()), "{last}");
}
