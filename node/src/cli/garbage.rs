//! `samara garbage`.

use samara_renter::garbage::GarbageReport;

use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::Done;

/// Shows what was freed and what waits, after a round if one is asked for.
pub async fn run(session: &Session, now: bool) -> Result<Exit, Failure> {
    let client = session.client()?;
    let report: GarbageReport = if now {
        client.post("/v1/garbage", &Done {}).await?
    } else {
        client.get("/v1/garbage").await?
    };
    session.output.answer(&report, || text(&report));
    Ok(Exit::Ok)
}

fn text(report: &GarbageReport) -> String {
    let mut lines = Lines::default();
    let sectors = display::count(report.freed_sectors, "sector");
    let freed = display::size(report.freed_bytes);
    lines.line("freed", format!("{freed}, {sectors}, since this node was started"));
    let slabs = display::count(report.rewritten_slabs, "slab");
    let rewritten = display::size(report.rewritten_bytes);
    lines.line("rewritten", format!("{rewritten} out of {slabs}, since then"));
    lines.line("unused", format!("{} that nothing needs", display::count(report.unused, "slab")));
    lines.line("thin", format!("{} less than half used", display::count(report.thin, "slab")));
    lines.line("held", format!("{} by backups alone", display::size(report.held)));
    for (label, reason) in [("halted", &report.halted), ("problem", &report.problem)] {
        if let Some(reason) = reason {
            lines.line(label, display::plain(reason));
        }
    }
    let mut text = lines.render();
    let mut table = Table::new(&[
        ("waits at", Align::Left),
        ("sectors", Align::Right),
        ("unnamed", Align::Right),
        ("why", Align::Left),
    ]);
    for row in &report.waiting {
        table.row([
            display::short(&row.host),
            display::thousands(row.sectors),
            display::thousands(row.suspects),
            row.reason.clone(),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render());
        text.push_str(LEGEND);
    }
    text
}

/// What the columns count.
const LEGEND: &str = "\
sectors: of slabs that nothing needs; unnamed: that no slab names, freed once they have been so for a while
";

#[cfg(test)]
mod tests {
    use samara_renter::garbage::GarbageHostRow;

    use super::*;

    #[test]
    fn what_waits_is_shown_with_its_reason() {
        let host = "ab".repeat(32);
        let reason = "it cannot be reached".to_owned();
        let waiting = vec![GarbageHostRow { host, sectors: 3, suspects: 0, reason }];
        let report = GarbageReport { freed_bytes: 2_000_000, waiting, ..GarbageReport::default() };
        let text = text(&report);
        assert!(text.contains("2.0 MB, 0 sectors"), "{text}");
        assert!(text.ends_with(LEGEND), "{text}");
        assert!(text.contains("it cannot be reached"), "{text}");
    }
}
