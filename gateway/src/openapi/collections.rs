//! The paths of collections.

use alyx_schema::{Collection, FieldType};
use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_body};
use super::names::{Names, capitalized};
use super::schemas::{self, page_of, reference};
use super::transactions::{of_changing, of_creating, of_reading, tx_id};

/// The names of a collection's schemas.
struct Shapes {
    document: String,
    input: String,
    update: String,
}

/// Adds a collection's schemas and paths. What nobody may do is left out.
pub(super) fn add(
    collection: &Collection,
    paths: &mut Map<String, Json>,
    components: &mut Map<String, Json>,
    names: &mut Names,
    operations: &mut Operations,
) {
    let access = collection.access;
    if !(access.create || access.read || access.update || access.delete) {
        return;
    }
    let stem = capitalized(&collection.name);
    let shapes = Shapes {
        document: names.take(&stem),
        input: names.take(&format!("{stem}Input")),
        update: names.take(&format!("{stem}Update")),
    };
    components.insert(shapes.document.clone(), schemas::document(collection));
    if access.create {
        components.insert(shapes.input.clone(), schemas::input(collection));
    }
    if access.update {
        components.insert(shapes.update.clone(), schemas::update(collection));
    }
    let path = format!("/api/collections/{}", collection.name);
    if access.read || access.create {
        paths.insert(path.clone(), many(collection, &shapes, operations));
    }
    if access.read {
        let path = format!("/api/aggregate/{}", collection.name);
        paths.insert(path, figures(collection, operations));
    }
    if access.read || access.update || access.delete {
        paths.insert(format!("{path}/{{id}}"), one(collection, &shapes, operations));
    }
}

fn many(collection: &Collection, shapes: &Shapes, operations: &mut Operations) -> Json {
    let name = &collection.name;
    let mut item = Map::new();
    if collection.access.read {
        let mut list = operations.make("list", name, &format!("List documents of {name}"));
        list["parameters"] = json!(list_parameters(collection));
        list["responses"] = replies(
            "200",
            "A page of documents.",
            Some(&page_of(&shapes.document)),
            &[400, 404, 503, 504],
        );
        item.insert("get".to_owned(), list);
    }
    if collection.access.create {
        let mut create = operations.make("create", name, &format!("Create a document in {name}"));
        create["parameters"] = of_creating();
        create["requestBody"] = json_body(&reference(&shapes.input), true);
        create["responses"] = replies(
            "201",
            "The document as stored.",
            Some(&reference(&shapes.document)),
            &[400, 404, 409, 413, 415, 503, 504],
        );
        item.insert("post".to_owned(), create);
    }
    Json::Object(item)
}

fn figures(collection: &Collection, operations: &mut Operations) -> Json {
    let name = &collection.name;
    let mut aggregate = operations.make(
        "aggregate",
        name,
        &format!("Count, add up and compare documents of {name}"),
    );
    let kept = ["filter", "search", "limit", "offset"];
    let mut parameters = list_parameters(collection);
    parameters.retain(|parameter| kept.iter().any(|name| parameter["name"] == *name));
    let texts = [
        (
            "select",
            "Figures with commas between them: `count`, or `count`, `sum`, `avg`, `min`, `max` with a field, as in `sum:amount`.",
        ),
        (
            "groupBy",
            "Fields with commas between them; a time with `:hour`, `:day`, `:week`, `:month` or `:year` behind it stands for that stretch.",
        ),
        (
            "sort",
            "What groups are ordered by: names from `groupBy` and `select`; `-` in front: greatest first.",
        ),
    ];
    parameters.extend(texts.map(|(name, description)| {
        json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
    }));
    aggregate["parameters"] = json!(parameters);
    aggregate["responses"] = replies(
        "200",
        "The groups and their figures.",
        Some(&reference("Figures")),
        &[400, 404, 503, 504],
    );
    json!({"get": aggregate})
}

