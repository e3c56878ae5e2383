//! `zrepl signal`

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::client::Client;
use crate::command_line::Operation;

/// Silent on success.
pub(crate) fn run(config: Option<&Path>, operation: Operation, job: &str) -> Result<()> {
    let client = Client::new(&super::load(config)?.config)?;
    let operation = match operation {
        Operation::Wakeup => "wakeup",
        Operation::Reset => "reset",
        Operation::Snapshot => "snapshot",
    };
    let request = json!({"Name": job, "Op": operation}).to_string();
    super::block_on(async { client.ask_text("/signal", request).await }).map(|_| ())
}
