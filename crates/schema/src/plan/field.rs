//! Differences of one field.

use super::{Class, Plan, Refused, Remedy, concern, convert, remedy, same};
use crate::ddl;
use crate::model::{Collection, DefaultValue, Field, FieldType, OnDelete, Reference};

/// A field that is gone.
pub(super) fn dropped(plan: &mut Plan, path: &str, before: &Collection, field: &Field, after: &Collection) {
    let name = &field.name;
    let taken = |new: &str| plan.proposed.renames.iter().any(|(taken, ..)| taken == new);
    let renamed = after
        .fields
        .iter()
        .filter(|new| new.kind == field.kind && before.field(&new.name).is_none())
        // A rename alone would leave nulls where there may be none.
        .find(|new| (new.nullable || !field.nullable) && !taken(&new.name));
    let remedy = match renamed {
        Some(new) => remedy::renamed_field(&before.name, name, &new.name),
        None => remedy::dropped_field(&before.name, name),
    };
    let refused = Refused {
        path: format!("{path}.{name}"),
        description: format!("the field `{name}` is gone"),
        class: Class::Destructive,
        loses: format!("the value of `{name}` in every document of `{}`", before.name),
        concerned: Some(concern::values(&before.name, name)),
        checked: false,
        rewrites: false,
    };
    let file = plan.refuse(&before.name, refused, remedy);
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

/// A new field.
pub(super) fn added(plan: &mut Plan, path: &str, after: &Collection, field: &Field) {
    let name = &field.name;
    let path = format!("{path}.{name}");
    let description = format!("new field `{name}`");
    let concerned = Some(concern::documents(&after.name));
    let Some(loses) = obstacle(field) else {
        plan.safe(path, description, concerned);
        return;
    };
    let class = if field.primary {
        Class::Destructive
    } else {
        Class::NeedsDecision
    };
    let refused = Refused {
        path,
        description,
        class,
        loses: loses.to_owned(),
        concerned,
        checked: true,
        rewrites: false,
    };
    let rename = plan.proposed.renames.iter().find(|(new, ..)| new == name);
    if let Some((_, old, file)) = rename.filter(|_| plan.proposed.rebuild.is_none()) {
        let remedy = remedy::brought(file, old, name);
        plan.refuse_with(refused, remedy);
        return;
    }
    let advice = if field.unique {
        format!("make `{name}` `nullable: true` without a default, or take `unique` off it")
    } else if field.references.is_some() {
        format!("make `{name}` `nullable: true` without a default, so that old documents refer to nothing")
    } else {
        format!("give `{name}` a `default`, or make it `nullable: true`")
    };
    let remedy = remedy::filled(&plan.ends, after, field, advice);
    plan.refuse(&after.name, refused, remedy);
}

/// A field that both schemas have.
pub(super) fn changed(
    plan: &mut Plan,
    path: &str,
    (before, old): (&Collection, &Field),
    (after, new): (&Collection, &Field),
) {
    let path = format!("{path}.{}", new.name);
    refuse_changes(plan, &path, (before, old), (after, new));
    let documents = Some(concern::documents(&after.name));
    if new.nullable && !old.nullable {
        plan.safe(&path, "it may be null from now on", documents.clone());
    }
    let (old_index, new_index) = (ddl::field_index(before, old), ddl::field_index(after, new));
    if old_index != new_index && (old.unique || !new.unique) {
        let description = match (&old_index, &new_index) {
            (None, Some(_)) => "it gets an index",
            (Some(_), None) if old.unique => "it need not be unique any more",
            (Some(_), None) => "its index is dropped",
            _ => "its index changes",
        };
        plan.safe(&path, description, documents.clone());
    }
    if old.kind != new.kind && convert::keeps_values(old.kind, new.kind) && !same_storage(old.kind, new.kind)
    {
        let description = format!(
            "the type changes from {} to {}; every value stays what it is",
            old.kind.name(),
            new.kind.name()
        );
        plan.safe(&path, description, Some(concern::values(&before.name, &old.name)));
    }
    if old.references != new.references && !needs_targets(old, new) {
        let description = reference_change(old.references.as_ref(), new.references.as_ref());
        plan.safe(&path, description, documents);
    }
    change_metadata(plan, &path, old, new);
}

/// Whether values must exist somewhere where they need not have existed before.
fn needs_targets(old: &Field, new: &Field) -> bool {
    let target = |field: &Field| {
        let reference = field.references.as_ref()?;
        Some((reference.collection.clone(), reference.field.clone()))
    };
    target(new).is_some() && target(old) != target(new)
}

/// Notes the reasons why the field cannot change like this.
fn refuse_changes(
    plan: &mut Plan,
    path: &str,
    (before, old): (&Collection, &Field),
    (after, new): (&Collection, &Field),
) {
    let ends = plan.ends.clone();
    let name = (&before.name, &new.name);
    let mut refuse = |(class, description, loses): (Class, String, &str), concerned, remedy: Remedy| {
        let refused = Refused {
            path: path.to_owned(),
            description,
            class,
            loses: loses.to_owned(),
            concerned: Some(concerned),
            // Values of one type may look like those of another.
            checked: class == Class::NeedsDecision && old.kind == new.kind,
            rewrites: old.kind != new.kind && new.kind == FieldType::RichText,
        };
        plan.refuse(&after.name, refused, remedy);
    };
    if old.primary != new.primary {
        let description = "the primary field changes".to_owned();
        refuse(
            (Class::Destructive, description, "the identity of every document"),
            concern::documents(name.0),
            remedy::rebuilt(&ends, before, after),
        );
    }
    if !convert::keeps_values(old.kind, new.kind) && !same_storage(old.kind, new.kind) {
        let description = format!("the type changes from {} to {}", old.kind.name(), new.kind.name());
        let (class, loses) = if new.kind == FieldType::RichText {
            (
                Class::Destructive,
                "values that are no clean HTML: they have to be escaped or cleaned, which a migration without operations \
                 does not do",
            )
        } else if convert::is_lossless(old.kind, new.kind) {
            (
                Class::NeedsDecision,
                "nothing, but there is more than one way to convert the values",
            )
        } else {
            (Class::Destructive, "values that do not convert")
        };
        refuse(
            (class, description, loses),
            concern::values(name.0, name.1),
            remedy::converted_field(after, old, new),
        );
    }
    if old.nullable && !new.nullable && !new.primary {
        let loses = "nothing, but it fails where a document has no value for it";
        refuse(
            (
                Class::NeedsDecision,
                "it may not be null any more".to_owned(),
                loses,
            ),
            concern::missing(name.0, name.1),
            remedy::required(after, old, new),
        );
    }
    if new.unique && !old.unique && !new.primary && !old.primary {
        let loses = "nothing, but it fails where two documents share a value";
        refuse(
            (Class::NeedsDecision, "it must be unique".to_owned(), loses),
            concern::shared(name.0, name.1),
            remedy::unique_field(after, new).after_loosening(&ends, (before, old), (after, new)),
        );
    }
    if let Some(reference) = new.references.as_ref().filter(|_| needs_targets(old, new)) {
        let loses = "nothing, but it fails where a document refers to something that does not exist";
        refuse(
            (
                Class::NeedsDecision,
                reference_change(old.references.as_ref(), Some(reference)),
                loses,
            ),
            if remedy::has_target(&ends, reference) {
                concern::dangling(name.0, name.1, reference)
            } else {
                concern::values(name.0, name.1)
            },
            remedy::reference(&ends, after, new).after_loosening(&ends, (before, old), (after, new)),
        );
    }
}

/// The types of free text differ in what they are checked for, not in how they are stored.
fn same_storage(a: FieldType, b: FieldType) -> bool {
    a == b || (a.is_free_text() && b.is_free_text())
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
        (
            old.kind != new.kind && same_storage(old.kind, new.kind),
            "the type changes, its storage does not",
        ),
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
        plan.safe(path, description, None);
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
