//! What the contractor would do, and why: a pure function of what it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use samara_protocol::contract::{ContractId, ContractTerms, storage_pay};
use samara_protocol::host::HostAnnouncement;
use samara_protocol::host::announcement::Prices;
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime, Millis};

use super::allowance::Allowance;
use super::reports::HostHealth;
use super::score::{byte_price, score, verdict};

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What the owner allows.
    pub allowance: Allowance,
    /// Chain time.
    pub now: ChainTime,
    /// This machine's time, in which health is counted.
    pub clock: u64,
    /// What the account can spend.
    pub balance: Amount,
    /// Fee of a transaction.
    pub fee: Amount,
    /// Announced hosts.
    pub announced: Vec<(PublicKey, HostAnnouncement)>,
    /// What was seen of them.
    pub health: BTreeMap<PublicKey, HostHealth>,
    /// Contracts in use.
    pub live: Vec<LiveSight>,
    /// What was agreed and handed to the chain, and may still reach it.
    pub pending: Vec<PendingSight>,
}

/// A formation or renewal that may still reach the chain.
#[derive(Clone, Debug)]
pub struct PendingSight {
    /// The host.
    pub host: PublicKey,
    /// Who runs it.
    pub operator: String,
    /// The number of the host whose contract it renews.
    pub renews: Option<HostIndex>,
    /// What it may take from the account.
    pub cost: Amount,
    /// When it is dead if it is not on the chain.
    pub valid_until: ChainTime,
}

/// A contract in use.
#[derive(Clone, Debug)]
pub struct LiveSight {
    /// The host's number.
    pub index: HostIndex,
    /// The host.
    pub host: PublicKey,
    /// Who runs it.
    pub operator: String,
    /// The contract.
    pub contract: ContractId,
    /// What the chain shows of it; nothing if it has ended or the chain lags.
    pub on_chain: Option<Contract>,
    /// When its last period ends.
    pub ends: ChainTime,
    /// What vouchers may still cover.
    pub money_left: Amount,
    /// Bytes in its latest revision.
    pub size: u64,
}

/// Why a step is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Fewer contracts than the allowance asks for.
    TooFew {
        /// Contracts that are good.
        have: usize,
        /// Contracts wanted.
        want: usize,
    },
    /// Another host is to be replaced.
    Replaces {
        /// That host.
        host: PublicKey,
        /// What is wrong with it.
        because: String,
    },
    /// The contract's term comes to its end.
    EndsSoon {
        /// When its last period ends.
        ends: ChainTime,
    },
    /// The contract's money runs out.
    MoneyRunsOut {
        /// What is left.
        left: Amount,
    },
    /// The contract has ended.
    Ended {
        /// When.
        ends: ChainTime,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { have, want } => write!(f, "{have} of {want} contracts wanted"),
            Self::Replaces { host, because } => {
                write!(f, "replaces host {}: {because}", host.short())
            }
            Self::EndsSoon { ends } => write!(f, "the term ends at chain time {}", ends.0),
            Self::MoneyRunsOut { left } => {
                write!(f, "only {left} are left for files and transfers")
            }
            Self::Ended { ends } => write!(f, "the contract ended at chain time {}", ends.0),
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Forms a contract.
    Form {
        /// With this host.
        host: PublicKey,
        /// Who runs it.
        operator: String,
        /// Money to lock.
        funds: Amount,
        /// Why.
        reason: Reason,
    },
    /// Renews a contract; its data is carried over.
    Renew {
        /// The host's number.
        index: HostIndex,
        /// The host.
        host: PublicKey,
        /// Money to lock in the successor, of which the old one's rest is the first part.
        funds: Amount,
        /// Why.
        reason: Reason,
    },
    /// Forgets a contract that has ended.
    Retire {
        /// The host's number.
        index: HostIndex,
        /// The host.
        host: PublicKey,
        /// Why.
        reason: Reason,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form { host, operator, funds, reason } => {
                write!(f, "form with {} ({operator}), {funds}: {reason}", host.short())
            }
            Self::Renew { host, funds, reason, .. } => {
                write!(f, "renew with {}, {funds}: {reason}", host.short())
            }
            Self::Retire { host, reason, .. } => write!(f, "forget {}: {reason}", host.short()),
        }
    }
}

