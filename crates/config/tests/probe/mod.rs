//! What must hold for any input of the reader. Shared by the tests and the fuzz target.

use config::{Errors, Loaded, Style};

/// Reads, renders all that is said, and checks that it points into the file.
pub(crate) fn probe(text: &str) {
    let said = match config::parse("hostile.yml", text) {
        Ok(Loaded { warnings, .. }) => warnings,
        Err(Errors { errors, warnings }) => {
            assert!(!errors.is_empty());
            assert!(errors.len() <= 101 && warnings.len() <= 100);
            errors.into_iter().chain(warnings).collect()
        }
    };
    let lines = text.matches('\n').count() + 1;
    for diagnostic in said {
        assert!(!diagnostic.render(Style::Plain).is_empty());
        assert!(!diagnostic.render(Style::Colored).is_empty());
        if let Some(location) = diagnostic.location() {
            assert!((1..=lines).contains(&location.line), "{location:?} in {lines} lines");
            assert!(location.column >= 1);
        }
    }
}
