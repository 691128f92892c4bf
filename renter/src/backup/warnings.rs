//! What people are warned of before it happens: once for each backup and cause, for as long as it lasts.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::encoding;
use samara_protocol::journal::BackupId;
use samara_protocol::units::{Amount, ChainTime, Millis};
use serde::{Deserialize, Serialize};

use super::Backups;
use super::types::{BackupRow, BackupStatus};
use crate::news::News;
use crate::world::{Store, StoreError, Write};

/// Where it is kept what people were warned of.
const KEY: &[u8] = b"warned";
/// Version of that.
const VERSION: u8 = 1;
/// A backup that expires so soon is told of, or within a tenth of its life if that is shorter.
const EXPIRING: Millis = Millis::hours(3 * 24);
/// Contracts that end so soon are told of, or within a fifth of their term if that is shorter.
const ENDING: Millis = Millis::hours(14 * 24);

/// Something that lasts and is told of once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Warning {
    /// It expires soon.
    Expiring(BackupId),
    /// The contracts that it needs end soon.
    Recoverable(BackupId),
    /// The money is running out.
    Allowance,
}

/// What the contractor has last seen of the money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Money {
    /// What the account has.
    pub(crate) balance: Amount,
    /// Contracts with too little money for further files, which a renewal would not change.
    pub(crate) poor: u64,
    /// Contracts that the account could not renew.
    pub(crate) unpaid: u64,
}

impl Money {
    const fn is_low(&self) -> bool {
        self.poor > 0 || self.unpaid > 0
    }
}

/// What people were warned of and still lasts.
pub(super) async fn load(store: &dyn Store) -> Result<BTreeSet<Warning>, StoreError> {
    let stored = store.read(KEY).await?;
    let decoded = stored.and_then(|value| encoding::decode::<(u8, _)>(&value).ok());
    Ok(decoded.filter(|(version, _)| *version == VERSION).map(|(_, told)| told).unwrap_or_default())
}

impl Backups {
    /// Tells what people have not been told yet.
    pub(super) async fn warn(&self, money: Option<Money>) -> Result<(), StoreError> {
        let told = self.warned().clone();
        let lasting = self.lasting(money, &told);
        for (warning, news) in &lasting {
            if !told.contains(warning) {
                news.iter().cloned().for_each(|news| self.announce(news));
            }
        }
        let lasting: BTreeSet<Warning> = lasting.into_keys().collect();
        if lasting != told {
            // Told before it is written down: after a crash twice is better than never.
            let put = Write::Put(KEY.to_vec(), encoding::encode(&(VERSION, &lasting)));
            self.vaults.world.store.commit(vec![put]).await?;
            *self.warned() = lasting;
        }
        Ok(())
    }

    /// What people should know now, with the news of it. Where nothing is known, what was told before lasts.
    fn lasting(
        &self,
        money: Option<Money>,
        told: &BTreeSet<Warning>,
    ) -> BTreeMap<Warning, Option<News>> {
        let now = self.vaults.world.chain.time();
        let ends = self.recoverable_until();
        let notice = self.notice();
        let mut lasting = BTreeMap::new();
        for row in self.list() {
            let Ok(id) = row.sid.parse::<BackupId>() else { continue };
            if row.status != BackupStatus::Completed {
                continue;
            }
            if expires_soon(&row, now) {
                let news = News::Expiring(Box::new(row.clone()));
                lasting.insert(Warning::Expiring(id), Some(news));
            }
            let warning = Warning::Recoverable(id);
            if row.recoverable_until.is_some_and(|ends| ChainTime(ends).since(now) <= notice) {
                lasting.insert(warning, Some(News::RecoverableNear(Box::new(row))));
            } else if ends.is_none() && told.contains(&warning) {
                lasting.insert(warning, None);
            }
        }
        match money {
            Some(money) if money.is_low() => {
                let Money { balance, poor, unpaid } = money;
                let news = News::AllowanceLow { balance, poor, unpaid };
                lasting.insert(Warning::Allowance, Some(news));
            }
            None if told.contains(&Warning::Allowance) => {
                lasting.insert(Warning::Allowance, None);
            }
            _ => {}
        }
        lasting
    }

    /// How long before their end contracts are told of.
    fn notice(&self) -> Millis {
        let live = self.vaults.slabs.book().live();
        let shortest = live.iter().map(|contract| contract.terms().duration()).min();
        Millis(shortest.map_or(ENDING.0, |term| ENDING.0.min(term.0 / 5)))
    }
}

/// Whether a backup is about to be deleted by itself.
fn expires_soon(row: &BackupRow, now: ChainTime) -> bool {
    let Some(expires) = row.date_expired.filter(|_| !row.pinned).map(ChainTime) else {
        return false;
    };
    let life = expires.since(ChainTime(row.chain_time));
    expires.since(now) <= Millis(EXPIRING.0.min(life.0 / 10))
}
