//! What a good schema file means.

use alyx_core::Value;
use alyx_schema::{
    Access, Bucket, BucketRules, DefaultValue, FieldType, FileRule, Format, OnDelete, RichFormat, RuleText,
    Schema, SortOrder, parse,
};

fn schema(source: &str) -> Schema {
    match parse(source, "schema.yaml") {
        Ok(parsed) => parsed.schema,
        Err(errors) => panic!("{errors}"),
    }
}

const CHAT: &str = "
collections:
  messages:
    fields:
      id: {type: uuid, primary: true, default: auto}
      channel: {type: string, index: true}
      author: {type: string}
      content: {type: text}
      created_at: {type: timestamp, default: now}
";

#[test]
fn the_map_form_keeps_the_order_of_declaration() {
    let schema = schema(CHAT);
    assert_eq!(schema.version, 1);
    let messages = schema.collection("messages").expect("declared");
    let names: Vec<&str> = messages.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "channel", "author", "content", "created_at"]);
    assert_eq!(messages.primary_field().default, Some(DefaultValue::Auto));
    assert_eq!(messages.fields[4].default, Some(DefaultValue::Now));
    assert!(messages.fields[1].index && !messages.fields[1].nullable);
    assert_eq!(messages.access, Access::OPEN);
}

#[test]
fn the_list_form_means_the_same_as_the_map_form() {
    let list = schema(
        "
collections:
  - name: users
    fields:
      - name: email
        type: string
        required: true
        unique: true
      - name: nick
        type: string
        required: false
",
    );
    let map = schema(
        "
version: 1
collections:
  users:
    fields:
      email: {type: string, unique: true}
      nick: {type: string, nullable: true}
",
    );
    assert!(alyx_schema::plan(&list, &map).is_empty());
    let users = list.collection("users").expect("declared");
    assert_eq!(users.primary(), 0, "an id is put first");
    assert_eq!(users.primary_field().name, "id");
    assert_eq!(users.primary_field().kind, FieldType::Uuid);
    assert!(!users.fields[1].nullable && users.fields[1].unique && users.fields[2].nullable);
}

const EVERYTHING: &str = r#"
version: 3
default_access: deny
collections:
  order:
    description: What was bought
    rules: {create: "true", read: true}
    indexes:
      - {name: by-group, fields: [group, size], unique: true, order: desc}
      - {name: by-state, fields: state}
    fields:
      key: {type: int, primary: true, default: auto}
      group: {type: string, unique: true}
      size: {type: int, default: -5, validate: {min: -10, max: 1.5e3}}
      ratio: {type: float, default: 1, nullable: true}
      done: {type: bool, default: false}
      state:
        type: string
        default: new
        maxLength: 9
        validate: {enum: [new, old], minLength: 2, maxLength: 5, pattern: "^[a-z]+$"}
      mail: {type: string, validate: {format: email}, internal: true, description: Reply here}
      at: {type: timestamp, default: 2026-01-31}
      seen: {type: timestamp, on_update: now, nullable: true}
      tags: {type: json, default: [a, {b: 1.50}, null, "2"]}
      data: {type: blob, default: AQID}
      ref: {type: uuid, default: 0190A6C4-7E1B-7C3A-9D52-6F0E8B1A2C3D}
      parent: {type: int, nullable: true, references: order.key, on_delete: set_null}
      line-no: {type: text, default: "auto"}
"#;

