//! The command line as clap reads it.
#![allow(missing_docs, reason = "doc comments here are the texts of --help")]

mod links;
mod notify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::links::LinkArguments;
pub use self::notify::{AddWebhook, NotifyCommand, SetMail, Switch};
use super::password::PasswordSource;
use super::policy_arguments::{PolicyCommand, ScheduleCommand};
use super::tokens::TokenCommand;
use super::users::UserCommand;
use crate::host::ByteCount;
use crate::seed::command::SeedCommand;
use crate::seed::source::SeedArguments;

/// A storage node whose files, names and keys all grow back from twelve words.
#[derive(Debug, Parser)]
#[command(name = "samara", version, propagate_version = true, after_help = super::help::exit_codes())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Data folder of the node [default: ~/.local/share/samara]
    #[arg(long, global = true, env = "SAMARA_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// File with the token to show to the node (mode 0600) [default: the local administrator's of api.json]
    #[arg(long, global = true, env = "SAMARA_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON: one object a line with its message_type, the result or error last
    #[arg(long, global = true)]
    pub json: bool,
    /// What is logged to standard error, as in `info` or `samara=debug`
    #[arg(long, global = true, env = "SAMARA_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, show and check words
    #[command(subcommand)]
    Seed(SeedCommand),
    /// Make a data folder for a node from a network file and words
    Init(InitArguments),
    /// Run a node with the roles of its samara.toml
    Node(NodeArguments),
    /// Store a file or folder in a vault
    Put(PutArguments),
    /// Bring files back from a vault
    Get(GetArguments),
    /// List files
    Ls(LsArguments),
    /// Move a file within its vault
    Mv(MvArguments),
    /// Remove files; their versions stay until they are given up with --version-number
    Rm(RmArguments),
    /// Make, rename, remove and list vaults
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Make, list, restore and delete backups
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Restore a backup, or an archive from a file or an address
    #[command(args_conflicts_with_subcommands = true)]
    Restore(Box<RestoreArguments>),
    /// Have backups made, kept and given up by themselves
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Which backups are made next by themselves, and which were missed
    Schedule {
        #[command(subcommand)]
        command: Option<ScheduleCommand>,
    },
    /// Bring everything back from the words
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// See that the words bring everything back: a recovery into a node that is thrown away
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Hosts that the chain announces and how they do
    Hosts,
    /// How what is stored does: missing shards, repairs, files in danger
    Health,
    /// Contracts with hosts
    Contracts,
    /// What was freed at hosts, and what waits to be
    Garbage {
        /// Free what can be freed now
        #[arg(long)]
        now: bool,
    },
    /// How much of the line transfers may take: puts, gets and repair together
    Limits(LimitsArguments),
    /// What may be spent, on how many hosts
    #[command(subcommand)]
    Allowance(AllowanceCommand),
    /// Balance and transfers
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// E-mails and webhooks that tell what happens
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// What the node is doing
    Status,
    /// Make, change and remove users, and say what they may do
    #[command(subcommand)]
    User(UserCommand),
    /// Make, list and revoke tokens that are shown to the node
    #[command(subcommand)]
    Token(TokenCommand),
    /// Whose the token is, and what it may do
    Whoami,
    /// This node's validator key, and the validator set
    #[command(subcommand)]
    Validator(ValidatorCommand),
    /// A local network of separate processes
    #[command(subcommand)]
    Testnet(TestnetCommand),
    /// The whole story on a local network: store, back up, lose the machine, recover, compare
    Demo(DemoArguments),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// The network file
    #[arg(long, value_name = "FILE")]
    pub network: PathBuf,
    /// Give the node a role; may be repeated
    #[arg(long, value_enum, required = true)]
    pub role: Vec<RoleName>,
    /// Keep the words in a plain file that only you can read, instead of sealing them
    #[arg(long)]
    pub plain: bool,
    /// Use words that you have, instead of drawing new ones; used or not, a recovery finds out
    #[arg(long)]
    pub existing: bool,
    /// Folder for sectors, with the host role
    #[arg(long, value_name = "DIR")]
    pub volume: Option<PathBuf>,
    /// Bytes to offer, with the host role, as in 500GB
    #[arg(long, value_name = "SIZE")]
    pub capacity: Option<String>,
    #[command(flatten)]
    pub seed: SeedArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Follows the chain in full and serves it
    Chain,
    /// As chain, and votes
    Validator,
    /// Stores sectors for others
    Host,
    /// Stores files with hosts
    Renter,
}

