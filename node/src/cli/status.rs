//! `samara status`: one page about a node.

use std::time::Duration;

use samara_protocol::units::Amount;
use samara_renter::contract::Allowance;
use samara_renter::repair::HealthSummary;
use samara_renter::rows::{ContractRow, LapseRow, RenewalState, RenterState, RenterStatus};
use serde::Serialize;

use super::display::{self, Lines, coins};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::{ChainStatus, NodeStatus, ValidatorsAnswer, Wallet};
use crate::chain::ClockLead;
use crate::clock;
use crate::host::HostStatus;

/// How long the chain may take to tell the balance; the page is worth more than that line.
const BALANCE: Duration = Duration::from_secs(3);

/// Everything that the page is made from.
#[derive(Debug, Serialize)]
struct Page {
    #[serde(flatten)]
    node: NodeStatus,
    /// Nothing if the chain does not answer.
    wallet: Option<Wallet>,
    allowance: Option<Allowance>,
    contracts: Vec<ContractRow>,
    /// The set that decides; for a validator, if the chain answers.
    validators: Option<ValidatorsAnswer>,
}

/// Shows the page.
pub async fn run(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let node: NodeStatus = client.get("/v1/status").await?;
    let (mut allowance, mut contracts) = (None, Vec::new());
    if node.renter.is_some() {
        allowance = client.get("/v1/allowance").await?;
        contracts = client.get("/v1/contracts").await?;
    }
    let wallet = tokio::time::timeout(BALANCE, client.get("/v1/wallet")).await;
    let wallet = wallet.ok().and_then(Result::ok);
    let mut validators = None;
    if node.roles.iter().any(|role| role == "validator") {
        let asked = tokio::time::timeout(BALANCE, client.get("/v1/chain/validators")).await;
        validators = asked.ok().and_then(Result::ok);
    }
    let page = Page { node, wallet, allowance, contracts, validators };
    session.output.answer(&page, || session.for_this_node(&text(&page, clock::now().0)));
    Ok(Exit::Ok)
}

fn text(page: &Page, now: u64) -> String {
    let node = &page.node;
    let mut lines = Lines::default();
    let uptime = match node.uptime {
        0..1000 => "a moment".to_owned(),
        _ => display::duration(Duration::from_millis(node.uptime / 1000 * 1000)),
    };
    let roles = if node.roles.is_empty() { "no role".to_owned() } else { node.roles.join(", ") };
    let peers = display::count(node.peers as u64, "peer");
    lines.line("node", format!("{roles}; up {uptime}, {peers}, version {}", node.version));
    lines.line("chain", chain(&node.chain, now));
    if let Some(set) = &page.validators {
        lines.line("validator", vote(set));
    }
    if let Some(renter) = &node.renter {
        renter_lines(&mut lines, renter, page);
    }
    if let Some(host) = &node.host {
        lines.line("space", space(host));
    }
    lines.line("money", money(page));
    let mut warnings = warnings(node, page.wallet.is_none());
    warnings.extend(lacking(page));
    match warnings.len() {
        0 => lines.line("health", "good"),
        count => lines.line("health", display::count(count as u64, "warning")),
    }
    for warning in &warnings {
        lines.item(warning);
    }
    // The node that has taken over renews what this one leaves alone.
    let others = |renter: &&RenterStatus| !matches!(renter.state, RenterState::Fenced { .. });
    if let Some(renter) = node.renter.as_ref().filter(others) {
        lapses(&mut lines, page, &renter.lapses, now);
    }
    lines.render()
}

fn chain(chain: &ChainStatus, now: u64) -> String {
    let height = display::thousands(chain.height);
    if chain.height == 0 {
        return format!("{}, no block seen yet", chain.network);
    }
    let age = Duration::from_millis(now.saturating_sub(chain.time) / 1000 * 1000);
    let age = if age.is_zero() {
        "just now".to_owned()
    } else {
        format!("{} ago", display::duration(age))
    };
    format!("{}, height {height}, newest block {age}", chain.network)
}

