//! Policies as people manage them: made, changed, shown, tried out, removed.

use samara_protocol::journal::{BackupId, Change, JournalState};
use samara_protocol::units::ChainTime;

use super::keeper::Mark;
use super::list::vault_name;
use super::policy::{MAX_POLICIES, PREFIX, Policy, PolicyRequest, PolicyRow, PolicyVerdict};
use super::quote::scope_of;
use super::retention::Retention;
use super::rotation::{Run, judge};
use super::types::{BackupRequest, BackupRow, BackupStatus};
use super::{BackupError, Backups};

impl Backups {
    /// All policies, by name.
    pub(super) fn stored_policies(&self) -> Vec<Policy> {
        let decode = |(name, value): (&String, &Vec<u8>)| Policy::decode(name, value);
        let below = |state: &JournalState| {
            let from = state.settings.range(PREFIX.to_owned()..);
            from.take_while(|(name, _)| name.starts_with(PREFIX)).filter_map(decode).collect()
        };
        self.vaults.journal.read(below)
    }

    /// The policy with a name.
    pub(super) fn stored_policy(&self, name: &str) -> Result<Policy, BackupError> {
        let setting = Policy::setting(name);
        let found = self
            .vaults
            .journal
            .read(|state| Policy::decode(&setting, state.settings.get(&setting)?));
        found.ok_or_else(|| BackupError::NoPolicy(name.to_owned()))
    }

    /// All policies and how they do, by name.
    pub(crate) async fn policies(&self) -> Result<Vec<PolicyRow>, BackupError> {
        let mut rows = Vec::new();
        for policy in self.stored_policies() {
            rows.push(self.policy_row(&policy).await?);
        }
        Ok(rows)
    }

    /// One policy and how it does.
    pub(crate) async fn policy(&self, name: &str) -> Result<PolicyRow, BackupError> {
        self.policy_row(&self.stored_policy(name)?).await
    }

    /// Makes a policy. It runs at its next slot.
    pub(crate) async fn make_policy(
        &self,
        request: &PolicyRequest,
    ) -> Result<PolicyRow, BackupError> {
        let policy = self.policy_of(request, None)?;
        let _turn = self.shared.keeping.acquire().await.ok();
        let setting = Policy::setting(&policy.name);
        let (taken, count) = self.vaults.journal.read(|state| {
            let from = state.settings.range(PREFIX.to_owned()..);
            let count = from.take_while(|(name, _)| name.starts_with(PREFIX)).count();
            (state.settings.contains_key(&setting), count)
        });
        if taken {
            return Err(BackupError::PolicyExists(policy.name));
        }
        if count >= MAX_POLICIES {
            return Err(BackupError::Policies(MAX_POLICIES));
        }
        self.set_policy(&policy).await
    }

    /// Gives a policy other settings, all of them. Its backups stay its own.
    pub(crate) async fn change_policy(
        &self,
        name: &str,
        request: &PolicyRequest,
    ) -> Result<PolicyRow, BackupError> {
        if !request.name.is_empty() && request.name != name {
            return Err(BackupError::Policy("a policy keeps its name: make another one instead"));
        }
        let _turn = self.shared.keeping.acquire().await.ok();
        let before = self.stored_policy(name)?;
        let policy = self.policy_of(request, Some(before))?;
        self.set_policy(&policy).await
    }

    /// Removes a policy. Its backups stay, and are nobody's business but people's.
    pub(crate) async fn remove_policy(&self, name: &str) -> Result<(), BackupError> {
        let _turn = self.shared.keeping.acquire().await.ok();
        self.stored_policy(name)?;
        let change = Change::Setting { name: Policy::setting(name), value: Vec::new() };
        self.vaults.journal.append(vec![change]).await?;
        self.forget_mark(name).await?;
        Ok(())
    }

    async fn set_policy(&self, policy: &Policy) -> Result<PolicyRow, BackupError> {
        let (name, value) = (Policy::setting(&policy.name), policy.encode());
        self.vaults.journal.append(vec![Change::Setting { name, value }]).await?;
        self.policy_row(policy).await
    }

    /// What is asked for as a policy, in the place of another if there was one.
    fn policy_of(
        &self,
        request: &PolicyRequest,
        before: Option<Policy>,
    ) -> Result<Policy, BackupError> {
        let request = request.clone();
        let now = self.vaults.world.chain.time();
        let vault = request.vault.as_deref();
        let vault = match &before {
            // The vault may be gone, and is named by its id then.
            Some(Policy { vault: Some(id), .. }) if vault == Some(&id.to_string()) => Some(*id),
            _ => self.vaults.journal.read(|state| scope_of(state, vault))?,
        };
        let mut policy = Policy {
            name: before.as_ref().map_or(request.name, |before| before.name.clone()),
            kind: request.kind,
            vault,
            every: request.every,
            at: request.at,
            retention: request.retention,
            expires_in: request.expires_in,
            tags: request.tags,
            max_price: request.max_price,
            enabled: request.enabled,
            made: before.as_ref().map_or(now, |before| before.made),
            since: now,
            by: before.as_ref().map_or(self.by, |before| before.by),
        };
        if let Some(before) = before.filter(|before| policy.has_slots_of(before)) {
            policy.since = before.since;
        }
        policy.check()?;
        Ok(policy)
    }