#[derive(Debug, Args)]
pub struct NodeArguments {
    /// Configuration file [default: samara.toml in the data folder]
    #[arg(long, env = "SAMARA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the HTTP API
    #[arg(long, env = "SAMARA_API", value_name = "ADDRESS")]
    pub api: Option<std::net::SocketAddr>,
    /// Multiaddress to listen on for other nodes; may be repeated
    #[arg(long, env = "SAMARA_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Stop when standard input ends; for programs that start nodes
    #[arg(long)]
    pub until_input_ends: bool,
    /// Print a configuration with all defaults and explanations, and do nothing else
    #[arg(long)]
    pub print_config: bool,
}

#[derive(Debug, Args)]
pub struct PutArguments {
    /// The file or folder
    pub source: PathBuf,
    /// Where to: VAULT or VAULT/FOLDER. Only `home` is made if it does not exist
    #[arg(default_value = "home")]
    pub target: String,
    /// Leave out what matches, as in 'target/**'; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Compare contents, not just size and time, to find what changed
    #[arg(long)]
    pub checksum: bool,
}

#[derive(Debug, Args)]
pub struct GetArguments {
    /// What: VAULT, VAULT/FOLDER or VAULT/FILE
    pub source: String,
    /// Folder to write to; made if it does not exist
    pub target: PathBuf,
    /// A version other than the current one, by its number in `ls --versions`
    #[arg(long, value_name = "NUMBER")]
    pub version_number: Option<u64>,
    /// What to do with a file that is there already
    #[arg(long, value_enum, default_value_t = OnConflict::Keep)]
    pub on_conflict: OnConflict,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnConflict {
    /// Keep the file that is there
    Keep,
    /// Replace it
    Replace,
    /// Write beside it under another name
    Rename,
}

#[derive(Debug, Args)]
pub struct LsArguments {
    /// VAULT or VAULT/FOLDER; all vaults if not given
    pub path: Option<String>,
    /// Show all versions, also of removed files
    #[arg(long)]
    pub versions: bool,
    /// Show everything below, not the folder's own entries only
    #[arg(long, short)]
    pub recursive: bool,
}

#[derive(Debug, Args)]
pub struct MvArguments {
    /// VAULT/FILE
    pub from: String,
    /// VAULT/FILE in the same vault
    pub to: String,
}

#[derive(Debug, Args)]
pub struct RmArguments {
    /// VAULT/FILE or VAULT/FOLDER
    pub path: String,
    /// Remove a folder and all below it
    #[arg(long, short)]
    pub recursive: bool,
    /// Give up one version for good, by its number in `ls --versions`
    #[arg(long, value_name = "NUMBER", conflicts_with = "recursive")]
    pub version_number: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Make a vault
    Create { name: String },
    /// Rename a vault
    Rename { name: String, new_name: String },
    /// Remove a vault
    Remove {
        name: String,
        /// With everything in it
        #[arg(long, short)]
        recursive: bool,
    },
    /// List vaults
    List,
}

#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// Make a drill now
    Run {
        /// How many of all files are brought back besides the names, as in 5% or all; at least one
        #[arg(long, default_value = "5%")]
        share: String,
        /// Do not spend more than this, as in 0.5
        #[arg(long, value_name = "COINS")]
        max_cost: Option<String>,
    },
    /// List the drills of which there are reports
    List,
    /// Show the report of a drill
    Show {
        /// Its id; the newest if none is given
        id: Option<String>,
    },
    /// Show or set when drills are made by themselves
    Schedule {
        /// Time between two, as in 30d, or `never`
        every: Option<String>,
        /// As for `run`; stays as it is if it is left out
        #[arg(long, requires = "every")]
        share: Option<String>,
        /// The most that each may cost, as in 0.5, or `none`; stays as it is if it is left out
        #[arg(long, value_name = "COINS", requires = "every")]
        max_cost: Option<String>,
    },
}

