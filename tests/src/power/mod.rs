//! What a disk holds when the power goes, for real processes.
//!
//! A library in C (`shim.c`, compiled here by the system's compiler) is loaded into each process and notes
//! every change of a file below the process's folder, and every sync. From these notes [`Disk`] makes the
//! folder that a disk would hold if power went now: all that was synced, and of the rest nothing, all, or a
//! random part, page by page and name by name. Files are kept by their pages, folders by their entries: a
//! file that was synced has no name before its folder was synced, too.
//!
//! ```text
//! process --system calls--> shim --changes, syncs--> log --> Disk --power lost--> folder --> next process
//! ```
//!
//! The model is stricter than most file systems: a sync of a file makes no name durable, and names made
//! without a sync may appear in any order. A rename happens as a whole or not at all, and so does a page of
//! 4 KiB. What a process does to a file in another way (a shared mapping, `io_uring`) ends it.

mod disk;
mod log;
#[cfg(test)]
mod tests;

pub use disk::{Disk, Luck};
pub use log::{Change, Record, read_log};

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library's source.
const SHIM: &str = include_str!("shim.c");

/// What the library says before it ends a process that does what it cannot note.
pub const COMPLAINT: &str = "power shim: ";

/// The compiled library.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles the library in a folder.
    ///
    /// # Errors
    /// The system's, and what the compiler says.
    pub fn build(folder: &Path) -> io::Result<Self> {
        let source = folder.join("shim.c");
        let library = folder.join("shim.so");
        std::fs::write(&source, SHIM)?;
        let done = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .args([&library, &source])
            .output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
        }
        Ok(Self { library })
    }

    /// A command whose changes below `folder` are noted in `log`. The folder must be an absolute path
    /// without links.
    #[must_use]
    pub fn command(&self, program: &Path, folder: &Path, log: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_PRELOAD", &self.library)
            .env("SAMARA_POWER_FOLDER", folder)
            .env("SAMARA_POWER_LOG", log);
        command
    }

    /// Makes a script at `path` that takes the place of `program`: for its third argument, the folder in
    /// `node --data FOLDER`, the changes are noted in the file of that name with `.changes` behind it.
    ///
    /// # Errors
    /// The system's.
    pub fn wrap(&self, program: &Path, path: &Path) -> io::Result<()> {
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} SAMARA_POWER_FOLDER=\"$3\" \
             SAMARA_POWER_LOG=\"$3.changes\"\nexec {} \"$@\"\n",
            quoted(&self.library),
            quoted(program),
        );
        std::fs::write(path, script)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    }
}

/// The log of the processes of a folder that a script of [`Shim::wrap`] started.
#[must_use]
pub fn log_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".changes");
    name.into()
}
