//! The values of a YAML document as JSON, with merge keys and the local file applied.

use serde_json::{Map, Value};

use super::{Problem, Source};

/// Reads the values of a document that [`super::tree::read`] has found to be within its limits.
///
/// # Errors
/// What the second parser refuses although the first did not.
pub(super) fn read(source: &Source) -> Result<Value, Problem> {
    let text = source.text()?;
    serde_yaml::from_str(text).map_err(|error| {
        let at = error.location().map_or(0, |location| location.index());
        source.problem(at..at + 1, format!("not valid YAML: {error}"))
    })
}

/// Replaces every `<<` by the entries it names; an entry's own keys win, then the first named (yaml.org/type/merge).
/// Paths of `<<` that name no mapping are added to `bad`.
pub(super) fn apply_merge_keys(value: &mut Value, path: &mut Vec<String>, bad: &mut Vec<Vec<String>>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                apply_merge_keys(item, path, bad);
                path.pop();
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                path.push(key.clone());
                apply_merge_keys(item, path, bad);
                path.pop();
            }
            if let Some(merge) = map.remove("<<")
                && !merge_into(map, merge)
            {
                bad.push(path.iter().cloned().chain(["<<".to_owned()]).collect());
            }
        }
    }
}

/// Whether `merge` was a mapping or a list of mappings.
fn merge_into(map: &mut Map<String, Value>, merge: Value) -> bool {
    let parts = match merge {
        Value::Array(parts) => parts,
        one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            vec![one]
        }
    };
    parts.into_iter().all(|part| match part {
        Value::Object(entries) => {
            for (key, value) in entries {
                map.entry(key).or_insert(value);
            }
            true
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
    })
}

/// Lays `patch` over `base`: mappings merge key by key, null removes, anything else replaces (RFC 7396).
/// Depth is bounded by [`super::tree`].
pub(super) fn lay_over(base: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *base = patch;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Some(base) = base.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            base.remove(&key);
        } else {
            lay_over(base.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expect: Value, bad: &[&str]) {
        let mut value = read(&Source::new("f", text)).unwrap();
        let mut found = Vec::new();
        apply_merge_keys(&mut value, &mut Vec::new(), &mut found);
        assert_eq!(value, expect, "{text}");
        assert_eq!(found.iter().map(|path| path.join("/")).collect::<Vec<_>>(), bad, "{text}");
    }

    #[test]
    fn merge_keys_apply_also_through_each_other() {
        check("a: &a {k: 1}\nb: {<<: *a, z: 2}", json!({"a": {"k": 1}, "b": {"k": 1, "z": 2}}), &[]);
        check(
            "a: &a {k: 1}\nb: &b {<<: *a}\nc: {<<: [*b, {k: 2, y: 3}]}",
            json!({"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "y": 3}}),
            &[],
        );
        check("a: {<<: 1}\nb: [{<<: [2]}]", json!({"a": {}, "b": [{}]}), &["a/<<", "b/0/<<"]);
    }

    #[test]
    fn a_patch_merges_replaces_and_removes() {
        let mut base = json!({"tasks": {"a": {"x": 1, "y": 2}, "b": {}}, "v": [1]});
        lay_over(
            &mut base,
            json!({"tasks": {"a": {"y": null, "z": {"q": 1, "r": null}}, "b": null}, "v": [2]}),
        );
        assert_eq!(base, json!({"tasks": {"a": {"x": 1, "z": {"q": 1}}}, "v": [2]}));
    }
}