/// When neither kind of backup is the right one.
const WHEN_NOT: &str = "Without --archive it keeps the metadata, on the hosts: it is no second copy of the bytes, and ends with \
     the contracts. An archive is one file with every byte and the whole history of a vault, deleted files that still \
     have versions too: not for every day, not to share a part of a vault, and not as the only copy on this machine.";

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Say what a backup would cost at most
    Quote {
        /// Only this vault
        #[arg(long)]
        vault: Option<String>,
        /// Of one file with all bytes and the whole history, instead of metadata at the hosts
        #[arg(long, requires = "vault")]
        archive: bool,
    },
    /// Keep all vaults as they are now, under a name
    #[command(after_help = WHEN_NOT)]
    Create(BackupArguments),
    /// List backups
    List(BackupListArguments),
    /// Show one backup
    Show { name: String },
    /// List the files in a backup
    Ls {
        name: String,
        /// VAULT or VAULT/FOLDER
        place: String,
        /// Also what lies in folders
        #[arg(long, short)]
        recursive: bool,
    },
    /// Change what is said of a backup
    Edit {
        name: String,
        /// Another name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[arg(long)]
        description: Option<String>,
        /// Tags in the place of those it has; once for each
        #[arg(long = "tag", value_name = "TAG")]
        tags: Option<Vec<String>>,
        /// When it is deleted by itself: in so long, as in 12h, 30d, 8w, or `never`
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
    },
    /// Save the file of an archive
    Download {
        name: String,
        /// File to write; nothing may be there
        target: PathBuf,
    },
    /// Make an address under which whoever has it can download an archive, without a login
    Link(LinkArguments),
    /// Keep a backup whatever rules and dates say
    Pin {
        name: String,
        /// No longer
        #[arg(long)]
        off: bool,
    },
    /// Stop a backup that is being made
    Cancel { name: String },
    /// Show or set how many backups of one kind a vault may have
    Limit {
        /// So many from now on
        limit: Option<u32>,
    },
    /// List the files that two backups do not both have with the same contents
    Diff {
        /// The earlier one
        before: String,
        /// The later one
        after: String,
        /// Only this vault
        #[arg(long)]
        vault: Option<String>,
    },
    /// Bring files back as they were
    Restore {
        name: String,
        /// Folder to write to
        target: PathBuf,
        /// Only what is below VAULT or VAULT/FOLDER
        #[arg(long, value_name = "PATH")]
        only: Option<String>,
        /// What to do with a file that is there already
        #[arg(long, value_enum, default_value_t = OnConflict::Keep)]
        on_conflict: OnConflict,
        /// Say what would be written, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Read a backup back, and say what is wrong with it
    Verify(VerifyArguments),
    /// Give a backup up
    Delete { name: String },
}

