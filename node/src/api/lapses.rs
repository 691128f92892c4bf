//! What comes to an end, and when, if nothing is done.

use samara_renter::rows::ContractRow;
use serde::{Deserialize, Serialize};

/// Something that lapses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapse {
    /// What, in plain words.
    pub what: String,
    /// When: chain time, milliseconds since the Unix epoch.
    pub at: u64,
    /// Why it is not prevented, in plain words.
    pub because: String,
}

/// What lapses of these contracts when nothing renews them. `data` is the number of hosts that bring a
/// file back. A contract that will be renewed in time by itself does not count.
#[must_use]
pub fn lapses(contracts: &[ContractRow], data: Option<u8>, now: u64) -> Vec<Lapse> {
    let problem = |row: &ContractRow| {
        // A renewal takes some blocks; one that is late by a tenth of the term has failed for a while.
        let late = row.renews.saturating_add((row.ends.saturating_sub(row.renews)) / 2);
        let overdue = || (now >= late).then(|| "its renewal is overdue".to_owned());
        row.renewal_problem.clone().or_else(overdue)
    };
    let mut ending: Vec<(u64, String)> =
        contracts.iter().filter_map(|row| Some((row.ends, problem(row)?))).collect();
    ending.sort();
    let Some((first, because)) = ending.first().cloned() else { return Vec::new() };
    let count = ending.len();
    let what = match count {
        1 => "one contract ends, and its host may drop what it holds".to_owned(),
        _ => format!("the first of {count} contracts ends, and its host may drop what it holds"),
    };
    let mut lapses = vec![Lapse { what, at: first, because: because.clone() }];
    if let Some(data) = data.map(usize::from) {
        // When so many have ended that fewer than k hosts are left.
        let spare = contracts.len().saturating_sub(data);
        if let Some((at, _)) = ending.get(spare) {
            let what =
                format!("fewer than {data} hosts hold a file: what is not stored anew is lost");
            lapses.push(Lapse { what, at: *at, because });
        }
    }
    lapses
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::Amount;

    use super::*;

    fn row(renews: u64, ends: u64, problem: Option<&str>) -> ContractRow {
        ContractRow {
            contract: String::new(),
            host: String::new(),
            operator: String::new(),
            bytes: 0,
            revision: 0,
            funds: Amount::ZERO,
            spent: Amount::ZERO,
            duration: 1_000,
            period: 100,
            periods: 10,
            ends,
            renews,
            renewal_problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn contracts_that_are_renewed_by_themselves_do_not_lapse() {
        let rows = [row(850, 1_000, None), row(950, 1_100, None)];
        assert_eq!(lapses(&rows, Some(1), 900), vec![]);
        // Halfway between its time and its end the first is overdue.
        let late = lapses(&rows, Some(1), 925);
        assert_eq!((late.len(), late[0].at), (1, 1_000));
        assert_eq!(late[0].because, "its renewal is overdue");
        assert!(late[0].what.starts_with("one contract ends"));
    }

    #[test]
    fn without_an_allowance_files_are_lost_when_too_few_hosts_are_left() {
        let unset = Some("no allowance is set");
        let rows = [row(0, 30, unset), row(0, 10, unset), row(0, 20, unset), row(0, 40, unset)];
        let lapses = lapses(&rows, Some(2), 0);
        assert_eq!(lapses.iter().map(|lapse| lapse.at).collect::<Vec<_>>(), [10, 30]);
        assert!(lapses.iter().all(|lapse| lapse.because == "no allowance is set"));
        assert!(super::lapses(&rows, None, 0).len() == 1);
    }
}
