//! What happens to contracts when their time comes, before the transactions of a block.
//!
//! ```text
//!            period over                 three seeds gathered            window over, no proof
//!  Running ---------------> gathering ------------------------> waiting ------------------------+
//!     ^                                                            |                            |
//!     |                          next period, or the end           | proof                      | missed
//!     +------------------------------------------------------------+----------------------------+
//! ```
//!
//! A contract has one deadline at a time, [`Contract::due`]. A block takes the earliest ones, at most
//! as many as the chain's parameters allow. What is taken is put behind everything that was due
//! before, so a crowd of contracts delays all of them alike and starves none.
//!
//! - A period that ends while the chain's revision is empty is settled at once: nothing to prove,
//!   nothing to pay. A host that never publishes a revision earns nothing; a renter who wants the
//!   proofs publishes it with an update.
//! - The revision of a period is frozen with its opening block; why is said in [`super::contracts`].
//! - A chain that stood still over a period's end (no block for more than two heartbeats) opens the
//!   proof one window later, so that hosts can publish the revision that they want to prove.
//! - A block's hash is known only to its child. So the seeds of a period that opens in block h are the
//!   parents of h + 1, h + 2, h + 3, that is the hashes of h, h + 1, h + 2.
//! - The window counts from the opening block's time and height. After a halt of the chain a host has
//!   the whole window still, and a window never closes before the blocks it asks for were made.
//!   When only blocks are wanting, the ledger looks again after the part of the window that one
//!   block stands for, however fast the chain is, so that a host that came back late can still prove.

use super::execution::Execution;
use super::reader::{StateError, StateReader};
use super::state::{Contract, ContractPhase, StateKey};
use crate::units::{ChainTime, Millis};

impl<R: StateReader + ?Sized> Execution<'_, R> {
    /// Processes what is due at this block's time.
    pub(super) fn process_deadlines(&mut self) -> Result<(), StateError> {
        let limit = usize::try_from(self.genesis.parameters.block_deadlines).unwrap_or(usize::MAX);
        let due = self.books.overlay.base().deadlines(self.time, limit)?;
        for deadline in due {
            let contract: Contract =
                self.books.overlay.expect(&StateKey::Contract(deadline.contract))?;
            if contract.due != deadline.at {
                return Err(StateError::Deadline {
                    contract: deadline.contract,
                    recorded: deadline.at,
                    due: contract.due,
                });
            }
            self.process(contract)?;
        }
        Ok(())
    }

    /// One step of one contract whose deadline is due.
    fn process(&mut self, mut contract: Contract) -> Result<(), StateError> {
        if contract.revision.size == 0 {
            return self.settle_empty(contract);
        }
        let soon = self.time.plus(Millis(1));
        let window = contract.window_end();
        let slept = self.slept_over(contract.period_end());
        match &mut contract.phase {
            ContractPhase::Running if slept => {
                contract.due = self.time.plus(contract.terms.window).max(soon);
            }
            ContractPhase::Running => {
                let (opened, since) = (self.height, self.time);
                contract.phase = ContractPhase::Proving { opened, since, seeds: Vec::new() };
                contract.due = soon;
            }
            ContractPhase::Proving { since, seeds, .. } if seeds.len() < Contract::SEEDS => {
                seeds.push(self.parent);
                let complete = seeds.len() == Contract::SEEDS;
                let closes = since.plus(contract.terms.window).max(soon);
                contract.due = if complete { closes } else { soon };
            }
            ContractPhase::Proving { .. } => {
                let over =
                    window.is_some_and(|(time, height)| self.time >= time && self.height >= height);
                if over {
                    return self.miss(contract);
                }
                contract.due = self.time.plus(block_spacing(&contract));
            }
        }
        self.put(&contract);
        Ok(())
    }

    /// Whether the chain stood still when `end` came.
    fn slept_over(&self, end: ChainTime) -> bool {
        let longest = self.genesis.parameters.heartbeat.0.saturating_mul(2);
        self.parent_time < end && self.time.since(self.parent_time).0 > longest
    }

    /// Settles all periods that are over of a contract without data.
    fn settle_empty(&mut self, mut contract: Contract) -> Result<(), StateError> {
        let settled = periods_over(&contract, self.time);
        contract.proofs_kept = contract.proofs_kept.saturating_add(settled);
        self.next_period(contract, settled)
    }

    /// Punishes a missed proof: part of the collateral burns, nothing is paid.
    fn miss(&mut self, mut contract: Contract) -> Result<(), StateError> {
        let penalty = contract.terms.penalty(contract.revision.size).min(contract.collateral);
        self.books.burn(&mut contract.collateral, penalty)?;
        contract.proofs_missed = contract.proofs_missed.saturating_add(1);
        self.next_period(contract, 1)
    }
}

/// The time that one block of the window stands for.
fn block_spacing(contract: &Contract) -> Millis {
    let blocks = u64::from(contract.terms.window_blocks).max(1);
    Millis((contract.terms.window.0 / blocks).max(1))
}

/// Number of periods, from the current one on, whose end has come; at least the current one, whose
/// deadline was due.
fn periods_over(contract: &Contract, now: ChainTime) -> u32 {
    let late = now.since(contract.period_end()).0;
    let more = late / contract.terms.period.0.max(1);
    let left = contract.terms.periods.saturating_sub(contract.period);
    u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1).min(left)
}
