//! Thousands of random transactions, valid and hostile, over random times.
//!
//! After every block the oracle sums all money and rebuilds the root; see [`World::block`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, any, proptest};
use samara_protocol::chain::{
    Action, Genesis, Transaction, TransactionBody, Validator, ValidatorSet,
};
use samara_protocol::contract::{ContractTerms, Revision, SignedRevision, SignedVoucher};
use samara_protocol::encoding::{decode_canonical, encode};
use samara_protocol::hash::Digest;
use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::ledger::state::{Contract, ContractPhase, StateKey};
use samara_protocol::ledger::{BlockError, StateReader, validate_block};
use samara_protocol::sector::StorageProof;
use samara_protocol::signature::{PublicKey, Signature};
use samara_protocol::units::{Amount, ChainTime, Millis};

use crate::world::{
    HOST, PERIOD, RENTER, STRANGER, VALIDATORS, WINDOW, World, genesis, key, public, storage_proof,
    terms, validator_set,
};

/// Contracts that live at one time.
const CONTRACTS: usize = 12;
/// Keys that contracts are formed with: from 100 on.
const KEYS: std::ops::Range<u16> = 100..1_000;
/// Blocks of one run.
const BLOCKS: usize = 150;

/// Deterministic numbers: BLAKE3 in counter mode.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Mostly affordable, sometimes absurd.
    fn amount(&mut self) -> Amount {
        match self.below(10) {
            0 => Amount(u128::MAX - u128::from(self.below(3))),
            1 => Amount(u128::MAX / 2),
            2 => Amount::ZERO,
            3 => Amount(u128::from(self.word())),
            _ => Amount(u128::from(self.below(1_000_000_000))),
        }
    }
}

/// What happened in a run, so that a test that does nothing is seen.
#[derive(Default, Debug)]
struct Seen {
    accepted: BTreeMap<&'static str, u32>,
    refused: u32,
    kept: u32,
    missed: u32,
    tried: u32,
}

struct Run {
    world: World,
    dice: Dice,
    /// Sectors and number of the last revision signed for each contract key.
    latest: BTreeMap<u16, (u64, u64)>,
    /// The contract keys in use.
    slots: [u16; CONTRACTS],
    /// Ids of contracts that have been.
    formed: BTreeSet<PublicKey>,
    /// Revisions of contracts under proof, with their periods.
    frozen: BTreeMap<PublicKey, (u32, Revision)>,
    /// Everything that was ever sent, for replays.
    sent: Vec<Transaction>,
    seen: Seen,
}

fn run(seed: u64) -> Seen {
    let mut parameters = genesis().parameters;
    let mut dice = Dice::new(seed);
    parameters.block_deadlines = 1 + dice.below(6) as u32;
    parameters.block_transactions = 1 + dice.below(14) as u32;
    let world = World::with(Genesis { parameters, ..genesis() });
    let mut run = Run {
        world,
        dice,
        latest: BTreeMap::new(),
        slots: std::array::from_fn(|slot| KEYS.start + slot as u16),
        formed: BTreeSet::new(),
        frozen: BTreeMap::new(),
        sent: Vec::new(),
        seen: Seen::default(),
    };
    for _ in 0..BLOCKS {
        run.block();
    }
    run.seen
}

impl Run {
    fn block(&mut self) {
        let count = self.dice.below(6);
        let mut candidates = Vec::new();
        for _ in 0..count {
            // Several candidates of one block know nothing of one another, so nonces collide as well.
            let honest = self.transaction();
            candidates.extend(self.disturb(honest));
        }
        let after = match self.dice.below(24) {
            0 => PERIOD,
            1 => WINDOW,
            2 => self.dice.below(5 * PERIOD) + 1,
            _ => self.dice.below(600) + 1,
        };
        self.seen.tried += candidates.len() as u32;
        self.sent.extend(candidates.iter().cloned());
        let before = self.contracts();
        let state = self.world.state.clone();
        let tip = self.world.tip;
        let rejected = self.world.block(after, candidates.clone());
        self.seen.refused += rejected.len() as u32;
        let block = self.world.blocks.last().unwrap().clone();
        for transaction in &block.transactions {
            if let Action::RenewContract { old, terms, .. } = &transaction.body.action {
                self.follow(old, &terms.contract);
            }
            *self.seen.accepted.entry(name(&transaction.body.action)).or_default() += 1;
        }
        self.check_rules(&before.keys().copied().collect());
        for (id, now) in self.contracts() {
            let (kept, missed) = before.get(&id).copied().unwrap_or_default();
            self.seen.kept += now.0.saturating_sub(kept);
            self.seen.missed += now.1.saturating_sub(missed);
        }
        // A refused transaction makes a block that holds it invalid, wherever it stands.
        if let Some(bad) = candidates.iter().find(|c| rejected.iter().any(|(id, _)| *id == c.id()))
            && !block.transactions.iter().any(|t| t.id() == bad.id())
            && block.transactions.len() < self.world.genesis.parameters.block_transactions as usize
        {
            let mut worse = block;
            worse.transactions.insert(0, bad.clone());
            let verdict = validate_block(&state, &self.world.genesis, tip.as_ref(), &worse);
            assert!(matches!(
                verdict,
                Err(BlockError::Transaction { .. } | BlockError::Commitment { .. })
            ));
        }
    }

