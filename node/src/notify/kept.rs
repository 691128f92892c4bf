//! A notice that is kept, its deliveries, and how both are written.

use samara_protocol::encoding::{self, DecodeError};
use samara_protocol::units::ChainTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::notice::{Kind, Notice, NoticeId, Severity};
use super::settings::WebhookId;

/// Version of a row written by this program.
const ROW_VERSION: u8 = 1;

/// Where a notice is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// By mail, to all recipients.
    Mail,
    /// To a webhook.
    Webhook(WebhookId),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mail => f.write_str("mail"),
            Self::Webhook(id) => write!(f, "webhook {id}"),
        }
    }
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be tried at this time.
    Waiting(ChainTime),
    /// Done.
    Delivered(ChainTime),
    /// Tried for too long.
    GivenUp(ChainTime),
    /// There is no such mail or webhook any more.
    Dropped,
}

/// One delivery of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Where to.
    pub target: Target,
    /// How far it is.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl Delivery {
    /// One that is to be tried at this time.
    #[must_use]
    pub const fn due(target: Target, time: ChainTime) -> Self {
        Self { target, state: State::Waiting(time), attempts: 0, error: None }
    }
}

/// A notice that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// The notice.
    pub notice: Notice,
    /// When it was taken.
    pub taken: ChainTime,
    /// Whether nobody wants to see it any more.
    pub dismissed: bool,
    /// Its deliveries; `None` while it is not known where to.
    pub deliveries: Option<Vec<Delivery>>,
}

impl Kept {
    /// As it is stored.
    #[must_use]
    pub(super) fn encode(&self) -> Vec<u8> {
        encoding::encode(&Row::of(self))
    }

    /// Whether nothing is to be done for it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let waits = |delivery: &Delivery| matches!(delivery.state, State::Waiting(_));
        self.deliveries.as_ref().is_some_and(|deliveries| !deliveries.iter().any(waits))
    }
}

/// A notice as it is stored. JSON is kept as text.
#[derive(Serialize, Deserialize)]
struct Row {
    version: u8,
    id: [u8; 16],
    kind: Kind,
    time: ChainTime,
    severity: Severity,
    subject: String,
    text: String,
    data: String,
    taken: ChainTime,
    dismissed: bool,
    deliveries: Option<Vec<Delivery>>,
}

impl Row {
    fn of(kept: &Kept) -> Self {
        let notice = &kept.notice;
        Self {
            version: ROW_VERSION,
            id: notice.id.0,
            kind: notice.kind,
            time: notice.time,
            severity: notice.severity,
            subject: notice.subject.clone(),
            text: notice.text.clone(),
            data: notice.data.to_string(),
            taken: kept.taken,
            dismissed: kept.dismissed,
            deliveries: kept.deliveries.clone(),
        }
    }

    fn decode(number: u64, bytes: &[u8]) -> Result<Kept, DecodeError> {
        let row: Self = encoding::decode(bytes)?;
        if row.version != ROW_VERSION {
            let (what, reason) = ("Row", format!("version {}", row.version));
            return Err(DecodeError::Malformed { what, reason });
        }
        let notice = Notice {
            id: NoticeId(row.id),
            kind: row.kind,
            time: row.time,
            severity: row.severity,
            subject: row.subject,
            text: row.text,
            data: serde_json::from_str(&row.data).unwrap_or(Value::Null),
        };
        let Self { taken, dismissed, deliveries, .. } = row;
        Ok(Kept { number, notice, taken, dismissed, deliveries })
    }
}

/// Reads what [`Kept::encode`] has written.
pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Kept, DecodeError> {
    Row::decode(number, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::News;

    #[test]
    fn what_earlier_programs_wrote_is_read() {
        let mut delivery = Delivery::due(Target::Mail, ChainTime(300));
        delivery.error = Some("busy".to_owned());
        let hook = Target::Webhook(WebhookId([2; 8]));
        let kept = Kept {
            number: 7,
            notice: News::Test {}.notice(NoticeId([1; 16]), ChainTime(1)),
            taken: ChainTime(2),
            dismissed: false,
            deliveries: Some(vec![delivery, Delivery::due(hook, ChainTime(5))]),
        };
        assert_eq!(
            hex::encode(kept.encode()),
            "01010101010101010101010101010101010f010014546573743a206e6f746963657320617272\
             6976653254686973206973206120746573742e204e6f7469636573206f662074686973206e6f\
             64652061727269766520686572652e0a0f7b226e657773223a2274657374227d020001020000\
             ac020001046275737901103032303230323032303230323032303200050000"
        );
        assert_eq!(decode(7, &kept.encode()), Ok(kept));
    }

    #[test]
    fn another_version_is_refused() {
        assert!(decode(1, &[2]).is_err());
    }
}
