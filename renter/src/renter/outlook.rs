//! What is going to become of the contracts: remembered from the last look of the contractor.

use std::collections::BTreeMap;

use samara_protocol::contract::ContractId;
use samara_protocol::units::{Amount, ChainTime};

use crate::backup::Money;
use crate::contract::{
    ContractHandle, Plan, Sight, Step, StepOutcome, obstacles, renewal_time, unpaid,
};
use crate::rows::{LapseRow, RenewalState};

/// What the last look and its steps came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// Why contracts are not renewed.
    obstacles: BTreeMap<ContractId, String>,
    /// Contracts whose renewal is signed, and until when.
    agreed: BTreeMap<ContractId, ChainTime>,
    /// Contracts with more hosts that are on their way; nothing before the first look.
    pub(super) forming: Option<u64>,
    /// Contracts with too little money, which a renewal would not change.
    pub(super) poor: u64,
    /// Contracts that the account could not renew.
    unpaid: u64,
    /// What the account has.
    balance: Amount,
}

impl Outlook {
    /// What a plan promises before it is carried out.
    pub(super) fn of(sight: &Sight, plan: &Plan) -> Self {
        let mut agreed = BTreeMap::new();
        for live in &sight.live {
            let renewal = sight.pending.iter().find(|pending| pending.renews == Some(live.index));
            agreed.extend(renewal.map(|pending| (live.contract, pending.valid_until)));
        }
        // A host that did not answer is asked again; nobody waits for it.
        let answers = |host| sight.health.get(host).is_none_or(|health| health.failing == 0);
        let steps = plan.steps.iter();
        let formed = steps.filter(|s| matches!(s, Step::Form { host, .. } if answers(host)));
        let forming = Some(Self::pending(sight) + formed.count() as u64);
        let poor = plan.poor as u64;
        let (unpaid, balance) = (unpaid(sight, plan) as u64, plan.balance);
        Self { obstacles: obstacles(sight, plan), agreed, forming, poor, unpaid, balance }
    }

    /// What was seen of the money; nothing before the first look.
    pub(super) fn money(&self) -> Option<Money> {
        let Self { balance, poor, unpaid, .. } = *self;
        self.forming.map(|_| Money { balance, poor, unpaid })
    }

    /// Formations that were signed before the look.
    fn pending(sight: &Sight) -> u64 {
        sight.pending.iter().filter(|pending| pending.renews.is_none()).count() as u64
    }

    /// Notes that the plan has been carried out.
    pub(super) fn end(&mut self, sight: &Sight) {
        self.forming = Some(Self::pending(sight));
    }

    /// Notes that renewals failed, each for its own reason.
    pub(super) fn note(&mut self, sight: &Sight, outcomes: &[StepOutcome]) {
        for outcome in outcomes {
            if let (Step::Renew { index, .. }, Err(error)) = (&outcome.step, &outcome.result) {
                let live = sight.live.iter().find(|live| live.index == *index);
                let failed = format!("its renewal failed and is tried again: {error}");
                self.obstacles.extend(live.map(|live| (live.contract, failed)));
            }
        }
    }

    /// Notes that no step of a plan could be taken.
    pub(super) fn note_all(&mut self, sight: &Sight, plan: &Plan, error: &impl std::fmt::Display) {
        for step in &plan.steps {
            if let Step::Renew { index, .. } = step {
                let live = sight.live.iter().find(|live| live.index == *index);
                self.obstacles.extend(live.map(|live| (live.contract, error.to_string())));
            }
        }
    }

    /// What becomes of a contract. `halted` says why this node renews nothing at all.
    pub(super) fn renewal(&self, contract: &ContractHandle, halted: Option<&str>) -> RenewalState {
        let id = contract.id();
        match (halted, self.agreed.get(&id), self.obstacles.get(&id)) {
            (Some(reason), ..) => RenewalState::Lapses { reason: reason.to_owned() },
            (_, Some(until), _) => RenewalState::Agreed { until: until.0 },
            (_, _, Some(reason)) => RenewalState::Lapses { reason: reason.clone() },
            _ => {
                let from = renewal_time(contract.terms(), contract.ends());
                RenewalState::Planned { from: from.0 }
            }
        }
    }

    /// The contracts that lapse, the first to end first.
    pub(super) fn lapses(&self, live: &[ContractHandle], halted: Option<&str>) -> Vec<LapseRow> {
        let row = |contract: &ContractHandle| match self.renewal(contract, halted) {
            RenewalState::Lapses { reason } => Some(LapseRow {
                contract: contract.id().to_string(),
                host: contract.host().to_string(),
                operator: contract.operator().to_owned(),
                bytes: contract.revision().revision.size,
                ends: contract.ends().0,
                reason,
            }),
            _ => None,
        };
        let mut rows: Vec<LapseRow> = live.iter().filter_map(row).collect();
        rows.sort_by_key(|row| row.ends);
        rows
    }
}
