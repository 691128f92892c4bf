//! Arguments of `samara notify`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::notify::Kind;
use crate::notify::settings::Security;
use crate::seed::source::PassphraseSource;

#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Show what is sent where
    Show,
    /// Send notices by e-mail; what is not named stays as it is
    SetEmail(SetMail),
    /// Tell a server, with signed bodies
    AddWebhook(AddWebhook),
    /// Tell a server no more
    RemoveWebhook {
        /// As `show` lists it
        id: String,
    },
    /// Switch the sending of one kind on or off
    Switch {
        kind: Kind,
        #[arg(value_enum)]
        to: Switch,
    },
    /// Send a message through each channel now, and say what came of it
    Test,
    /// List notices and how far they are
    List,
    /// Take a notice off the list
    Dismiss { number: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is sent
    On,
    /// It is not
    Off,
}

#[derive(Debug, Default, Args)]
pub struct SetMail {
    /// Name or address of the mail server
    #[arg(long)]
    pub server: Option<String>,
    /// Its port [default: 465 with tls, 587 with starttls, 25 with none]
    #[arg(long)]
    pub port: Option<u16>,
    /// How the connection is kept from others [default: as before, at first tls]
    #[arg(long, value_enum)]
    pub security: Option<Security>,
    /// Who logs in
    #[arg(long)]
    pub user: Option<String>,
    /// Nobody logs in
    #[arg(long, conflicts_with_all = ["user", "password_from"])]
    pub no_login: bool,
    /// Where the password is: prompt, environment (SAMARA_MAIL_PASSWORD) or file:PATH (mode 0600)
    /// [default: the one that is kept, else prompt]
    #[arg(long, value_name = "SOURCE")]
    pub password_from: Option<PassphraseSource>,
    /// Sender, as in 'Samara <samara@example.org>'
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// Recipient; may be repeated, and replaces those before
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// A certificate in PEM that is trusted beside the system's
    #[arg(long, value_name = "FILE")]
    pub root_certificate: Option<PathBuf>,
    /// Days for which the download link in a mail about a finished archive works; 0 for no link [default: 7]
    #[arg(long, value_name = "DAYS")]
    pub link_days: Option<u32>,
    /// Send no e-mail any more, and forget all of this
    #[arg(long, conflicts_with_all = [
        "server", "port", "security", "user", "no_login", "password_from", "from", "to", "root_certificate",
        "link_days"
    ])]
    pub off: bool,
}

#[derive(Debug, Args)]
pub struct AddWebhook {
    /// Where notices are posted to
    pub url: String,
    /// Where the secret is that bodies are signed with, of 16 bytes at least: prompt, environment
    /// (SAMARA_WEBHOOK_SECRET) or file:PATH (mode 0600) [default: prompt]
    #[arg(long, value_name = "SOURCE")]
    pub secret_from: Option<PassphraseSource>,
    /// Only this kind; may be repeated
    #[arg(long)]
    pub kind: Vec<Kind>,
}
