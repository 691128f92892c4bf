//! Where things are on this machine, after the XDG rules (and their like elsewhere).

use std::path::PathBuf;

use etcetera::{AppStrategy as _, AppStrategyArgs, choose_app_strategy};

use super::ConfigError;

/// The data folder when none is named: `~/.local/share/samara` on Linux.
///
/// # Errors
/// [`ConfigError::NoHome`].
pub fn data() -> Result<PathBuf, ConfigError> {
    let arguments = AppStrategyArgs {
        top_level_domain: "org".to_owned(),
        author: "Samara".to_owned(),
        app_name: "samara".to_owned(),
    };
    choose_app_strategy(arguments)
        .map(|strategy| strategy.data_dir())
        .map_err(|_| ConfigError::NoHome)
}