/// What this node's vote counts for.
fn vote(set: &ValidatorsAnswer) -> String {
    let own = set.validators.iter().find(|row| row.own);
    own.map_or_else(
        || "not in the set: its votes do not count".to_owned(),
        |row| format!("in the set, power {} of {}", row.validator.power, set.power),
    )
}

fn renter_lines(lines: &mut Lines, renter: &RenterStatus, page: &Page) {
    lines.line("renter", state(renter));
    lines.line(
        "files",
        format!(
            "{}, {} in {}; {}",
            display::count(renter.files, "file"),
            display::size(renter.bytes),
            display::count(renter.vaults, "vault"),
            display::count(renter.backups, "backup"),
        ),
    );
    if renter.health.counted.is_some() {
        // Hosts that fell silent since still count as there.
        let by = if renter.unreadable > 0 { " by the last count" } else { "" };
        lines.item(format!("slabs{by}: {}", super::health::classes(&renter.health.slabs)));
    }
    if renter.health.repairing > 0 {
        let slabs = display::count(renter.health.repairing, "slab");
        lines.item(format!("{slabs} being repaired: `samara health`"));
    }
    let contracts = &page.contracts;
    let mut text = display::count(contracts.len() as u64, "contract");
    if let Some(allowance) = &page.allowance {
        text.push_str(&format!(" of {} allowed", allowance.hosts));
        let shape = allowance.redundancy;
        text.push_str(&format!("; any {} of {} hosts bring a file back", shape.data, shape.total));
    }
    lines.line("contracts", text);
    if !contracts.is_empty() {
        let held: u64 = contracts.iter().map(|row| row.bytes).sum();
        let settled = format!("{} of {}", renter.settled, contracts.len());
        lines.item(format!(
            "{} on hosts; {settled} hosts hold the newest names",
            display::size(held)
        ));
    }
    let waiting = &renter.garbage.waiting;
    if let Some(row) = waiting.first() {
        let sectors = waiting.iter().map(|row| row.sectors.saturating_add(row.suspects)).sum();
        let (sectors, hosts) =
            (display::count(sectors, "sector"), display::count(waiting.len() as u64, "host"));
        let reason = display::plain(&row.reason);
        lines.item(format!("{sectors} wait to be freed at {hosts}: {reason}"));
    }
    if let Some(first) = contracts.iter().map(|row| row.ends).min() {
        let mut text = format!("first end {}", display::moment(first));
        let planned = contracts.iter().filter_map(|row| match row.renewal {
            RenewalState::Planned { from } => Some(from),
            _ => None,
        });
        if let Some(from) = planned.min() {
            text.push_str(&format!(
                ", renewed from {} while this node runs",
                display::moment(from)
            ));
        }
        lines.item(text);
    }
}

fn state(renter: &RenterStatus) -> String {
    let epoch = display::epoch(&renter.epoch);
    match &renter.state {
        RenterState::Fresh => "new: neither started nor recovered".to_owned(),
        RenterState::Active if renter.unacknowledged == 0 => {
            let open = renter.position.saturating_sub(renter.settled_position);
            let settled = match open {
                0 => "settled".to_owned(),
                open => format!("acknowledged, {} not settled yet", display::thousands(open)),
            };
            format!("writes (epoch {epoch}), all changes {settled}")
        }
        RenterState::Active => {
            let changes = display::count(renter.unacknowledged, "change");
            let wait = if renter.unacknowledged == 1 { "waits" } else { "wait" };
            format!("writes (epoch {epoch}), {changes} {wait} for hosts")
        }
        RenterState::ReadOnly => "reads only".to_owned(),
        RenterState::Fenced { by } => {
            format!("has stopped writing: another node writes since epoch {}", display::epoch(by))
        }
        RenterState::Recovering { .. } => {
            "recovering; see `samara recover status`, and go on with \
             `samara recover start` if it was stopped"
                .to_owned()
        }
    }
}

