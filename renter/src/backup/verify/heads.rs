//! Heads, asked anew of every host with a live contract.

use futures::{FutureExt as _, StreamExt as _};
use samara_protocol::journal::Backup;
use samara_protocol::journal::head::{self, HeadError};

use super::types::{VerifyHost, VerifyProblem, VerifyProblemKind, VerifyReport};
use crate::backup::{BackupError, Backups, held_from};
use crate::contract::ContractHandle;
use crate::journal::JournalError;

/// Hosts asked at one time; each may answer with 1 MiB.
const PARALLEL: usize = 16;
/// What to do where too few hosts have the names.
const ADVICE: &str = "leave the node running: it writes its head to hosts that answer, by itself; `samara hosts` shows \
     who does not";

impl Backups {
    /// Asks all hosts for their heads, and counts those that hold the backup's event.
    pub(super) async fn verify_heads(
        &self,
        backup: &Backup,
        report: &mut VerifyReport,
    ) -> Result<(), BackupError> {
        let position = held_from(backup);
        let live = self.vaults.slabs.book().live();
        // Boxed, or the compiler cannot tell that the whole may move between threads.
        let calls: Vec<_> = live.iter().map(|host| self.head_of(host, position).boxed()).collect();
        let mut answers = futures::stream::iter(calls).buffered(PARALLEL);
        let mut others = Vec::new();
        let mut hosts = live.iter();
        while let (Some(host), Some(answer)) = (hosts.next(), answers.next().await) {
            match answer? {
                None => report.heads_ok += 1,
                Some(reason) => {
                    others.push(VerifyHost { host: Some(host.host().to_string()), reason });
                }
            }
        }
        report.heads_total = live.len() as u64;
        report.heads_needed = self.needed(live.len()) as u64;
        if report.heads_ok < report.heads_needed {
            let (ok, needed) = (report.heads_ok, report.heads_needed);
            report.note(VerifyProblem {
                kind: VerifyProblemKind::Heads,
                file: None,
                slab: None,
                hosts: others,
                message: format!("{ok} of the {needed} hosts needed show a head that holds it"),
                advice: ADVICE.to_owned(),
            });
        }
        Ok(())
    }

    /// Why a host's head does not hold a position; nothing if it does.
    async fn head_of(
        &self,
        host: &ContractHandle,
        position: u64,
    ) -> Result<Option<String>, JournalError> {
        let answer = match host.head().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let key = self.vaults.slabs.book().keys().head(&host.id());
        let genesis = self.vaults.world.chain.genesis().hash();
        let slot = &answer.status.slot;
        let head = match head::open(key.as_bytes(), &genesis, &host.id(), slot, &answer.head) {
            Ok(head) => head,
            Err(HeadError::Empty) => return Ok(Some("it holds no head".to_owned())),
            Err(error) => return Ok(Some(format!("its head is of no use: {error}"))),
        };
        let at = head.point.position;
        Ok(if at < position {
            Some(format!("its head is at position {at}, before {position}"))
        } else if self.vaults.journal.leads_to(&head).await? {
            None
        } else {
            Some(format!("its head at position {at} is of another copy of this node"))
        })
    }
}
