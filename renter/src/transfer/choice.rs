//! Which hosts a slab goes to, and whom to ask first.

use std::collections::BTreeSet;

use samara_protocol::hash::{Digest, SlabId, digest};
use samara_protocol::units::Amount;

use crate::contract::{ContractHandle, HostHealth, Reports, has_failed_its_duty};

/// Failures in a row after which a host is asked last.
const FAILING: u32 = 3;

/// More than speaks against any host that stays.
const LEAVING: u32 = 8;

/// How much speaks against a host at this moment; 0 is fine.
pub(super) fn penalty(health: &HostHealth) -> u32 {
    let failing = health.failing.min(FAILING);
    let lies = if health.false_answers > 0 { 2 } else { 0 };
    // What goes to one that is replaced is soon moved again.
    let leaving = if has_failed_its_duty(health) { LEAVING } else { 0 };
    failing + lies + leaving
}

/// All hosts that can take a shard of `slab`, best first: sound ones before failing ones, each
/// operator once before any operator twice, and equals in an order that differs from slab to slab.
pub(crate) fn order(
    live: Vec<ContractHandle>,
    reports: &Reports,
    slab: &SlabId,
) -> Vec<ContractHandle> {
    let mut ranked: Vec<(u32, Digest, ContractHandle)> = live
        .into_iter()
        .filter(|contract| contract.money_left() > Amount::ZERO)
        .map(|contract| {
            let lot = digest("samara v1 slab placement", &(slab, contract.host()));
            (penalty(&reports.health(&contract.host())), lot, contract)
        })
        .collect();
    ranked.sort_by_key(|(penalty, lot, _)| (*penalty, *lot));
    let mut operators = BTreeSet::new();
    let (first, second): (Vec<_>, Vec<_>) = ranked
        .into_iter()
        .map(|(_, _, contract)| contract)
        .partition(|contract| operators.insert(contract.operator().to_owned()));
    first.into_iter().chain(second).collect()
}