fn space(host: &HostStatus) -> String {
    let used = host.capacity.saturating_sub(host.free);
    format!(
        "{} of {} used, {}",
        display::size(used),
        display::size(host.capacity),
        display::count(host.contracts as u64, "contract")
    )
}

fn money(page: &Page) -> String {
    let mut text = match &page.wallet {
        Some(wallet) => format!("{} free", coins(wallet.balance)),
        None => "balance not known".to_owned(),
    };
    let sum = |each: fn(&ContractRow) -> Amount| {
        page.contracts.iter().fold(Amount::ZERO, |sum, row| sum.saturating_add(each(row)))
    };
    if !page.contracts.is_empty() {
        let (locked, spent) = (coins(sum(|row| row.funds)), coins(sum(|row| row.spent)));
        text.push_str(&format!(", {locked} in contracts, {spent} of it spent on transfers"));
    }
    text
}

/// What somebody should look at.
fn warnings(node: &NodeStatus, no_wallet: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(ahead) = node.chain.ahead {
        let ahead = display::duration(Duration::from_millis(ahead));
        warnings.push(format!(
            "blocks are refused: they are {ahead} ahead of the clock here; this clock or the \
             validators' is wrong, and contracts may have ended by it"
        ));
    }
    if let Some(lead) = &node.chain.clock_lead {
        warnings.push(clock_lead(lead));
    }
    if let Some(reason) = &node.chain.all_false {
        warnings.push(format!(
            "all chain peers gave false answers ({reason}): is network.toml this network's?"
        ));
    } else if let Some(age) = node.chain.stale {
        let age = display::duration(Duration::from_millis(age));
        warnings
            .push(format!("the newest block is {age} old: the chain or the way to it has halted"));
    } else if !node.chain.contacted {
        warnings.push("no chain peer was reached since the start".to_owned());
    } else if no_wallet {
        warnings.push("the chain does not answer".to_owned());
    }
    if let Some(host) = node.host.as_ref().filter(|host| !host.damaged.is_empty()) {
        let sectors = display::count(host.damaged.len() as u64, "sector");
        warnings.push(format!("{sectors} on disk damaged: their proofs will fail"));
    }
    let Some(renter) = &node.renter else { return warnings };
    match &renter.state {
        RenterState::Fresh => {
            warnings.push("it is not known what the words own: `samara recover start`".to_owned());
        }
        RenterState::Fenced { by } => warnings.push(super::recover::taken_over(by)),
        _ => {}
    }
    // What stops a node whose recovery is not finished may be the epoch that this recovery has claimed.
    let recovers = matches!(renter.state, RenterState::Recovering { .. });
    if let Some(problem) = renter.problem.as_ref().filter(|_| !recovers) {
        warnings.push(problem.clone());
    }
    if renter.hosts > 0 && renter.settled < renter.hosts {
        let behind = display::count(renter.hosts - renter.settled, "host");
        warnings.push(format!("{behind} without the newest names: `samara hosts`"));
    }
    if renter.unreachable > 0 {
        let hosts = display::count(renter.unreachable, "host");
        warnings.push(format!("{hosts} unreachable: `samara hosts`"));
    }
    if renter.ended > 0 {
        let hosts = display::count(renter.ended, "host");
        warnings.push(format!("{hosts} refuse: they say that the contract has ended"));
    }
    if renter.unreadable > 0 {
        let slabs = display::count(renter.unreadable, "slab");
        warnings.push(format!("{slabs} cannot be read now: too few of their hosts answer"));
    }
    if renter.bare > 0 {
        let slabs = display::count(renter.bare, "slab");
        warnings.push(format!("one more lost host loses files: {slabs} on no spare host"));
    }
    if renter.poor > 0 {
        let contracts = display::count(renter.poor, "contract");
        warnings.push(format!(
            "{contracts} with too little money for more files: `samara allowance set --funds COINS`"
        ));
    }
    if renter.health.slabs.lost > 0 {
        let slabs = display::count(renter.health.slabs.lost, "slab");
        warnings.push(format!("{slabs} lost for good: `samara health` names the files"));
    }
    if renter.health.waiting > 0 {
        let HealthSummary { waiting, held_total, waiting_bytes, waiting_seconds, .. } =
            renter.health;
        let waiting = super::health::waiting(waiting, held_total, waiting_bytes, waiting_seconds);
        warnings.push(format!("to be repaired: {waiting}; `samara health`"));
    }
    if let Some(lapse) = renter.lapses.first() {
        if let RenterState::Fenced { .. } = renter.state {
            return warnings;
        }
        let contracts = display::count(renter.lapses.len() as u64, "contract");
        let reason = if recovers { "the recovery is not finished" } else { &lapse.reason };
        warnings.push(format!("{contracts} not renewed: {reason}"));
    }
    warnings
}

