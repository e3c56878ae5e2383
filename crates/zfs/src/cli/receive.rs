//! Receives: a stream is fed to a child, and whichever of the two fails first ends the other.

use std::time::Duration;

use pump::{ByteStream, Fed, Feeder};
use tokio::time::{Instant, timeout};

use super::argv;
use super::classify;
use super::run::{Pipes, Process, Runner};
use crate::error::{Error, ErrorKind};
use crate::ops::ReceiveArgs;

const OPERATION: &str = "receive into";

/// How long a receive may take to write down what it has after its input ended too early. It commits
/// the state of a resumable receive, which takes a few transaction groups.
const STATE_LIMIT: Duration = Duration::from_secs(60);

/// How long a child that no longer reads may take to say why.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// How long the source of a completely received stream may take to end. It has nothing to say any
/// more, but a peer that is cut off before its end may take that for a failure.
const SOURCE_END_LIMIT: Duration = Duration::from_secs(10);

/// How feeding the child ended.
enum Feed {
    /// The source ended cleanly; so did the input.
    Complete,
    /// The source failed.
    Source(String),
    /// The child closed its input.
    Refused,
    /// The child ended.
    Exited,
    /// Nothing moved.
    Stalled,
}

pub(crate) async fn receive(runner: &Runner, args: &ReceiveArgs, mut source: ByteStream) -> Result<(), Error> {
    let mut process = runner
        .spawn(&argv::receive(args), Pipes::Input)
        .map_err(|failure| failure.into_error(OPERATION, &args.dataset))?;
    let feed = feed(&mut process, &mut source, args.stall_limit).await;
    let limit = match feed {
        Feed::Complete => runner.config.deadlines.receive_end,
        Feed::Source(_) | Feed::Stalled => STATE_LIMIT,
        Feed::Refused | Feed::Exited => LAST_WORDS_LIMIT,
    };
    let in_time = timeout(limit, process.finish()).await.is_ok();
    if !in_time {
        process.kill().await;
    }
    conclude(&feed, in_time.then_some(&process), limit, args)?;
    if matches!(feed, Feed::Exited | Feed::Refused) {
        let _ = timeout(SOURCE_END_LIMIT, tokio::io::copy(&mut source, &mut tokio::io::sink())).await;
    }
    Ok(())
}

/// Moves bytes until one side ends; then the input is over.
async fn feed(process: &mut Process, source: &mut ByteStream, stall_limit: Duration) -> Feed {
    let stdin = process.stdin.take().and_then(|stdin| stdin.into_owned_fd().ok());
    let Some(mut feeder) = stdin.and_then(|stdin| {
        pump::enlarge(&stdin);
        Feeder::new(stdin).ok()
    }) else {
        return Feed::Refused;
    };
    let mut moved = Instant::now();
    loop {
        tokio::select! {
            fed = feeder.feed(source) => {
                match fed {
                    Fed::Some => {}
                    Fed::End => return Feed::Complete,
                    Fed::Failed(error) => return Feed::Source(source_text(&error)),
                    Fed::Refused(_) => return Feed::Refused,
                }
                moved = Instant::now();
            }
            () = process.exited() => return Feed::Exited,
            () = tokio::time::sleep_until(moved + stall_limit) => return Feed::Stalled,
        }
    }
}

/// The words of a source that failed; those of ZFS if it is a send on this host.
fn source_text(error: &std::io::Error) -> String {
    error.to_string()
}

/// What became of a receive, whose process ended in time or had to be killed.
fn conclude(feed: &Feed, process: Option<&Process>, limit: Duration, args: &ReceiveArgs) -> Result<(), Error> {
    let ended = process.map(Process::ended);
    let token = ended.as_ref().and_then(|ended| classify::resume_token(&ended.stderr)).map(str::to_owned);
    let cause = match (feed, &ended) {
        (Feed::Source(text), _) => ErrorKind::Source(text.clone()),
        (Feed::Stalled, _) => ErrorKind::Stalled(args.stall_limit),
        (_, None) => ErrorKind::Deadline(limit),
        (_, Some(ended)) if ended.status.success() => return Ok(()),
        (_, Some(ended)) => ended.kind(args.dataset.as_str()),
    };
    let error = Error::new(OPERATION, &args.dataset, cause).with_resume_token(token);
    Err(match ended {
        Some(ended) if !ended.status.success() => error.with_child(ended.failure()),
        _ => error,
    })
}
