//! The lab file's format as a JSON Schema, for editors.

use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    json_schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};

use super::file::File;
use crate::policy::Choice;

/// The schema of lab files, draft-07: what editors read.
///
/// It tells keys, types and most ranges. What relates several keys only labctl knows.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with_transform(Finish);
    let generated = settings.into_generator().into_root_schema_for::<File>().to_value();
    let mut schema = json!({ "$schema": generated["$schema"], "title": "labctl lab file" });
    if let (Value::Object(schema), Value::Object(generated)) = (&mut schema, generated) {
        schema.extend(generated);
    }
    schema
}

/// Any scalar value may hold a variable, and then is a string as far as a schema knows. Descriptions
/// are one line.
#[derive(Clone)]
struct Finish;

/// A text with a variable.
const VARIABLE: &str = r"\$\{";

impl Transform for Finish {
    fn transform(&mut self, schema: &mut Schema) {
        // Names are no values.
        let names = schema.remove("propertyNames");
        transform_subschemas(self, schema);
        let Some(keys) = schema.as_object_mut() else { return };
        if let Some(Value::String(text)) = keys.get_mut("description") {
            *text = text.replace('\n', " ");
        }
        keys.extend(names.map(|names| ("propertyNames".to_owned(), names)));
        if let Some(Value::String(pattern)) = keys.get_mut("pattern") {
            *pattern = format!("{pattern}|{VARIABLE}");
            return;
        }
        let is_word = |variant: &Value| variant.get("const").is_some_and(Value::is_string);
        if let Some(Value::Array(words)) = keys.get_mut("oneOf")
            && words.iter().all(is_word)
        {
            words.push(json!({ "type": "string", "pattern": VARIABLE }));
            return;
        }
        if let Some(words) = keys.remove("enum") {
            keys.remove("type");
            let variable = json!({ "type": "string", "pattern": VARIABLE });
            keys.insert("anyOf".to_owned(), json!([{ "enum": words }, variable]));
            return;
        }
        let types = match keys.get("type") {
            Some(Value::String(one)) => vec![one.clone().into()],
            Some(Value::Array(several)) => several.clone(),
            _ => return,
        };
        let has = |name: &str| types.iter().any(|known| known == name);
        if !has("string") && (has("boolean") || has("integer")) {
            let types: Vec<_> = types.into_iter().chain(["string".into()]).collect();
            keys.insert("type".to_owned(), types.into());
            keys.insert("pattern".to_owned(), VARIABLE.into());
        }
    }
}

// Here, as its own documentation is for those who read the source.
impl JsonSchema for Choice {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Policy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", "push", "pull", "thread", "poller"], "default": "auto" })
    }
}