/// What the contractor thinks of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVerdict {
    /// The host.
    pub host: PublicKey,
    /// Who runs it.
    pub operator: String,
    /// 0 to [`super::score::BEST`]; nothing if it is not announced.
    pub score: Option<u32>,
    /// What it comes to.
    pub standing: Standing,
}

/// What becomes of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a good contract.
    Live,
    /// It has a contract and is to be replaced.
    Bad(String),
    /// The plan forms a contract with it.
    Chosen,
    /// It would do; others are better or no more are needed.
    Spare,
    /// It shares its operator with a better one, and there are enough others.
    SameOperator,
    /// It forms no contracts.
    NotAccepting,
    /// It asks too much.
    TooExpensive {
        /// Which price.
        what: &'static str,
        /// What it asks.
        asked: Amount,
        /// The allowance's limit.
        limit: Amount,
    },
    /// It proved unreliable before.
    Unreliable(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("in use"),
            Self::Bad(why) => write!(f, "to be replaced: {why}"),
            Self::Chosen => f.write_str("chosen"),
            Self::Spare => f.write_str("not needed"),
            Self::SameOperator => f.write_str("same operator as a better host"),
            Self::NotAccepting => f.write_str("forms no contracts"),
            Self::TooExpensive { what, asked, limit } => {
                write!(f, "asks {asked} for {what}, limit {limit}")
            }
            Self::Unreliable(why) => write!(f, "unreliable: {why}"),
        }
    }
}

/// What the contractor would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// All hosts, best first.
    pub hosts: Vec<HostVerdict>,
    /// Most money that the steps take from the account, fees included.
    pub spend: Amount,
    /// What the account has, without what agreements that may still reach the chain would take.
    pub balance: Amount,
    /// Contracts that are wanted and for which there is no host.
    pub missing: usize,
    /// Contracts that have too little money for further files, and a renewal under this allowance would
    /// not change that.
    pub poor: usize,
}

/// A contract is renewed when less than one part in this of its funds is left for transfers.
const LOW_MONEY: u128 = 10;
/// Bytes of the largest shard: a contract whose money stores none until its end takes no large file.
const SHARD: u64 = 4 << 20;

/// Makes a plan.
#[must_use]
pub fn plan(sight: &Sight) -> Plan {
    let mut steps = Vec::new();
    let mut standing = BTreeMap::new();
    let mut bad = Vec::new();
    let (mut good, mut poor) = (0, 0);
    let mut operators = BTreeSet::new();
    let health = |host: &PublicKey| sight.health.get(host).cloned().unwrap_or_default();
    for live in &sight.live {
        if live.on_chain.is_none() && sight.now >= live.ends {
            let reason = Reason::Ended { ends: live.ends };
            steps.push(Step::Retire { index: live.index, host: live.host, reason });
            continue;
        }
        match verdict(&health(&live.host), sight.clock) {
            Some(because) => {
                standing.insert(live.host, Standing::Bad(because.clone()));
                bad.push((live.host, because));
            }
            None => {
                standing.insert(live.host, Standing::Live);
                operators.insert(live.operator.clone());
                good += 1;
                if !sight.pending.iter().any(|pending| pending.renews == Some(live.index)) {
                    let step = renewal(sight, live);
                    poor += usize::from(step.is_none() && is_poor(sight, live));
                    steps.extend(step);
                }
            }
        }
    }
    for pending in sight.pending.iter().filter(|pending| pending.renews.is_none()) {
        standing.insert(pending.host, Standing::Chosen);
        operators.insert(pending.operator.clone());
        good += 1;
    }
    let ranked = rank(sight, &mut standing);
    let want = usize::from(sight.allowance.hosts);
    let chosen = choose(&ranked, want.saturating_sub(good), operators, &mut standing);
    let missing = want.saturating_sub(good + chosen.len());
    let mut bad = bad.into_iter();
    for (number, candidate) in chosen.iter().enumerate() {
        let reason = match bad.next() {
            Some((host, because)) => Reason::Replaces { host, because },
            None => Reason::TooFew { have: good + number, want },
        };
        let (host, operator) = (candidate.host, candidate.operator.clone());
        let funds = sight.allowance.funds_each();
        steps.push(Step::Form { host, operator, funds, reason });
    }
    let spend = steps.iter().fold(Amount::ZERO, |sum, step| sum.saturating_add(cost(sight, step)));
    let hosts = verdicts(sight, &ranked, &standing);
    // What may still reach the chain is not spent twice.
    let reserved = sight.pending.iter().fold(Amount::ZERO, |sum, p| sum.saturating_add(p.cost));
    let balance = sight.balance.saturating_sub(reserved);
    Plan { steps, hosts, spend, balance, missing, poor }
}

