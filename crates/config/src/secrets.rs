//! Where passwords are in the text of a file, so that no excerpt shows them.
//!
//! What the parser has read is known to the byte. What it has not read, because the file is no YAML,
//! is hidden generously.

use std::borrow::Cow;

use crate::source::Span;
use crate::suggest;
use crate::tree::{Node, Value};

/// The key whose value may hold a password.
const KEY: &str = "dsn";
/// How many lines a value that could not be read may go on for.
const MAX_LINES: usize = 100;
/// What stands for a hidden character, so that columns stay what they are.
const MASK: char = '*';

/// Whether nobody should see the value of a key, misspelt or not.
pub(crate) fn is_secret(key: &str, value: &Node) -> bool {
    match &value.value {
        _ if key == KEY => !value.is_null(),
        Value::Scalar(scalar) if key.len() <= KEY.len() + 1 => {
            scalar.text.contains(['=', ':', '@']) && suggest::nearest(&key.to_lowercase(), &[KEY]).is_some()
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => false,
    }
}

/// Whether a text has a password in it, wherever it stands.
pub(crate) fn has_password(node: &Node) -> bool {
    let Value::Scalar(scalar) = &node.value else { return false };
    let text = scalar.text.as_str();
    // `user:password@tcp(host)/` and `postgres://user:password@host/`
    let account =
        text.rsplit_once('@').map(|(account, _)| account.rsplit_once("://").map_or(account, |(_, rest)| rest));
    let in_account = account.is_some_and(|account| account.contains(':'))
        && (text.contains("://") || text.contains("@tcp") || text.contains("@unix") || text.contains("@/"));
    in_account || (text.contains('=') && text.to_lowercase().contains("password"))
}

/// All parts of a text to hide, in their order, given those that were read.
pub(crate) fn all(text: &str, mut read: Vec<Span>, read_to_its_end: bool) -> Vec<Span> {
    read.sort_by_key(|span| span.start);
    let unread = unread(text, &read);
    // A line that is indented too little ends a value too early, and the text may be wrong for that.
    if let Some(last) = read.last().filter(|_| !read_to_its_end) {
        let key = text.get(..last.start).and_then(|before| before.rfind(KEY));
        let (start, end) = extent(text, key.unwrap_or(last.start));
        read.push(Span { start: start.max(last.end), end });
    }
    read.extend(unread);
    read.sort_by_key(|span| span.start);
    read
}

/// The values of keys that the parser did not come to.
fn unread(text: &str, read: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    // Of the line looked at last, so that a long one with many keys is looked at once.
    let (mut end_of_line, mut end) = (0, 0);
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(KEY)).map(|at| from + at) {
        from = at + KEY.len();
        let Some(start) = value_after(text, from) else { continue };
        if at >= end_of_line {
            (end_of_line, end) = extent(text, at);
        }
        let next = read.get(read.partition_point(|span| span.start < start));
        if next.is_none_or(|next| next.start >= end) {
            found.push(Span { start, end });
            from = end.max(from);
        }
    }
    found
}

/// Where the value begins of a key that ends here; none if it is no key, or if the value is an alias,
/// or none at all.
fn value_after(text: &str, end_of_key: usize) -> Option<usize> {
    let rest = text.get(end_of_key..)?;
    let value = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']).strip_prefix(':')?;
    let value = value.trim_start_matches([' ', '\t']);
    let is_known = value.starts_with(['*', ',', '}']);
    (!is_known).then(|| text.len() - value.len())
}

/// The end of the line, and of all lines that may go on with what is in it: those that are indented
/// deeper.
fn extent(text: &str, at: usize) -> (usize, usize) {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |feed| feed + 1);
    let indentation = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let mut lines = text.get(start..).unwrap_or_default().split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let goes_on = |line: &&str| line.trim().is_empty() || indentation(line) > indentation(first);
    let more: usize = lines.take(MAX_LINES).take_while(goes_on).map(str::len).sum();
    (start + first.len(), start + first.len() + more)
}

/// A line with what is to be hidden replaced, character by character; quotation marks around it and
/// blanks before it stay.
pub(crate) fn masked<'a>(line: &'a str, line_start: usize, hidden: &[Span]) -> Cow<'a, str> {
    let line_end = line_start + line.len();
    let first = hidden.partition_point(|span| span.end <= line_start);
    let hidden = hidden.get(first..).unwrap_or_default();
    // One may contain the next, so that their ends have no order; there are few.
    let hidden: Vec<&Span> = hidden.iter().take_while(|span| span.start < line_end).collect();
    if hidden.is_empty() {
        return Cow::Borrowed(line);
    }
    let indentation = line.len() - line.trim_start().len();
    let shown = |(at, character): (usize, char)| {
        let byte = line_start + at;
        let mut around = hidden.iter().filter(|span| (span.start..span.end).contains(&byte));
        let is_edge = |span: &&&Span| byte == span.start || byte + 1 == span.end;
        let is_quote = |span: &&Span| "\"'".contains(character) && is_edge(&span);
        match at < indentation || around.all(is_quote) {
            true => character,
            false => MASK,
        }
    };
    Cow::Owned(line.char_indices().map(shown).collect())
}
