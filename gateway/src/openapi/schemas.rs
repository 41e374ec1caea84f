//! JSON Schemas (2020-12, as OpenAPI 3.1 uses them) of documents, bodies and replies.

use alyx_core::Value;
use alyx_schema::{Collection, DefaultValue, Field, FieldType, Format};
use serde_json::{Map, Value as Json, json};

/// Schemas that every document has, by name.
pub(super) fn shared() -> Vec<(&'static str, Json)> {
    vec![
        ("Error", error()),
        ("ErrorDetail", detail()),
        ("ListResponse", list_response()),
        ("Figures", figures()),
    ]
}

fn error() -> Json {
    json!({
        "type": "object",
        "description": "Every failed request answers with this.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "request_id"],
                "properties": {
                    "code": {"type": "string", "description": "Stable; program against this.", "examples": ["VALIDATION_ERROR"]},
                    "message": {"type": "string", "description": "For people; may change."},
                    "field": {"type": "string", "description": "The field or parameter it is about."},
                    "operation": {"type": "integer", "description": "Which operation of a batch, or which write of a transaction, from 0."},
                    "details": {"type": "array", "items": reference("ErrorDetail")},
                    "request_id": {"type": "string", "description": "Also in the X-Request-ID header and in the log."}
                }
            }
        }
    })
}

fn detail() -> Json {
    json!({
        "type": "object",
        "required": ["field", "code", "message"],
        "properties": {
            "field": {"type": "string"},
            "code": {"type": "string", "examples": ["required"]},
            "message": {"type": "string"}
        }
    })
}

fn figures() -> Json {
    json!({
        "type": "object",
        "required": ["groups", "limit", "offset", "more"],
        "properties": {
            "groups": {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "The figures, each with the name that the request gives it.",
                    "required": ["key"],
                    "properties": {"key": {"type": "object", "description": "What the group's documents have in common."}}
                }
            },
            "limit": {"type": "integer"},
            "offset": {"type": "integer"},
            "more": {"type": "boolean", "description": "Whether there are more groups."}
        }
    })
}

fn list_response() -> Json {
    json!({
        "type": "object",
        "required": ["docs", "limit", "offset"],
        "properties": {
            "docs": {"type": "array", "items": {"type": "object"}},
            "total": {"type": "integer", "minimum": 0, "description": "All that match, on whatever page; absent with count=false."},
            "limit": {"type": "integer", "minimum": 0},
            "offset": {"type": "integer", "minimum": 0},
            "next": {"type": "string", "description": "Where the next page begins, for `after`; absent on the last page."}
        }
    })
}

