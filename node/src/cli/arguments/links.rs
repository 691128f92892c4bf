//! Arguments of `samara backup link`.

use clap::Args;

#[derive(Debug, Args)]
pub struct LinkArguments {
    /// Name or id of an archive
    #[arg(required_unless_present_any = ["list", "revoke"])]
    pub name: Option<String>,
    /// For how long the link works, as in 12h, 7d, 8w [default: 7d]
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["list", "revoke"])]
    pub expires: Option<String>,
    /// List the links that work, without their secrets; of all archives if none is named
    #[arg(long)]
    pub list: bool,
    /// End a link, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "list"])]
    pub revoke: Option<String>,
}
