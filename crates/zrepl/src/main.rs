//! The zrepl program: its command line. What the commands do is in the other crates.

mod client;
mod command;
mod command_line;
mod completion;
mod environment;
mod files;
mod notify;
mod status;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use command::confirm::Unconfirmed;
use command_line::test::Test;
use command_line::{Command, CommandLine};

fn main() -> ExitCode {
    allocate_from_one_heap();
    if let Some(answered) = completion::answer(std::env::args_os()) {
        return answered;
    }
    let CommandLine { config, command } = match CommandLine::read(std::env::args_os()) {
        Ok(line) => line,
        Err((error, words)) => return explain(&error, &words),
    };
    let config = config.as_deref();
    let result = match command {
        Command::Status(status) => match command::status::run(config, &status) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Daemon => command::daemon::run(config),
        Command::Configcheck(check) if check.schema => command::configcheck::schema(),
        Command::Configcheck(check) if check.json => command::configcheck::json(config, &check),
        Command::Configcheck(check) => command::configcheck::run(config, &check),
        Command::Signal(signal) => command::signal::run(config, &signal),
        Command::Reload(how) => command::reload::run(config, &how),
        Command::Version { show, json } => command::version::run(config, show, json),
        Command::Stdinserver { client_identity } => command::stdinserver::run(config, &client_identity),
        Command::Plan(plan) => command::plan::run(config, &plan),
        Command::Simulate(simulate) => command::simulate::run(config, &simulate),
        Command::Test(Test::Filesystems(test)) => command::test::filesystems(config, &test),
        Command::Test(Test::Placeholder(test)) => command::test::placeholder::run(&test),
        Command::Test(Test::DecodeResumeToken(test)) => command::test::token::run(&test),
        Command::ZfsAbstraction(what) => command::abstractions::run(what),
        Command::Migrate(migrate) => command::migrate::run(config, &migrate),
        Command::Pprof(pprof) => command::pprof::run(config, &pprof),
        Command::Completion(completion) => completion::print(&completion),
        Command::Gencompletion(script) => completion::write(&script),
        Command::Gendoc(doc) => command::gendoc::run(&doc),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader who has seen enough, such as `head`, is no failure.
        Err(error) if command::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            if error.is::<Unconfirmed>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// The C library keeps a heap per thread and gives little of them back, and the listings of a large
/// host are made on several threads: with 5,000 filesystems of 100 snapshots on two sides the daemon
/// held 136 MiB at its peak, with one heap 75 MiB.
fn allocate_from_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a call that takes two numbers, made before there are other threads")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Help was asked for, or the words make no command. zrepl has no exit code of its own for that.
fn explain(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    let text = error.render();
    if !help && words.iter().any(|word| word == "--check") {
        // A plug-in's exit code 1 is a mild warning, and its words are on standard output.
        let reason = text.to_string();
        let first = reason.lines().next().unwrap_or_default();
        let _ =
            writeln!(std::io::stdout(), "ZREPL UNKNOWN - {}", first.trim_start_matches("error: ").replace('|', "/"));
        let _ = write!(std::io::stderr(), "{text}");
        return ExitCode::from(3);
    }
    // A reader who has seen enough, such as `head`, is no failure.
    let _ = match help {
        true => write!(std::io::stdout(), "{text}"),
        false => write!(std::io::stderr(), "{text}"),
    };
    if help { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
