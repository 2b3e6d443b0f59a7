//! `conclave bridge`.

use conclave_shell_smol::{Error, Options, print_config};

use crate::args::Bridge;
use crate::{Context, Failure};

pub(super) fn run(bridge: Bridge, context: &Context) -> Result<(), Failure> {
    let dir = context.dir()?.clone();
    let servers = bridge.servers.iter().map(|named| context.server(Some(named)));
    let options = Options {
        dir,
        servers: servers.collect::<Result<_, _>>()?,
        handle: bridge.handle,
        approvers: bridge.approvers,
        ca: bridge.ca,
    };
    if let Some(client) = bridge.print_config {
        let config = print_config(client, &["conclave", "bridge"], &options, context.dir_given);
        let value = serde_json::json!({ "client": client.as_str(), "config": config });
        return context.output.result(config.trim_end(), value);
    }
    conclave_shell_smol::run(&options).map_err(|error| match error {
        Error::Config(error) => error.into(),
        Error::Key(error) => error.into(),
        Error::Dial(error) => Failure::new(error.to_string(), error.advice()),
        Error::Io(_) => Failure::new(error.to_string(), "look at `ulimit -a`"),
    })
}
