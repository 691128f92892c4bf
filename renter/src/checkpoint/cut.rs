//! What a checkpoint is to say, cut from the journal at one point.

use std::collections::VecDeque;
use std::sync::Arc;

use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::{BackupId, Change, Entry, JournalState};
use samara_protocol::tree::checkpoint::{Changes, CheckpointRoot, TreeEdits, Trees};

/// A checkpoint to be written: what has changed since the one before, which is written first.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Everything but the trees.
    pub(crate) root: CheckpointRoot,
    /// What the trees are to take in.
    pub(crate) edits: TreeEdits,
    /// The backup of this point.
    pub(crate) backup: Option<BackupId>,
    /// Whether the edits are all there is, and nothing of the checkpoint before is needed for files and
    /// slabs.
    pub(crate) whole: bool,
    /// Bytes of the entries that it takes in.
    bytes: u64,
}

impl Cut {
    /// The journal's point that it stands for.
    pub(crate) fn point(&self) -> JournalPoint {
        self.root.point
    }
}

/// Follows acknowledged entries, and cuts a checkpoint at each backup's point.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    changes: Changes,
    entries: u64,
    bytes: u64,
    /// What is to be written, in order.
    cuts: VecDeque<Arc<Cut>>,
}

impl Recorder {
    /// Takes an entry in and applies it to the state, which all entries before have led to.
    ///
    /// # Errors
    /// As [`JournalState::apply`]; then nothing is changed but that a backup's point may be cut.
    pub(crate) fn apply(
        &mut self,
        state: &mut JournalState,
        entry: &Entry,
        bytes: usize,
    ) -> Result<(), samara_protocol::journal::FoldError> {
        if let Change::BackupCreated { id, .. } = &entry.change {
            self.cut(state, Some(*id));
        }
        self.changes.apply(state, entry)?;
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        Ok(())
    }

    /// Whether more has come since the last cut than a replay should take.
    pub(crate) fn is_over(&self, entries: u64, bytes: u64) -> bool {
        self.entries >= entries || self.bytes >= bytes
    }

    /// Bytes of the entries that no checkpoint has taken in.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.bytes).fold(self.bytes, u64::saturating_add)
    }

    /// Cuts a checkpoint of this state.
    pub(crate) fn cut(&mut self, state: &JournalState, backup: Option<BackupId>) {
        let edits = std::mem::take(&mut self.changes).edits(state);
        self.push(state, edits, backup, false);
    }

    /// Cuts a checkpoint that does not build upon the one before, which is lost or about to be.
    pub(crate) fn cut_whole(&mut self, state: &JournalState) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.take_all(state);
        let edits = changes.edits(state);
        self.push(state, edits, None, true);
    }

    fn push(
        &mut self,
        state: &JournalState,
        edits: TreeEdits,
        backup: Option<BackupId>,
        whole: bool,
    ) {
        let bytes = std::mem::take(&mut self.bytes);
        self.entries = 0;
        let root = CheckpointRoot::new(state, Trees::default(), Vec::new());
        self.cuts.push_back(Arc::new(Cut { root, edits, backup, whole, bytes }));
    }

    /// Whether one that does not build upon others waits to be written.
    pub(crate) fn has_whole(&self) -> bool {
        self.cuts.iter().any(|cut| cut.whole)
    }

    /// Gives up what comes before a cut that does not build upon it; returns the backups whose
    /// checkpoints are lost by it.
    pub(crate) fn skip_to_whole(&mut self) -> Vec<BackupId> {
        let before = self.cuts.iter().position(|cut| cut.whole).unwrap_or_default();
        self.cuts.drain(..before).filter_map(|cut| cut.backup).collect()
    }

    /// The next to be written.
    pub(crate) fn next(&self) -> Option<&Arc<Cut>> {
        self.cuts.front()
    }

    /// The next was written, or need not be.
    pub(crate) fn done(&mut self) {
        self.cuts.pop_front();
    }
}
