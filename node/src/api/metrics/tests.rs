//! The page of metrics, as a strict reader sees it.

use std::collections::BTreeMap;

use samara_protocol::units::Amount;
use samara_renter::backup::{BackupKind, BackupRow, BackupStatus};
use samara_renter::recovery::{RecoveryPhase, RecoveryStatus};
use serde_json::json;

use super::page::{Of, Page, coins};
use super::{backups, contracts, drill, repair, restores, scan, state};

/// The samples of a page, by name and labels. Panics where OpenMetrics has something else: names and labels
/// of other letters, samples without their type, of another family, twice, or without the unit in their name,
/// counters without `_total`, no end.
fn read(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut family = "";
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (what, rest) = comment.split_once(' ').unwrap();
            let (name, said) = rest.split_once(' ').unwrap();
            match what {
                "HELP" => assert!(said.ends_with('.') && !kinds.contains_key(name), "{line}"),
                "TYPE" => {
                    assert!(["gauge", "counter"].contains(&said), "{line}");
                    assert!(kinds.insert(name, said).is_none(), "{line}");
                    family = name;
                }
                "UNIT" => assert!(name == family && name.ends_with(&format!("_{said}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("samara_"), "{line}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
        let expected = match kinds[family] {
            "counter" => format!("{family}_total"),
            _ => family.to_owned(),
        };
        assert_eq!(name, expected, "{line}");
        labels(&series[name.len()..]);
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line}");
    }
    samples
}

/// Checks `{name="value"}`, or nothing.
fn labels(text: &str) {
    if text.is_empty() {
        return;
    }
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix("\"}")).unwrap();
    let (name, value) = inner.split_once("=\"").unwrap();
    assert!(name.bytes().all(|b| b.is_ascii_lowercase()), "{text}");
    let mut signs = value.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => assert!(signs.next().is_some_and(|next| "\\\"n".contains(next)), "{text}"),
            '"' | '\n' => panic!("{text}"),
            _ => {}
        }
    }
}

pub(in crate::api) fn backup(kind: BackupKind, status: BackupStatus, created: u64) -> BackupRow {
    let row = json!({
        "sid": "00", "kind": kind, "name": "n", "description": "", "tags": [], "vault": null,
        "status": status, "phase": null, "progress": null, "error": null, "events": 1,
        "versions": 1, "files": 1, "file_size": 4_000, "stored_size": 500,
        "cost_quoted": "0.5", "cost_actual": null, "created_by": null, "trigger": "manual",
        "schedule": null, "pinned": false, "date_created": created, "chain_time": created,
        "date_completed": created, "date_expired": null, "recoverable_until": 90_000_000,
        "hosts_ok": 3, "hosts_needed": 3, "hosts_total": 5, "head_seq": 7, "head_hash": "00",
        "archive_hash": null, "encrypted": false, "file_path": null,
    });
    serde_json::from_value(row).unwrap()
}

fn shown(rows: &[BackupRow]) -> BTreeMap<String, f64> {
    let mut page = Page::new();
    backups::show(&mut page, 10_000_000, rows, &[]);
    read(&page.text().unwrap())
}

