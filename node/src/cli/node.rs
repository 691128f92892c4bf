//! `samara node`: the daemon in the foreground.

use std::path::Path;

use super::arguments::NodeArguments;
use super::exit::Exit;
use super::failure::Failure;
use super::logging;
use super::session::{Session, absolute};
use crate::config::{NetworkFile, NodeConfig, SAMPLE};
use crate::daemon::{self, DaemonOptions};

/// Runs until it is told to stop.
pub async fn run(session: &Session, arguments: NodeArguments) -> Result<Exit, Failure> {
    if arguments.print_config {
        session.output.say(SAMPLE.trim_end());
        session.output.answer(&serde_json::json!({ "samara.toml": SAMPLE }), String::new);
        return Ok(Exit::Ok);
    }
    let data = session.data()?;
    let path = match &arguments.config {
        Some(path) => absolute(path)?,
        None => data.join("samara.toml"),
    };
    let config =
        overlaid(NodeConfig::read(&path).map_err(|error| missing(&path, error))?, &arguments);
    logging::start(session.log(), session.output.is_json(), is_solo(&data, &config))?;
    crate::open_files::raise();
    let options = DaemonOptions { until_input_ends: arguments.until_input_ends, stop: None };
    daemon::run(data, config, options).await?;
    Ok(Exit::Ok)
}

/// A folder without a configuration was never made into a node's.
fn missing(path: &Path, error: crate::config::ConfigError) -> Failure {
    let failure = Failure::from(error);
    if path.exists() {
        return failure;
    }
    failure.with_hint("make a data folder with `samara init`, or name one with --data")
}

/// Flags and environment over the file.
fn overlaid(mut config: NodeConfig, arguments: &NodeArguments) -> NodeConfig {
    if let Some(api) = arguments.api {
        config.api = api;
    }
    if !arguments.listen.is_empty() {
        config.listen.clone_from(&arguments.listen);
    }
    config
}

/// Whether this node is the only validator of its network.
fn is_solo(data: &Path, config: &NodeConfig) -> bool {
    config.chain.as_ref().is_some_and(|chain| chain.validator)
        && NetworkFile::read(&data.join(&config.network))
            .is_ok_and(|network| network.validators.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lie_over_the_file() {
        let arguments = NodeArguments {
            config: None,
            api: Some("127.0.0.1:4000".parse().unwrap()),
            listen: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            until_input_ends: false,
            print_config: false,
        };
        let config = overlaid(NodeConfig::default(), &arguments);
        assert_eq!(config.api.port(), 4000);
        assert_eq!(config.listen, ["/ip4/127.0.0.1/tcp/1"]);
    }
}
