//! Machines that come and go: take-overs, visits of a machine that only reads, and the last check.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use samara_protocol::journal::quorum::Quorum;
use samara_protocol::units::Amount;
use samara_renter::Renter;
use samara_renter::progress::Silent;
use samara_renter::recovery::{
    HeadSetRow, RecoveryError, RecoveryOptions, RecoveryPhase, RecoveryReport,
};

use super::disk::Sabotage;
use super::machine::{Ended, Machine};
use super::run::{LIMIT, PATIENCE, Run};
use super::trace::Fault;

/// What a recovery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovered {
    /// It writes.
    Writing,
    /// It reads, and nothing more can come of it.
    Reading,
    /// The run is over: there is a violation.
    Broken,
}

/// What one attempt came to.
enum Attempt {
    Done(Box<RecoveryReport>),
    Active,
    Failed(String),
    Broken,
}

impl Run {
    /// A machine that only reads: it must see what is acknowledged, or say that something may be
    /// missing.
    pub(super) async fn visit(&mut self) {
        let visitor = Machine::new(self.seed, 1_000 + self.machines, self.trace.clone());
        self.machines += 1;
        let world = visitor.world(&self.chain, &self.hosts, &self.files);
        let options = RecoveryOptions { read_only: true, ..RecoveryOptions::default() };
        let (keys, config) = (self.keys.clone(), self.config);
        let visit = async {
            let renter =
                Renter::open(world, keys, config).await.map_err(|error| error.to_string())?;
            let report =
                renter.recover(options, &Silent).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((self.observe(&renter).await?, report))
        };
        match visitor.attempt(None, LIMIT, visit).await {
            Ended::Done(Ok((seen, report))) => {
                let missing = report.may_be_missing;
                self.trace.event(format_args!("a visitor sees all but {missing:?}"));
                if missing.is_none()
                    && let Err(difference) = self.model.check(&seen)
                {
                    self.trace.violation(format!("a visitor sees: {difference}"));
                }
            }
            Ended::Done(Err(error)) => {
                self.trace.event(format_args!("a visitor fails: {error}"));
            }
            _ => self.trace.violation("a visit does not end".into()),
        }
        visitor.crash().await;
    }

    /// Another machine takes over while this one works, or after it died.
    pub(super) async fn take_over(&mut self) {
        self.trace.fault(Fault::TakeOver, format_args!("from m{}", self.machine.number()));
        let dead = self.trouble.per_mille(300);
        if dead {
            self.die().await;
        }
        let (old_machine, old) = (self.machine.clone(), self.renter.take());
        let fresh = Machine::new(self.seed, self.machines, self.trace.clone());
        self.machines += 1;
        if self.moods.partitions && self.mischief.per_mille(500) {
            // Each side sees other hosts.
            self.partition(old_machine.number());
            self.partition(fresh.number());
        }
        // The old renter is in the middle of a put when it is taken over.
        let last_words = old.as_ref().map(|old| self.last_words(old.clone(), old_machine.clone()));
        self.machine = fresh;
        let faults = self.trouble.per_mille(500);
        if let Some((effect, put)) = last_words {
            let (done, recovered) = futures::future::join(put, self.recover(faults, false)).await;
            if done {
                self.trace.event(format_args!("the old machine's put was acknowledged"));
                self.model.acknowledge(effect);
            } else {
                self.model.doubt(effect);
            }
            if recovered != Recovered::Writing {
                return;
            }
        } else if self.recover(faults, false).await != Recovered::Writing {
            return;
        }
        if let Some(seen) = self.look("after a take-over").await {
            self.model.settle(seen);
        }
        self.hosts.mend_partitions();
        if let Some(old) = old {
            self.check_fenced(&old, &old_machine).await;
            drop(old);
            old_machine.crash().await;
        }
    }

    /// This run's machine, which is new, takes over; nobody else is left.
    pub(super) async fn take_over_from_nobody(&mut self) {
        let faults = self.trouble.per_mille(500);
        if self.recover(faults, false).await == Recovered::Writing
            && let Some(seen) = self.look("after a folder was put back").await
        {
            self.model.settle(seen);
        }
    }