    /// What holds after every block, whatever was sent and in whatever order.
    fn check_rules(&mut self, before: &BTreeSet<PublicKey>) {
        let block = self.world.blocks.last().unwrap();
        let time = block.header.time;
        assert!(block.transactions.iter().all(|t| t.body.valid_until >= time), "nothing is late");
        let height = self.world.height();
        let mut proving = BTreeMap::new();
        for (key, bytes) in self.world.state.values() {
            let StateKey::Contract(id) = key else { continue };
            let contract: Contract = decode_canonical(bytes).unwrap();
            assert!(before.contains(id) || self.formed.insert(*id), "an id came back");
            if contract.phase == ContractPhase::Running {
                continue;
            }
            let now = (contract.period, contract.revision);
            if let Some(then) = self.frozen.get(id).filter(|then| then.0 == now.0) {
                assert_eq!(*then, now, "the revision moved while it was being proven");
            } else {
                assert!(!contract.is_frozen(height), "a proof opened without its block");
            }
            proving.insert(*id, now);
        }
        self.frozen = proving;
    }

    fn contracts(&self) -> BTreeMap<PublicKey, (u32, u32)> {
        let contract = |(key, bytes): (&StateKey, &[u8])| match key {
            StateKey::Contract(id) => {
                let contract: Contract = decode_canonical(bytes).unwrap();
                Some((*id, (contract.proofs_kept, contract.proofs_missed)))
            }
            _ => None,
        };
        self.world.state.values().filter_map(contract).collect()
    }

    /// A transaction as an honest node could send it, though not always at the right time.
    fn transaction(&mut self) -> Transaction {
        let slot = self.dice.below(CONTRACTS as u64) as usize;
        let mut number = self.slots[slot];
        if self.formed.contains(&public(number))
            && self.world.contract(number).is_none()
            && !self.dice.chance(10)
        {
            // Its life is over, and only a hostile renter tries to form it again.
            number = self.fresh();
            self.slots[slot] = number;
        }
        let on_chain = self.world.contract(number);
        let sender = self.dice.pick(&[RENTER, HOST, STRANGER, 50]);
        match (self.dice.below(12), on_chain) {
            (0, _) => {
                let to = self.dice.pick(&[RENTER, HOST, STRANGER, 50, 51, 100]);
                let amount = self.dice.amount();
                self.world.transfer(sender, to, amount)
            }
            (1, _) => self.announce(sender),
            (2, _) => self.change_validators(sender),
            (_, None) => self.form(number),
            (3..=5, Some(_)) => {
                let revision = self.dice.chance(80).then(|| self.next_revision(number));
                let voucher = self.voucher(number);
                let mut update = self.world.update(number, revision, voucher).body;
                update.account = public(sender);
                update.nonce = self.world.account(sender).nonce;
                Transaction::signed(update, &[&key(sender)])
            }
            (6, Some(_)) => self.renew(number),
            (7, Some(_)) => {
                let action = Action::CloseContract {
                    contract: public(number),
                    voucher: self.voucher(number),
                    settlement: self.dice.amount(),
                };
                self.world.sent(RENTER, &[number, HOST], action)
            }
            (_, Some(contract)) => self.prove(number, &contract),
        }
    }

    /// A renewed contract's slot goes on with its successor.
    fn follow(&mut self, old: &PublicKey, new: &PublicKey) {
        let successor = KEYS.clone().find(|number| public(*number) == *new).unwrap();
        if let Some(slot) = self.slots.iter_mut().find(|slot| public(**slot) == *old) {
            *slot = successor;
        }
    }

