//! The words of `zrepl test`.

use clap::{Args, Subcommand};
use model::DatasetName;

use crate::completion;

/// What to try.
#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Which filesystems a job is about
    #[command(after_help = "\
Examples:
  zrepl test filesystems --job backup_home --all --explain
  zrepl test filesystems --job backup_home --input tank/home")]
    Filesystems(FilesystemsTest),
    /// Which filesystems are placeholders, made only to carry what is below them
    ///
    /// The columns, separated by tabs: yes or no, the name, and the property as it is set there.
    #[command(after_help = "\
Examples:
  zrepl test placeholder --all
  zrepl test placeholder --dataset vault/backup/host/tank")]
    Placeholder(PlaceholderTest),
    /// What a resume token (property receive_resume_token) says
    #[command(
        name = "decoderesumetoken",
        after_help = "Example:\n  zrepl test decoderesumetoken $(zfs get -Ho value receive_resume_token vault/backup/host/tank)"
    )]
    DecodeResumeToken(TokenTest),
}

/// Which filesystems to look at.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub(crate) struct PlaceholderTest {
    /// One filesystem
    #[arg(long, value_name = "FS", group = "which", value_parser = DatasetName::parse)]
    pub dataset: Option<DatasetName>,
    /// All filesystems and volumes of this machine
    #[arg(long, group = "which")]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which token to read.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct TokenTest {
    /// The token
    #[arg(group = "which")]
    pub token: Option<String>,
    /// The token, as zrepl 0.7 wants it
    #[arg(long = "token", value_name = "TOKEN", group = "which")]
    pub token_option: Option<String>,
    /// Print all that it says, under names that stay
    #[arg(long)]
    pub json: bool,
}

/// Which filesystems to try on which job's filter.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct FilesystemsTest {
    /// The job's name
    #[arg(long, add = completion::filtering_job())]
    pub job: String,
    /// All filesystems and volumes of this machine
    #[arg(long, group = "which")]
    pub all: bool,
    /// One name, which need not exist
    #[arg(long, value_name = "FS", group = "which")]
    pub input: Option<String>,
    /// Say in the third column which entry of the filter decides
    #[arg(long)]
    pub explain: bool,
    /// Print JSON, always with the entries that decide
    #[arg(long)]
    pub json: bool,
}