    /// The next write of a renter that was taken over must fail.
    async fn check_fenced(&mut self, old: &Renter, machine: &Arc<Machine>) {
        let name = format!("ghost {}", self.number);
        match machine.attempt(None, LIMIT, old.create_vault(&name)).await {
            Ended::Done(Ok(_)) => {
                let what = format!("machine {} writes after it was taken over", machine.number());
                self.trace.violation(what);
            }
            Ended::Done(Err(error)) => {
                self.trace.event(format_args!("m{} is refused: {error}", machine.number()));
            }
            _ => self.trace.violation("a fenced write does not end".into()),
        }
        self.look("after a fenced write").await;
    }

    /// Recovers on this run's machine, whose store may be empty, until it writes. Where hosts are gone for
    /// good (`gone`), those that are silent are given up once it is told that this is needed; only if
    /// provably no read quorum is left may it end reading.
    async fn recover(&mut self, faults: bool, gone: bool) -> Recovered {
        let mut problem = String::new();
        // Now and then somebody is impatient, and hosts are given up that come back later.
        let mut give_up = !gone && self.trouble.per_mille(100);
        for attempt in 0..PATIENCE {
            if attempt == PATIENCE / 2 {
                self.hosts.heal();
                self.chain.set_faults(0, 0);
            }
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            if faults && attempt < 4 && self.trouble.per_mille(700) {
                let (point, after) = self.crash_point(24);
                self.machine.plan_crash(point, after);
            }
            let report = match self.attempt_recovery(give_up).await {
                Attempt::Done(report) => report,
                Attempt::Active => return Recovered::Writing,
                Attempt::Failed(error) => {
                    problem = error;
                    continue;
                }
                Attempt::Broken => return Recovered::Broken,
            };
            self.trace.event(format_args!("recovered: {:?}", report.outcome));
            if let (RecoveryPhase::ReadOnly, Some(next)) = (&report.outcome, &report.next) {
                self.trace.event(format_args!("  {:?}; {next}", report.may_be_missing));
            }
            let given_up =
                report.hosts_silent.iter().filter(|row| row.reason.contains("given up")).count();
            if given_up > 0 {
                self.trace.fault(Fault::GivenUp, format_args!("{given_up} hosts"));
            }
            match report.outcome {
                RecoveryPhase::Done => {
                    self.machine.forget_plan();
                    return Recovered::Writing;
                }
                RecoveryPhase::ReadOnly if gone && give_up => {
                    return self.check_lost(&report);
                }
                RecoveryPhase::ReadOnly => {
                    problem = format!("read-only: {:?}", report.hosts_silent);
                    give_up |= gone;
                }
                other => {
                    self.trace.violation(format!("the recovery ends as {other:?}"));
                    return Recovered::Broken;
                }
            }
            self.die().await;
        }
        self.trace.violation(format!("the recovery does not come to its end: {problem}"));
        Recovered::Broken
    }

    /// One run of a recovery; the renter stays open if it came to an end.
    async fn attempt_recovery(&mut self, give_up_silent: bool) -> Attempt {
        let world = self.machine.world(&self.chain, &self.hosts, &self.files);
        let (keys, config) = (self.keys.clone(), self.config);
        let options = RecoveryOptions { give_up_silent, ..RecoveryOptions::default() };
        let work = async {
            let renter =
                Renter::open(world, keys, config).await.map_err(|error| error.to_string())?;
            let report = renter.recover(options, &Silent).await;
            Ok::<_, String>((renter, report))
        };
        let machine = self.machine.clone();
        match machine.attempt(None, LIMIT, work).await {
            Ended::Done(Ok((renter, Ok(report)))) => {
                self.renter = Some(renter);
                Attempt::Done(Box::new(report))
            }
            // An earlier attempt had come to its end when it died.
            Ended::Done(Ok((renter, Err(RecoveryError::Active)))) => {
                self.machine.forget_plan();
                self.renter = Some(renter);
                Attempt::Active
            }
            Ended::Done(Ok((renter, Err(error)))) => {
                self.trace.event(format_args!("recovery failed: {error}"));
                drop(renter);
                self.die().await;
                Attempt::Failed(error.to_string())
            }
            Ended::Done(Err(error)) => {
                self.trace.violation(format!("the renter does not open: {error}"));
                Attempt::Broken
            }
            Ended::Crashed | Ended::Cancelled => {
                self.trace.fault(Fault::RenterCrashInside, format_args!("in a recovery"));
                self.die().await;
                Attempt::Failed("the machine died".into())
            }
            Ended::Hung => {
                self.trace.violation("a recovery hangs".into());
                Attempt::Broken
            }
        }
    }

