//! What goes wrong between two operations.

use std::collections::BTreeSet;

use samara_protocol::journal::quorum::Quorum;

use super::network::Weather;
use super::run::Run;
use super::trace::Fault;

impl Run {
    /// Changes what goes wrong.
    pub(super) async fn trouble(&mut self) {
        let count = self.hosts.count();
        let trouble = &mut self.trouble;
        if trouble.per_mille(200) {
            let (twice, overtaken) = (self.moods.twice, self.moods.overtaking);
            let (twice, overtaken) = (u64::from(twice), u64::from(overtaken));
            let weather = match trouble.below(4) {
                0 | 1 => Weather::FAIR,
                2 => Weather {
                    request_lost: 20,
                    answer_lost: 20,
                    late: 10,
                    twice: 20 * twice,
                    overtaken: 30 * overtaken,
                    delay: 60,
                },
                _ => Weather {
                    request_lost: 80,
                    answer_lost: 80,
                    late: 40,
                    twice: 80 * twice,
                    overtaken: 100 * overtaken,
                    delay: 400,
                },
            };
            let silent = if weather == Weather::FAIR { 0 } else { 30 };
            self.hosts.set_weather(weather);
            self.chain.set_faults(silent, silent);
        }
        let spare = count - Quorum::of(count).write;
        let down = (0..count).filter(|number| !self.hosts.runs(*number)).count();
        // Mostly a quorum is up; sometimes it is not.
        let most = if trouble.per_mille(100) { count } else { spare };
        let host = trouble.index(count);
        match trouble.below(10) {
            0 if down < most && self.moods.torn => self.hosts.crash_torn(host, &mut self.mischief),
            0 if down < most => self.hosts.crash(host),
            1 if down < most => self.hosts.stop(host),
            7 if !self.losses && down < most && self.hosts.runs(host) => {
                self.hosts.forge_claims(host)
            }
            8 => {
                if let Some(liar) = self.liar.filter(|_| trouble.per_mille(500)) {
                    self.hosts.show_old_heads(liar);
                }
            }
            2 => self.hosts.fail_disk(host, trouble.below(12)),
            3..=5 => {
                for number in 0..count {
                    if !self.hosts.runs(number) && trouble.per_mille(600) {
                        self.hosts.start(number);
                    }
                }
            }
            6 => {
                // A disk that failed is mended by a restart.
                if self.moods.torn {
                    self.hosts.crash_torn(host, &mut self.mischief);
                } else {
                    self.hosts.crash(host);
                }
                self.hosts.start(host);
            }
            _ => {}
        }
        self.mischief();
        let trouble = &mut self.trouble;
        if trouble.per_mille(60) {
            let host = trouble.index(count);
            let host = self.liar.filter(|_| trouble.per_mille(500)).unwrap_or(host);
            self.hosts.remember(host);
        }
        if trouble.per_mille(40) {
            self.trace.fault(Fault::RenterCrash, format_args!("m{}", self.machine.number()));
            self.die().await;
            self.reopen().await;
        }
        if self.trouble.per_mille(35) {
            self.take_over().await;
        }
        if self.trouble.per_mille(60) {
            self.visit().await;
        }
        if self.trouble.per_mille(100) {
            self.take_image();
        }
        if self.trouble.per_mille(60) {
            self.put_back().await;
        }
    }

    /// Faults of the kinds that are about in this run alone.
    fn mischief(&mut self) {
        let count = self.hosts.count();
        let (chance, moods) = (&mut self.mischief, self.moods);
        if moods.partitions && chance.per_mille(150) {
            match chance.below(3) {
                0 => self.hosts.mend_partitions(),
                _ => self.partition(self.machine.number()),
            }
        }
        let chance = &mut self.mischief;
        let host = chance.index(count);
        if moods.full && chance.per_mille(80) {
            self.hosts.fill(host);
        }
        if moods.wrong_bytes && chance.per_mille(80) {
            self.hosts.serve_wrong_bytes(host);
        }
        if let Some(liar) = self.liar.filter(|_| moods.false_receipts && chance.per_mille(120)) {
            self.hosts.forget_heads(liar);
        }
        if let Some(host) = self.rotting.filter(|_| chance.per_mille(120)) {
            self.rotten |= self.hosts.rot(host, chance);
        }
    }

    /// A machine is cut off from some hosts, mostly from fewer than half.
    pub(super) fn partition(&mut self, machine: u32) {
        let chance = &mut self.mischief;
        let share = [150, 300, 300, 600][chance.index(4)];
        let hosts: BTreeSet<usize> =
            (0..self.hosts.count()).filter(|_| chance.per_mille(share)).collect();
        self.hosts.cut_off(machine, hosts);
    }
}
