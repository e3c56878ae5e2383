//! The JSON Schema of the configuration, for editors.
//!
//! Lenient where YAML is: what a file says unquoted may be a bool or a number to an editor and a text
//! to us. What only the decoders can tell, such as a calendar that never comes, is left to them.

use crate::describe::json::Json;
use crate::describe::meaning::meaning;
use crate::describe::sections::{Section, Sections, join};
use crate::describe::{Key, Presence, Shape, kinds, whole};

/// A JSON Schema (draft 2020-12) of the configuration, as text.
pub fn schema() -> String {
    let whole = whole();
    let sections = Sections::of(&whole);
    let (roots, inner): (Vec<_>, Vec<_>) = sections.0.iter().partition(|section| section.name.is_empty());
    let kinds = kinds::ALL.iter().map(|kind| (kind.name.to_owned(), kinds::schema(kind)));
    let inner = inner.into_iter().map(|section| (section.name.clone(), of_section(section, &sections)));
    let head = Json::object([
        ("$schema", Json::Text("https://json-schema.org/draft/2020-12/schema".to_owned())),
        ("title", Json::Text("Configuration of zrepl".to_owned())),
        ("anyOf", Json::List(vec![reference("document"), null()])),
    ]);
    let document = roots.into_iter().map(|section| ("document".to_owned(), of_section(section, &sections)));
    format!("{}\n", head.with("$defs", Json::object(document.chain(inner).chain(kinds))))
}

fn reference(name: &str) -> Json {
    Json::object([("$ref", Json::Text(format!("#/$defs/{name}")))])
}

fn null() -> Json {
    Json::object([("type", Json::Text("null".to_owned()))])
}

fn of_section(section: &Section<'_>, sections: &Sections<'_>) -> Json {
    let tag = section.tag.map(|tag| {
        let schema = Json::object([("const", Json::Text(tag.to_owned()))]);
        ("type".to_owned(), schema)
    });
    let keys = section.keys.iter().map(|key| (key.name.to_owned(), of_key(key, section, sections)));
    let required = section.keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name);
    let required: Vec<&str> = section.tag.map(|_| "type").into_iter().chain(required).collect();
    let schema = Json::object([
        ("type", Json::Text("object".to_owned())),
        ("properties", Json::object(tag.into_iter().chain(keys))),
        ("patternProperties", Json::object([("^x-", Json::Bool(true))])),
        ("additionalProperties", Json::Bool(false)),
    ]);
    if required.is_empty() { schema } else { schema.with("required", Json::texts(required)) }
}

fn of_key(key: &Key, section: &Section<'_>, sections: &Sections<'_>) -> Json {
    let path = section.path_of(key.name);
    let value = of_shape(&key.shape, &join(section.paths.first().map_or("", String::as_str), key.name), sections);
    let (schema, default) = match &key.presence {
        Presence::Required => (not_empty(value, &key.shape), None),
        Presence::Optional(default) => (or_null(value), default.as_ref()),
    };
    let schema = schema.with("description", Json::Text(meaning(&path).unwrap_or_default().to_owned()));
    match default {
        Some(default) => schema.with("default", as_written(default, &key.shape)),
        None => schema,
    }
}

/// What a key without a value means is its default.
fn or_null(schema: Json) -> Json {
    Json::object([("anyOf", Json::List(vec![schema, null()]))])
}

fn not_empty(schema: Json, shape: &Shape) -> Json {
    match shape {
        Shape::List(_) => schema.with("minItems", Json::Number(1)),
        Shape::Map(..) => schema.with("minProperties", Json::Number(1)),
        Shape::Scalar(_) => schema.with("minLength", Json::Number(1)),
        Shape::Words(_) | Shape::Section(_) | Shape::Tagged(_) => schema,
    }
}

fn of_shape(shape: &Shape, path: &str, sections: &Sections<'_>) -> Json {
    match shape {
        Shape::Scalar(wanted) => reference(kinds::of(wanted).name),
        Shape::Words(words) => words_schema(words),
        Shape::List(item) => {
            Json::object([("type", Json::Text("array".to_owned())), ("items", of_shape(item, path, sections))])
        }
        // A null is an empty text, or leaves datasets out.
        Shape::Map(_, value) => Json::object([
            ("type", Json::Text("object".to_owned())),
            ("additionalProperties", or_null(of_shape(value, path, sections))),
        ]),
        Shape::Section(_) => reference(sections.name(path)),
        Shape::Tagged(variants) => {
            let variants = variants.iter().map(|(tag, _)| reference(sections.name(&join(path, tag))));
            Json::object([("oneOf", Json::List(variants.collect()))])
        }
    }
}

/// An unquoted `off` is false to some readers.
fn words_schema(words: &[String]) -> Json {
    let bools = [("off", false), ("on", true)].into_iter().filter(|(word, _)| words.iter().any(|known| known == word));
    let words = words.iter().map(|word| Json::Text(word.clone()));
    Json::object([("enum", Json::List(words.chain(bools.map(|(_, value)| Json::Bool(value))).collect()))])
}

fn as_written(default: &str, shape: &Shape) -> Json {
    let quoted = || Json::Text(default.to_owned());
    match shape {
        Shape::Scalar(wanted) if kinds::of(wanted).is_bool() => default.parse().map_or_else(|_| quoted(), Json::Bool),
        Shape::Scalar(wanted) if kinds::of(wanted).is_number() => {
            default.parse().map_or_else(|_| quoted(), Json::Number)
        }
        _ => quoted(),
    }
}
