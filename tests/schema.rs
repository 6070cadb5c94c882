//! The schemas of what is printed with `--json`. Every document that a test reads is checked
//! against them when it is read ([`reflector_testkit::document`]); here is what a schema is worth.

use std::fs;
use std::path::Path;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::document::{schema, violations};
use reflector_testkit::{command, document, text};
use serde_json::{Map, Value, json};

#[test]
fn every_file_is_a_schema_of_draft_2020_12() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let schema = schema(name);
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        count += 1;
    }
    assert!(count >= 8, "one for each command with --json");
}

/// The control: each key of real documents is left out, misnamed and given another type, and the
/// schema notices each time.
#[test]
fn a_document_that_is_wrong_anywhere_is_refused() {
    let test = "a_document_that_is_wrong_anywhere_is_refused";
    in_namespaces(test, || {
        let host = Namespace::new().unwrap();
        let serve = ["-l", "127.0.0.1:0", "-d", "60ms", "-i", "20ms", "--json"];
        let refused = ["diagnose", "127.0.0.1:9", "-n", "1", "-t", "50ms", "--json"];
        let load = [
            "load",
            "127.0.0.1:9",
            "-n",
            "5",
            "-t",
            "50ms",
            "-i",
            "10ms",
            "--json",
        ];
        let mut seen = Vec::new();
        for (name, args) in [
            ("serve", &serve[..]),
            ("diagnose", &refused),
            ("load", &load),
        ] {
            let output = host.run(|| command(args).output()).unwrap();
            for line in text(&output.stdout).lines() {
                let value = document(name, line);
                assert_wrong(name, &value, &[]);
                seen.push(value["type"].as_str().unwrap().to_owned());
            }
        }
        for of in ["ready", "interval", "summary", "diagnosis"] {
            assert!(seen.iter().any(|it| it == of), "{of}: {seen:?}");
        }
    });
}

#[test]
fn an_object_of_no_type_or_an_unknown_one_is_refused() {
    for name in [
        "serve", "load", "diagnose", "lab", "report", "probe", "wait", "watch",
    ] {
        for value in [
            json!({"schema": 2}),
            json!({"schema": 2, "type": "verdict"}),
            json!([]),
        ] {
            assert!(!violations(name, &value).is_empty(), "{name}: {value}");
        }
    }
}

/// Asserts that `whole` would be refused if anything were wrong in the object at `path` in it.
fn assert_wrong(name: &str, whole: &Value, path: &[String]) {
    let at = path.iter().fold(whole, |it, key| &it[key]);
    let Some(object) = at.as_object() else { return };
    // Its keys are the world's, such as addresses, and not the schema's.
    let is_map = path.last().is_some_and(|key| {
        [
            "send_errors",
            "receive_errors",
            "seen",
            "icmp",
            "also_asked",
        ]
        .contains(&&**key)
    });
    let assert_refused = |what: String, changed: Map<String, Value>| {
        let mut wrong = whole.clone();
        let place = path.iter().fold(&mut wrong, |it, key| &mut it[key]);
        *place = changed.into();
        assert!(
            !violations(name, &wrong).is_empty(),
            "{what} in {path:?} of {name}: {wrong}"
        );
    };
    for (key, value) in object {
        if !is_map {
            let mut without = object.clone();
            without.remove(key);
            assert_refused(format!("without {key}"), without);
        }
        let mut other = object.clone();
        // What no key is: neither a number nor text, nor a list of either.
        other.insert(key.clone(), json!([[{}]]));
        assert_refused(format!("another {key}"), other);
        if value.is_object() {
            assert_wrong(name, whole, &[path, std::slice::from_ref(key)].concat());
        }
    }
    let mut more = object.clone();
    more.insert("surplus key".to_owned(), json!(0));
    assert_refused("one more".to_owned(), more);
}