/// What a validator that decides alone is to do about its clock.
fn clock_lead(lead: &ClockLead) -> String {
    let span = |millis| display::duration(Duration::from_millis(millis));
    let then = match lead.believed_in {
        Some(left) => format!("they will in {} if it stays so", span(left)),
        None => "if it is right: `samara validator accept-clock`".to_owned(),
    };
    format!("the clock is {} ahead of the blocks, which do not follow it; {then}", span(lead.ahead))
}

/// What a renter that writes lacks, to store and to keep what is stored.
fn lacking(page: &Page) -> Vec<String> {
    let mut warnings = Vec::new();
    let state = page.node.renter.as_ref().map(|renter| &renter.state);
    if !matches!(state, Some(RenterState::Active)) {
        return warnings;
    }
    let held = page.contracts.len() as u64;
    match &page.allowance {
        None => {
            // What the contracts have money for is still stored.
            let lacks =
                if held == 0 { "nothing is stored" } else { "no contract is renewed or added" };
            warnings.push(format!("no allowance: {lacks}: `samara allowance set`"));
        }
        Some(allowance) if held < u64::from(allowance.hosts) => {
            let few = display::count(held, "contract");
            warnings.push(format!("{few} where the allowance wants {}", allowance.hosts));
        }
        Some(_) => {}
    }
    if let (Some(allowance), Some(renter)) = (&page.allowance, &page.node.renter) {
        let answer = held.saturating_sub(renter.unreachable);
        let shape = allowance.redundancy;
        let needed = u64::from(shape.data) + u64::from(shape.margin);
        if renter.unreachable > 0 && answer < needed {
            warnings.push(format!(
                "no new files can be stored: {} answer, {needed} are needed. Where no others \
                 are to be had, `samara allowance set --hosts {answer}` asks for fewer",
                display::count(answer, "host")
            ));
        }
    }
    if page.wallet.as_ref().is_some_and(|wallet| wallet.balance == Amount::ZERO) {
        warnings.push("the account is empty: no contract can be formed or renewed".to_owned());
    }
    warnings
}