    async fn policy_row(&self, policy: &Policy) -> Result<PolicyRow, BackupError> {
        let runs = self.runs_of(&policy.name);
        let mark = self.mark(&policy.name).await?;
        let newest = runs.iter().max_by_key(|run| run.time);
        let last = newest.map(|run| run.time).max(mark.map(|mark| mark.time));
        let from = last.unwrap_or_default().max(policy.since);
        let now = self.vaults.world.chain.time();
        let due = policy.due(from, now).filter(|due| policy.enabled && due.missed > 0);
        let missed = match (due, mark) {
            (Some(due), _) => Some((due.missed, due.slot)),
            (None, Some(Mark { missed, since, .. })) if missed > 0 => Some((missed, since)),
            _ => None,
        };
        let newest = newest.filter(|run| Some(run.time) == last);
        Ok(PolicyRow {
            policy: self.asked_for(policy),
            made: policy.made.0,
            created_by: policy.by.map(|user| user.to_string()),
            next: policy.enabled.then(|| policy.next(from).0),
            last: last.map(|time| time.0),
            last_backup: newest.map(|run| run.id.to_string()),
            last_status: newest.map(|run| run.status),
            last_error: newest.and_then(|run| run.problem.clone()),
            missed: missed.map_or(0, |(missed, _)| missed),
            missed_since: missed.map(|(_, since)| since.0),
            kept: runs.iter().filter(|run| run.status == BackupStatus::Completed).count() as u64,
        })
    }

    /// A policy as people would ask for it.
    fn asked_for(&self, policy: &Policy) -> PolicyRequest {
        let policy = policy.clone();
        let name = |id| self.vaults.journal.read(|state| vault_name(state, id));
        PolicyRequest {
            name: policy.name,
            kind: policy.kind,
            vault: policy.vault.map(name),
            every: policy.every,
            at: policy.at,
            retention: policy.retention,
            expires_in: policy.expires_in,
            tags: policy.tags,
            max_price: policy.max_price,
            enabled: policy.enabled,
        }
    }

    /// What a policy's retention makes of its backups now, or what another would; nothing is deleted.
    pub(crate) fn preview_policy(
        &self,
        name: &str,
        retention: Option<&Retention>,
    ) -> Result<Vec<PolicyVerdict>, BackupError> {
        let policy = self.stored_policy(name)?;
        let runs = self.runs_of(name);
        let verdicts = judge(retention.unwrap_or(&policy.retention), &runs);
        let row = |id: BackupId| self.row(id).ok();
        let verdicts = verdicts.into_iter().filter_map(|verdict| {
            let BackupRow { sid, name, chain_time, .. } = row(verdict.id)?;
            let (keep, reasons) = (verdict.keep, verdict.reasons);
            Some(PolicyVerdict { sid, name, chain_time, keep, reasons })
        });
        Ok(verdicts.collect())
    }

    /// Makes a policy's backup now, enabled or not; returns as soon as it is listed.
    pub(crate) async fn run_policy(&self, name: &str) -> Result<BackupRow, BackupError> {
        let _turn = self.shared.keeping.acquire().await.ok();
        let policy = self.stored_policy(name)?;
        let runs = self.runs_of(name);
        let under_way = runs.iter().find(|run| run.status == BackupStatus::InProgress);
        if let Some(run) = under_way.and_then(|run| self.record(run.id)).map(|run| run.label.name) {
            let (name, is) = (run, "of this policy is being made already");
            return Err(BackupError::Unfit { name, is });
        }
        let now = self.vaults.world.chain.time();
        self.begin(&self.request_of(&policy, now)?).await
    }

    /// The backup that a policy asks for.
    pub(super) fn request_of(
        &self,
        policy: &Policy,
        now: ChainTime,
    ) -> Result<BackupRequest, BackupError> {
        let vault = policy.vault.map(|id| self.vaults.journal.read(|state| vault_name(state, id)));
        Ok(BackupRequest {
            kind: policy.kind,
            name: self.free_name(policy, now)?,
            tags: policy.tags.clone(),
            vault,
            expires_in: policy.expires_in,
            schedule: Some(policy.name.clone()),
            max_price: policy.max_price,
            ..BackupRequest::default()
        })
    }

    /// A name that no other backup has.
    fn free_name(&self, policy: &Policy, now: ChainTime) -> Result<String, BackupError> {
        // More than one in a minute takes a person.
        let mut taken = Err(BackupError::Exists(policy.name.clone()));
        for number in 0..100 {
            let name = policy.backup_name(now, number);
            taken = self.check_name(&name, None).map(|()| name);
            if taken.is_ok() {
                break;
            }
        }
        taken
    }

    /// Whether a policy would give up one of its backups of a kind and scope for another.
    pub(super) fn would_rotate(
        &self,
        policy: &str,
        kind: super::BackupKind,
        scope: Option<samara_protocol::journal::VaultId>,
    ) -> bool {
        let Ok(policy) = self.stored_policy(policy) else { return false };
        let mut runs = self.runs_of(&policy.name);
        runs.retain(|run| (run.kind, run.scope) == (kind, scope));
        runs.push(Run {
            id: BackupId([0xff; 16]),
            kind,
            scope,
            time: self.vaults.world.chain.time(),
            status: BackupStatus::Completed,
            pinned: false,
            known: true,
            held: true,
            problem: None,
        });
        judge(&policy.retention, &runs).iter().any(|verdict| !verdict.keep)
    }
}
