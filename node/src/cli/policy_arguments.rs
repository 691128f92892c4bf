//! The command line of policies as clap reads it.
#![allow(missing_docs, reason = "doc comments here are the texts of --help")]

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Have backups made by themselves
    Create {
        name: String,
        #[command(flatten)]
        settings: PolicySettings,
    },
    /// List policies
    List,
    /// Show one policy and how it does
    Show { name: String },
    /// Change what is named, and leave the rest
    Edit {
        name: String,
        #[command(flatten)]
        settings: PolicySettings,
        /// Run again
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Of all vaults
        #[arg(long, conflicts_with_all = ["vault", "archive"])]
        all_vaults: bool,
    },
    /// Remove a policy; its backups stay
    Delete { name: String },
    /// Say which of its backups are kept and why, and delete nothing
    Preview {
        name: String,
        /// With these numbers in the place of its own
        #[command(flatten)]
        keep: Keep,
    },
}

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Make a policy's backup now
    Run {
        /// The policy
        name: String,
    },
}

#[derive(Clone, Debug, Default, Args)]
pub struct PolicySettings {
    /// Only this vault
    #[arg(long)]
    pub vault: Option<String>,
    /// Archives: one file with all bytes and the whole history of the vault
    #[arg(long)]
    pub archive: bool,
    /// How often, as in 1h, 1d, 1w [default: 1d]
    #[arg(long, value_name = "SPAN")]
    pub every: Option<String>,
    /// When in that time, in UTC: 02:00, `sun 02:00` of weeks, or a span, as in 5m [default: 00:00]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    #[command(flatten)]
    pub keep: Keep,
    /// Delete each backup in so long, whatever is kept, as in 90d, or `never`
    #[arg(long, value_name = "SPAN")]
    pub expires: Option<String>,
    /// A word to find its backups by; once for each
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Option<Vec<String>>,
    /// Make none that costs more than so many coins; `none` for no limit
    #[arg(long, value_name = "COINS")]
    pub max_cost: Option<String>,
    /// Do not run
    #[arg(long)]
    pub disable: bool,
}

/// Which backups are kept; all if no number is given.
#[derive(Clone, Debug, Default, Args)]
pub struct Keep {
    /// Keep the last so many
    #[arg(long, value_name = "NUMBER")]
    pub keep_last: Option<u32>,
    /// Keep one for each of the last so many hours that have any
    #[arg(long, value_name = "NUMBER")]
    pub keep_hourly: Option<u32>,
    /// The same of days
    #[arg(long, value_name = "NUMBER")]
    pub keep_daily: Option<u32>,
    /// The same of weeks
    #[arg(long, value_name = "NUMBER")]
    pub keep_weekly: Option<u32>,
    /// The same of months
    #[arg(long, value_name = "NUMBER")]
    pub keep_monthly: Option<u32>,
    /// The same of years
    #[arg(long, value_name = "NUMBER")]
    pub keep_yearly: Option<u32>,
    /// Keep all that are not older than this, as in 30d; 0 for none
    #[arg(long, value_name = "SPAN")]
    pub keep_within: Option<String>,
}
