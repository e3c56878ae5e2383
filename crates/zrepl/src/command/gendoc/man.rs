//! Man pages, one per command, in section 8.

use std::fmt::Write as _;
use std::io;

use anyhow::{Context, Result};
use clap_mangen::Man;

use super::commands;
use crate::environment;

const SECTION: &str = "8";

/// File names and contents.
pub(super) fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let all = commands();
    let names: Vec<String> = all.iter().map(|(words, _)| words.join("-")).collect();
    all.into_iter().map(|(words, command)| page(&words, command, &names)).collect()
}

fn page(words: &[String], command: clap::Command, names: &[String]) -> Result<(String, Vec<u8>)> {
    let name = words.join("-");
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let groups = command.get_subcommands().any(|one| !one.is_hide_set());
    // The page's own words; the text after the options gets sections instead of one.
    let command = command.name(name.clone()).bin_name(words.join(" ")).display_name(name.clone()).after_help("");
    let man = Man::new(command.clone());
    // Without a date, which no build would have twice.
    let title = format!(
        ".TH {} {SECTION} \"\" \"zrepl {}\" \"System administration\"\n",
        escaped(&name.to_uppercase()),
        escaped(daemon::VERSION)
    );
    let mut page = title.into_bytes();
    let written = (|| -> io::Result<()> {
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)
    })();
    written.with_context(|| format!("cannot write the page {name}"))?;
    if groups {
        page.extend(subcommands(&name, &command).into_bytes());
    }
    page.extend(sections(&help).into_bytes());
    if words.len() == 1 {
        page.extend(environment_section().into_bytes());
        page.extend(FILES.as_bytes());
    }
    page.extend(see_also(&name, names).into_bytes());
    Ok((format!("{name}.{SECTION}"), page))
}

fn subcommands(name: &str, command: &clap::Command) -> String {
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
    shown.fold(".SH COMMANDS\n".to_owned(), |text, one| {
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        text + &format!(".TP\n\\fB{}\\fR(8)\n{}\n", escaped(&format!("{name}-{}", one.get_name())), escaped(&about))
    })
}

/// The text after the options: headings that end with a colon, and lines that stay as they are.
fn sections(help: &str) -> String {
    let mut text = String::new();
    let mut open = false;
    for line in help.lines().map(str::trim_end) {
        if !line.is_empty() && !line.starts_with(' ') {
            if open {
                text += ".fi\n.RE\n";
            }
            let _ = write!(text, ".SH {}\n.RS 4\n.nf\n", escaped(&heading(line)));
            open = true;
        } else if open {
            // What stands before the first column is the indentation of the section.
            let _ = writeln!(text, "{}", escaped(line.strip_prefix("  ").unwrap_or(line)));
        }
    }
    if open { text + ".fi\n.RE\n" } else { text }
}

fn heading(line: &str) -> String {
    match line.trim_end_matches(':') {
        "Example" | "Examples" => "EXAMPLES".to_owned(),
        "Exit code" => "EXIT STATUS".to_owned(),
        // Such as `Example, in a file`.
        other => other.to_uppercase(),
    }
}

fn environment_section() -> String {
    environment::READ.iter().fold(".SH ENVIRONMENT\n".to_owned(), |text, (name, meaning)| {
        text + &format!(".TP\n\\fB{}\\fR\n{}\n", escaped(name), escaped(meaning))
    })
}

const FILES: &str = "\
.SH FILES
.TP
\\fI/etc/zrepl/zrepl.yml\\fR, \\fI/usr/local/etc/zrepl/zrepl.yml\\fR
The configuration, unless \\fB\\-\\-config\\fR names another.
.TP
\\fI/var/run/zrepl/control\\fR
The socket on which commands reach the daemon, unless the configuration names another.
";

/// The command above, and what is beside the first page.
fn see_also(name: &str, names: &[String]) -> String {
    let above = name.rsplit_once('-').map(|(above, _)| above.to_owned()).filter(|above| names.contains(above));
    let pages = above.into_iter().chain(["zfs".to_owned(), "zpool".to_owned()]);
    let pages: Vec<String> = pages.map(|page| format!("\\fB{}\\fR(8)", escaped(&page))).collect();
    format!(".SH SEE ALSO\n{}\n", pages.join(", "))
}

/// Text as troff takes it: nothing in it is a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    text.lines()
        .map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}