/// Most that a step takes from the account, its fee included.
fn cost(sight: &Sight, step: &Step) -> Amount {
    match step {
        Step::Form { funds, .. } => funds.saturating_add(sight.fee),
        Step::Renew { index, funds, .. } => {
            let old = sight.live.iter().find(|live| live.index == *index);
            let rest = old.map(rest).unwrap_or_default();
            funds.saturating_sub(rest).saturating_add(sight.fee)
        }
        Step::Retire { .. } => Amount::ZERO,
    }
}

/// What a contract leaves for its successor at least, if it is renewed in time: its funds without what
/// vouchers owe and two periods of storage.
fn rest(live: &LiveSight) -> Amount {
    let Some(contract) = &live.on_chain else { return Amount::ZERO };
    let span = Millis(contract.terms.period.0.saturating_mul(2));
    let storage = contract.terms.storage_pay(live.size, span);
    live.money_left.min(contract.funds).saturating_sub(storage)
}

/// Why the contracts in use are not renewed as things stand, by contract. Those that are not named are
/// renewed when their time comes.
#[must_use]
pub fn obstacles(sight: &Sight, plan: &Plan) -> BTreeMap<ContractId, String> {
    let mut obstacles = BTreeMap::new();
    for live in &sight.live {
        let verdict = plan.hosts.iter().find(|verdict| verdict.host == live.host);
        let standing = verdict.map(|verdict| &verdict.standing);
        let step = Step::Renew {
            index: live.index,
            host: live.host,
            funds: sight.allowance.funds_each(),
            reason: Reason::EndsSoon { ends: live.ends },
        };
        let needed = cost(sight, &step);
        let announced = sight.announced.iter().find(|(host, _)| *host == live.host);
        let limits = &sight.allowance.limits;
        let obstacle = match (standing, announced) {
            (Some(Standing::Bad(why)), _) => Some(format!("its host is to be replaced: {why}")),
            (_, None) => Some("its host is not announced any more".to_owned()),
            (_, Some((_, host))) if !host.accepting => {
                Some("its host forms no contracts at present".to_owned())
            }
            (_, Some((_, host))) if limits.above(&host.prices).is_some() => {
                limits.above(&host.prices).map(|(what, asked, limit)| {
                    format!("its host asks {asked} for {what}, limit {limit}")
                })
            }
            _ if needed > plan.balance => {
                let balance = plan.balance;
                Some(format!("the account has {balance}, the renewal may take {needed}"))
            }
            _ => None,
        };
        obstacles.extend(obstacle.map(|obstacle| (live.contract, obstacle)));
    }
    obstacles
}

/// How many of the contracts in use the account could not renew, if that had to be now.
#[must_use]
pub fn unpaid(sight: &Sight, plan: &Plan) -> usize {
    let needed = |live: &LiveSight| {
        let (index, host) = (live.index, live.host);
        let reason = Reason::EndsSoon { ends: live.ends };
        cost(sight, &Step::Renew { index, host, funds: sight.allowance.funds_each(), reason })
    };
    sight.live.iter().filter(|live| needed(live) > plan.balance).count()
}

/// A host that could be used.
struct Candidate {
    host: PublicKey,
    operator: String,
    score: u32,
}

