//! The zrepl program: its command line. What the commands do is in the other crates.

mod client;
mod command;
mod command_line;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use command_line::{Command, CommandLine};

fn main() -> ExitCode {
    let CommandLine { config, command } = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return explain(&error),
    };
    let config = config.as_deref();
    let result = match command {
        Command::Daemon => command::daemon::run(config),
        Command::Configcheck => command::configcheck::run(config),
        Command::Status { mode } => command::status::run(config, mode),
        Command::Signal { operation, job } => command::signal::run(config, operation, &job),
        Command::Version { show } => command::version::run(config, show),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help was asked for, or the words make no command. zrepl knows the exit codes 0 and 1 only.
fn explain(error: &clap::Error) -> ExitCode {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    let text = error.render();
    match help {
        true => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        false => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
    }
}
