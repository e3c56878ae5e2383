//! Where reports come from.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::report::Report;
use crate::client::{Anew, Client};

/// A daemon, or what it said once.
pub(crate) struct Source {
    /// None if it is the only one.
    pub(crate) name: Option<String>,
    place: Place,
}

enum Place {
    Daemon(Client),
    File(PathBuf),
    /// Standard input, read already.
    Read(Box<Report>),
}

impl Source {
    /// The daemon of a configuration.
    pub(crate) fn daemon(client: Client) -> Source {
        Source { name: None, place: Place::Daemon(client) }
    }

    /// Sockets of daemons, and files with saved reports, of which `-` is standard input. Each may have a
    /// name before it, as in `NAME=PATH`.
    ///
    /// # Errors
    /// Standard input cannot be read, or is no report.
    pub(crate) fn all(sockets: &[String], files: &[String]) -> Result<Vec<Source>> {
        let single = sockets.len() + files.len() == 1;
        let paths: Vec<(Option<&str>, &str)> = sockets.iter().chain(files).map(|word| named(word)).collect();
        let mut taken = BTreeSet::new();
        let mut sources = Vec::new();
        for (index, (name, path)) in paths.into_iter().enumerate() {
            let place = match path {
                path if index < sockets.len() => Place::Daemon(Client::at(PathBuf::from(path))),
                "-" => Place::Read(Box::new(standard_input()?)),
                path => Place::File(PathBuf::from(path)),
            };
            let mut name = name.map_or_else(|| short_name(Path::new(path)), str::to_owned);
            if !taken.insert(name.clone()) {
                path.clone_into(&mut name);
            }
            sources.push(Source { name: (!single).then_some(name), place });
        }
        Ok(sources)
    }

    /// Whether it is what a daemon said once.
    pub(crate) fn is_saved(&self) -> bool {
        !matches!(self.place, Place::Daemon(_))
    }

    /// What it says now.
    ///
    /// # Errors
    /// It says nothing, or nothing that is a report.
    pub(crate) async fn report(&self) -> Result<Report> {
        match &self.place {
            Place::Daemon(client) => {
                let mut text = Vec::new();
                let collect = |piece: &[u8]| {
                    text.extend_from_slice(piece);
                    Ok(())
                };
                client.ask("/status", "{}".to_owned(), collect).await?;
                understood(&text)
            }
            Place::File(path) => {
                let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                parse(&text).with_context(|| format!("in {}", path.display()))
            }
            Place::Read(report) => Ok((**report).clone()),
        }
    }

    /// What it says now, none if that is what it said when `tag` was set, which this sets anew. Of a large
    /// host a report is megabytes, and most of the time nothing happens.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn newer(&self, tag: &mut Option<String>) -> Result<Option<Report>> {
        let Place::Daemon(client) = &self.place else { return self.report().await.map(Some) };
        match client.ask_anew("/status", "{}".to_owned(), tag.as_deref()).await? {
            Anew::Same => Ok(None),
            Anew::New { text, tag: newer } => {
                let report = understood(&text)?;
                *tag = newer;
                Ok(Some(report))
            }
        }
    }

    /// What it says now, as it says it.
    ///
    /// # Errors
    /// It says nothing, or was read already.
    pub(crate) async fn raw(&self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &self.place {
            Place::Daemon(client) => client.ask("/status", "{}".to_owned(), take).await,
            Place::File(path) => take(&fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
            Place::Read(_) => anyhow::bail!("`--mode raw` shows what a daemon says: leave out `--from -`"),
        }
    }

    /// Tells a job to do something.
    ///
    /// # Errors
    /// The daemon's, or that there is none.
    pub(crate) async fn signal(&self, job: &str, operation: &str) -> Result<()> {
        let Place::Daemon(client) = &self.place else {
            anyhow::bail!("this is a saved report: there is no daemon to tell anything to");
        };
        client.ask_text("/signal", json!({"Name": job, "Op": operation}).to_string()).await.map(|_| ())
    }
}

fn understood(text: &[u8]) -> Result<Report> {
    serde_json::from_slice(text).context("the daemon's report is not understood (see `zrepl version`)")
}

fn named(word: &str) -> (Option<&str>, &str) {
    match word.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => (Some(name), path),
        _ => (None, word),
    }
}

/// The file's name without its ending; the folder's for sockets, which are all called the same.
fn short_name(path: &Path) -> String {
    let own = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match folder {
        Some(folder) if own == "control" => folder,
        _ => own,
    }
}

fn standard_input() -> Result<Report> {
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).context("cannot read standard input")?;
    parse(&text).context("on standard input")
}

fn parse(text: &[u8]) -> Result<Report> {
    serde_json::from_slice(text).context("not a report as `zrepl status --mode raw` prints it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_after_what_tells_them_apart() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let names = |sockets: &[&str], files: &[&str]| {
            let sources = Source::all(&words(sockets), &words(files)).unwrap();
            sources.into_iter().map(|source| source.name.unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["/run/a/control", "/run/b/control"], &["old.json"]), ["a", "b", "old"]);
        assert_eq!(names(&["x=/run/a/control", "/srv/a/control"], &["/b=c/old.json"]), ["x", "a", "old"]);
        assert_eq!(names(&["/run/a/control", "/srv/a/control"], &[]), ["a", "/srv/a/control"]);
        assert_eq!(names(&["/run/a/control"], &[]), [""], "the only one needs no name");
    }
}
