//! The JSON Schema of the file, for editors and for other programs that write it.
//!
//! It holds what can be said about one key alone: names, types, words and ranges. That a route's next hop is
//! on-link, say, only [`crate::Config::parse`] can tell. Keys and words that are agreed but not built are in it, marked
//! `x-not-built`, so that a file written for a later version can be edited with it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The schema, JSON Schema 2020-12, as pretty-printed text.
pub fn json_schema() -> String {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<crate::raw::File>();
    schema.insert("title".into(), "Millrace configuration".into());
    // The value is made of maps with string keys only, which is all that printing could trip over.
    serde_json::to_string_pretty(&schema).unwrap_or_default()
}

/// The schema of one table, key by key; the twin of [`crate::read::Table`].
pub(crate) struct Table<'g> {
    generator: &'g mut SchemaGenerator,
    about: String,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl<'g> Table<'g> {
    pub(crate) fn new(generator: &'g mut SchemaGenerator, about: &[&str]) -> Self {
        Self { generator, about: prose(about), properties: Map::new(), required: Vec::new() }
    }

    pub(crate) fn required<T: JsonSchema>(&mut self, key: &'static str, doc: &[&str]) {
        self.required.push(key);
        self.optional::<T>(key, doc);
    }

    pub(crate) fn optional<T: JsonSchema>(&mut self, key: &'static str, doc: &[&str]) {
        let mut schema = self.generator.subschema_for::<T>();
        schema.insert("description".into(), prose(doc).into());
        self.properties.insert(key.into(), schema.to_value());
    }

    pub(crate) fn default<T: JsonSchema>(&mut self, key: &'static str, doc: &[&str], default: Value) {
        self.optional::<T>(key, doc);
        self.properties[key]["default"] = default;
    }

    pub(crate) fn later(&mut self, key: &'static str, doc: &[&str]) {
        let about = format!("{} Not built yet: `millrace check` refuses it by name.", prose(doc));
        self.properties.insert(key.into(), json!({ "description": about.trim(), "x-not-built": true }));
    }

    pub(crate) fn finish(self) -> Schema {
        let mut schema = schemars::json_schema!({
            "type": "object",
            "description": self.about,
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema.insert("required".into(), json!(self.required));
        }
        schema
    }
}

/// The schema of a closed set of words.
pub(crate) fn words(about: &[&str], words: &[(&str, &[&str])], later: &[&str]) -> Schema {
    let built = words.iter().map(|(word, doc)| json!({ "const": word, "description": prose(doc) }));
    let later = later
        .iter()
        .map(|word| json!({ "const": word, "description": "Not built yet.", "x-not-built": true }));
    schemars::json_schema!({ "description": prose(about), "oneOf": built.chain(later).collect::<Vec<_>>() })
}

/// Joins the lines of a doc comment; a line break there is only the width of the source.
pub(crate) fn prose(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
