//! Differences of one field.

use super::{Plan, has_index, remedy, same};
use crate::ddl;
use crate::model::{Collection, DefaultValue, Field, FieldType, Index, OnDelete, Reference, Schema};

/// A field that is gone.
pub(super) fn dropped(plan: &mut Plan, path: &str, before: &Collection, field: &Field, after: &Collection) {
    let name = &field.name;
    let taken = |new: &str| plan.proposed.renames.iter().any(|(taken, ..)| taken == new);
    let renamed = after
        .fields
        .iter()
        .find(|new| new.kind == field.kind && before.field(&new.name).is_none() && !taken(&new.name));
    let remedy = match renamed {
        Some(new) => remedy::renamed_field(&before.name, name, &new.name),
        None => remedy::dropped_field(&before.name, name),
    };
    let file = plan.refuse(
        format!("{path}.{name}"),
        format!("the field `{name}` is gone"),
        format!("the value of `{name}` in every document of `{}`", before.name),
        &remedy,
    );
    if let Some(new) = renamed {
        plan.proposed.renames.push((new.name.clone(), name.clone(), file));
    }
}

/// Why a new field cannot simply be added to a table with rows, if it cannot.
pub(crate) fn obstacle(field: &Field) -> Option<&'static str> {
    // What the server makes for new documents, nobody makes for old ones.
    let given = matches!(field.default, Some(DefaultValue::Now | DefaultValue::Literal(_)));
    let filled = given || field.on_update_now;
    if field.primary {
        Some("the primary key of every document")
    } else if !field.nullable && !filled {
        Some("nothing, but existing documents would have no value for it")
    } else if field.unique && (!field.nullable || given) {
        Some("nothing, but existing documents would all have the same value")
    } else if field.references.is_some() && (!field.nullable || given) {
        Some("nothing, but existing documents would refer to something that need not exist")
    } else {
        None
    }
}

/// A new field. Whether the table gets a column.
pub(super) fn added(plan: &mut Plan, path: &str, after: &Collection, field: &Field) -> bool {
    let name = &field.name;
    let path = format!("{path}.{name}");
    let description = format!("new field `{name}`");
    let Some(loses) = obstacle(field) else {
        let mut sql = ddl::add_column(after, field);
        sql.extend(ddl::create_field_index(after, field));
        plan.safe(path, description, sql);
        return true;
    };
    let rename = plan.proposed.renames.iter().find(|(new, ..)| new == name);
    if let Some((_, old, file)) = rename.filter(|_| plan.proposed.rebuild.is_none()) {
        let remedy = remedy::brought(file, old, name);
        plan.refuse_with(path, description, loses, remedy);
        return false;
    }
    let advice = if field.unique {
        format!("make `{name}` `nullable: true` without a default, or take `unique` off it")
    } else if field.references.is_some() {
        format!("make `{name}` `nullable: true` without a default, so that old documents refer to nothing")
    } else {
        format!("give `{name}` a `default`, or make it `nullable: true`")
    };
    plan.refuse(path, description, loses, &remedy::filled(after, field, advice));
    false
}

/// A field that both schemas have. Whether the table's column is replaced.
pub(super) fn changed(
    plan: &mut Plan,
    path: &str,
    from: &Schema,
    (before, old): (&Collection, &Field),
    (after, new): (&Collection, &Field),
) -> bool {
    let path = format!("{path}.{}", new.name);
    if refuse_changes(plan, &path, from, (before, old), (after, new)) {
        return false;
    }
    let loosened = new.nullable && !old.nullable;
    let (old_index, new_index) = (ddl::field_index(before, old), ddl::field_index(after, new));
    if loosened {
        plan.safe(
            &path,
            "it may be null from now on",
            loosen((before, old), (after, new)),
        );
    } else if old_index != new_index {
        let mut sql: Vec<String> = old_index.iter().map(|name| ddl::drop_index(name)).collect();
        sql.extend(ddl::create_field_index(after, new));
        let description = match (&old_index, &new_index) {
            (None, Some(_)) => "it gets an index",
            (Some(_), None) if old.unique => "it need not be unique any more",
            (Some(_), None) => "its index is dropped",
            _ => "its index changes",
        };
        plan.safe(&path, description, sql);
    }
    change_metadata(plan, &path, old, new);
    loosened
}

