//! `samara health`.

use std::time::Duration;

use samara_renter::repair::{HealthReport, SlabCounts};

use super::display::{self, Lines};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// Rows of each kind that the page shows.
const ROWS: usize = 10;
/// Repairs that take longer, in seconds, say so.
const LONG: u64 = 60;

/// How what is stored does.
pub async fn health(session: &Session) -> Result<Exit, Failure> {
    let report: HealthReport = session.client()?.get("/v1/health").await?;
    session.output.answer(&report, || session.for_this_node(&text(&report)));
    Ok(Exit::Ok)
}

/// Slabs by class, those that worry first.
pub fn classes(counts: &SlabCounts) -> String {
    let classes = [
        (counts.lost, "lost"),
        (counts.unreadable, "unreadable now"),
        (counts.critical, "without a spare shard"),
        (counts.endangered, "endangered"),
        (counts.reduced, "with a shard missing"),
        (counts.full, "whole"),
    ];
    let present = classes.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> =
        present.map(|(count, class)| format!("{} {class}", display::thousands(*count))).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// What is to be repaired, what of it does not work, and how long the rest takes at least where that is long.
pub fn waiting(slabs: u64, held: u64, bytes: u64, seconds: Option<u64>) -> String {
    let mut text = display::count(slabs, "slab");
    if held > 0 {
        text.push_str(&format!(", {} of them tried in vain so far", display::thousands(held)));
    }
    if bytes > 0 {
        text.push_str(&format!(", up to {} to move", display::size(bytes)));
    }
    if let Some(seconds) = seconds.filter(|seconds| *seconds >= LONG) {
        let least = display::duration(Duration::from_secs(seconds));
        text.push_str(&format!(", {least} at least within the limits (`samara limits`)"));
    }
    text
}

/// Slabs that the count takes for readable and that are not at this moment.
fn unanswered(report: &HealthReport) -> String {
    let slabs = display::count(report.unanswered, "slab");
    let which = match report.data.unreadable + report.data.lost {
        0 => slabs,
        _ => format!("{slabs} of the others"),
    };
    format!(
        "by the last count (a host counts as away after 15 minutes of silence); at this moment {which} \
         cannot be read: too few of their hosts answer"
    )
}

fn text(report: &HealthReport) -> String {
    let mut lines = Lines::default();
    match (&report.idle, report.counted) {
        (Some(reason), _) => lines.line("repair", format!("does nothing: {reason}")),
        (None, None) => lines.line("repair", "nothing was looked at yet"),
        (None, Some(at)) => lines.line("counted", display::moment(at)),
    }
    lines.line("files", format!("slabs: {}", classes(&report.data)));
    if report.unanswered > 0 {
        lines.item(unanswered(report));
    }
    lines.line("names", format!("slabs: {}", classes(&report.metadata)));
    if report.lost_shards > 0 {
        let shards = display::count(report.lost_shards, "shard");
        lines.item(format!("{shards} lost by their hosts and not replaced yet"));
    }
    section(
        &mut lines,
        "hosts",
        report.hosts.len() as u64,
        report.hosts.iter().map(|row| {
            let fate = if row.for_good { "its shards go elsewhere" } else { "may come back" };
            format!("{} ({}): {}; {fate}", display::short(&row.host), row.operator, row.reason)
        }),
    );
    section(
        &mut lines,
        "repairing",
        report.repairing.len() as u64,
        report.repairing.iter().map(|row| {
            let kind = if row.metadata { ", names" } else { "" };
            format!("slab {}{kind}: {}", display::short(&row.slab), row.missing.join("; "))
        }),
    );
    if report.waiting > 0 {
        let HealthReport { waiting: slabs, held_total, waiting_bytes, waiting_seconds, .. } =
            *report;
        lines.line("waiting", waiting(slabs, held_total, waiting_bytes, waiting_seconds));
    }
    section(
        &mut lines,
        "tried",
        report.held_total,
        report.held.iter().map(|row| {
            let again = display::moment(row.until);
            format!("slab {}: {}; again {again}", display::short(&row.slab), row.reason)
        }),
    );
    let audits = &report.audits;
    lines.line(
        "audits",
        format!(
            "{} looked at, {} proven, {} failed, {} unanswered, {} read",
            display::count(audits.slabs, "slab"),
            display::count(audits.proven, "shard"),
            display::thousands(audits.failed),
            display::thousands(audits.unanswered),
            display::size(audits.bytes),
        ),
    );
    for row in audits.last_failures.iter().rev().take(ROWS) {
        let (at, host, slab) =
            (display::moment(row.at), display::short(&row.host), display::short(&row.slab));
        lines.item(format!("{at} slab {slab} at {host}: {}", row.what));
    }
    section(
        &mut lines,
        "repairs",
        report.story.len() as u64,
        report.story.iter().rev().map(|row| {
            let done = if row.repaired { "repaired" } else { "not repaired" };
            let (at, slab) = (display::moment(row.at), display::short(&row.slab));
            format!("{at} slab {slab} {done}: {}", row.what.join("; "))
        }),
    );
    if report.affected_total > 0 {
        let files = display::count(report.affected_total, "file");
        lines.line("affected", format!("{files} cannot be read now"));
        for file in report.affected.iter().take(ROWS) {
            let older = if file.current { "" } else { " (older versions only)" };
            lines.item(format!("{}/{}{older}", file.vault, file.path));
        }
    }
    lines.render()
}

/// The first rows of a section under its label, and how many more of `total` there are.
fn section(lines: &mut Lines, label: &str, total: u64, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.collect();
    for (number, row) in rows.iter().take(ROWS).enumerate() {
        lines.line(if number == 0 { label } else { "" }, row);
    }
    let more = total.saturating_sub(ROWS as u64);
    if more > 0 {
        let where_else = if rows.len() as u64 == total { ": --json" } else { "" };
        lines.item(format!("and {} more{where_else}", display::thousands(more)));
    }
}

#[cfg(test)]
mod tests {
    use samara_renter::repair::{AffectedFile, StoryRow};

    use super::*;

    #[test]
    fn a_repair_that_the_limits_hold_up_says_so() {
        assert_eq!(waiting(1, 0, 3_000_000, Some(59)), "1 slab, up to 3.0 MB to move");
        let held_up = waiting(80, 0, 3_200_000_000, Some(32_000));
        let text = "80 slabs, up to 3.2 GB to move, 8 h 53 min at least within the limits";
        assert!(held_up.starts_with(text), "{held_up}");
        assert_eq!(waiting(28, 28, 0, Some(0)), "28 slabs, 28 of them tried in vain so far");
    }

    #[test]
    fn hosts_that_fell_silent_a_moment_ago_are_told_beside_the_count() {
        let data = SlabCounts { full: 27, ..SlabCounts::default() };
        let report = HealthReport { data, unanswered: 27, ..HealthReport::default() };
        let page = text(&report);
        assert!(page.contains("27 whole\n"), "{page}");
        assert!(page.contains("by the last count (a host counts as away"), "{page}");
        assert!(page.contains("at this moment 27 slabs cannot be read"), "{page}");
        let data = SlabCounts { unreadable: 3, ..data };
        let page = text(&HealthReport { data, ..report });
        assert!(page.contains("27 slabs of the others cannot be read"), "{page}");
    }

    #[test]
    fn the_page_says_what_is_in_danger_and_what_was_done() {
        let data = SlabCounts { full: 1_200, critical: 2, lost: 1, ..SlabCounts::default() };
        let affected =
            vec![AffectedFile { vault: "home".into(), path: "a/b".into(), current: true }];
        let story = StoryRow {
            at: 60_000,
            slab: "ab".repeat(16),
            metadata: false,
            repaired: true,
            what: vec!["shard 3 from host 01 to host 02: it lost 3 sectors".into()],
        };
        let report = HealthReport {
            counted: Some(0),
            data,
            story: vec![story],
            affected,
            affected_total: 1,
            ..HealthReport::default()
        };
        let page = text(&report);
        assert!(page.contains("1 lost, 2 without a spare shard, 1,200 whole"), "{page}");
        assert!(page.contains("slab abababababab repaired: shard 3 from host 01"), "{page}");
        assert!(page.contains("1 file cannot be read now") && page.contains("home/a/b"), "{page}");
    }
}