#[test]
fn every_type_and_option_is_read() {
    let schema = schema(EVERYTHING);
    assert_eq!(schema.version, 3);
    let order = schema.collection("order").expect("declared");
    assert_eq!(
        order.access,
        Access {
            create: true,
            read: true,
            update: false,
            delete: false
        }
    );
    assert_eq!(order.description.as_deref(), Some("What was bought"));
    let field = |name: &str| order.field(name).expect(name).1;
    let literal = |name: &str| match &field(name).default {
        Some(DefaultValue::Literal(value)) => value.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(literal("size"), Value::Int(-5));
    assert!(matches!(literal("ratio"), Value::Float(one) if one == 1.0));
    assert_eq!(literal("done"), Value::Int(0));
    assert_eq!(literal("state"), Value::from("new"));
    assert_eq!(literal("at"), Value::from("2026-01-31T00:00:00.000Z"));
    assert_eq!(literal("tags"), Value::from(r#"["a",{"b":1.5},null,"2"]"#));
    assert_eq!(literal("data"), Value::Blob([1, 2, 3].as_slice().into()));
    assert_eq!(
        literal("ref"),
        Value::from("0190a6c4-7e1b-7c3a-9d52-6f0e8b1a2c3d")
    );
    assert_eq!(literal("line-no"), Value::from("auto"));
    let state = &field("state").validation;
    assert_eq!(
        (state.min_length, state.max_length),
        (Some(2), Some(9)),
        "a length beside `validate` wins"
    );
    assert_eq!(state.one_of, ["new", "old"]);
    assert_eq!(field("mail").validation.format, Some(Format::Email));
    assert!(field("seen").on_update_now && field("mail").internal && !field("at").on_update_now);
    let parent = field("parent").references.as_ref().expect("a reference");
    assert_eq!(
        (parent.collection.as_str(), parent.field.as_str()),
        ("order", "key")
    );
    assert_eq!(parent.on_delete, OnDelete::SetNull);
    assert!(order.visible_field("mail").is_none() && order.field("mail").is_some());
    assert_eq!(order.indexes[0].fields, [1, 2]);
    assert_eq!(order.indexes[0].order, SortOrder::Desc);
    assert_eq!(
        (order.indexes[1].fields.as_slice(), order.indexes[1].unique),
        ([5].as_slice(), false)
    );
}

#[test]
fn set_null_has_two_spellings() {
    for spelling in ["set null", "set_null"] {
        let schema = schema(&format!(
            "collections: {{a: {{fields: {{x: {{type: int}}}}}}, b: {{fields: {{a: {{type: uuid, nullable: true, \
             references: a.id, onDelete: {spelling}}}}}}}}}"
        ));
        let reference = schema.collections["b"].fields[1]
            .references
            .as_ref()
            .expect("a reference");
        assert_eq!(reference.on_delete, OnDelete::SetNull, "{spelling}");
    }
}

#[test]
fn anchors_and_merge_keys_share_options() {
    let schema = schema(
        "
collections:
  a:
    fields: &stamps
      made: &time {type: timestamp, default: now}
      seen: {<<: *time, nullable: true}
  b: {fields: *stamps}
",
    );
    for name in ["a", "b"] {
        let collection = schema.collection(name).expect(name);
        let (_, seen) = collection.field("seen").expect("declared");
        assert!(
            seen.nullable && seen.default == Some(DefaultValue::Now) && seen.kind == FieldType::Timestamp
        );
    }
}

#[test]
fn options_without_effect_are_warned_about() {
    let parsed = parse(
        "collections: {c: {fields: {k: {type: int, primary: true, index: true}, u: {type: int, unique: true, index: \
         true}}}}",
        "schema.yaml",
    );
    let warnings = parsed.expect("valid").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("collections.c.fields.k") && warnings[1].contains("collections.c.fields.u"));
}

#[test]
fn a_relation_is_a_reference_of_its_targets_type() {
    let relations = parse(
        "collections: {users: {fields: {n: {type: int, primary: true, default: auto}, mail: {type: email, unique: true}}}, \
         posts: {fields: {author: {type: relation, nullable: true, relation: {collection: users, onDelete: set_null}}, \
         sender: {type: relation, relation: {collection: users, field: mail}}, \
         parent: {type: relation, nullable: true, relation: {collection: posts, on_delete: cascade}}}}}",
        "schema.yaml",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let posts = relations.schema.collection("posts").expect("declared");
    let check = |name: &str, kind: FieldType, collection: &str, field: &str, on_delete: OnDelete| {
        let (_, found) = posts.field(name).expect(name);
        let target = found.references.as_ref().expect(name);
        assert_eq!(found.kind, kind, "{name}");
        assert_eq!(
            (
                target.collection.as_str(),
                target.field.as_str(),
                target.on_delete
            ),
            (collection, field, on_delete),
            "{name}"
        );
    };
    check("author", FieldType::Int, "users", "n", OnDelete::SetNull);
    check("sender", FieldType::Email, "users", "mail", OnDelete::Restrict);
    check("parent", FieldType::Uuid, "posts", "id", OnDelete::Cascade);
}

#[test]
fn selections_and_rich_text_say_what_they_take() {
    let schema = schema(
        "collections: {c: {fields: {\
         one: {type: select, select: {values: [draft, 1, true], maxSelect: 1}, default: 1}, \
         any: {type: select, select: {values: [a, b], maxSelect: 0}, default: [b, a]}, \
         now: {type: select, select: {values: [now, later]}, default: \"now\"}, \
         plain: {type: richtext}, few: {type: richtext, richtext: {preset: full, deny: [code, link]}}, \
         more: {type: richtext, richtext: {preset: minimal, allow: [heading, link], deny: heading}}, \
         day: {type: date, default: 2026-01-31}, made: {type: date, default: now}}}}",
    );
    let field = |name: &str| schema.collections["c"].field(name).expect(name).1;
    assert_eq!(field("one").validation.one_of, ["draft", "1", "true"]);
    assert_eq!(field("one").validation.max_select, Some(1));
    assert_eq!(field("any").validation.max_select, None);
    let literal = |text: &str| Some(DefaultValue::Literal(Value::from(text)));
    assert_eq!(field("one").default, literal("1"));
    assert_eq!(field("any").default, literal(r#"["b","a"]"#));
    assert_eq!(field("now").default, literal("now"));
    assert_eq!(field("day").default, literal("2026-01-31"));
    assert_eq!(field("made").default, Some(DefaultValue::Now));
    let formats = |name: &str| {
        let formats = field(name).validation.formats.iter().map(RichFormat::name);
        formats.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(formats("plain"), "bold italic link bulletlist");
    assert_eq!(
        formats("few"),
        "bold italic underline strike heading blockquote codeblock bulletlist orderedlist horizontalrule"
    );
    assert_eq!(formats("more"), "bold italic link");
    assert_eq!(formats("one"), "");
}

const BUCKETS: &str = "
default_access: deny
buckets:
  - {name: docs, backend: s3}
  - name: images
    description: Faces
    backend: local
    max_file_size: 5mb
    max_total_size: 1gb
    allowed_types: [image/*, Application/PDF, '*/*']
    compression: true
    rules: {read: true, download: file.size < 10 || auth.id != null}
collections:
  images:
    fields:
      face:
        type: file
        nullable: true
        file: {bucket: images, max_size: 6mb, allowed_types: image/png, on_delete: set_null}
      other: {type: file, file: {bucket: docs, onDelete: cascade}}
";

#[test]
fn buckets_and_the_files_of_fields_are_read() {
    let parsed = parse(BUCKETS, "schema.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let closed = Access {
        create: false,
        read: false,
        update: false,
        delete: false,
    };
    assert_eq!(
        *parsed.schema.buckets["images"],
        Bucket {
            name: "images".to_owned(),
            description: Some("Faces".to_owned()),
            backend: "local".to_owned(),
            max_file_size: Some(5 << 20),
            max_total_size: Some(1 << 30),
            allowed_types: ["image/*", "application/pdf", "*/*"].map(str::to_owned).into(),
            compression: true,
            access: Access { read: true, ..closed },
            download: true,
            rules: BucketRules {
                download: Some(RuleText {
                    text: "file.size < 10 || auth.id != null".into(),
                    path: String::new(),
                    line: 0,
                    column: 0,
                }),
                ..BucketRules::default()
            },
        }
    );
    let takes = |bucket: &str, kind: &str| parsed.schema.buckets[bucket].takes(kind);
    assert!(takes("docs", "text/plain") && takes("images", "anything/at-all"));
    let docs = &parsed.schema.buckets["docs"];
    assert_eq!(
        (docs.access, docs.download, docs.max_file_size),
        (closed, false, None)
    );
    let images = &parsed.schema.collections["images"];
    assert_eq!(
        images.field("face").expect("declared").1.file,
        Some(FileRule {
            bucket: "images".to_owned(),
            max_size: Some(6 << 20),
            allowed_types: vec!["image/png".to_owned()],
            on_delete: OnDelete::SetNull,
        })
    );
    let face = images.field("face").expect("declared").1.file.as_ref();
    let takes = |kind: &str| face.is_some_and(|face| face.takes(kind));
    assert!(takes("image/png") && takes("Image/PNG; charset=utf-8"));
    assert!(!takes("image/jpeg") && !takes("image") && !takes(""));
    let other = images.field("other").expect("declared").1.file.as_ref();
    assert_eq!(other.map(|rule| rule.on_delete), Some(OnDelete::Cascade));
    let said = |part: &str| {
        parsed
            .warnings
            .iter()
            .filter(|warning| warning.contains(part))
            .count()
    };
    assert_eq!(said("`max_size` is above"), 1, "{:?}", parsed.warnings);
    assert_eq!(said("does not look the file up"), 2, "{:?}", parsed.warnings);
}

/// Blocks of the guide are whole files, the indexes of a collection, or fields.
#[test]
fn every_example_of_the_guide_is_right() {
    let guide = include_str!("../../../docs/schema.md");
    let blocks: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() > 7, "{blocks:?}");
    for block in blocks {
        let indented: String = block.lines().map(|line| format!("      {line}\n")).collect();
        let source = if block.contains("collections:") {
            block.to_owned()
        } else if block.starts_with("indexes:") {
            format!(
                "collections:\n  c:\n    {}\n    fields: {{channel: {{type: string}}, created_at: {{type: timestamp}}}}\n",
                indented.trim()
            )
        } else {
            format!(
                "collections:\n  users: {{fields: {{name: {{type: string}}}}}}\n  c:\n    fields:\n{indented}"
            )
        };
        if let Err(errors) = parse(&source, "schema.yaml") {
            panic!("{errors}\n{source}");
        }
    }
}
