//! What the seed commands see of the process around them.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read, Write as _};

use zeroize::Zeroizing;

/// The terminal, the standard streams and the environment.
pub trait Console {
    /// Whether standard input is a terminal.
    fn stdin_is_terminal(&self) -> bool;

    /// Whether standard output is a terminal.
    fn stdout_is_terminal(&self) -> bool;

    /// Asks on the terminal and reads one line without showing it.
    ///
    /// # Errors
    /// When there is no terminal or it ends.
    fn prompt_secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>>;

    /// Standard input to its end, but no more than `limit + 1` bytes of it.
    ///
    /// # Errors
    /// When reading fails.
    fn read_stdin(&mut self, limit: usize) -> io::Result<Zeroizing<Vec<u8>>>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// Writes to standard output: the result.
    ///
    /// # Errors
    /// When writing fails.
    fn print(&mut self, text: &str) -> io::Result<()>;

    /// Writes a line to standard error: what a person should know beside the result.
    ///
    /// # Errors
    /// When writing fails.
    fn notice(&mut self, text: &str) -> io::Result<()>;
}

/// This process's own console.
#[derive(Debug, Default, Clone, Copy)]
pub struct ProcessConsole;

impl Console for ProcessConsole {
    fn stdin_is_terminal(&self) -> bool {
        io::stdin().is_terminal()
    }

    fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn prompt_secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        if is_in_background() {
            return Err(io::Error::other(
                "this process is in the background: run it in the foreground, in a terminal of its \
                 own, or name a file with the passphrase",
            ));
        }
        rpassword::prompt_password(prompt).map(Zeroizing::new)
    }

    fn read_stdin(&mut self, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        read_bounded(io::stdin().lock(), limit)
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    fn notice(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }
}

/// Whether there is a terminal that belongs to other processes now. Who asks there all the same is stopped
/// by the system, and what is typed goes to the shell, where it is shown.
#[expect(unsafe_code, reason = "the standard library knows no process groups")]
fn is_in_background() -> bool {
    use std::os::fd::AsRawFd as _;
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    // SAFETY: both read numbers of this process and touch no memory of it; the file is open.
    let (front, own) = unsafe { (libc::tcgetpgrp(terminal.as_raw_fd()), libc::getpgrp()) };
    front >= 0 && front != own
}

/// Reads to the end, but no more than `limit + 1` bytes, so that a caller can tell too much from
/// enough. Room is made beforehand: a vector that grows would leave copies of a secret behind.
pub(super) fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = limit.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.saturating_add(64)));
    reader.take(most.try_into().unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
