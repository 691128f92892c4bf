//! Notices to webhooks: a POST of JSON, signed.
//!
//! | header | |
//! | --- | --- |
//! | `Samara-Id` | the notice's id, the same at each try |
//! | `Samara-Timestamp` | seconds since the Unix epoch at this try |
//! | `Samara-Signature` | `v1=` and HMAC-SHA-256 of the timestamp, a full stop and the body, in hex |

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use reqwest::header::CONTENT_TYPE;
use samara_protocol::units::ChainTime;
use sha2::Sha256;
use tokio::time::timeout;

use super::notice::Notice;
use super::settings::Webhook;
use crate::causes;
use crate::fetch::{FetchError, Network, Resolver, Target};
use crate::tls::{self, ExtraRoots};

/// For all of one try.
const TOTAL: Duration = Duration::from_secs(10);

/// Why a webhook was not told.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Its URL or address.
    #[error(transparent)]
    Address(#[from] FetchError),
    /// The answer is not that it was taken.
    #[error("{server} answers with status {status}: it must be one of 200 to 299")]
    Status {
        /// Scheme, host and port.
        server: String,
        /// HTTP status.
        status: u16,
    },
    /// It does not want to be told any more (status 410).
    #[error("{0} is gone (status 410): it wants to be told nothing any more")]
    Gone(String),
    /// No answer.
    #[error("{server} does not answer ({reason})")]
    NoAnswer {
        /// Scheme, host and port.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// It takes too long.
    #[error("{0} did not answer within {total} s", total = TOTAL.as_secs())]
    Slow(String),
    /// The notice cannot be written.
    #[error("the notice cannot be written as JSON")]
    Body(#[from] serde_json::Error),
}

/// Tells webhooks.
#[derive(Clone)]
pub struct Hooks {
    /// Finds their addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Networks of the operator's own that may be dialled.
    pub allowed: Arc<[Network]>,
}

impl Hooks {
    /// Tells one, once.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub async fn send(
        &self,
        hook: &Webhook,
        notice: &Notice,
        now: ChainTime,
    ) -> Result<(), WebhookError> {
        let target = Target::parse(&hook.url)?;
        let slow = |_| WebhookError::Slow(target.server());
        timeout(TOTAL, self.post(&target, hook, notice, now)).await.map_err(slow)?
    }

    async fn post(
        &self,
        target: &Target,
        hook: &Webhook,
        notice: &Notice,
        now: ChainTime,
    ) -> Result<(), WebhookError> {
        let checked = target.resolve(self.resolver.as_ref(), &self.allowed).await?;
        let tls = tls::client(&ExtraRoots::default()).or_else(|error| {
            // Without TLS nobody needs to be trusted.
            if target.url().scheme() == "http" { Ok(tls::nobody()) } else { Err(error) }
        });
        let client = checked.client(tls.map_err(FetchError::from)?, TOTAL)?;
        let body = serde_json::to_vec(notice)?;
        let timestamp = (now.0 / 1_000).to_string();
        let signature = signature(hook.secret.reveal(), &timestamp, &body);
        let request = client
            .post(target.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header("samara-id", notice.id.to_string())
            .header("samara-timestamp", &timestamp)
            .header("samara-signature", signature)
            .body(body);
        let server = target.server();
        // The answer's body is not read.
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) if answer.status().as_u16() == 410 => Err(WebhookError::Gone(server)),
            Ok(answer) => Err(WebhookError::Status { server, status: answer.status().as_u16() }),
            Err(error) => {
                let reason = causes::with_causes(&error.without_url());
                Err(WebhookError::NoAnswer { server, reason })
            }
        }
    }
}

/// What a body is signed with: `v1=` and hex.
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .expect("invariant: HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_other_programs_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let signed = signature("0123456789abcdef", "1700000000", br#"{"a":1}"#);
        assert_eq!(signed, "v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23");
    }
}