/// When a contract that ends at `ends` is due to be renewed: before the last period begins, so that a
/// proof is never late for it, or at half of a short term.
#[must_use]
pub fn renewal_time(terms: &ContractTerms, ends: ChainTime) -> ChainTime {
    let lead = (terms.period.0.saturating_mul(3) / 2).min(terms.duration().0 / 2);
    ChainTime(ends.0.saturating_sub(lead))
}

/// What a contract's money leaves for more, after what its bytes and proofs cost until its end and its
/// vouchers owe: the bound that hosts set for growth.
fn unbound(sight: &Sight, live: &LiveSight, contract: &Contract) -> Amount {
    let terms = &contract.terms;
    let owed = terms.funds.saturating_sub(live.money_left).saturating_sub(contract.redeemed);
    let periods = terms.periods.saturating_sub(contract.period);
    let proofs = terms.proof_fee.saturating_mul(u128::from(periods));
    let begun = ChainTime(contract.period_end().0.saturating_sub(terms.period.0));
    let span = live.ends.since(begun.min(sight.now));
    let bound = terms.storage_pay(live.size, span).saturating_add(proofs).saturating_add(owed);
    contract.funds.saturating_sub(bound)
}

/// Least that a contract of such funds should have left, so much time before its end.
fn least(terms: &ContractTerms, funds: Amount, span: Millis) -> Amount {
    Amount(funds.0 / LOW_MONEY).max(terms.storage_pay(SHARD, span))
}

/// Whether the money suffices for no further file of some size.
fn is_poor(sight: &Sight, live: &LiveSight) -> bool {
    let Some(contract) = &live.on_chain else { return false };
    let span = live.ends.since(sight.now);
    unbound(sight, live, contract) < least(&contract.terms, contract.terms.funds, span)
}

/// Whether a contract that succeeds this one now would have enough for a while: never is one renewed
/// that has to be renewed again at once.
fn is_richer(sight: &Sight, live: &LiveSight) -> bool {
    let Some(contract) = &live.on_chain else { return false };
    let (allowance, terms) = (&sight.allowance, &contract.terms);
    let funds = allowance.funds_each();
    let span = Millis(allowance.period.0.saturating_mul(u64::from(allowance.periods)));
    let proofs = terms.proof_fee.saturating_mul(u128::from(allowance.periods));
    let bound = terms.storage_pay(live.size, span).saturating_add(proofs);
    funds.saturating_sub(bound) >= least(terms, funds, span).saturating_mul(2)
}

/// Least money of an allowance with which all of its new contracts would take a large file, by the prices of
/// the cheapest hosts that they can be with: below it some have too little from their first day. Nothing
/// if no host forms contracts. A whole number of ten-thousandths of a coin, so that texts do not cut it.
#[must_use]
pub fn least_funds(allowance: &Allowance, announced: &[(PublicKey, HostAnnouncement)]) -> Amount {
    let usable =
        |host: &&HostAnnouncement| host.accepting && allowance.limits.above(&host.prices).is_none();
    let hosts = announced.iter().map(|(_, host)| host).filter(usable);
    let mut each: Vec<Amount> = hosts.map(|host| least_each(allowance, &host.prices)).collect();
    each.sort_unstable();
    each.truncate(usize::from(allowance.hosts));
    let dearest = each.pop().unwrap_or_default();
    let step = Amount::COIN.0 / 10_000;
    let steps = dearest.saturating_mul(u128::from(allowance.hosts)).0.div_ceil(step);
    Amount(step).saturating_mul(steps)
}

/// Funds that are not poor before anything is stored, and would not be after a renewal: see [`is_richer`].
fn least_each(allowance: &Allowance, prices: &Prices) -> Amount {
    let longest = prices.maximum_duration.0 / allowance.period.0.max(1);
    let periods = u64::from(allowance.periods).min(longest).max(1);
    let span = Millis(allowance.period.0.saturating_mul(periods));
    let proofs = prices.proof_fee.saturating_mul(u128::from(periods));
    let shard = storage_pay(prices.storage, SHARD, span);
    // Two parts in LOW_MONEY are to be left after the proofs as well.
    let apart = Amount(proofs.0.div_ceil(LOW_MONEY - 2).saturating_mul(2));
    proofs.saturating_add(apart).saturating_add(shard.saturating_mul(2))
}