#[test]
fn the_newest_complete_backup_counts() {
    let (network, archive) = (BackupKind::Network, BackupKind::Archive);
    let mut verified = backup(network, BackupStatus::Completed, 9_000_000);
    (verified.date_verified, verified.verified_sound) = (Some(9_500_000), Some(true));
    verified.cost_actual = Some(Amount::coins(2));
    let rows = [
        backup(network, BackupStatus::Completed, 1_000_000),
        verified.clone(),
        backup(network, BackupStatus::Error, 9_900_000),
        backup(archive, BackupStatus::InProgress, 9_900_000),
    ];
    let samples = shown(&rows);
    let of = |name: &str| samples.get(&format!("samara_{name}")).copied();
    assert_eq!(of(r#"backups{status="completed"}"#), Some(2.0));
    assert_eq!(of(r#"backup_last_success_age_seconds{kind="network"}"#), Some(1_000.0));
    assert_eq!(of(r#"backup_last_files_bytes{kind="network"}"#), Some(4_000.0));
    assert_eq!(of(r#"backups_stored_bytes{kind="network"}"#), Some(1_000.0));
    assert_eq!(of(r#"backup_last_quoted_coins{kind="network"}"#), Some(0.5));
    assert_eq!(of(r#"backup_last_cost_coins{kind="network"}"#), Some(2.0));
    assert_eq!(of("backup_recoverable_until_timestamp_seconds"), Some(90_000.0));
    assert_eq!(of("backup_unverified_age_seconds"), Some(500.0));
    assert!(!samples.keys().any(|name| name.contains("archive")), "none is complete: {samples:?}");

    verified.verified_sound = Some(false);
    let samples = shown(&[verified]);
    assert_eq!(samples["samara_backup_unverified_age_seconds"], 1_000.0, "it was never sound");
}

#[test]
fn what_is_not_known_is_absent() {
    let samples = shown(&[]);
    assert!(samples.keys().all(|name| name.starts_with("samara_backups{")), "{samples:?}");
    let mut page = Page::new();
    repair(&mut page, 0, &Default::default());
    drill(&mut page, 0, &[]);
    contracts(&mut page, &[]);
    let samples = read(&page.text().unwrap());
    for absent in ["slabs", "repair", "drill", "first_end"] {
        assert!(!samples.keys().any(|name| name.contains(absent)), "{absent} in {samples:?}");
    }
}

#[test]
fn a_whole_page_reads_and_labels_are_escaped() {
    let mut page = Page::new();
    state(&mut page, &Default::default());
    let counted = samara_renter::repair::HealthReport { counted: Some(0), ..Default::default() };
    repair(&mut page, 5_000, &counted);
    restores(&mut page, &[]);
    let progress = RecoveryPhase::Scanning {
        blocks_done: 5,
        blocks_known: None,
        contracts_found: 0,
        rate: None,
        seconds_left: None,
    };
    let recovery = RecoveryStatus { running: true, progress, ..Default::default() };
    scan(&mut page, &recovery, &Default::default());
    page.gauges("odd", Of::Things, "Odd", "policy", [("a\"b\\c\nd".to_owned(), Some(1.0))]);
    page.gauge("money", Of::Coins, "Money", Some(coins(Amount::coins(3))));
    let samples = read(&page.text().unwrap());
    assert_eq!(samples[r#"samara_renter_state{state="fresh"}"#], 1.0);
    assert_eq!(samples[r#"samara_renter_state{state="active"}"#], 0.0);
    assert_eq!(samples["samara_recovery_blocks_scanned"], 5.0);
    assert!(!samples.contains_key("samara_recovery_blocks_known"));
    assert_eq!(samples["samara_slabs_counted_age_seconds"], 5.0);
    assert_eq!(samples[r#"samara_odd{policy="a\"b\\c\nd"}"#], 1.0);
    assert_eq!(samples["samara_money_coins"], 3.0);
    assert_eq!(samples["samara_garbage_freed_bytes_total"], 0.0);
}

/// Every name that the sources give is documented, and none else.
#[test]
fn the_documented_metrics_are_these() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let docs = read("../docs/operators.md");
    let section = docs.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented: std::collections::BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `samara_"))
        .map(|line| line.split(['`', '{']).next().unwrap())
        .collect();
    let mut given = std::collections::BTreeSet::new();
    for file in ["mod.rs", "backups.rs"] {
        let text = read(&format!("src/api/metrics/{file}"));
        let text: String = text.split_whitespace().collect();
        for (call, kind) in
            [("page.gauge(\"", ""), ("page.gauges(\"", ""), ("page.counter(\"", "_total")]
        {
            for rest in text.split(call).skip(1) {
                let (name, rest) = rest.split_once("\",Of::").unwrap();
                let unit = match rest.split(',').next().unwrap() {
                    "Things" => "",
                    "Seconds" => "_seconds",
                    "Bytes" => "_bytes",
                    "Coins" => "_coins",
                    other => panic!("{other}"),
                };
                given.insert(format!("{name}{unit}{kind}"));
            }
        }
    }
    let given: std::collections::BTreeSet<&str> = given.iter().map(String::as_str).collect();
    assert_eq!(documented, given);
}