/// A column is replaced, so every index that it is in goes before and comes back after.
fn loosen((before, old): (&Collection, &Field), (after, new): (&Collection, &Field)) -> Vec<String> {
    let covers = |collection: &Collection, index: &Index| {
        collection
            .field(&new.name)
            .is_some_and(|(position, _)| index.fields.contains(&position))
    };
    let declared = before.indexes.iter().filter(|index| covers(before, index));
    let dropped = declared
        .map(|index| index.name.clone())
        .chain(ddl::field_index(before, old));
    let mut sql: Vec<String> = dropped.map(|name| ddl::drop_index(&name)).collect();
    sql.extend(ddl::make_nullable(after, new));
    sql.extend(ddl::create_field_index(after, new));
    let kept = after
        .indexes
        .iter()
        .filter(|index| covers(after, index) && has_index(before, after, index));
    sql.extend(kept.map(|index| ddl::create_index(after, index)));
    sql
}

/// Notes the first reason why the field cannot change like this. Whether there was one.
fn refuse_changes(
    plan: &mut Plan,
    path: &str,
    from: &Schema,
    (before, old): (&Collection, &Field),
    (after, new): (&Collection, &Field),
) -> bool {
    let (description, loses, remedy) = if old.primary != new.primary {
        (
            "the primary field changes".to_owned(),
            "the identity of every document",
            remedy::rebuilt(before, after),
        )
    } else if !same_storage(old.kind, new.kind) {
        (
            format!("the type changes from {} to {}", old.kind.name(), new.kind.name()),
            "values that do not convert",
            remedy::converted_field(after, old, new),
        )
    } else if old.nullable && !new.nullable {
        (
            "it may not be null any more".to_owned(),
            "nothing, but it fails where a document has no value for it",
            remedy::required(after, new),
        )
    } else if new.unique && !old.unique && !new.primary {
        (
            "it must be unique".to_owned(),
            "nothing, but it fails where two documents share a value",
            remedy::unique_field(after, new),
        )
    } else if old.references != new.references {
        (
            reference_change(old.references.as_ref(), new.references.as_ref()),
            "nothing, but the table would have to be rebuilt while others refer to it",
            remedy::reference(after, new),
        )
    } else if new.nullable && !old.nullable && (old.references.is_some() || is_referenced(from, before, old))
    {
        (
            "it may be null from now on, and it is part of a foreign key".to_owned(),
            "nothing, but the table would have to be rebuilt while others refer to it",
            remedy::loosened(after, new),
        )
    } else {
        return false;
    };
    plan.refuse(path, description, loses, &remedy);
    true
}

/// The types of free text differ in what they are checked for, not in how they are stored.
fn same_storage(a: FieldType, b: FieldType) -> bool {
    a == b || (a.is_free_text() && b.is_free_text())
}

fn is_referenced(schema: &Schema, collection: &Collection, field: &Field) -> bool {
    let mut fields = schema
        .collections
        .values()
        .flat_map(|collection| &collection.fields);
    fields.any(|candidate| {
        candidate
            .references
            .as_ref()
            .is_some_and(|target| target.collection == collection.name && target.field == field.name)
    })
}

fn reference_change(old: Option<&Reference>, new: Option<&Reference>) -> String {
    let show = |reference: &Reference| {
        let action = match reference.on_delete {
            OnDelete::Restrict => "restrict",
            OnDelete::Cascade => "cascade",
            OnDelete::SetNull => "set null",
        };
        format!(
            "{}.{} (onDelete: {action})",
            reference.collection, reference.field
        )
    };
    match (old.map(show), new.map(show)) {
        (Some(old), Some(new)) => format!("the reference changes from {old} to {new}"),
        (None, Some(new)) => format!("it becomes a reference to {new}"),
        (Some(old), None) => format!("it is no longer a reference to {old}"),
        (None, None) => "its reference changes".to_owned(),
    }
}

/// What only the server has to know.
fn change_metadata(plan: &mut Plan, path: &str, old: &Field, new: &Field) {
    let differences = [
        (old.kind != new.kind, "the type changes, its storage does not"),
        (old.default != new.default, default_change(new)),
        (
            old.on_update_now != new.on_update_now,
            "what an update sets changes",
        ),
        (
            old.internal && !new.internal,
            "it is no longer internal: callers see it",
        ),
        (
            !old.internal && new.internal,
            "it becomes internal: callers do not see it",
        ),
        (
            !same::validation(&old.validation, &new.validation),
            "its checks change; existing documents are not checked again",
        ),
        (old.file != new.file, "the files that it takes change"),
        (old.description != new.description, "the description changes"),
    ];
    for (_, description) in differences.into_iter().filter(|(differs, _)| *differs) {
        plan.safe(path, description, Vec::new());
    }
}

fn default_change(new: &Field) -> &'static str {
    match new.default {
        Some(DefaultValue::Auto | DefaultValue::Now | DefaultValue::Literal(_)) => {
            "the default of new documents changes"
        }
        None => "new documents get no default",
    }
}