/// A reference to a named schema.
pub(super) fn reference(name: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A page of the named documents.
pub(super) fn page_of(name: &str) -> Json {
    json!({
        "allOf": [
            reference("ListResponse"),
            {"type": "object", "properties": {"docs": {"type": "array", "items": reference(name)}}}
        ]
    })
}

/// A document as callers get it.
pub(super) fn document(collection: &Collection) -> Json {
    let visible = || collection.fields.iter().filter(|field| !field.internal);
    let properties = visible().map(|field| {
        let mut schema = value(field);
        if field.kind == FieldType::RichText
            && let Some(schema) = schema.as_object_mut()
        {
            // They are checked on what was sent, before it is cleaned.
            for check in ["minLength", "maxLength", "pattern"] {
                schema.remove(check);
            }
        }
        if field.on_update_now || (field.primary && field.default == Some(DefaultValue::Auto)) {
            schema["readOnly"] = json!(true);
        }
        (field.name.clone(), schema)
    });
    let required: Vec<&str> = visible().map(|field| field.name.as_str()).collect();
    let mut schema = json!({
        "type": "object",
        "required": required,
        "properties": properties.collect::<Map<_, _>>()
    });
    if let Some(description) = &collection.description {
        schema["description"] = json!(description);
    }
    schema
}

/// The body of a create.
pub(super) fn input(collection: &Collection) -> Json {
    let settable = || collection.fields.iter().filter(|field| !field.on_update_now);
    let properties = settable().map(|field| {
        let mut schema = value(field);
        if let Some(DefaultValue::Literal(default)) = &field.default {
            schema["default"] = literal(field, default);
        }
        if field.default == Some(DefaultValue::Auto) {
            let words = schema["description"].as_str().map(|words| format!("{words} "));
            let words = words.unwrap_or_default() + "Made by the server where it is absent.";
            schema["description"] = json!(words);
        }
        if field.internal {
            schema["writeOnly"] = json!(true);
        }
        (field.name.clone(), schema)
    });
    let required = settable().filter(|field| !field.nullable && field.default.is_none());
    let required: Vec<&str> = required.map(|field| field.name.as_str()).collect();
    body(properties.collect(), &required)
}

/// The body of an update: any of the fields that may change.
pub(super) fn update(collection: &Collection) -> Json {
    let changeable = collection
        .fields
        .iter()
        .filter(|field| !field.primary && !field.internal && !field.on_update_now);
    let properties = changeable.map(|field| (field.name.clone(), value(field)));
    body(properties.collect(), &[])
}

fn body(properties: Map<String, Json>, required: &[&str]) -> Json {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// An id of 15 letters and digits.
pub(super) const ID_PATTERN: &str = "^[A-Za-z0-9]{15}$";

/// The schema of a field's values, with what its author says about it.
fn value(field: &Field) -> Json {
    let mut schema = match field.kind {
        // No `type`: any JSON value.
        FieldType::Json => json!({}),
        FieldType::Select if field.validation.max_select != Some(1) => selection(field),
        _ => scalar(field),
    };
    let mut sentences: Vec<String> = field.description.iter().cloned().collect();
    if field.kind == FieldType::Json {
        sentences.push("Any JSON value.".to_owned());
    }
    if let Some(target) = &field.references {
        sentences.push(format!("Refers to `{}.{}`.", target.collection, target.field));
    }
    if let Some(file) = &field.file {
        sentences.push(format!("The id of a file in the bucket `{}`.", file.bucket));
    }
    if !sentences.is_empty() {
        schema["description"] = json!(sentences.join(" "));
    }
    schema
}

fn scalar(field: &Field) -> Json {
    let mut schema = Map::new();
    let (kind, extra): (&str, &[(&str, &str)]) = match field.kind {
        FieldType::Uuid => ("string", &[("format", "uuid")]),
        FieldType::String | FieldType::Text | FieldType::Select | FieldType::Json => ("string", &[]),
        FieldType::Int => ("integer", &[("format", "int64")]),
        FieldType::Float => ("number", &[("format", "double")]),
        FieldType::Bool => ("boolean", &[]),
        FieldType::Timestamp => ("string", &[("format", "date-time")]),
        FieldType::Blob => ("string", &[("contentEncoding", "base64")]),
        FieldType::Email => ("string", &[("format", "email")]),
        FieldType::Url => ("string", &[("format", "uri")]),
        FieldType::Date => ("string", &[("format", "date")]),
        FieldType::RichText => ("string", &[("contentMediaType", "text/html")]),
        FieldType::File => ("string", &[("pattern", "^[A-Za-z0-9_-]{1,128}$")]),
        FieldType::Id => ("string", &[("pattern", ID_PATTERN)]),
    };
    let kind = if field.nullable {
        json!([kind, "null"])
    } else {
        json!(kind)
    };
    schema.insert("type".to_owned(), kind);
    for (key, value) in extra {
        schema.insert((*key).to_owned(), json!(value));
    }
    add_validation(field, &mut schema);
    Json::Object(schema)
}

/// One of the values, or several as an array.
fn selection(field: &Field) -> Json {
    let one = json!({"type": "string", "enum": field.validation.one_of});
    let mut several = json!({"type": "array", "items": one, "uniqueItems": true});
    if let Some(max) = field.validation.max_select {
        several["maxItems"] = json!(max);
    }
    let mut forms = vec![one, several];
    if field.nullable {
        forms.push(json!({"type": "null"}));
    }
    json!({"oneOf": forms})
}

fn add_validation(field: &Field, schema: &mut Map<String, Json>) {
    let checks = &field.validation;
    let mut put = |key: &str, value: Option<Json>| {
        if let Some(value) = value {
            schema.insert(key.to_owned(), value);
        }
    };
    put("minLength", checks.min_length.map(Json::from));
    put("maxLength", checks.max_length.map(Json::from));
    put("minimum", checks.min.map(number));
    put("maximum", checks.max.map(number));
    put("format", checks.format.map(|format| json!(format_name(format))));
    let pattern = checks.pattern.as_ref().map(|pattern| pattern.as_str());
    put(
        "pattern",
        pattern.filter(|text| is_portable(text)).map(Json::from),
    );
    if !checks.one_of.is_empty() {
        let mut allowed: Vec<Json> = checks.one_of.iter().map(|text| json!(text)).collect();
        if field.nullable {
            allowed.push(Json::Null);
        }
        put("enum", Some(Json::Array(allowed)));
    }
}

/// A bound as people write it: whole numbers without a fraction.
fn number(bound: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and within the range was checked"
    )]
    if bound.fract() == 0.0 && bound.abs() <= EXACT {
        json!(bound as i64)
    } else {
        json!(bound)
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Email => "email",
        Format::Url => "uri",
        Format::Uuid => "uuid",
    }
}

