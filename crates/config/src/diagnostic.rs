//! What is said about a file: where, what is wrong, and what can be done about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::Renderer;
use annotate_snippets::{AnnotationKind, Element, Level, Origin, Padding, Snippet};

use crate::source::{Source, Span};

/// Lines longer than this are not shown: the place is named, the excerpt left out.
const MAX_EXCERPT_LINE: usize = 400;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not say what was meant.
    Warning,
}

/// How a diagnostic is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone: for logs and files.
    #[default]
    Plain,
    /// With the colour escapes of terminals.
    Colored,
}

/// A place in a file. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's name as it was given.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing to say about a configuration. `Display` is [`Diagnostic::render`] without colour.
#[derive(Clone)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    source: Option<Arc<Source>>,
    span: Option<Span>,
    field: String,
    hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self { severity, message, source: None, span: None, field: String::new(), hint: None }
    }

    pub(crate) fn at(self, source: &Arc<Source>, span: Span) -> Self {
        Self { source: Some(Arc::clone(source)), span: Some(span), ..self }
    }

    /// Whether both say the same about the same place.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.span == other.span && self.message == other.message && self.file() == other.file()
    }

    pub(crate) fn file(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.name.as_str())
    }

    /// Orders what is said about one file; what is about no place comes first.
    pub(crate) fn position(&self) -> usize {
        self.span.map_or(0, |span| span.start)
    }

    pub(crate) fn field_path(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, as a fragment.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where; none if it is about a file that could not be read, or about no place in particular.
    pub fn location(&self) -> Option<Location> {
        let (source, span) = (self.source.as_ref()?, self.span?);
        let (line, column) = source.position(span.start);
        Some(Location { file: source.name.clone(), line, column })
    }

    /// The field's path, such as `jobs[1].pruning.keep`; empty for the document as a whole.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What can be done.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message with excerpt, caret, field path and hint; several lines, without a final newline.
    pub fn render(&self, style: Style) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(self.message.as_str()).elements(self.place());
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        match style {
            Style::Plain => Renderer::plain(),
            Style::Colored => Renderer::styled(),
        }
        .render(&[group])
    }

    fn place(&self) -> Vec<Element<'_>> {
        let (Some(source), Some(span)) = (&self.source, self.span) else { return Vec::new() };
        let (line, column) = source.position(span.start);
        let text = source.shown_line(line);
        if text.len() > MAX_EXCERPT_LINE {
            let origin = Origin::path(source.name.as_str()).line(line).char_column(column);
            let field = (!self.field.is_empty()).then(|| Level::NOTE.message(format!("field {}", self.field)).into());
            return [origin.into(), Padding.into()].into_iter().chain(field).collect();
        }
        let marked = AnnotationKind::Primary.span(caret(source, span, line));
        let marked = if self.field.is_empty() { marked } else { marked.label(self.field.as_str()) };
        vec![Snippet::source(text).line_start(line).path(source.name.as_str()).annotation(marked).into()]
    }
}

/// The bytes to underline, within the excerpt: of a value that spans lines only its first. Whole
/// characters, as the parser's idea of an end may lie within one. Passwords are hidden in the excerpt,
/// which takes fewer bytes but as many characters.
fn caret(source: &Source, span: Span, line: usize) -> Range<usize> {
    let (start_of_line, text) = (source.line_start(line), source.line(line));
    let within = |byte: usize| byte.saturating_sub(start_of_line).min(text.len());
    let start = (0..=within(span.start)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (within(span.end).max(start)..=text.len()).find(|at| text.is_char_boundary(*at));
    source.shown_length(line, start)..source.shown_length(line, end.unwrap_or(text.len()))
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a configuration cannot be used: all its mistakes, in file order. `Display` prints them one
/// after the other.
#[derive(Debug, Clone)]
pub struct Errors {
    /// The mistakes; never empty.
    pub errors: Vec<Diagnostic>,
    /// What else there is to say about the same files.
    pub warnings: Vec<Diagnostic>,
}

impl std::error::Error for Errors {}

impl Errors {
    pub(crate) fn one(error: Diagnostic) -> Self {
        Self { errors: vec![error], warnings: Vec::new() }
    }

    /// All errors, then all warnings, separated by empty lines.
    pub fn render(&self, style: Style) -> String {
        let all: Vec<String> = self.errors.iter().chain(&self.warnings).map(|one| one.render(style)).collect();
        all.join("\n\n")
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}
