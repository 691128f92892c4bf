//! Backups and policies as metrics.

use samara_renter::backup::{BackupKind, BackupRow, BackupStatus, PolicyRow};

use super::page::{Of, Page, coins, number, seconds};

const KINDS: [(&str, BackupKind); 2] =
    [("network", BackupKind::Network), ("archive", BackupKind::Archive)];

/// Shows backups by kind: how many, how old, how large and how dear the newest complete one is.
pub fn show(page: &mut Page, now: u64, rows: &[BackupRow], policies: &[PolicyRow]) {
    let statuses = [
        ("in_progress", BackupStatus::InProgress),
        ("completed", BackupStatus::Completed),
        ("error", BackupStatus::Error),
    ];
    let counts = statuses.map(|(name, status)| {
        let count = rows.iter().filter(|row| row.status == status).count();
        (name.to_owned(), Some(number(count as u64)))
    });
    page.gauges("backups", Of::Things, "Backups by status", "status", counts);
    let stored = KINDS.map(|(name, kind)| {
        let sizes = complete(rows).filter(|row| row.kind == kind).filter_map(|row| row.stored_size);
        (name.to_owned(), sizes.reduce(u64::saturating_add).map(number))
    });
    page.gauges(
        "backups_stored",
        Of::Bytes,
        "Bytes that complete backups take, as far as that is known",
        "kind",
        stored,
    );
    newest(page, now, rows);
    let network = last(rows, |row| row.kind == BackupKind::Network);
    let until = network.and_then(|row| row.recoverable_until).map(seconds);
    page.gauge(
        "backup_recoverable_until_timestamp",
        Of::Seconds,
        "Until when the newest network backup can be recovered without renewals, chain time since 1970",
        until,
    );
    let unverified = network.map(|row| {
        let sound = row.date_verified.filter(|_| row.verified_sound == Some(true));
        age(now, sound.unwrap_or(row.date_created))
    });
    page.gauge(
        "backup_unverified_age",
        Of::Seconds,
        "Time since the newest network backup was found sound, or, if it never was, made",
        unverified,
    );
    self::policies(page, now, rows, policies);
}

fn newest(page: &mut Page, now: u64, rows: &[BackupRow]) {
    let of = |value: fn(u64, &BackupRow) -> Option<f64>| {
        KINDS.map(|(name, kind)| {
            let row = last(rows, |row| row.kind == kind);
            (name.to_owned(), row.and_then(|row| value(now, row)))
        })
    };
    let ages = of(|now, row| Some(age(now, row.date_created)));
    page.gauges(
        "backup_last_success_age",
        Of::Seconds,
        "Time since the newest complete backup was begun",
        "kind",
        ages,
    );
    let sizes = of(|_, row| Some(number(row.file_size)));
    page.gauges("backup_last_files", Of::Bytes, "Bytes of the files in it", "kind", sizes);
    let stored = of(|_, row| row.stored_size.map(number));
    page.gauges("backup_last_stored", Of::Bytes, "Bytes that it takes", "kind", stored);
    let quoted = of(|_, row| Some(coins(row.cost_quoted)));
    page.gauges("backup_last_quoted", Of::Coins, "The price that it had", "kind", quoted);
    let paid = of(|_, row| row.cost_actual.map(coins));
    page.gauges("backup_last_cost", Of::Coins, "What making it has cost", "kind", paid);
}

fn policies(page: &mut Page, now: u64, rows: &[BackupRow], policies: &[PolicyRow]) {
    let ages = policies.iter().map(|policy| {
        let name = &policy.policy.name;
        let row = last(rows, |row| row.schedule.as_ref() == Some(name));
        (name.clone(), row.map(|row| age(now, row.date_created)))
    });
    page.gauges(
        "policy_last_success_age",
        Of::Seconds,
        "Time since the newest complete backup of a policy was begun",
        "policy",
        ages,
    );
    let missed = policies.iter().map(|row| (row.policy.name.clone(), Some(number(row.missed))));
    page.gauges("policy_missed_runs", Of::Things, "Runs that nobody made", "policy", missed);
}

fn complete(rows: &[BackupRow]) -> impl Iterator<Item = &BackupRow> {
    rows.iter().filter(|row| row.status == BackupStatus::Completed)
}

/// The newest complete one of those that are meant.
fn last(rows: &[BackupRow], meant: impl Fn(&BackupRow) -> bool) -> Option<&BackupRow> {
    complete(rows).filter(|row| meant(row)).max_by_key(|row| row.date_created)
}

fn age(now: u64, since: u64) -> f64 {
    seconds(now.saturating_sub(since))
}