/// Whether a pattern means the same in the regular expressions of JSON Schema (ECMA-262), which have no inline
/// flags, no `\A` and `\z`, and other named groups.
fn is_portable(pattern: &str) -> bool {
    let foreign = ["\\A", "\\z", "\\pN", "[[:", "&&", "(?P"];
    let flags = pattern
        .match_indices("(?")
        .any(|(at, _)| !pattern[at..].starts_with("(?:"));
    !flags && !foreign.iter().any(|part| pattern.contains(part))
}

fn literal(field: &Field, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(int) if field.kind == FieldType::Bool => json!(*int != 0),
        Value::Int(int) => json!(int),
        Value::Float(float) => json!(float),
        Value::Text(text)
            if field.kind == FieldType::Json
                || (field.kind == FieldType::Select && text.starts_with('[')) =>
        {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text.as_ref()))
        }
        Value::Text(text) => json!(text.as_ref()),
        Value::Blob(bytes) => {
            use base64::Engine as _;
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(fields: &str) -> std::sync::Arc<Collection> {
        let source = format!("collections:\n  things:\n    fields:\n{fields}");
        let parsed = alyx_schema::parse(&source, "schema.yaml").expect("a sound schema");
        std::sync::Arc::clone(parsed.schema.collection("things").expect("declared"))
    }

    #[test]
    fn every_type_has_its_schema() {
        let check = |field: &str, expected: Json| {
            let things = collection(&format!("      f: {field}\n"));
            assert_eq!(input(&things)["properties"]["f"], expected, "{field}");
        };
        check("{type: uuid}", json!({"type": "string", "format": "uuid"}));
        check(
            "{type: text, nullable: true}",
            json!({"type": ["string", "null"]}),
        );
        check(
            "{type: int, default: 3}",
            json!({"type": "integer", "format": "int64", "default": 3}),
        );
        check("{type: float}", json!({"type": "number", "format": "double"}));
        check(
            "{type: bool, default: true}",
            json!({"type": "boolean", "default": true}),
        );
        check(
            "{type: timestamp}",
            json!({"type": "string", "format": "date-time"}),
        );
        check("{type: json}", json!({"description": "Any JSON value."}));
        check(
            "{type: blob}",
            json!({"type": "string", "contentEncoding": "base64"}),
        );
        check("{type: email}", json!({"type": "string", "format": "email"}));
        check("{type: url}", json!({"type": "string", "format": "uri"}));
        check("{type: date}", json!({"type": "string", "format": "date"}));
        check(
            "{type: select, select: {values: [a, b], maxSelect: 1}, default: b}",
            json!({"type": "string", "enum": ["a", "b"], "default": "b"}),
        );
        let one = json!({"type": "string", "enum": ["a", "b"]});
        check(
            "{type: select, select: {values: [a, b], maxSelect: 2}, nullable: true, default: [a]}",
            json!({
                "oneOf": [one, {"type": "array", "items": one, "uniqueItems": true, "maxItems": 2}, {"type": "null"}],
                "default": ["a"]
            }),
        );
        check(
            "{type: richtext, maxLength: 9, nullable: true}",
            json!({"type": ["string", "null"], "contentMediaType": "text/html", "maxLength": 9}),
        );
        check(
            "{type: id}",
            json!({"type": "string", "pattern": "^[A-Za-z0-9]{15}$"}),
        );
        check(
            "{type: select, select: {values: [a]}, description: Pick.}",
            json!({
                "oneOf": [
                    {"type": "string", "enum": ["a"]},
                    {"type": "array", "items": {"type": "string", "enum": ["a"]}, "uniqueItems": true}
                ],
                "description": "Pick."
            }),
        );
        check(
            "{type: file, file: {bucket: images}}\nbuckets: {images: {backend: local}}",
            json!({
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{1,128}$",
                "description": "The id of a file in the bucket `images`."
            }),
        );
        check(
            "{type: relation, relation: {collection: things}, nullable: true}",
            json!({"type": ["string", "null"], "format": "uuid", "description": "Refers to `things.id`."}),
        );
    }

    #[test]
    fn validation_becomes_schema_keywords() {
        let things = collection(
            "      a: {type: string, nullable: true, validate: {enum: [x, y]}}\n      \
             b: {type: string, validate: {minLength: 1, maxLength: 9, pattern: '^[a-z]+$'}}\n      \
             c: {type: int, validate: {min: 1, max: 10}}\n      \
             d: {type: string, validate: {format: email}}\n      \
             e: {type: string, validate: {pattern: '(?i)^x'}}\n",
        );
        let properties = &document(&things)["properties"];
        assert_eq!(properties["a"]["enum"], json!(["x", "y", null]));
        assert_eq!(
            properties["b"],
            json!({"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$"})
        );
        assert_eq!(
            (&properties["c"]["minimum"], &properties["c"]["maximum"]),
            (&json!(1), &json!(10))
        );
        assert_eq!(properties["d"]["format"], "email");
        assert_eq!(properties["e"].get("pattern"), None);
    }

    #[test]
    fn bodies_leave_out_what_they_cannot_set() {
        let things = collection(
            "      id: {type: uuid, primary: true, default: auto}\n      \
             name: {type: string}\n      \
             secret: {type: string, internal: true, nullable: true}\n      \
             created_at: {type: timestamp, default: now}\n      \
             updated_at: {type: timestamp, default: now, onUpdate: now}\n",
        );
        let keys = |schema: &Json| -> Vec<String> {
            let properties = schema["properties"].as_object().expect("an object");
            properties.keys().cloned().collect()
        };
        assert_eq!(
            keys(&document(&things)),
            ["id", "name", "created_at", "updated_at"]
        );
        assert_eq!(keys(&input(&things)), ["id", "name", "secret", "created_at"]);
        assert_eq!(keys(&update(&things)), ["name", "created_at"]);
        assert_eq!(input(&things)["required"], json!(["name"]));
        assert_eq!(update(&things).get("required"), None);
        assert_eq!(document(&things)["properties"]["id"]["readOnly"], true);
    }

    #[test]
    fn what_authors_say_is_shown_and_checks_of_rich_text_are_for_what_is_sent() {
        let things = collection(
            "      f: {type: int, description: How many.}\n      body: {type: richtext, maxLength: 9}\n\
             \x20     r: {type: relation, description: Whose., relation: {collection: things}}\n    description: Odds and ends.\n",
        );
        let document = document(&things);
        assert_eq!(document["description"], "Odds and ends.");
        assert_eq!(document["properties"]["f"]["description"], "How many.");
        assert_eq!(
            document["properties"]["r"]["description"],
            "Whose. Refers to `things.id`."
        );
        assert_eq!(document["properties"]["body"].get("maxLength"), None);
        assert_eq!(input(&things)["properties"]["body"]["maxLength"], 9);
    }
}
