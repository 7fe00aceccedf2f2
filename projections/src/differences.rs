//! What differs between two versions of a row or state, field by field.

use serde_json::Value;

/// A field whose value is not the same before and after.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct FieldChange {
    /// Where it stands: `paid.amount`, `items[0].quantity`; empty for the whole.
    pub field: String,
    /// Its value before; none if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its value after; none if it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// The fields that differ, in the order of their names. Of what is only on one side, or of another kind, the whole is
/// named, not its parts.
pub fn differences(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found
}

fn compare(field: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                compare(named(&field, name), before.get(name), after.get(name), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                compare(format!("{field}[{index}]"), before.get(index), after.get(index), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(FieldChange {
            field,
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

/// The fields that have no parts, with their values, in the order of their names.
pub fn leaves(value: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(String::new(), value, &mut found);
    found
}

fn collect<'a>(field: String, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                collect(named(&field, name), value, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                collect(format!("{field}[{index}]"), value, found);
            }
        }
        _ => found.push((field, value)),
    }
}

fn named(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_as_deep_as_both_sides_go() {
        let before =
            json!({"status": "placed", "paid": {"amount": 1, "currency": "BRL"}, "items": [{"n": 1}], "gone": []});
        let after =
            json!({"status": "approved", "paid": {"amount": 2, "currency": "BRL"}, "items": [{"n": 1}, {"n": 2}]});
        let found: Vec<_> = differences(Some(&before), Some(&after))
            .into_iter()
            .map(|change| (change.field, change.before, change.after))
            .collect();
        let expected = [
            ("gone", Some(json!([])), None),
            ("items[1]", None, Some(json!({"n": 2}))),
            ("paid.amount", Some(json!(1)), Some(json!(2))),
            ("status", Some(json!("placed")), Some(json!("approved"))),
        ];
        assert_eq!(
            found,
            expected.map(|(field, before, after)| (field.to_owned(), before, after))
        );
        assert!(differences(Some(&after), Some(&after)).is_empty());
        assert_eq!(differences(None, Some(&after))[0].field, "");
    }

    #[test]
    fn leaves_are_what_has_no_parts() {
        let value = json!({"b": {"y": 1, "x": []}, "a": [1, {"z": null}]});
        let names: Vec<_> = leaves(&value).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a[0]", "a[1].z", "b.x", "b.y"]);
    }
}