#[derive(Debug, Args)]
pub struct RestoreArguments {
    #[command(subcommand)]
    pub command: Option<RestoreCommand>,
    /// Name or id of a backup, a file of the node's machine, or an http or https address
    pub what: Option<String>,
    /// Of an archive: name of the new vault, small letters, digits and hyphens
    #[arg(long)]
    pub name: Option<String>,
    /// Of a backup: only what is below VAULT or VAULT/FOLDER
    #[arg(long)]
    pub path: Option<String>,
    /// Of a backup: folder to write to, instead of into the vaults
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Of a backup: what to do with a file that is there already
    #[arg(long, value_enum, default_value_t = OnConflict::Keep)]
    pub on_conflict: OnConflict,
    /// Where the passphrase of an archive is: prompt, stdin or file:PATH
    #[arg(long, value_name = "SOURCE")]
    pub passphrase_from: Option<PasswordSource>,
    /// Of an archive: give up rather than pay more than so many coins
    #[arg(long, value_name = "COINS")]
    pub max_cost: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for its end
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// List restores, the newest first
    List,
    /// How far one is
    Status { id: String },
    /// What has happened
    Log { id: String },
    /// Stop one: of an archive nothing remains, of a network backup what was written whole stays
    Cancel { id: String },
    /// Try one again that failed
    Resume {
        id: String,
        /// Where the passphrase of an archive is: prompt, stdin or file:PATH
        #[arg(long, value_name = "SOURCE")]
        passphrase_from: Option<PasswordSource>,
    },
    /// Let one go on that somebody has asked for
    Approve {
        id: String,
        /// Where the passphrase of an archive is: prompt, stdin or file:PATH
        #[arg(long, value_name = "SOURCE")]
        passphrase_from: Option<PasswordSource>,
    },
    /// Refuse one that somebody has asked for
    Reject { id: String },
    /// Delete one that has ended, with its log
    Delete { id: String },
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    pub name: String,
    /// How much of its data is read back besides its names, as in 5%, 0.5% or all; drawn anew each time
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    pub read_data: String,
    /// Read each shard from its own host: nothing is made up for by other hosts
    #[arg(long)]
    pub every_shard: bool,
    /// Say what it would cost, and read nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not spend more than this, as in 0.5
    #[arg(long, value_name = "COINS")]
    pub max_cost: Option<String>,
    /// Where the passphrase of an encrypted archive comes from: without it only its file is compared
    #[arg(long, value_name = "SOURCE")]
    pub passphrase_from: Option<PasswordSource>,
}

#[derive(Debug, Args)]
pub struct BackupArguments {
    pub name: String,
    /// For people
    #[arg(long, default_value = "")]
    pub description: String,
    /// A word to find it by; once for each
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only this vault
    #[arg(long)]
    pub vault: Option<String>,
    /// One file with all bytes and the whole history of the vault, instead of metadata at the hosts
    #[arg(long, requires = "vault")]
    pub archive: bool,
    /// Encrypt the archive: where its passphrase is, prompt, stdin or file:PATH
    #[arg(long, value_name = "SOURCE", requires = "archive")]
    pub passphrase_from: Option<PasswordSource>,
    /// No rule and no date deletes it
    #[arg(long)]
    pub pin: bool,
    /// Delete it by itself in so long, as in 12h, 30d, 8w
    #[arg(long, value_name = "SPAN")]
    pub expires: Option<String>,
    /// Give up rather than pay more than so many coins
    #[arg(long, value_name = "COINS")]
    pub max_cost: Option<String>,
    /// Do not wait for its end
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct BackupListArguments {
    /// Words that name, description, id or tags have
    pub search: Vec<String>,
    /// Only these
    #[arg(long, value_enum, default_value_t = ListedBackups::All)]
    pub status: ListedBackups,
    /// Only those about this vault
    #[arg(long)]
    pub vault: Option<String>,
    /// By what they are ordered
    #[arg(long, value_enum, default_value_t = BackupsBy::Created)]
    pub sort: BackupsBy,
    /// The largest or latest first
    #[arg(long)]
    pub descending: bool,
}

/// Which backups are listed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListedBackups {
    All,
    Completed,
    InProgress,
    Error,
}

/// By what backups are ordered.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackupsBy {
    Created,
    Name,
    Size,
    Status,
}

#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// Look for contracts and backups of the words in the background, and show how far it is; nothing is
    /// claimed
    Scan(RecoverScanArguments),
    /// How far the scan is, and the recovery
    Status,
    /// List the backups that the scan has found so far
    List,
    /// Stop the scan; a later one goes on from there
    Cancel,
    /// Bring a backup back that was found: take over as `start` does, then restore it into the vaults;
    /// with --to only read, into a folder
    Restore(RecoverRestoreArguments),
    /// Scan the chain for the words' contracts, claim them, and bring the names back
    Start(RecoverArguments),
    /// Stop the recovery; a later start resumes
    Stop,
}

