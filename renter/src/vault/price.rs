//! What moving and keeping bytes costs at most: by the highest prices that any host of a live contract asks.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use samara_protocol::units::{Amount, Millis};

use super::Vaults;
use crate::contract::ContractHandle;
use crate::transfer::SlabClass;

/// How long hosts are waited for that do not tell their prices.
const PATIENCE: Millis = Millis::seconds(3);

/// Requests that one slab takes at each host at most.
const REQUESTS: u64 = 8;
/// Plaintext bytes of one slab at least, where there are many.
const SLAB: u64 = 1 << 20;
/// Who reads may have to ask for so many times as much, where hosts do not answer.
const SPARE: u128 = 2;

/// The highest prices of live contracts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Highest {
    pub(crate) upload: Amount,
    pub(crate) download: Amount,
    pub(crate) request: Amount,
    pub(crate) storage: Amount,
    /// Hours until the last contract ends.
    pub(crate) hours: u64,
}

impl Highest {
    /// The most that reading so many bytes costs with so many requests.
    pub(crate) fn of_reading(&self, bytes: u64, requests: u64) -> Amount {
        let read = self.download.saturating_mul(bytes.into());
        read.saturating_add(self.request.saturating_mul(requests.into())).saturating_mul(SPARE)
    }
}

/// What storing costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorePrice {
    /// Bytes that hosts hold for it at most, parity and padding included.
    pub(crate) stored: u64,
    /// The price at most, until the last contract ends.
    pub(crate) price: Amount,
    /// Of it, what a stored byte costs to be kept.
    pub(crate) keeping: Amount,
}

impl Vaults {
    pub(crate) async fn highest_prices(&self) -> Highest {
        let now = self.world.chain.time();
        let mut highest = Highest::default();
        let live = self.slabs.book().live();
        for contract in &live {
            let hours = contract.ends().since(now).0.div_ceil(3_600_000);
            highest.hours = highest.hours.max(hours);
            highest.storage = highest.storage.max(contract.terms().storage_price);
        }
        // A host that does not tell its price in time is asked again by whoever pays it.
        let mut asked: FuturesUnordered<_> = live.iter().map(ContractHandle::prices).collect();
        let mut patience = self.world.clock.sleep(PATIENCE);
        loop {
            let answer = tokio::select! {
                biased;
                answer = asked.next() => answer,
                () = &mut patience => None,
            };
            let Some(answer) = answer else { break };
            let Ok(signed) = answer else { continue };
            highest.upload = highest.upload.max(signed.prices.upload);
            highest.download = highest.download.max(signed.prices.download);
            highest.request = highest.request.max(signed.prices.request);
        }
        highest
    }

    /// What storing so many bytes in slabs of a class costs.
    pub(crate) fn price_of(&self, bytes: u64, class: SlabClass, prices: &Highest) -> StorePrice {
        let redundancy = self.slabs.redundancy().for_class(class);
        let total = u64::from(redundancy.total);
        // Columns are powers of two, so that half of a slab may be padding.
        let sealed = bytes.saturating_mul(2);
        let stored = sealed.saturating_mul(total).div_ceil(u64::from(redundancy.data).max(1));
        let slabs = bytes.div_ceil(SLAB).saturating_add(REQUESTS);
        let requests = slabs.saturating_mul(total).saturating_mul(REQUESTS);
        let keeping = prices.storage.saturating_mul(prices.hours.into());
        let sent = prices.upload.saturating_add(keeping).saturating_mul(stored.into());
        let price = sent.saturating_add(prices.request.saturating_mul(requests.into()));
        StorePrice { stored, price, keeping }
    }

    /// What storing bytes of files costs at most.
    pub(crate) async fn price_of_data(&self, bytes: u64) -> Amount {
        if bytes == 0 {
            return Amount::ZERO;
        }
        let prices = self.highest_prices().await;
        // The last slab may be a small one with little in it.
        self.price_of(bytes.saturating_add(SLAB), SlabClass::Data, &prices).price
    }
}
