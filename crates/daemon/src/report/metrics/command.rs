//! What a command line says for the metrics of child processes.

/// What is measured of a command besides its verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About<'a> {
    /// Snapshots and bookmarks are listed, below this.
    Listing(&'a str),
    /// Snapshots are taken, below this.
    Snapshot(&'a str),
    /// A bookmark is made of this one's.
    Bookmark(&'a str),
    /// Something is destroyed: its kind, and the filesystem it is or belongs to.
    Destroy(&'static str, &'a str),
    /// Nothing that has a metric of its own.
    Other,
}

/// A command line, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words<'a> {
    /// `zfs` or `zpool`.
    pub binary: &'a str,
    /// Its first word.
    pub verb: &'a str,
    /// What it is about.
    pub about: About<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn of(command: &'a str) -> Words<'a> {
        let mut words = command.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let binary = first.rsplit('/').next().unwrap_or_default();
        let verb = words.next().unwrap_or_default();
        let about = match verb {
            "list" => About::Listing(common(operands(words))),
            "snapshot" => About::Snapshot(common(operands(words))),
            "bookmark" => About::Bookmark(common(operands(words))),
            "destroy" => {
                let object = operands(words).next().unwrap_or_default();
                let kind = match object {
                    _ if object.contains('@') => "snapshot",
                    _ if object.contains('#') => "bookmark",
                    _ => "filesystem",
                };
                About::Destroy(kind, filesystem(object))
            }
            _ => About::Other,
        };
        Words { binary, verb, about }
    }
}

/// What is neither an option nor an option's value.
fn operands<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut value_follows = false;
    words.filter(move |word| {
        let is_value = std::mem::take(&mut value_follows);
        value_follows = matches!(*word, "-o" | "-t" | "-d" | "-s" | "-S");
        !is_value && !word.starts_with('-')
    })
}

/// The dataset itself, without snapshots and bookmarks.
fn filesystem(object: &str) -> &str {
    object.split(['@', '#']).next().unwrap_or_default()
}

/// The filesystem that all of these are, or are below of; empty for everything, or if they share none. One
/// command is about thousands of filesystems, and took its time for all of them together.
fn common<'a>(mut objects: impl Iterator<Item = &'a str>) -> &'a str {
    let first = objects.next().map(filesystem).unwrap_or_default();
    objects.map(filesystem).fold(first, shared)
}

fn shared<'a>(a: &'a str, b: &str) -> &'a str {
    if a == b {
        return a;
    }
    let mut parts_of_b = b.split('/');
    let equal = a.split('/').take_while(|part| parts_of_b.next() == Some(part));
    let length = equal.map(|part| part.len() + 1).sum::<usize>().saturating_sub(1);
    a.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_about_what_its_datasets_have_in_common() {
        let about = |command| Words::of(command).about;
        assert_eq!(about("zfs list -Hp -d 1 -t snapshot,bookmark -o name,guid p/a"), About::Listing("p/a"));
        assert_eq!(about("zfs list -Hp -t snapshot -o name"), About::Listing(""));
        assert_eq!(about("zfs snapshot p/a/x@1 p/a/xy@1 p/a/x/z@1"), About::Snapshot("p/a"));
        assert_eq!(about("zfs snapshot p/a@1 p/a/b@1"), About::Snapshot("p/a"));
        assert_eq!(about("zfs snapshot p@1 q@1"), About::Snapshot(""));
        assert_eq!(about("zfs bookmark p/a@1 p/a#b"), About::Bookmark("p/a"));
        assert_eq!(about("zfs destroy p/a@1,2"), About::Destroy("snapshot", "p/a"));
        assert_eq!(about("zfs destroy p/a#1"), About::Destroy("bookmark", "p/a"));
        assert_eq!(about("zfs destroy p/a"), About::Destroy("filesystem", "p/a"));
        let words = Words { binary: "zpool", verb: "get", about: About::Other };
        assert_eq!(Words::of("/sbin/zpool get -Hp x"), words);
        assert_eq!(Words::of(""), Words { binary: "", verb: "", about: About::Other });
    }
}
