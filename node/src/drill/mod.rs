//! Drills: recoveries of this node's words into a node that is thrown away.
//!
//! ```text
//! names here -> second renter, empty -> recovery that only reads -> names there -> some files -> report
//!                 |                                                                            |
//!                 +-- a folder of its own, which is gone afterwards ---------------------------+
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `types` | options, reports, schedules |
//! | `run` | one drill from its first to its last step |
//! | `names` | what a renter lists, and what differs |
//! | `reports` | the reports on disk |
//! | `schedule` | drills that come by themselves |
//!
//! The second renter has the words' keys, the chain and the hosts, and nothing else of this node: neither
//! its database nor its files. It claims no epoch and writes to no host, so the renter that runs goes on.
//!
//! Invariants: one drill at a time; nothing that it brings back outlives it, also not a crash (the folder is
//! emptied at the next start); what it pays never exceeds the price that was found before; each drill that
//! was begun leaves a report, also one that a crash has cut, and counts for the schedule; it is announced at
//! its end, whatever became of it.

mod error;
mod names;
mod reports;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod types;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use error::DrillError;
use samara_protocol::keys::KeyTree;
use samara_protocol::sync::lock;
use samara_renter::backup::{JobProblem, Trigger};
use samara_renter::error::Coded as _;
use samara_renter::news::News;
use samara_renter::progress::Progress;
use samara_renter::world::{ChainView as _, Clock as _};
use samara_renter::{Renter, RenterConfig};
use tokio::sync::Notify;
pub use types::{
    DrillOptions, DrillPhase, DrillReport, DrillRow, DrillSchedule, DrillScheduleRow, Unreadable,
};

use self::reports::Reports;
use self::run::Run;
use crate::light::LightClient;
use crate::transport::Transport;
use crate::world::{SystemClock, TokioSpawner};

/// Folder of the reports, in the data folder.
const REPORTS: &str = "drills";
/// Folder that a drill works in, likewise.
const WORK: &str = "drill-work";

/// What a drill is made of.
pub struct DrillParts {
    /// The renter that runs.
    pub renter: Renter,
    /// Its settings.
    pub config: RenterConfig,
    /// The words' keys.
    pub keys: Arc<KeyTree>,
    /// The chain.
    pub light: LightClient,
    /// The way to hosts.
    pub transport: Transport,
    /// Where tasks of the second renter end with the first one's.
    pub spawner: TokioSpawner,
    /// The data folder.
    pub folder: PathBuf,
}

/// The drills of a node. A cheap clone.
#[derive(Clone)]
pub struct Drills(Arc<Inner>);

struct Inner {
    parts: DrillParts,
    reports: Reports,
    /// Whoever has it makes a drill.
    turn: tokio::sync::Mutex<()>,
    /// Id of the drill that is under way: its report is not yet one. A leaf.
    under_way: Mutex<Option<String>>,
    /// When the last drill began, by the chain's time. A leaf.
    last: Mutex<Option<u64>>,
    /// Told when the schedule changes.
    changed: Notify,
}

impl Drills {
    /// The drills of a node that starts: what a crash has left of one is removed.
    #[must_use]
    pub fn new(parts: DrillParts) -> Self {
        if let Err(error) = clear(&parts.folder.join(WORK)) {
            tracing::warn!(%error, "what is left of a drill stays until the next one");
        }
        let reports = Reports::new(parts.folder.join(REPORTS));
        let last = Mutex::new(reports.rows().first().map(|row| row.chain_time));
        let (turn, changed) = (tokio::sync::Mutex::default(), Notify::new());
        let under_way = Mutex::default();
        Self(Arc::new(Inner { parts, reports, turn, under_way, last, changed }))
    }

    /// Makes a drill, and returns its report. What is wrong with the recovery is no error.
    ///
    /// # Errors
    /// [`DrillError::Running`], [`DrillError::Unknown`] for a node that does not know what its words own, and
    /// [`DrillError::File`] for one that cannot keep a report: such a drill is not begun.
    pub async fn run(
        &self,
        options: DrillOptions,
        trigger: Trigger,
        progress: &dyn Progress,
    ) -> Result<DrillReport, DrillError> {
        let Inner { parts, reports, turn, under_way, last, .. } = &*self.0;
        let _turn = turn.try_lock().map_err(|_| DrillError::Running)?;
        parts.renter.check_known()?;
        let (started, chain_time) = (SystemClock.now(), parts.light.time().0);
        let mut report = DrillReport::begun(started, chain_time, trigger, options.share);
        // Without it, a drill that is cut off would be made, and paid, at each start.
        let _under_way = UnderWay::enter(under_way, &report.row.id);
        reports.keep(&report)?;
        *lock(last) = Some(chain_time);
        let work = WorkFolder(parts.folder.join(WORK));
        let run = Run { parts, work: &work.0, options };
        // Without its type, or the compiler cannot tell that it may move between threads.
        let steps: futures::future::BoxFuture<'_, _> = Box::pin(run.steps(&mut report, progress));
        let outcome = steps.await;
        let removed = work.remove();
        report.row.problem = outcome.and(removed).err().map(|error| JobProblem {
            code: error.code().to_owned(),
            message: crate::causes::with_causes(&error),
            retryable: true,
        });
        report.row.passed = report.row.problem.is_none()
            && report.missing.is_empty()
            && report.different.is_empty()
            && report.unreadable.is_empty();
        report.row.took = SystemClock.now().saturating_sub(started);
        if let Err(error) = reports.keep(&report) {
            tracing::error!(%error, "the report of a drill is not kept");
        }
        let (id, passed, summary) = (report.row.id.clone(), report.row.passed, report.summary());
        tracing::info!(passed, summary, "drill");
        parts.renter.announce(News::DrillEnded { id, passed, summary });
        Ok(report)
    }

    /// The reports at a glance, newest first; without that of a drill under way.
    #[must_use]
    pub fn list(&self) -> Vec<DrillRow> {
        // Held, so that none begins or ends meanwhile.
        let under_way = lock(&self.0.under_way);
        let mut rows = self.0.reports.rows();
        rows.retain(|row| under_way.as_ref() != Some(&row.id));
        rows
    }

    /// A report.
    ///
    /// # Errors
    /// [`DrillError::NoDrill`], and [`DrillError`] for one that cannot be read.
    pub fn report(&self, id: &str) -> Result<DrillReport, DrillError> {
        self.0.reports.read(id)
    }
}

/// While a drill is under way, its report says that it was interrupted, and is not shown.
struct UnderWay<'a>(&'a Mutex<Option<String>>);

impl<'a> UnderWay<'a> {
    fn enter(place: &'a Mutex<Option<String>>, id: &str) -> Self {
        *lock(place) = Some(id.to_owned());
        Self(place)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

/// Removes what a drill has worked in, if it is there.
fn clear(folder: &Path) -> Result<(), DrillError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(DrillError::file("remove", folder)),
    }
}

/// The folder that a drill works in. It is gone with the drill, however that ends.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn remove(self) -> Result<(), DrillError> {
        clear(&self.0)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Only a drill that was cut off still has one; the next start tries again.
        let _ = clear(&self.0);
    }
}
