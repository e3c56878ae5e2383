//! As much of JSON Schema as the generated one uses; any other keyword ends the test.

use regex::Regex;
use serde_json::Value as Json;

/// What is wrong with a value, if anything is.
pub(super) fn problem(root: &Json, schema: &Json, value: &Json) -> Option<String> {
    let Json::Object(keywords) = schema else {
        assert_eq!(schema, &Json::Bool(true), "a schema that is no object");
        return None;
    };
    keywords.iter().find_map(|(keyword, says)| keyword_problem(root, schema, keyword, says, value))
}

fn keyword_problem(root: &Json, schema: &Json, keyword: &str, says: &Json, value: &Json) -> Option<String> {
    let refused = |wrong: bool| wrong.then(|| format!("{value} against {keyword} {says}"));
    match keyword {
        "$schema" | "$defs" | "title" | "description" | "default" | "patternProperties" => None,
        "$ref" => {
            let name = says.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
            let target = root["$defs"].get(name).unwrap_or_else(|| panic!("no {name}"));
            problem(root, target, value)
        }
        "type" => {
            let types = says.as_array().cloned().unwrap_or_else(|| vec![says.clone()]);
            refused(!types.iter().any(|name| name == type_of(value)))
        }
        "const" => refused(value != says),
        "enum" => refused(!says.as_array().unwrap().contains(value)),
        "pattern" => {
            let pattern = Regex::new(says.as_str().unwrap()).unwrap();
            refused(value.as_str().is_some_and(|text| !pattern.is_match(text)))
        }
        "minLength" => refused(value.as_str().is_some_and(|text| text.chars().count() < size(says))),
        "minimum" => refused(value.as_f64().is_some_and(|number| number < says.as_f64().unwrap())),
        "maximum" => refused(value.as_f64().is_some_and(|number| number > says.as_f64().unwrap())),
        "minItems" => refused(value.as_array().is_some_and(|items| items.len() < size(says))),
        "minProperties" => refused(value.as_object().is_some_and(|entries| entries.len() < size(says))),
        "items" => value.as_array()?.iter().find_map(|item| problem(root, says, item)),
        "required" => {
            let entries = value.as_object()?;
            refused(says.as_array().unwrap().iter().any(|key| !entries.contains_key(key.as_str().unwrap())))
        }
        // Together with the properties, which are always there when additional ones are forbidden.
        "properties" => None,
        "additionalProperties" => entries_problem(root, schema, value),
        "anyOf" | "oneOf" => {
            let problems = says.as_array().unwrap().iter().map(|schema| problem(root, schema, value));
            let problems: Vec<Option<String>> = problems.collect();
            let fit = problems.iter().filter(|problem| problem.is_none()).count();
            let wrong = if keyword == "oneOf" { fit != 1 } else { fit == 0 };
            wrong.then(|| {
                format!("{fit} of {keyword} fit: {}", problems.into_iter().flatten().collect::<Vec<_>>().join(" / "))
            })
        }
        other => panic!("the schema has {other}"),
    }
}

fn entries_problem(root: &Json, schema: &Json, value: &Json) -> Option<String> {
    value.as_object()?.iter().find_map(|(key, value)| {
        let patterns = schema.get("patternProperties").and_then(Json::as_object).into_iter().flatten();
        let mut fitting = patterns.filter(|entry| Regex::new(entry.0.as_str()).unwrap().is_match(key));
        let by_pattern = fitting.next().map(|entry| entry.1);
        let known = schema.get("properties").and_then(|all| all.get(key)).or(by_pattern);
        match known.or(schema.get("additionalProperties")) {
            Some(Json::Bool(false)) => Some(format!("unknown key {key}")),
            Some(schema) => problem(root, schema, value).map(|problem| format!("{key}: {problem}")),
            None => None,
        }
    })
}

fn size(says: &Json) -> usize {
    usize::try_from(says.as_u64().unwrap()).unwrap()
}

fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
