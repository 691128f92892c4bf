//! Where the words come from and where they rest.
//!
//! [`source`] reads them (prompt, standard input, a private file, a sealed file, the environment),
//! [`store`] keeps them (sealed under a passphrase, or in a 0600 file if the operator says so),
//! [`command`] is `samara seed`. Formats and checks of the words themselves are in
//! [`samara_protocol::keys`].
//!
//! Invariants: words and passphrases are never arguments of a command, never logged, and never
//! overwrite a file that exists; a file with words is used only when nobody else can read it; the
//! environment is looked at only when the operator names it as the source.
//!
//! Everything here blocks (terminal, disk, Argon2): an async caller runs it on a blocking thread.

pub mod command;
pub mod console;
pub(crate) mod private_file;
pub mod source;
pub mod store;

pub use command::{SeedCommand, SeedError, run};
pub use private_file::PrivateFileError;
pub use source::{SeedArguments, SeedSource};
pub use store::{load_sealed, store_plain, store_sealed};

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::io;

    use samara_protocol::keys::Phrase;
    use zeroize::Zeroizing;

    use super::console::{Console, read_bounded};

    pub(super) const LEGAL: &str =
        "legal winner thank year wave sausage worth useful legal winner thank yellow";

    pub(super) fn legal() -> Phrase {
        Phrase::parse(LEGAL).unwrap()
    }

    /// Answers a prompt, given the prompt and what was printed before it.
    type Person = Box<dyn FnMut(&str, &str) -> String>;

    /// A console that records what it shows; with a person at it, a terminal.
    #[derive(Default)]
    pub(crate) struct Script {
        pub(crate) person: Option<Person>,
        pub(crate) stdin: Vec<u8>,
        pub(crate) variables: BTreeMap<&'static str, OsString>,
        pub(crate) prompts: Vec<String>,
        pub(crate) output: String,
    }

    impl Script {
        pub(crate) fn terminal(person: impl FnMut(&str, &str) -> String + 'static) -> Self {
            Self { person: Some(Box::new(person)), ..Self::default() }
        }
    }

    impl Console for Script {
        fn stdin_is_terminal(&self) -> bool {
            self.person.is_some()
        }

        fn stdout_is_terminal(&self) -> bool {
            self.person.is_some()
        }

        fn prompt_secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
            self.prompts.push(prompt.to_owned());
            let person = self.person.as_mut().ok_or(io::ErrorKind::NotFound)?;
            Ok(Zeroizing::new(person(prompt, &self.output)))
        }

        fn read_stdin(&mut self, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
            read_bounded(self.stdin.as_slice(), limit)
        }

        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.get(name).cloned()
        }

        fn print(&mut self, text: &str) -> io::Result<()> {
            self.output.push_str(text);
            Ok(())
        }

        fn notice(&mut self, _text: &str) -> io::Result<()> {
            Ok(())
        }
    }
}
