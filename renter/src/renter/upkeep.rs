//! What a renter does by itself: contracts, hosts left behind, backups not completed.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use samara_protocol::encoding;
use samara_protocol::journal::{Change, HostIndex};
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, Millis};

use super::lineage::{self, Lineage};
use super::outlook::Outlook;
use super::settled::Settled;
use crate::backup::Backups;
use crate::contract::{
    Allowance, BookError, ContractBook, ContractHandle, Contractor, ContractorError, HostRegistry,
    Plan, StepOutcome, Turn, plan,
};
use crate::journal::Journal;
use crate::progress::Silent;
use crate::recovery::{Recovery, RecoveryPhase};
use crate::rows::{AllowanceHost, AllowanceReport};
use crate::slabs::Slabs;
use crate::world::World;

/// Time between two looks of the journal at contracts that are being formed or renewed.
const REFRESH: Millis = Millis(200);
/// Time after which some hosts are asked whether another node has taken over.
const TAKEOVER: Millis = Millis::seconds(60);
/// Hosts that are asked: a takeover is known to more than half of them.
const ASKED: usize = 3;
/// Looks within a term, at least: the renewal falls due at half of a short one.
const LOOKS: u64 = 8;
/// Least time between two looks.
const SHORTEST: Millis = Millis(1_000);

/// Everything that upkeep needs. A cheap clone.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) world: World,
    pub(super) book: ContractBook,
    pub(super) journal: Journal,
    pub(super) slabs: Slabs,
    pub(super) contractor: Contractor,
    pub(super) backups: Backups,
    pub(super) recovery: Recovery,
    /// What the last plan promised. A leaf, held for no call.
    pub(super) outlook: Arc<Mutex<Outlook>>,
    /// Whose the words are. A leaf, held for no call.
    pub(super) lineage: Arc<Mutex<Lineage>>,
    /// When hosts are asked for a takeover again, and with which host that begins. A leaf.
    pub(super) asked: Arc<Mutex<(u64, usize)>>,
    pub(super) settled: Settled,
}

/// Admits contracts, and numbers hosts: the table goes ahead, and the journal follows with its next
/// round.
struct Registry<'a>(&'a Upkeep);

#[async_trait]
impl HostRegistry for Registry<'_> {
    async fn admit(&self, contract: &Contract) -> Result<(), ContractorError> {
        let upkeep = self.0;
        let Upkeep { book, contractor, journal, recovery, .. } = upkeep;
        let check = lineage::Check { book, contractor, journal, recovery };
        let undecided = match upkeep.lineage() {
            Lineage::New => true,
            Lineage::Settled => !check.holds_any().await?,
            Lineage::Second { .. } => false,
        };
        if undecided {
            let decided = check.decide(contract).await?;
            *lock(&upkeep.lineage) = decided;
        }
        upkeep.lineage().refusal().map_or(Ok(()), Err)
    }

    async fn register(&self, host: PublicKey, operator: String) -> Result<HostIndex, BookError> {
        let book = &self.0.book;
        let index = match book.index_of(&host) {
            Some(index) => index,
            None => book.next_index()?,
        };
        book.add_host(index, host, operator).await?;
        Ok(index)
    }
}

/// What a plan says of hosts and money.
pub(super) fn seen(plan: &Plan) -> AllowanceReport {
    let hosts = plan.hosts.iter().map(|verdict| AllowanceHost {
        host: verdict.host.to_string(),
        operator: verdict.operator.clone(),
        score: verdict.score,
        standing: verdict.standing.to_string(),
    });
    AllowanceReport {
        hosts: hosts.collect(),
        spend: plan.spend,
        balance: plan.balance,
        missing: plan.missing as u64,
        ..AllowanceReport::default()
    }
}

impl Upkeep {
    pub(super) fn lineage(&self) -> Lineage {
        *lock(&self.lineage)
    }

    pub(super) fn set_lineage(&self, lineage: Lineage) {
        *lock(&self.lineage) = lineage;
    }

    pub(super) fn outlook(&self) -> Outlook {
        lock(&self.outlook).clone()
    }

    /// Why this node renews no contract at all, if it does not.
    pub(super) fn halted(&self) -> Option<String> {
        match self.journal.check_writable() {
            Err(error) => Some(format!("this node does not write: {error}")),
            Ok(()) if self.contractor.allowance().is_none() => {
                Some("no allowance is set: nothing may be spent on it".into())
            }
            Ok(()) => None,
        }
    }