/// Renews in time, and earlier when transfers have used up the money.
fn renewal(sight: &Sight, live: &LiveSight) -> Option<Step> {
    let contract = live.on_chain.as_ref()?;
    let terms = &contract.terms;
    let low = Amount(terms.funds.0 / LOW_MONEY);
    let left = live.money_left.min(contract.funds);
    let reason = if sight.now >= renewal_time(terms, live.ends) {
        Reason::EndsSoon { ends: live.ends }
    } else if left < low {
        Reason::MoneyRunsOut { left }
    } else if is_poor(sight, live) && is_richer(sight, live) {
        Reason::MoneyRunsOut { left: unbound(sight, live, contract) }
    } else {
        return None;
    };
    let funds = sight.allowance.funds_each();
    Some(Step::Renew { index: live.index, host: live.host, funds, reason })
}

/// All announced hosts, best first; those that cannot be used get their standing.
fn rank(sight: &Sight, standing: &mut BTreeMap<PublicKey, Standing>) -> Vec<Candidate> {
    let allowance = &sight.allowance;
    let term = Millis(allowance.period.0.saturating_mul(u64::from(allowance.periods)));
    let price = |announcement: &HostAnnouncement| byte_price(&announcement.prices, term);
    let cheapest = sight.announced.iter().map(|(_, a)| price(a)).min().unwrap_or_default();
    let mut ranked = Vec::new();
    for (host, announcement) in &sight.announced {
        let health = sight.health.get(host).cloned().unwrap_or_default();
        let refused = if !announcement.accepting {
            Some(Standing::NotAccepting)
        } else if let Some((what, asked, limit)) = allowance.limits.above(&announcement.prices) {
            Some(Standing::TooExpensive { what, asked, limit })
        } else {
            verdict(&health, sight.clock).map(Standing::Unreliable)
        };
        if let Some(refused) = refused {
            standing.entry(*host).or_insert(refused);
        }
        let score = score(price(announcement), cheapest, &health, sight.clock);
        ranked.push(Candidate { host: *host, operator: announcement.operator.clone(), score });
    }
    ranked.sort_by(|a, b| b.score.cmp(&a.score).then(a.host.cmp(&b.host)));
    ranked
}

/// The best hosts that have no standing yet: each operator once; only if that is not enough, again.
fn choose<'a>(
    ranked: &'a [Candidate],
    count: usize,
    mut operators: BTreeSet<String>,
    standing: &mut BTreeMap<PublicKey, Standing>,
) -> Vec<&'a Candidate> {
    let mut chosen = Vec::new();
    let mut again = Vec::new();
    for candidate in ranked {
        if standing.contains_key(&candidate.host) {
            continue;
        }
        if !operators.insert(candidate.operator.clone()) {
            again.push(candidate);
        } else if chosen.len() < count {
            chosen.push(candidate);
        }
    }
    let lacking = count - chosen.len();
    for candidate in again.iter().skip(lacking) {
        standing.insert(candidate.host, Standing::SameOperator);
    }
    chosen.extend(again.into_iter().take(lacking));
    for candidate in &chosen {
        standing.insert(candidate.host, Standing::Chosen);
    }
    chosen
}

fn verdicts(
    sight: &Sight,
    ranked: &[Candidate],
    standing: &BTreeMap<PublicKey, Standing>,
) -> Vec<HostVerdict> {
    let of = |host: &PublicKey| standing.get(host).cloned().unwrap_or(Standing::Spare);
    let announced = ranked.iter().map(|candidate| HostVerdict {
        host: candidate.host,
        operator: candidate.operator.clone(),
        score: Some(candidate.score),
        standing: of(&candidate.host),
    });
    let names: BTreeSet<PublicKey> = ranked.iter().map(|candidate| candidate.host).collect();
    let others = sight.live.iter().filter(|live| !names.contains(&live.host)).map(|live| {
        let (host, operator) = (live.host, live.operator.clone());
        HostVerdict { host, operator, score: None, standing: of(&live.host) }
    });
    announced.chain(others).collect()
}
