//! Keys and stored things that targets check hostile bytes against. The keys are those of the golden
//! vectors, so that the vectors open.

use std::sync::OnceLock;

use samara_protocol::chain::Genesis;
use samara_protocol::chain::light::{Need, Rules};
use samara_protocol::hash::BlockHash;
use samara_protocol::ledger::{MemoryState, genesis_state};
use samara_protocol::recovery::Scan;
use samara_protocol::sector::{Outboard, SectorEntry, SectorSize};
use samara_protocol::signature::SecretKey;
use samara_protocol::units::{Amount, ChainTime, Epoch, Height};
use zeroize::Zeroizing;

use crate::synthetic::{SyntheticChain, SyntheticPlan};

/// The chain of the vectors.
pub(super) const GENESIS: BlockHash = BlockHash([7; 32]);
/// The epoch of the vectors' writer.
pub(super) const EPOCH: Epoch = Epoch { counter: 3, writer: [4; 16] };
/// Seals the vectors' heads.
pub(super) const HEAD_KEY: [u8; 32] = [0x24; 32];
/// Seals the vectors' slab descriptors.
pub(super) const SLAB_KEY: [u8; 32] = [62; 32];

/// A key of the vectors.
pub(super) fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}

/// The key of the vectors' contract.
pub(super) fn contract() -> &'static SecretKey {
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    KEY.get_or_init(|| secret(1))
}

/// A sector on a host's disk.
pub(super) struct Sector {
    pub(super) entry: SectorEntry,
    pub(super) outboard: Outboard,
    pub(super) bytes: Vec<u8>,
}

/// The sectors of a contract: 64, 16, 32 and 1 KiB.
pub(super) fn sectors() -> &'static [Sector] {
    static SECTORS: OnceLock<Vec<Sector>> = OnceLock::new();
    SECTORS.get_or_init(|| [16, 14, 15, 10].into_iter().map(sector).collect())
}

/// Their entries.
pub(super) fn entries() -> Vec<SectorEntry> {
    sectors().iter().map(|sector| sector.entry).collect()
}

fn sector(log2: u8) -> Sector {
    let size = SectorSize::from_log2(log2).expect("invariant: a sector's size");
    let bytes = crate::noise(&[log2], size.len());
    let (root, outboard) = Outboard::of(size, &bytes).expect("invariant: as many bytes as said");
    Sector { entry: SectorEntry { root, size }, outboard, bytes }
}

/// A chain of 30 blocks with records, and with a new validator set twice.
pub(super) fn blocks() -> &'static SyntheticChain {
    static CHAIN: OnceLock<SyntheticChain> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let mut plan = SyntheticPlan::new(30, 12);
        plan.changes = vec![Height(10), Height(20)];
        SyntheticChain::generate(&plan)
    })
}

/// When the light nodes here live: at the time of that chain's tip.
pub(super) const NOW: ChainTime = ChainTime(2_000_000_000_000);

/// A scan of that chain after so many true answers.
pub(super) fn scan(answers: usize) -> Scan {
    let chain = blocks();
    let mut scan = Scan::new(&chain.genesis, Rules::walk(&chain.genesis));
    for _ in 0..answers {
        let taken = match scan.next() {
            Need::Tip => scan.supply_tip(chain.tip(), NOW),
            Need::Batch { from, limit } => {
                scan.supply_batch(chain.batch(from, limit.min(8)), |_| true)
            }
            Need::Decision(height) => {
                let decision = chain.decision(height);
                let (set, certificate) = decision.expect("invariant: it asks for what there is");
                scan.supply_decision(&set, &certificate)
            }
            Need::Done => break,
        };
        taken.expect("invariant: the answers are true");
    }
    scan
}

/// The state that a genesis document with twenty accounts makes.
pub(super) fn state() -> &'static MemoryState {
    static STATE: OnceLock<MemoryState> = OnceLock::new();
    STATE.get_or_init(|| {
        let account = |byte| (secret(byte).public(), Amount::coins(u64::from(byte)));
        let genesis =
            Genesis { allocations: (1..=20).map(account).collect(), ..blocks().genesis.clone() };
        MemoryState::new(genesis_state(&genesis).expect("invariant: the document keeps the rules"))
    })
}