/// What comes to an end when nobody does anything, and when.
fn lapses(lines: &mut Lines, page: &Page, lapses: &[LapseRow], now: u64) {
    let Some(first) = lapses.first() else { return };
    let when = |at: u64| match at.checked_sub(now) {
        Some(left) => {
            format!(
                "{} (in {})",
                display::moment(at),
                display::duration(Duration::from_millis(left))
            )
        }
        None => format!("{} (past)", display::moment(at)),
    };
    let what = match lapses.len() {
        1 => format!("the contract with {} ends", first.operator),
        count => format!("the first of {count} contracts ends"),
    };
    lines.line("lapses", format!("{}: {what}; its host may drop the data", when(first.ends)));
    let Some(allowance) = &page.allowance else { return };
    // When so many have ended that fewer than k hosts are left.
    let data = usize::from(allowance.redundancy.data);
    if let Some(last) = lapses.get(page.contracts.len().saturating_sub(data)) {
        lines.item(format!(
            "{}: too few contracts would be left to bring files back",
            when(last.ends)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let chain = ChainStatus {
            network: "net".into(),
            genesis: "ab".into(),
            height: 1_234,
            time: 1_000_000,
            validators: "cd".into(),
            contacted: true,
            stale: None,
            ahead: None,
            clock_lead: None,
            all_false: None,
        };
        let renter = RenterStatus {
            state: RenterState::Active,
            epoch: "1.ff".into(),
            files: 3,
            bytes: 2_000_000,
            vaults: 1,
            hosts: 2,
            settled: 2,
            ..RenterStatus::default()
        };
        let node = NodeStatus {
            version: "1".into(),
            uptime: 65_500,
            roles: vec!["renter".into()],
            key: String::new(),
            addresses: vec![],
            peers: 5,
            chain,
            host: None,
            renter: Some(renter),
        };
        let balance = Amount::coins(7);
        let wallet = Wallet { account: String::new(), balance, nonce: 0, moved_by: None };
        Page { node, wallet: Some(wallet), allowance: None, contracts: vec![], validators: None }
    }

    fn contract() -> ContractRow {
        ContractRow {
            contract: "c".into(),
            host: "h".into(),
            operator: "op".into(),
            bytes: 1_000_000,
            revision: 1,
            funds: Amount::ZERO,
            spent: Amount::ZERO,
            duration: 10,
            period: 1,
            periods: 10,
            ends: 86_400_000,
            renewal: RenewalState::Planned { from: 43_200_000 },
        }
    }

    /// With an allowance, and the contracts that it wants.
    fn healthy() -> Page {
        let parameters = samara_protocol::chain::ChainParameters::default();
        let allowance = Some(Allowance::for_network(2, Amount::coins(1), &parameters));
        Page { allowance, contracts: vec![contract(), contract()], ..page() }
    }

    #[test]
    fn a_healthy_node_has_a_short_page() {
        let text = text(&healthy(), 1_004_400);
        let start = "node         renter; up 1 min 5 s, 5 peers, version 1\n\
                     chain        net, height 1,234, newest block 4.0 s ago\n\
                     renter       writes (epoch 1), all changes settled\n\
                     files        3 files, 2.0 MB in 1 vault; 0 backups\n\
                     contracts    2 contracts of 2 allowed";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with("health       good\n"), "{text}");
    }

    #[test]
    fn what_is_lacking_or_out_of_reach_is_not_good_health() {
        let warned = |change: fn(&mut Page), warning: &str| {
            let mut page = healthy();
            change(&mut page);
            let text = text(&page, 1_004_400);
            assert!(text.contains("health       1 warning\n"), "{text}");
            assert!(text.contains(warning), "{text}");
        };
        fn renter(page: &mut Page) -> &mut RenterStatus {
            page.node.renter.as_mut().unwrap()
        }
        warned(|page| page.node.chain.ahead = Some(3_600_000), "1 h ahead of the clock here");
        warned(
            |page| {
                page.node.chain.clock_lead =
                    Some(ClockLead { ahead: 86_400_000 * 31, believed_in: None });
            },
            "`samara validator accept-clock`",
        );
        warned(
            |page| {
                page.node.chain.clock_lead =
                    Some(ClockLead { ahead: 3_600_000 * 8, believed_in: Some(60_000) });
            },
            "they will in 1 min",
        );
        warned(
            |page| renter(page).ended = 2,
            "2 hosts refuse: they say that the contract has ended",
        );
        warned(|page| page.allowance = None, "no allowance: no contract is renewed or added");
        warned(|page| page.contracts.truncate(1), "1 contract where the allowance wants 2");
        warned(|page| page.wallet.as_mut().unwrap().balance = Amount::ZERO, "the account is empty");
        warned(|page| renter(page).poor = 2, "2 contracts with too little money for more files");
        warned(|page| renter(page).bare = 2, "one more lost host loses files");
        warned(|page| renter(page).unreadable = 2, "2 slabs cannot be read");
    }

    #[test]
    fn peers_of_another_network_are_no_halted_chain() {
        let mut page = healthy();
        page.node.chain.stale = Some(180_000);
        page.node.chain.all_false = Some("it is of another chain".into());
        let told = text(&page, 1_004_400);
        assert!(
            told.contains("all chain peers gave false answers (it is of another chain)"),
            "{told}"
        );
        assert!(!told.contains("halted"), "{told}");
    }

    #[test]
    fn too_few_hosts_to_put_are_told() {
        let mut page = healthy();
        page.node.renter.as_mut().unwrap().unreachable = 1;
        let told = text(&page, 1_004_400);
        assert!(told.contains("1 host unreachable"), "{told}");
        assert!(told.contains("no new files can be stored: 1 host answer, 2 are needed"), "{told}");
        page.contracts.push(contract());
        let told = text(&page, 1_004_400);
        assert!(!told.contains("no new files"), "{told}");
    }

    #[test]
    fn a_change_that_hosts_do_not_hold_yet_is_told() {
        let mut page = healthy();
        page.node.renter.as_mut().unwrap().unacknowledged = 1;
        assert!(text(&page, 0).contains("(epoch 1), 1 change waits for hosts\n"));
        page.node.renter.as_mut().unwrap().unacknowledged = 2;
        assert!(text(&page, 0).contains("(epoch 1), 2 changes wait for hosts\n"));
    }

    #[test]
    fn a_node_that_was_taken_over_says_since_when_and_what_to_do() {
        let mut page = healthy();
        let by = "7.00ff".to_owned();
        page.node.renter.as_mut().unwrap().state = RenterState::Fenced { by };
        let told = text(&page, 1_004_400);
        let line = "renter       has stopped writing: another node writes since epoch 7\n";
        assert!(told.contains(line), "{told}");
        assert!(told.contains("since epoch 7: use that one"), "{told}");
        assert!(told.contains("`samara recover start`") && !told.contains("00ff"), "{told}");
    }

    #[test]
    fn a_validator_says_whether_its_vote_counts() {
        let mut page = page();
        page.validators =
            Some(ValidatorsAnswer { hash: String::new(), power: 4, validators: vec![] });
        assert!(text(&page, 0).contains("validator    not in the set"), "{}", text(&page, 0));
    }

    #[test]
    fn warnings_and_lapses_stand_at_the_end() {
        let mut page = page();
        page.node.chain.stale = Some(180_000);
        if let Some(renter) = &mut page.node.renter {
            renter.settled = 1;
            renter.lapses = vec![LapseRow {
                contract: "c".into(),
                host: "h".into(),
                operator: "op".into(),
                bytes: 1,
                ends: 1_000_000 + 86_400_000 * 3,
                reason: "no allowance is set".into(),
            }];
        }
        let parameters = samara_protocol::chain::ChainParameters::default();
        page.allowance = Some(Allowance::for_network(2, Amount::coins(1), &parameters));
        let text = text(&page, 1_000_000);
        let end = "health       4 warnings\n             \
                   the newest block is 3 min old: the chain or the way to it has halted\n             \
                   1 host without the newest names: `samara hosts`\n             \
                   1 contract not renewed: no allowance is set\n             \
                   0 contracts where the allowance wants 2\n\
                   lapses       1970-01-04 00:16 (in 3 d): the contract with op ends; \
                   its host may drop the data\n             \
                   1970-01-04 00:16 (in 3 d): too few contracts would be left to bring files back\n";
        assert!(text.ends_with(end), "{text}");
    }
}
