//! A machine's folder that is put back: an older copy of its disk writes under the same epoch, beside
//! the machine or in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use samara_renter::Renter;

use super::machine::{Ended, Machine};
use super::model::Effect;
use super::run::{LIMIT, Run};
use super::trace::Fault;

/// Changes that a copy tries, at most.
const CHANGES: u64 = 5;

/// A disk as it once was.
pub(super) struct Image {
    /// The number of its machine.
    machine: u32,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Run {
    /// Takes an image of the machine's disk.
    pub(super) fn take_image(&mut self) {
        let rows = self.machine.disk();
        self.image = Some(Image { machine: self.machine.number(), rows });
    }

    /// The image is put to use: its machine writes where hosts answer that the other one may not have
    /// reached, and the other one where it pleases. Then both are lost, and a fresh machine takes over.
    pub(super) async fn put_back(&mut self) {
        let current = |image: &Image| image.machine == self.machine.number();
        let Some(image) = self.image.take().filter(current) else { return };
        self.trace.fault(Fault::PutBack, format_args!("m{}", image.machine));
        let copy = Machine::with_disk(self.seed, self.machines, image.rows, self.trace.clone());
        self.machines += 1;
        let beside = self.trouble.per_mille(500);
        if !beside {
            self.die().await;
        }
        self.change_hosts();
        if let Some(renter) = self.open_copy(&copy).await {
            self.copy_writes(&copy, &renter).await;
            if beside && let Some(old) = self.renter.clone() {
                self.change_hosts();
                let (effect, put) = self.last_words(old, self.machine.clone());
                if put.await {
                    self.model.acknowledge(effect);
                } else {
                    self.model.doubt(effect);
                }
                self.change_hosts();
                self.copy_writes(&copy, &renter).await;
            }
        }
        copy.crash().await;
        self.die().await;
        self.machine = Machine::new(self.seed, self.machines, self.trace.clone());
        self.machines += 1;
        self.take_over_from_nobody().await;
    }

    /// Other hosts answer than before: mostly those that did not.
    fn change_hosts(&mut self) {
        for number in 0..self.hosts.count() {
            match (self.hosts.runs(number), self.trouble.per_mille(700)) {
                (true, true) => self.hosts.stop(number),
                (false, true) => self.hosts.start(number),
                _ => {}
            }
        }
    }

    async fn open_copy(&mut self, copy: &Arc<Machine>) -> Option<Renter> {
        let world = copy.world(&self.chain, &self.hosts, &self.files);
        let opening = Renter::open(world, self.keys.clone(), self.config);
        match copy.attempt(None, LIMIT, opening).await {
            Ended::Done(Ok(renter)) => Some(renter),
            Ended::Done(Err(error)) => {
                self.trace.violation(format!("a copy does not open: {error}"));
                None
            }
            _ => None,
        }
    }

    /// A copy may be as good as the machine; then what it acknowledges counts as well.
    async fn copy_writes(&mut self, copy: &Arc<Machine>, renter: &Renter) {
        for _ in 0..=self.trouble.below(CHANGES) {
            self.copied += 1;
            let name = format!("copy {}", self.copied);
            let effect = Effect::CreateVault(name.clone());
            match copy.attempt(None, LIMIT, renter.create_vault(&name)).await {
                Ended::Done(Ok(_)) => {
                    self.trace.event(format_args!("the copy made '{name}'"));
                    self.model.acknowledge(effect);
                }
                Ended::Done(Err(error)) => {
                    self.trace.event(format_args!("the copy is refused '{name}': {error}"));
                    self.model.doubt(effect);
                }
                _ => self.trace.violation("a copy's write does not end".into()),
            }
        }
    }
}
