//! What the program prints with `--json`, against the schemas in `schema/`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;

/// The object in `line`, which `command` has printed.
///
/// # Panics
/// Where it is no JSON, or not as `schema/COMMAND.json` says.
#[track_caller]
pub fn document(command: &str, line: &str) -> Value {
    let value = serde_json::from_str(line);
    let value = value.unwrap_or_else(|error| panic!("every line is an object: {error}: {line}"));
    let wrong = violations(command, &value);
    assert!(
        wrong.is_empty(),
        "not as schema/{command}.json says: {wrong:?}: {line}"
    );
    value
}

/// In what `value` is not as `schema/COMMAND.json` says, a sentence each.
pub fn violations(command: &str, value: &Value) -> Vec<String> {
    let errors = validator(command);
    let errors = errors.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// The schema of `command`, read once.
fn validator(command: &str) -> Arc<Validator> {
    static READ: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = || Arc::new(jsonschema::validator_for(&schema(command)).expect("it is a schema"));
    Arc::clone(read.entry(command.to_owned()).or_insert_with(compile))
}

/// The file `schema/COMMAND.json`.
pub fn schema(command: &str) -> Value {
    let file = format!("{command}.json");
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schema")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("it is JSON")
}