    /// A recovery that gave every silent host up and still only reads must be right: in one of the head
    /// sets, fewer hosts are left than a read quorum needs.
    fn check_lost(&self, report: &RecoveryReport) -> Recovered {
        let lost = |row: &HeadSetRow| {
            let left = row.hosts.iter().filter(|host| !self.hosts.is_lost(host)).count();
            left.saturating_sub(row.ended) < row.needed
        };
        if report.head_sets.iter().any(lost) {
            self.trace.event(format_args!("no read quorum is left: {:?}", report.head_sets));
            Recovered::Reading
        } else {
            let sets = &report.head_sets;
            self.trace.violation(format!("a read quorum is left, and it only reads: {sets:?}"));
            Recovered::Broken
        }
    }

    /// The money must be where this node pays from.
    pub(super) async fn check_money(&mut self) {
        let Some(renter) = self.renter.clone() else { return };
        // Upkeep has some time for what a silent chain has left undone.
        tokio::time::sleep(Duration::from_secs(120)).await;
        match renter.wallet().await {
            Ok(wallet) if wallet.balance < Amount::coins(9_000) => {
                self.trace.violation(format!("the money is not where this node pays: {wallet:?}"));
            }
            Ok(_) => {}
            Err(error) => self.trace.violation(format!("the wallet cannot be seen: {error}")),
        }
    }

    /// Some operators are lost with all their hosts, whose number slabs bear.
    fn lose_operators(&mut self, most_hosts: usize, most: usize) {
        let (mut hosts, mut operators) = (0, BTreeSet::new());
        for _ in 0..most {
            let operator = self.hosts.operator(self.trouble.index(self.hosts.count()));
            let own = |number: &usize| self.hosts.operator(*number) == operator;
            let own: Vec<usize> = (0..self.hosts.count()).filter(own).collect();
            if hosts + own.len() <= most_hosts && operators.insert(operator) {
                hosts += own.len();
                own.into_iter().for_each(|number| self.hosts.lose(number));
            }
        }
    }

    /// Everything loses power, some hosts are gone, and a fresh machine has the words only.
    pub(super) async fn last_check(&mut self) {
        let known = self.renter.as_ref().is_some_and(|renter| !renter.status().head_set.is_empty());
        if !known || !self.trace.violations().is_empty() {
            return;
        }
        self.hosts.heal();
        self.chain.set_faults(0, 0);
        // A node that took over from few hosts has a smaller head set until the others are back.
        let set = self.renter.as_ref().map_or(Vec::new(), |renter| renter.status().head_set);
        // Where many hosts were given up, too few operators are left for as many members.
        let spread = self.operators(set.iter().map(|row| &row.host)) == set.len();
        let set = set.len();
        let quorum = Quorum::of(set);
        // Shards that a host has forgotten or spoilt are lost like those of a host that is gone.
        let mut most = self.tolerance.saturating_sub(usize::from(self.rotten));
        let is_new = self.liar != self.rotting || !self.rotten;
        if let Some(liar) = self.liar.filter(|_| quorum.liars > 0 && (!is_new || most > 0))
            && self.hosts.roll_back(liar)
        {
            most -= usize::from(is_new);
        }
        if self.sabotage == Sabotage::OldHeads {
            for number in 0..self.hosts.count() {
                self.hosts.show_old_heads(number);
            }
        }
        if self.shared {
            self.lose_operators(most, set - quorum.read);
        } else {
            let lost = self.trouble.within(0, most.min(set - quorum.read) as u64);
            for _ in 0..lost {
                let left = self.hosts.surviving();
                self.hosts.lose(left[self.trouble.index(left.len())]);
            }
        }
        let (old_machine, old) = (self.machine.clone(), self.renter.take());
        self.machine = Machine::new(self.seed, self.machines, self.trace.clone());
        self.machines += 1;
        let recovered = self.recover(false, true).await;
        if recovered == Recovered::Broken {
            return;
        }
        let Some(seen) = self.look("at the end").await else { return };
        self.read_all("at the end", &seen).await;
        self.check_backups("at the end", &seen).await;
        if recovered == Recovered::Reading && self.shared && spread {
            self.trace.violation("fewer operators are lost than may be, and it only reads".into());
        }
        if recovered == Recovered::Reading {
            // Nothing was promised or moved: the old machine may go on.
            return;
        }
        self.check_money().await;
        if let Some(old) = old {
            if self.trouble.per_mille(500) {
                // A promise outlives its host's life.
                self.hosts.heal();
            }
            self.check_fenced(&old, &old_machine).await;
        }
    }
}
