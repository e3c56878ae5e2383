//! A whole file: `global`, `jobs`, `include`.

use crate::decode::{Field, File};
use crate::global::global;
use crate::jobs::{Claims, jobs};
use crate::place::Place;
use crate::tree;
use crate::types::{Global, Job};

/// What one file says.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) global: Global,
    /// Where `global` is, if the file has it.
    pub(crate) global_place: Option<Place>,
    pub(crate) jobs: Vec<Job>,
    /// Paths of further files.
    pub(crate) include: Vec<(String, Place)>,
}

/// Reads a file's text; what could not be read was reported and is left out.
pub(crate) fn read(file: File<'_>, claims: &Claims) -> Document {
    let Some(root) = tree::read_first_document(&file) else { return Document::default() };
    document(&Field::root(file, root), claims).unwrap_or_default()
}

/// A document's content; of a file, or of everything that could be in one.
pub(crate) fn document(root: &Field<'_>, claims: &Claims) -> Option<Document> {
    let mut section = root.section()?;
    let mut global_place = None;
    let global = section.subsection("global", Global::default(), |section| {
        global_place = Some(section.field.place());
        global(section)
    });
    let jobs = section.take("jobs").map_or(Some(Vec::new()), |field| jobs(&field, claims));
    let include = section.take("include").and_then(|field| field.items()).unwrap_or_default();
    let include = include.iter().filter_map(|field| Some((path(field)?, field.place()))).collect();
    section.finish();
    Some(Document { global: global.unwrap_or_default(), global_place, jobs: jobs.unwrap_or_default(), include })
}

fn path(field: &Field<'_>) -> Option<String> {
    match field.scalar("the path of a file")?.text.as_str() {
        "" => field.fail("the path of a file is missing", None),
        path => Some(path.to_owned()),
    }
}
