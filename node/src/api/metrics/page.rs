//! A page of metrics for one scrape, as text.
//!
//! What is not known has no value: it is left out, and never 0.

use std::fmt::Error;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use samara_protocol::units::Amount;

/// The media type of [`Page::text`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a value counts. Its name is the end of the metric's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Things.
    Things,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Whole coins, with decimals.
    Coins,
}

impl Of {
    fn unit(self) -> Option<Unit> {
        match self {
            Self::Things => None,
            Self::Seconds => Some(Unit::Seconds),
            Self::Bytes => Some(Unit::Bytes),
            Self::Coins => Some(Unit::Other("coins".to_owned())),
        }
    }
}

/// The metrics of one scrape.
pub struct Page(Registry);

impl Page {
    /// An empty page; all names on it begin with `samara_`.
    pub fn new() -> Self {
        Self(Registry::with_prefix("samara"))
    }

    /// A value of this moment, if it is known.
    pub fn gauge(&mut self, name: &str, of: Of, help: &str, value: Option<f64>) {
        let Some(value) = value else { return };
        let metric = ConstGauge::new(value);
        match of.unit() {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }

    /// What has added up since the node's start.
    pub fn counter(&mut self, name: &str, of: Of, help: &str, value: u64) {
        let metric = ConstCounter::new(value);
        match of.unit() {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }

    /// Values of this moment that differ by a label; those that are not known are left out.
    pub fn gauges(
        &mut self,
        name: &str,
        of: Of,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (String, Option<f64>)>,
    ) {
        let family = Family::<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>::default();
        let mut some = false;
        for (text, value) in values {
            let Some(value) = value else { continue };
            family.get_or_create(&vec![(label, escaped(&text))]).set(value);
            some = true;
        }
        if !some {
            return;
        }
        match of.unit() {
            Some(unit) => self.0.register_with_unit(name, help, unit, family),
            None => self.0.register(name, help, family),
        }
    }

    /// The page as OpenMetrics has it.
    pub fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// A label's value as it stands between quotation marks; the encoder writes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Coins as a number. Exact to some fifteen digits: for curves and alerts, not for books.
#[allow(clippy::cast_precision_loss)] // Meant.
pub fn coins(amount: Amount) -> f64 {
    amount.0 as f64 / Amount::COIN.0 as f64
}

/// A count as a number.
#[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
pub fn number(count: u64) -> f64 {
    count as f64
}

/// Milliseconds as seconds.
pub fn seconds(milliseconds: u64) -> f64 {
    number(milliseconds) / 1_000.0
}

/// A truth as 1 or 0.
pub fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