#[derive(Debug, Args)]
pub struct RecoverScanArguments {
    /// Forget what was scanned before, and begin with the first block
    #[arg(long)]
    pub restart: bool,
    /// Accept a chain whose newest block is this old, for one that is known to have halted
    #[arg(long, value_name = "SECONDS")]
    pub maximum_age: Option<u64>,
    /// Do not wait for its end
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct RecoverRestoreArguments {
    /// Name or id of the backup
    pub what: String,
    /// Only what is below VAULT or VAULT/FOLDER
    #[arg(long)]
    pub path: Option<String>,
    /// Folder to write to, instead of into the vaults; nothing is claimed, so that a node that still
    /// writes goes on
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// What to do with a file that is there already
    #[arg(long, value_enum, default_value_t = OnConflict::Keep)]
    pub on_conflict: OnConflict,
    /// Say what would be done, and claim and restore nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct RecoverArguments {
    /// Forget the progress of earlier runs and scan from the first block
    #[arg(long)]
    pub restart: bool,
    /// Claim nothing: list and read only, so that a node that still writes goes on
    #[arg(long)]
    pub read_only: bool,
    /// If nothing is found, start new with these words without asking
    #[arg(long, conflicts_with = "read_only")]
    pub start_new: bool,
    /// Accept a chain whose newest block is this old, for one that is known to have halted
    #[arg(long, value_name = "SECONDS")]
    pub maximum_age: Option<u64>,
    /// A host that is gone for good, by its first hex digits: if a takeover waits for it, it is given up
    /// on the chain
    #[arg(long, value_name = "HOST")]
    pub give_up: Vec<String>,
    /// Give every silent host up
    #[arg(long)]
    pub give_up_silent: bool,
}

#[derive(Debug, Subcommand)]
pub enum AllowanceCommand {
    /// Show the allowance
    Show,
    /// Set it, and form the contracts it asks for
    Set(AllowanceArguments),
}

#[derive(Debug, Default, Args)]
pub struct AllowanceArguments {
    /// Hosts to have contracts with, at least the N of the redundancy [default: as before, at first what
    /// suits the network]
    #[arg(long)]
    pub hosts: Option<u16>,
    /// Coins for all contracts of one term; too few are refused with the sum that is needed [default: as
    /// before, at first 1000]
    #[arg(long, value_name = "COINS")]
    pub funds: Option<String>,
    /// Proof periods of one term [default: as before, at first 90]
    #[arg(long)]
    pub periods: Option<u32>,
    /// Length of a proof period in seconds [default: as before, at first a day]
    #[arg(long, value_name = "SECONDS")]
    pub period: Option<u64>,
    /// Any K of N hosts bring a file back [default: as before, with --hosts what fits them]
    #[arg(long, value_name = "K/N")]
    pub redundancy: Option<String>,
    /// Say what would be set, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Bytes in a second; `/s` may be said, and less than one is not taken for no limit.
fn rate(text: &str) -> Result<ByteCount, String> {
    let text = text.trim();
    let bytes = text.strip_suffix("/s").unwrap_or(text);
    let rate: ByteCount =
        bytes.parse().map_err(|_| "write bytes a second as in 500kB or 2MB".to_owned())?;
    if rate.0 == 0 && bytes.contains(|sign: char| ('1'..='9').contains(&sign)) {
        return Err("less than one byte a second; 0 is no limit".to_owned());
    }
    Ok(rate)
}

/// Without options it shows what holds.
#[derive(Debug, Args)]
pub struct LimitsArguments {
    /// Bytes sent to hosts in a second, as in `2 MB`; 0 for no limit
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub upload: Option<ByteCount>,
    /// Bytes fetched from hosts in a second; 0 for no limit
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub download: Option<ByteCount>,
    /// Go back to what samara.toml says
    #[arg(long)]
    pub reset: bool,
}

#[derive(Debug, Subcommand)]
pub enum WalletCommand {
    /// Balance and address
    Show,
    /// Send coins
    Send { to: String, amount: String },
    /// Get coins on a test network
    Faucet {
        #[arg(default_value = "1000")]
        amount: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ValidatorCommand {
    /// Print the public key that this data folder votes with, for others to add
    Key {
        /// Another index than the configured one, for a key that is to replace it in the set
        #[arg(long, value_name = "NUMBER")]
        index: Option<u32>,
    },
    /// Show the validators that decide the next block
    Set,
    /// Say that this validator's clock is right, where it is far ahead of the chain
    AcceptClock {
        /// Accept without asking
        #[arg(long)]
        yes: bool,
    },
    /// Make a change of the set, to be signed
    Propose(ProposeArguments),
    /// Add this validator's signature to a change
    Sign {
        /// The change; `-` for standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Write the signed change here [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Sign without asking
        #[arg(long)]
        yes: bool,
        /// Sign with another index than the configured one
        #[arg(long, value_name = "NUMBER")]
        index: Option<u32>,
    },
    /// Hand a signed change in; copies that were signed side by side are joined
    Submit {
        /// The change, or several copies of it; `-` for standard input
        #[arg(default_value = "-")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Default, Args)]
pub struct ProposeArguments {
    /// Add a validator, with power 1 if none is named; may be repeated
    #[arg(long, value_name = "KEY[=POWER]")]
    pub add: Vec<String>,
    /// Remove a validator; may be repeated
    #[arg(long, value_name = "KEY")]
    pub remove: Vec<String>,
    /// Give a validator another power; may be repeated
    #[arg(long, value_name = "KEY=POWER")]
    pub power: Vec<String>,
    /// Write the change here [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TestnetCommand {
    /// Start a network and keep it until Ctrl-C
    Up(UpArguments),
    /// What runs
    Status {
        #[arg(long, default_value = "samara-testnet", value_name = "DIR")]
        dir: PathBuf,
    },
    /// Stop everything
    Down {
        #[arg(long, default_value = "samara-testnet", value_name = "DIR")]
        dir: PathBuf,
        /// Delete the network's folder as well
        #[arg(long)]
        delete: bool,
    },
}

#[derive(Debug, Args)]
pub struct UpArguments {
    /// The network's folder; one that exists is started again
    #[arg(long, default_value = "samara-testnet", value_name = "DIR")]
    pub dir: PathBuf,
    /// Validators of a new network; of fewer than 4 none may be lost
    #[arg(long, default_value_t = 4)]
    pub validators: usize,
    /// Hosts of a new network: 2 at least to store anything, or 0
    #[arg(long, default_value_t = 8)]
    pub hosts: usize,
    /// Renters of a new network; each gets coins, and contracts with all hosts
    #[arg(long, default_value_t = 1)]
    pub renters: usize,
    /// Run all nodes in this one process
    #[arg(long, conflicts_with = "detach")]
    pub in_process: bool,
    /// Return when all is ready and leave the nodes running
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Folder to store [default: this folder without target and .git]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Validators, at least 1
    #[arg(long, default_value_t = 4)]
    pub validators: usize,
    /// Hosts, at least 3
    #[arg(long, default_value_t = 8)]
    pub hosts: usize,
    /// Any K of N hosts bring a file back [default: fits the number of hosts]
    #[arg(long, value_name = "K/N")]
    pub redundancy: Option<String>,
    /// Hosts to kill and delete after the backup, before the recovery
    #[arg(long, default_value_t = 0)]
    pub kill_hosts: usize,
    /// Kill one validator after the upload
    #[arg(long)]
    pub kill_validator: bool,
    /// Keep the network's folder
    #[arg(long)]
    pub keep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_a_second_and_no_limit_is_nought() {
        for (text, bytes) in [
            ("500kB", 500_000),
            (" 2 MB/s ", 2_000_000),
            ("0", 0),
            ("0 MB", 0),
            ("0.0", 0),
            ("0/s", 0),
        ] {
            assert_eq!(rate(text).map(|rate| rate.0), Ok(bytes), "{text}");
        }
        for text in ["0.5", "0.4 B/s", "fast", "2 MB/s/s", ""] {
            rate(text).unwrap_err();
        }
    }
}
