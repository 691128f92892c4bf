//! Where restored files go: their folders, and names that are free or may be taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::GetError;
use super::get::Restore;
use super::plan::Wanted;
use super::types::{Conflict, GetReport};
use super::{Vaults, item};
use crate::world::{FileError, FileKind};

/// Names tried for a file that is written beside an existing one.
const RENAMES: u32 = 10_000;

/// What stands in the way of a file's name.
pub(super) enum Place {
    Free(PathBuf),
    Replaces(PathBuf),
    Beside(PathBuf),
    Kept,
    /// It is there already.
    Same,
}

impl Vaults {
    /// Makes the folders that exist by themselves.
    pub(super) async fn make_folders(
        &self,
        wanted: &Restore,
        report: &mut GetReport,
    ) -> Result<(), GetError> {
        for folder in &wanted.folders {
            let existing = self.world.files.stat(folder).await?;
            if existing.is_some_and(|entry| entry.kind == FileKind::Folder) {
                continue;
            }
            if !report.dry_run
                && let Err(error) = self.world.files.create_folder(&wanted.root, folder).await
            {
                report.failed.push(item(folder.display().to_string(), "file_failed", error));
                continue;
            }
            report.restored_folders += 1;
        }
        Ok(())
    }

    /// Clears away what a killed process left where files are about to be written.
    pub(super) async fn clear_unfinished(&self, root: &Path, files: &[Wanted]) {
        let folders: BTreeSet<&Path> =
            files.iter().filter_map(|file| file.target.parent()).collect();
        for folder in folders {
            match self.world.files.remove_unfinished(root, folder).await {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, folder = %folder.display(), "leftovers removed")
                }
                // They are in nobody's way.
                Err(error) => tracing::debug!(%error, "leftovers stay"),
            }
        }
    }

    /// Decides under which name a file is written.
    pub(super) async fn place(
        &self,
        Wanted { target, file, .. }: &Wanted,
        conflict: Conflict,
        taken: &mut BTreeSet<PathBuf>,
    ) -> Result<Place, FileError> {
        let refuse = |reason: &str| FileError {
            action: "replace",
            path: target.clone(),
            reason: reason.to_owned(),
        };
        // Two files of one restore may want one name: vaults `a/b` and `a_b` become one folder.
        let claimed = !taken.insert(target.clone());
        let existing = self.world.files.stat(target).await?;
        let same = existing.as_ref().is_some_and(|entry| {
            let kind = entry.kind == FileKind::File;
            kind && (entry.size, entry.modified) == (file.size, file.modified)
        });
        let kind = match existing {
            None if !claimed => return Ok(Place::Free(target.clone())),
            existing => existing.map(|entry| entry.kind),
        };
        match conflict {
            // One that an earlier attempt has written.
            Conflict::Keep if same && !claimed => Ok(Place::Same),
            Conflict::Keep => Ok(Place::Kept),
            Conflict::Replace if claimed => {
                Err(refuse("another file of this restore has its name"))
            }
            Conflict::Replace if kind == Some(FileKind::File) => {
                Ok(Place::Replaces(target.clone()))
            }
            Conflict::Replace => Err(refuse("it is not a regular file")),
            Conflict::Rename => {
                for number in 1..=RENAMES {
                    let other = beside(target, number);
                    if !taken.contains(&other) && self.world.files.stat(&other).await?.is_none() {
                        taken.insert(other.clone());
                        return Ok(Place::Beside(other));
                    }
                }
                Err(refuse("too many restored copies lie beside it"))
            }
        }
    }
}

/// `name (restored).ext`, `name (restored 2).ext`, ...
fn beside(target: &Path, number: u32) -> PathBuf {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (stem, extension) = (text(target.file_stem()), text(target.extension()));
    let mark = if number == 1 { "restored".to_owned() } else { format!("restored {number}") };
    let name = if extension.is_empty() {
        format!("{stem} ({mark})")
    } else {
        format!("{stem} ({mark}).{extension}")
    };
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_keep_their_extension() {
        let name = |path, number| beside(Path::new(path), number).display().to_string();
        assert_eq!(name("/a/b.txt", 1), "/a/b (restored).txt");
        assert_eq!(name("/a/b.tar.gz", 2), "/a/b.tar (restored 2).gz");
        assert_eq!(name("/a/Makefile", 1), "/a/Makefile (restored)");
    }
}