    /// Looks after everything, again and again: each `interval`, and several times within the shortest
    /// term, so that a short one is renewed in time as well.
    pub(super) async fn run(self, interval: Millis) {
        loop {
            let live = self.book.live();
            let shortest = live.iter().map(|contract| contract.terms().duration().0).min();
            let often = shortest.map_or(interval.0, |term| (term / LOOKS).max(SHORTEST.0));
            self.world.clock.sleep(Millis(often.min(interval.0))).await;
            self.once().await;
        }
    }

    /// One round. What fails is tried again in the next.
    pub(super) async fn once(&self) {
        if self.journal.check_writable().is_err() || self.recovery.status().running {
            return;
        }
        self.look_for_takeover().await;
        if self.journal.check_writable().is_err() {
            return;
        }
        if self.contractor.account() != self.journal.status().account {
            // Whoever had asked for a recovery went away at its very end.
            let found = self.recovery.status().progress == RecoveryPhase::Done;
            if let Err(error) = self.follow_recovery(found).await {
                tracing::warn!(%error, "the recovered account is not in use yet");
            }
        }
        match self.recovery.adopt_silent().await {
            Ok(0) => {}
            Ok(adopted) => {
                tracing::info!(adopted, "contracts of hosts that answer again are in use")
            }
            Err(error) => tracing::debug!(%error, "contracts of silent hosts stay aside"),
        }
        let moved = self.recovery.collect_money().await;
        if moved > Amount::ZERO {
            tracing::info!(%moved, "money of older accounts is in use");
        }
        match self.keep_contracts().await {
            Ok(report) => {
                for problem in &report.failed {
                    tracing::warn!(problem, "upkeep of contracts");
                }
            }
            Err(ContractorError::NoAllowance) => {}
            Err(error) => tracing::warn!(%error, "upkeep of contracts failed"),
        }
        self.keep_setting().await;
        let status = self.journal.status();
        if status.acknowledged > 0 && status.settled < status.hosts.len() {
            let settled = self.journal.settle(status.acknowledged, status.hosts.len()).await;
            if let Err(error) = settled {
                tracing::debug!(%error, "settling was cut off");
            }
        }
        if let Err(error) = self.settled.save().await {
            tracing::debug!(%error, "what is settled is not written down");
        }
        if let Err(error) = self.backups.vaults.end_abandoned_arrivals().await {
            tracing::warn!(%error, "a vault that did not arrive is still there");
        }
        if let Err(error) = self.backups.resume(&Silent).await {
            tracing::warn!(%error, "settling backups failed");
        }
        self.backups.look_after(self.outlook().money()).await;
    }

    /// Asks some hosts for what they have promised, the next ones each time: a node that has nothing to
    /// write would learn of a takeover only with its next change.
    async fn look_for_takeover(&self) {
        let mut live = self.book.live();
        live.retain(|held| !self.book.reports().health(&held.host()).is_unreachable());
        let now = self.world.clock.now();
        let first = {
            let mut asked = lock(&self.asked);
            if live.is_empty() || now < asked.0 {
                return;
            }
            let first = asked.1 % live.len();
            *asked = (now.saturating_add(TAKEOVER.0), first + ASKED);
            first
        };
        let some = live.iter().cycle().skip(first).take(ASKED.min(live.len()));
        let answers = futures::future::join_all(some.map(ContractHandle::latest)).await;
        let claimed = answers.into_iter().flatten().map(|status| status.promised.epoch).max();
        if let Some(epoch) = claimed {
            // Its own claim stops nobody.
            self.book.writer().fence(epoch);
            // The journal's owner has noted it when it answers the second message.
            if self.book.writer().fenced().is_some() {
                self.journal.refresh().await;
                let _ = self.journal.confirm().await;
            }
        }
    }

    /// Sets what the contractor may do, and lets it act. What the account cannot pay is refused, and the
    /// allowance stays as it was.
    pub(super) async fn set_allowance(
        &self,
        allowance: Allowance,
    ) -> Result<AllowanceReport, ContractorError> {
        let turn = self.contractor.turn().await;
        allowance.check(&self.world.chain.genesis().parameters)?;
        self.contractor.resume(&Registry(self)).await?;
        let plan = self.contractor.plan_for(allowance).await?;
        if plan.spend > plan.balance {
            let (needed, balance) = (plan.spend, plan.balance);
            return Err(ContractorError::Balance { needed, balance });
        }
        self.contractor.set_allowance(allowance).await?;
        self.slabs.set_redundancy(allowance.redundancy);
        self.look(&turn).await
    }

