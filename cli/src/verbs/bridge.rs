//! `conclave bridge`: the agent's side, which is another crate.

use conclave_core::name::UserName;
use conclave_shell_smol::{Options, print_config};
use conclave_store::config::ServerUrl;
use serde_json::json;

use crate::args::Bridge;
use crate::{Context, Failure};

pub(super) fn run(bridge: Bridge, context: &Context) -> Result<(), Failure> {
    if let Some(client) = bridge.print_config {
        let text = print_config(client, &["conclave", "bridge"]);
        return context.output.result(text.trim_end(), json!({ "config": text }));
    }
    let url = |text: &String| {
        // A server that is known may be named by its host; any other by its URL.
        let known = context.server(Some(text));
        known.or_else(|_| {
            text.parse::<ServerUrl>().map_err(|why| Failure::usage(why.to_string(), "type its URL"))
        })
    };
    let options = Options {
        folder: context.folder()?.clone(),
        servers: bridge.servers.iter().map(url).collect::<Result<_, _>>()?,
        handle: bridge.handle,
        approvers: bridge.approvers.iter().map(UserName::to_string).collect(),
        ca: bridge.ca,
    };
    conclave_shell_smol::run(&options).map_err(|why| Failure::new(why.to_string(), ""))
}