    /// A key that is no contract's yet.
    fn fresh(&self) -> u16 {
        let used =
            |number: &u16| self.slots.contains(number) || self.formed.contains(&public(*number));
        KEYS.clone().find(|number| !used(number)).unwrap()
    }

    fn announce(&mut self, sender: u16) -> Transaction {
        let length = self.dice.below(140) as usize;
        let amount = self.dice.amount();
        let announcement = HostAnnouncement {
            addresses: vec!["a".repeat(length); self.dice.below(10) as usize],
            operator: "o".repeat(length),
            capacity: self.dice.word(),
            accepting: true,
            prices: Prices {
                storage: amount,
                upload: amount,
                download: amount,
                request: amount,
                collateral_rate: amount,
                maximum_collateral: amount,
                proof_fee: amount,
                maximum_duration: Millis(self.dice.word()),
            },
        };
        self.world.sent(sender, &[], Action::AnnounceHost(announcement))
    }

    fn change_validators(&mut self, sender: u16) -> Transaction {
        let present: ValidatorSet = self.world.value(StateKey::Validators).unwrap();
        let power = self.dice.pick(&[0, 1, 2, u64::MAX]);
        let mut validators = validator_set(VALIDATORS);
        validators.truncate(self.dice.below(5) as usize);
        validators.push(Validator { key: public(VALIDATORS.start), power });
        if self.dice.chance(70) {
            validators = validator_set(VALIDATORS);
            validators[0].power = 1 + self.dice.below(3);
        }
        let action = Action::ChangeValidators { current: present.hash(), validators };
        self.world.sent(sender, &[10, 11, 12, 13][..1 + self.dice.below(4) as usize], action)
    }

    fn terms(&mut self, number: u16) -> ContractTerms {
        let mut terms = terms(number);
        terms.refund = public(self.dice.pick(&[RENTER, HOST, 50]));
        terms.periods = 1 + self.dice.below(12) as u32;
        if self.dice.chance(20) {
            terms.storage_price = self.dice.amount();
            terms.collateral_rate = self.dice.amount();
            terms.proof_fee = self.dice.amount();
        }
        if self.dice.chance(20) {
            terms.funds = self.dice.amount();
            terms.collateral = self.dice.amount();
        }
        if self.dice.chance(10) {
            terms.period = Millis(self.dice.word());
            terms.window = Millis(self.dice.word());
            terms.periods = self.dice.word() as u32;
            terms.window_blocks = self.dice.word() as u32;
        }
        terms
    }

    fn form(&mut self, number: u16) -> Transaction {
        self.latest.insert(number, (0, 0));
        let terms = self.terms(number);
        self.world.form(terms, number)
    }

    fn renew(&mut self, number: u16) -> Transaction {
        let next = if self.dice.chance(90) { self.fresh() } else { self.dice.pick(&self.slots) };
        let on_chain = self.world.contract(number).unwrap().revision;
        let mut last = SignedRevision::formed(on_chain);
        if self.dice.chance(50) {
            last = self.next_revision(number);
        }
        let sectors = last.revision.size / 1_024;
        if !self.slots.contains(&next) {
            self.latest.insert(next, (sectors, 0));
        }
        let action = Action::RenewContract {
            old: public(number),
            last,
            voucher: self.voucher(number),
            settlement: self.dice.amount(),
            terms: Box::new(self.terms(next)),
        };
        self.world.sent(RENTER, &[number, next, HOST], action)
    }

    fn next_revision(&mut self, number: u16) -> SignedRevision {
        let sectors = self.dice.below(6);
        let latest = self.latest.entry(number).or_default();
        *latest = (sectors, latest.1 + 1);
        self.world.revision(number, latest.1, sectors)
    }

    fn voucher(&mut self, number: u16) -> Option<SignedVoucher> {
        let total = self.dice.amount();
        self.dice.chance(50).then(|| self.world.voucher(number, total.0))
    }

    fn prove(&mut self, number: u16, contract: &Contract) -> Transaction {
        let latest = self.latest.get(&number).copied().unwrap_or_default();
        let mut sectors = contract.revision.size / 1_024;
        if self.dice.chance(10) {
            // The host would rather prove what it signed later.
            sectors = latest.0;
        }
        let seed = contract.challenge().unwrap_or(Digest::ZERO);
        let action = Action::ProveStorage {
            contract: public(number),
            period: contract.period,
            voucher: self.voucher(number),
            proof: storage_proof(&seed, sectors),
        };
        self.world.sent(HOST, &[], action)
    }