    /// In what an allowance asks for more than hosts and the account give. `balance` is what the account
    /// had before anything was done.
    pub(super) async fn notes(&self, allowance: &Allowance, balance: Amount) -> Vec<String> {
        let mut notes = Vec::new();
        let announced = self.world.chain.announced_hosts().await.unwrap_or_default();
        let longest = announced
            .iter()
            .filter(|(_, host)| host.accepting)
            .map(|(_, host)| host.prices.maximum_duration.0 / allowance.period.0.max(1))
            .max();
        if let Some(longest) = longest.filter(|longest| *longest < u64::from(allowance.periods)) {
            notes.push(format!(
                "hosts form contracts of at most {longest} periods: those are formed, and renewed in time"
            ));
        }
        let funds = |held: &ContractHandle| held.terms().funds;
        let live = self.book.live();
        let locked = live.iter().map(funds).fold(Amount::ZERO, Amount::saturating_add);
        if allowance.funds > balance.saturating_add(locked) {
            notes.push(format!(
                "the account had {balance}, and {locked} are in contracts: less than the allowance, so \
                 hosts that are added and renewals may lack money"
            ));
        }
        notes
    }

    /// Plans and acts on contracts within the allowance.
    pub(super) async fn keep_contracts(&self) -> Result<AllowanceReport, ContractorError> {
        let turn = self.contractor.turn().await;
        self.look(&turn).await
    }

    async fn look(&self, turn: &Turn) -> Result<AllowanceReport, ContractorError> {
        let registry = Registry(self);
        self.contractor.resume(&registry).await?;
        let sight = self.contractor.sight().await?;
        let plan = plan(&sight);
        let mut outlook = Outlook::of(&sight, &plan);
        *lock(&self.outlook) = outlook.clone();
        let mut report = seen(&plan);
        if !plan.steps.is_empty() {
            let outcomes = self.apply(turn, plan.clone(), &registry).await;
            match &outcomes {
                Ok(outcomes) => outlook.note(&sight, outcomes),
                Err(error) => outlook.note_all(&sight, &plan, error),
            }
            outlook.end(&sight);
            *lock(&self.outlook) = outlook;
            for outcome in outcomes? {
                match outcome.result {
                    Ok(_) => report.done.push(outcome.step.to_string()),
                    Err(error) => report.failed.push(format!("{}: {error}", outcome.step)),
                }
            }
            self.journal.refresh().await;
        } else {
            self.book.save_health().await?;
        }
        Ok(report)
    }

    /// Carries a plan out. A renewed contract starts with an empty slot, so the journal is told again
    /// and again: never are many slots empty at one time.
    async fn apply(
        &self,
        turn: &Turn,
        plan: Plan,
        registry: &Registry<'_>,
    ) -> Result<Vec<StepOutcome>, ContractorError> {
        let applying = Box::pin(self.contractor.carry_out(turn, plan, registry));
        tokio::pin!(applying);
        loop {
            tokio::select! {
                biased;
                outcomes = &mut applying => return outcomes,
                () = self.world.clock.sleep(REFRESH) => self.journal.refresh().await,
            }
        }
    }

    /// Keeps the allowance in the journal, so that a recovery can offer it again.
    pub(super) async fn keep_setting(&self) {
        let Some(allowance) = self.contractor.allowance() else { return };
        let value = encoding::encode(&allowance);
        let known =
            self.journal.read(|state| state.settings.get(Allowance::SETTING) == Some(&value));
        if known || self.book.live().is_empty() {
            return;
        }
        let setting = Change::Setting { name: Allowance::SETTING.into(), value };
        if let Err(error) = self.journal.append(vec![setting]).await {
            tracing::debug!(%error, "the allowance is not in the journal yet");
        }
    }

    /// The allowance that the journal knows.
    pub(super) fn setting(&self) -> Option<Allowance> {
        self.journal.read(|state| encoding::decode(state.settings.get(Allowance::SETTING)?).ok())
    }

    /// After a recovery: pays from the epoch's own account, cuts slabs as the owner had wanted.
    pub(super) async fn follow_recovery(&self, found: bool) -> Result<(), ContractorError> {
        self.contractor.use_account(self.journal.status().account).await?;
        // The words' contracts were read from the chain: whoever was first does not matter any more. Where
        // there are none, another node may still be first.
        if found || self.lineage() != Lineage::New {
            Lineage::Settled.save(self.world.store.as_ref()).await?;
            *lock(&self.lineage) = Lineage::Settled;
        }
        // What was seen before was another epoch's account.
        *lock(&self.outlook) = Outlook::default();
        if let Some(allowance) = self.contractor.allowance().or_else(|| self.setting()) {
            self.slabs.set_redundancy(allowance.redundancy);
        }
        self.journal.refresh().await;
        Ok(())
    }
}
