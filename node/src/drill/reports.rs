//! The reports of drills: `drills/ID.json` in the data folder, readable by its owner only. The newest are kept.

use std::path::{Path, PathBuf};

use super::error::DrillError;
use super::types::{DrillReport, DrillRow};
use crate::data::write_private;
use crate::disk::{make_folder, remove_if_there};

/// Reports that are kept.
const KEPT: usize = 50;
/// Longest report that is read.
const LONGEST: u64 = 64 << 20;

/// A folder of reports.
#[derive(Clone, Debug)]
pub(super) struct Reports(PathBuf);

impl Reports {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Ids of all reports, oldest first. Whatever else lies there is passed over.
    fn ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .filter(|id| is_id(id))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Keeps a report, and the newest of those before.
    pub(super) fn keep(&self, report: &DrillReport) -> Result<(), DrillError> {
        make_folder(&self.0).map_err(DrillError::file("make the folder", &self.0))?;
        let path = self.path(&report.row.id);
        let bytes = serde_json::to_vec_pretty(report).map_err(|error| DrillError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_private(&path, &bytes).map_err(DrillError::file("write", &path))?;
        let ids = self.ids();
        for id in &ids[..ids.len().saturating_sub(KEPT)] {
            let path = self.path(id);
            remove_if_there(&path).map_err(DrillError::file("remove", &path))?;
        }
        Ok(())
    }

    /// A report.
    pub(super) fn read(&self, id: &str) -> Result<DrillReport, DrillError> {
        // The id becomes part of a path.
        if !is_id(id) {
            return Err(DrillError::NoDrill(id.chars().take(80).collect()));
        }
        let path = self.path(id);
        let bytes = match read_bounded(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DrillError::NoDrill(id.to_owned()));
            }
            bytes => bytes.map_err(DrillError::file("read", &path))?,
        };
        let malformed = |reason| DrillError::Malformed { path: path.clone(), reason };
        let report: DrillReport =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if report.version == DrillReport::VERSION {
            Ok(report)
        } else {
            Err(malformed(format!("it has version {}", report.version)))
        }
    }

    /// All reports at a glance, newest first. One that cannot be read is left out.
    pub(super) fn rows(&self) -> Vec<DrillRow> {
        let read = |id: &String| match self.read(id) {
            Ok(report) => Some(report.row),
            Err(error) => {
                tracing::warn!(%error, "a report of a drill is left out");
                None
            }
        };
        self.ids().iter().rev().filter_map(read).collect()
    }
}

fn is_id(text: &str) -> bool {
    (13..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use samara_renter::backup::Trigger;
    use samara_renter::error::Coded as _;

    use super::*;

    #[test]
    fn the_newest_reports_are_kept_and_only_those() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::new(folder.path().join("drills"));
        assert_eq!(reports.rows(), []);
        for started in 0..60 {
            let begun = DrillReport::begun(started, started, Trigger::Manual, 50);
            reports.keep(&begun).unwrap();
        }
        std::fs::write(folder.path().join("drills/0000000000077.json"), "{").unwrap();
        let damaged = reports.read("0000000000077").unwrap_err();
        assert_eq!(damaged.code(), "file_failed", "{damaged}");
        let rows = reports.rows();
        assert_eq!((rows.len(), rows[0].started, rows[49].started), (50, 59, 10));
        let report = reports.read(&rows[0].id).unwrap();
        assert_eq!(report.row, rows[0]);
        let path = reports.path(&rows[0].id);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        for id in ["../../secret", "", "0000000000099", "000000000000é"] {
            assert!(matches!(reports.read(id), Err(DrillError::NoDrill(_))), "{id}");
        }
    }
}
