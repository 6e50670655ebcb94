//! The JSON Schema of lab files: committed for editors, and true.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::Value;

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> Validator {
    jsonschema::draft7::new(&labctl::topology::schema()).expect("a schema")
}

/// A YAML file as editors see it: merged, but with variables in it.
fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("readable");
    let mut tree: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    tree.apply_merge().expect("mappings");
    serde_json::to_value(tree).expect("JSON")
}

fn files(directory: &str) -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir(manifest().join(directory)).expect(directory);
    let paths = files.map(|file| file.expect("a file").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
}

/// `UPDATE_GOLDEN=1 cargo test -p labctl --test schema` writes it anew.
#[test]
fn the_committed_schema_is_the_current_one() {
    let path = manifest().join("lab.schema.json");
    let schema = serde_json::to_string_pretty(&labctl::topology::schema()).expect("JSON") + "\n";
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &schema).expect("writable");
    }
    let committed = fs::read_to_string(&path).expect("committed");
    assert!(schema == committed, "labctl/lab.schema.json is out of date");
}

#[test]
fn every_key_is_explained() {
    fn check(path: &str, schema: &Value) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            assert!(value["description"].is_string(), "{path}.{key} is not explained");
        }
        if !schema["properties"].is_null() {
            assert_eq!(schema["additionalProperties"], false, "{path}");
        }
    }
    let schema = labctl::topology::schema();
    check("file", &schema);
    let definitions = schema["definitions"].as_object().expect("definitions");
    definitions.iter().for_each(|(name, schema)| check(name, schema));
}

#[test]
fn right_files_are_right() {
    let validator = validator();
    let files = files("../topologies").chain(files("tests/golden/valid"));
    for path in files {
        let file = read(&path);
        let errors = validator.iter_errors(&file);
        let errors: Vec<_> = errors.map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(errors, [""; 0], "{}", path.display());
    }
}

#[test]
fn wrong_files_are_wrong() {
    let validator = validator();
    for name in [
        "event-two-actions",
        "event-without-action",
        "frame-too-long",
        "impairment-loss-over-all",
        "impairment-rate-in-packets",
        "kind-unknown",
        "link-malformed",
        "mac-multicast",
        "memory-no-unit",
        "missing-name",
        "name-not-allowed",
        "ring-not-a-multiple",
        "role-unknown",
        "switch-kind-unknown",
        "unknown-key-in-switch",
    ] {
        let path = manifest().join(format!("tests/golden/validate/{name}.yaml"));
        assert!(!validator.is_valid(&read(&path)), "{name}");
    }
}