    /// Most of the time nothing; else one of the things that an attacker does.
    fn disturb(&mut self, honest: Transaction) -> Vec<Transaction> {
        let mut changed = honest.clone();
        match self.dice.below(30) {
            0 => changed.body.nonce = self.dice.pick(&[0, 1, u64::MAX, changed.body.nonce + 1]),
            1 => changed.body.fee = self.dice.amount(),
            2 => changed.signatures.clear(),
            3 => changed.signatures.push(changed.signatures[0]),
            4 => changed.signatures[0].1 = Signature([self.dice.word() as u8; 64]),
            5 => changed.signatures[0].0 = public(STRANGER),
            6 => changed.body.genesis.0[0] ^= 1,
            7 => return vec![honest.clone(), honest],
            8 if !self.sent.is_empty() => {
                let index = self.dice.below(self.sent.len() as u64) as usize;
                changed = self.sent[index].clone();
            }
            9 | 10 => return self.mangle(&honest).into_iter().collect(),
            11 => {
                // Everything signed as it should be, over a fee or nonce that is not.
                changed.body.fee = self.dice.amount();
                let signers: Vec<PublicKey> = honest.signatures.iter().map(|(k, _)| *k).collect();
                changed = sign_again(changed.body, &signers);
            }
            13 => {
                // An agreement that is handed in when it is over, or at its last moment.
                let now = self.world.now().0;
                changed.body.valid_until = ChainTime(now + self.dice.below(1_200));
                let signers: Vec<PublicKey> = honest.signatures.iter().map(|(k, _)| *k).collect();
                changed = sign_again(changed.body, &signers);
                self.sent.push(changed.clone());
            }
            12 => {
                if let Action::ProveStorage { proof, .. } = &mut changed.body.action {
                    *proof = StorageProof::default();
                }
                changed = Transaction::signed(changed.body, &[&key(HOST)]);
            }
            _ => {}
        }
        vec![changed]
    }

    /// Changes bytes and decodes what comes out, as a peer's message would be.
    fn mangle(&mut self, honest: &Transaction) -> Option<Transaction> {
        let mut bytes = encode(honest);
        for _ in 0..=self.dice.below(4) {
            let index = self.dice.below(bytes.len() as u64) as usize;
            bytes[index] = self.dice.word() as u8;
        }
        if self.dice.chance(10) {
            bytes.truncate(self.dice.below(bytes.len() as u64) as usize);
        }
        decode_canonical(&bytes).ok()
    }
}

fn sign_again(body: TransactionBody, signers: &[PublicKey]) -> Transaction {
    let keys: Vec<_> =
        (0..20).chain(KEYS).filter(|n| signers.contains(&public(*n))).map(key).collect();
    Transaction::signed(body, &keys.iter().collect::<Vec<_>>())
}

const fn name(action: &Action) -> &'static str {
    match action {
        Action::Transfer { .. } => "transfer",
        Action::AnnounceHost(_) => "announce",
        Action::FormContract(_) => "form",
        Action::UpdateContract { .. } => "update",
        Action::RenewContract { .. } => "renew",
        Action::ProveStorage { .. } => "prove",
        Action::CloseContract { .. } => "close",
        Action::ChangeValidators { .. } => "validators",
    }
}

#[test]
fn random_histories_conserve_money_and_reach_every_rule() {
    let mut sum = Seen::default();
    for seed in 0..16 {
        let seen = run(seed);
        for (name, count) in seen.accepted {
            *sum.accepted.entry(name).or_default() += count;
        }
        sum.refused += seen.refused;
        sum.kept += seen.kept;
        sum.missed += seen.missed;
        sum.tried += seen.tried;
    }
    assert_eq!(sum.accepted.len(), 8, "{sum:?}");
    assert!(sum.accepted.values().all(|count| *count >= 20), "{sum:?}");
    assert!(sum.tried > 5_000 && sum.refused > 1_000, "{sum:?}");
    assert!(sum.kept > 50 && sum.missed > 50, "{sum:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_history_conserves_money(seed in any::<u64>()) {
        run(seed);
    }

    #[test]
    fn any_bytes_are_a_transaction_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut world = World::with_contract(1);
        if let Ok(transaction) = decode_canonical::<Transaction>(&bytes) {
            let before = world.state.value(&StateKey::Totals).unwrap();
            world.refused(transaction);
            assert_eq!(world.state.value(&StateKey::Totals).unwrap(), before);
        }
    }
}
