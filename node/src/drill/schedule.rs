//! Drills that come by themselves.
//!
//! The schedule is a setting of the renter's journal, so it comes back from the words. Time is the chain's:
//! a machine whose clock is wrong makes neither too many nor too few. However many were missed while the
//! node was down, one is made.

use std::time::Duration;

use samara_protocol::sync::lock;
use samara_protocol::units::Amount;
use samara_renter::backup::Trigger;
use samara_renter::progress::Silent;
use samara_renter::rows::RenterState;
use samara_renter::world::ChainView as _;
use serde::{Deserialize, Serialize};

use super::error::DrillError;
use super::types::{DrillOptions, DrillSchedule, DrillScheduleRow};
use super::{Drills, Inner};

/// Name of the setting.
const SETTING: &str = "drill";
/// Shortest time between two in seconds, as policies have it. Tests wait for one.
const SHORTEST: u64 = if cfg!(test) { 2 } else { 60 };
/// Time between two looks at the chain's time.
const LOOK: Duration = Duration::from_secs(30);

/// The setting's value, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    version: u8,
    /// Seconds.
    every: u64,
    share: u16,
    max_price: Option<Amount>,
    /// Chain time from which on the first one is counted.
    since: u64,
}

impl Stored {
    const VERSION: u8 = 1;

    fn read(value: &[u8]) -> Result<Self, DrillError> {
        let stored: Self = serde_json::from_slice(value).map_err(unreadable)?;
        if stored.version == Self::VERSION {
            return Ok(stored);
        }
        Err(DrillError::Schedule(format!("it has version {}", stored.version)))
    }

    /// When the next one is due, by the chain's time.
    fn next(&self, last: Option<u64>) -> u64 {
        let from = last.unwrap_or_default().max(self.since);
        from.saturating_add(self.every.saturating_mul(1_000))
    }

    const fn options(&self) -> DrillOptions {
        DrillOptions { share: self.share, max_price: self.max_price }
    }
}

impl Drills {
    /// The schedule, and when the next one is due.
    ///
    /// # Errors
    /// [`DrillError::Schedule`].
    pub fn schedule(&self) -> Result<DrillScheduleRow, DrillError> {
        let (stored, last) = (self.stored()?, *lock(&self.0.last));
        let options = stored.map_or_else(DrillOptions::default, |stored| stored.options());
        Ok(DrillScheduleRow {
            every: stored.map_or(0, |stored| stored.every),
            share: options.share,
            max_price: options.max_price,
            last,
            next: stored.map(|stored| stored.next(last)),
        })
    }

    /// Sets it; acknowledged when it returns.
    ///
    /// # Errors
    /// [`DrillError::Often`], [`DrillError::Journal`].
    pub async fn set_schedule(&self, wanted: DrillSchedule) -> Result<(), DrillError> {
        if (1..SHORTEST).contains(&wanted.every) {
            return Err(DrillError::Often { every: wanted.every, shortest: SHORTEST });
        }
        let Inner { parts, changed, .. } = &*self.0;
        let options = DrillOptions::default();
        let stored = Stored {
            version: Stored::VERSION,
            every: wanted.every,
            share: wanted.share.unwrap_or(options.share),
            max_price: wanted.max_price,
            // Another share or price does not put the next one off.
            since: match self.stored() {
                Ok(Some(before)) if before.every == wanted.every => before.since,
                _ => parts.light.time().0,
            },
        };
        let value = match wanted.every {
            0 => Vec::new(),
            _ => serde_json::to_vec(&stored).map_err(unreadable)?,
        };
        parts.renter.set(vec![(SETTING.to_owned(), value)]).await?;
        changed.notify_one();
        Ok(())
    }

    fn stored(&self) -> Result<Option<Stored>, DrillError> {
        let settings = self.0.parts.renter.settings(SETTING);
        let Some((_, value)) = settings.into_iter().find(|(name, _)| name == SETTING) else {
            return Ok(None);
        };
        Stored::read(&value).map(Some)
    }

    /// Makes drills when they are due. Ends with the renter's tasks.
    pub async fn keep_schedule(self) {
        let mut told = false;
        loop {
            match self.due() {
                Ok(Some(options)) => match self.run(options, Trigger::Schedule, &Silent).await {
                    Ok(_) | Err(DrillError::Running) => {}
                    Err(error) => tracing::warn!(%error, "a drill that is due was not begun"),
                },
                Ok(None) => told = false,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "no drills are made by themselves");
                }
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What is to be done now, if something is. A node that does not write leaves it to the one that does.
    fn due(&self) -> Result<Option<DrillOptions>, DrillError> {
        let parts = &self.0.parts;
        if parts.renter.state() != RenterState::Active {
            return Ok(None);
        }
        let (now, last) = (parts.light.time().0, *lock(&self.0.last));
        let due = self.stored()?.filter(|stored| now >= stored.next(last));
        Ok(due.map(|stored| stored.options()))
    }
}

fn unreadable(error: serde_json::Error) -> DrillError {
    DrillError::Schedule(error.to_string())
}

#[cfg(test)]
mod tests {
    use samara_renter::error::Coded as _;

    use super::*;

    #[test]
    fn a_setting_that_is_none_is_not_the_clients_fault() {
        let newer = r#"{"version":2,"every":10,"share":50,"max_price":null,"since":0}"#;
        for text in ["{", newer] {
            let error = Stored::read(text.as_bytes()).unwrap_err();
            let code = crate::api::codes::find(error.code()).unwrap();
            assert_eq!(code.status, 500);
            assert!(code.hint.unwrap().contains("samara drill schedule"));
        }
    }

    #[test]
    fn what_was_missed_is_made_once() {
        let stored = Stored { version: 1, every: 10, share: 50, max_price: None, since: 5_000 };
        assert_eq!(stored.next(None), 15_000);
        // One from before the schedule was set does not count for it.
        assert_eq!(stored.next(Some(1_000)), 15_000);
        // Many were missed until 95,000; the one that was made then is followed by the next.
        assert_eq!(stored.next(Some(95_000)), 105_000);
    }
}