fn one(collection: &Collection, shapes: &Shapes, operations: &mut Operations) -> Json {
    let name = &collection.name;
    let mut item = Map::new();
    item.insert("parameters".to_owned(), json!([id_parameter(collection)]));
    if collection.access.read {
        let mut get = operations.make("get", name, &format!("Get a document of {name}"));
        get["parameters"] = of_reading();
        if let Some(parameters) = get["parameters"].as_array_mut() {
            parameters.extend([
                expand_parameter(),
                json!({"name": "fields", "in": "query", "description": "The only fields to return, with commas between them.", "schema": {"type": "string"}}),
            ]);
        }
        get["responses"] = replies(
            "200",
            "The document.",
            Some(&reference(&shapes.document)),
            &[400, 404, 412, 503, 504],
        );
        get["responses"]["304"] = json!({"description": "The caller has it already."});
        item.insert("get".to_owned(), get);
    }
    if collection.access.update {
        for (method, verb) in [("patch", "update"), ("put", "put")] {
            let summary = match verb {
                "put" => {
                    format!("Change a document of {name} (the same as PATCH: fields that are absent stay)")
                }
                _ => format!("Change some fields of a document of {name}"),
            };
            let mut update = operations.make(verb, name, &summary);
            update["parameters"] = of_changing();
            update["requestBody"] = json_body(&reference(&shapes.update), true);
            update["responses"] = replies(
                "200",
                "The document as stored.",
                Some(&reference(&shapes.document)),
                &[400, 404, 409, 412, 413, 415, 503, 504],
            );
            item.insert(method.to_owned(), update);
        }
    }
    if collection.access.delete {
        let mut delete = operations.make("delete", name, &format!("Delete a document of {name}"));
        delete["parameters"] = of_changing();
        delete["responses"] = replies("204", "It is gone.", None, &[400, 404, 409, 412, 503, 504]);
        item.insert("delete".to_owned(), delete);
    }
    Json::Object(item)
}

fn replies(status: &str, description: &str, schema: Option<&Json>, errors: &[u16]) -> Json {
    let mut reply = json!({"description": description});
    if let Some(schema) = schema {
        reply["content"] = json!({"application/json": {"schema": schema}});
    }
    let mut replies = Map::from_iter([(status.to_owned(), reply)]);
    replies.extend(failures(errors));
    Json::Object(replies)
}

fn id_parameter(collection: &Collection) -> Json {
    let key = collection.primary_field();
    let schema = match key.kind {
        FieldType::Uuid => json!({"type": "string", "format": "uuid"}),
        FieldType::Int => json!({"type": "integer", "format": "int64"}),
        FieldType::Id => json!({"type": "string", "pattern": schemas::ID_PATTERN}),
        FieldType::String
        | FieldType::Text
        | FieldType::Float
        | FieldType::Bool
        | FieldType::Timestamp
        | FieldType::Json
        | FieldType::Email
        | FieldType::Url
        | FieldType::Date
        | FieldType::Select
        | FieldType::RichText
        | FieldType::File
        | FieldType::Blob => json!({"type": "string"}),
    };
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "description": format!("The document's `{}`.", key.name),
        "schema": schema
    })
}

fn expand_parameter() -> Json {
    json!({
        "name": "expand",
        "in": "query",
        "description": "Fields that refer to other documents, with commas between them and dots to go on, as in \
            `author,author.team`: the documents stand in place of their keys. Likewise files in place of their ids.",
        "schema": {"type": "string"}
    })
}

fn list_parameters(collection: &Collection) -> Vec<Json> {
    let fields = || collection.fields.iter().filter(|field| !field.internal);
    let names: Vec<&str> = fields().map(|field| field.name.as_str()).collect();
    let named = names.join(", ");
    let parameter = |name: &str, description: &str, schema: Json| json!({"name": name, "in": "query", "description": description, "schema": schema});
    let filter = format!(
        "A condition `field:operator:value` (operators eq, ne, gt, gte, lt, lte, like, ilike, contains, startsWith, \
         endsWith, between, in, nin, isnull, notnull), or a JSON object with operators such as $eq, $in, $and, $or, $not. Given more than once, all \
         must hold. `field=value` alone asks for equality. Fields: {named}."
    );
    vec![
        parameter(
            "filter",
            &filter,
            json!({"type": "array", "items": {"type": "string"}}),
        ),
        parameter(
            "sort",
            &format!(
                "Fields with commas between them, the most important first; `-` in front: greatest first. Fields: {named}."
            ),
            json!({"type": "string", "examples": [format!("-{}", collection.primary_field().name)]}),
        ),
        parameter(
            "limit",
            "Most documents of the page.",
            json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 100}),
        ),
        parameter(
            "offset",
            "Documents to leave out first.",
            json!({"type": "integer", "minimum": 0, "default": 0}),
        ),
        parameter(
            "page",
            "The page, from 1; instead of `offset`.",
            json!({"type": "integer", "minimum": 1}),
        ),
        parameter(
            "perPage",
            "Another word for `limit`.",
            json!({"type": "integer", "minimum": 0, "maximum": 1000}),
        ),
        parameter(
            "after",
            "The `next` of the page before: the page begins right behind it. Not with `offset` or `page`.",
            json!({"type": "string"}),
        ),
        parameter(
            "search",
            "Only documents with this text in a text field or the key, in upper or lower case.",
            json!({"type": "string"}),
        ),
        expand_parameter(),
        parameter(
            "fields",
            "The only fields to return, with commas between them. Documents then lack the others.",
            json!({"type": "string"}),
        ),
        parameter(
            "count",
            "`false` leaves out `total`, which saves work.",
            json!({"type": "boolean", "default": true}),
        ),
        tx_id(false),
    ]
}
