//! `labctl init` and `labctl schema`, as a person would use them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use labctl::topology::Lab;

/// An empty directory of its own for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("directory");
        Self(path)
    }

    /// What images/linux/build makes, as far as anyone looks.
    fn make_linux(&self) {
        let out = self.0.join("images/linux/out");
        fs::create_dir_all(&out).expect("created");
        let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kernels/bzimage");
        fs::copy(kernel, out.join("vmlinuz")).expect("copied");
        fs::write(out.join("initrd.img"), b"").expect("written");
    }

    fn labctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_labctl"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LABCTL_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(&self.0).output().expect("labctl runs")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_template_is_a_valid_lab_with_its_schema() {
    let directory = Directory::new("init");
    directory.make_linux();
    let schema = labctl::topology::schema();
    let validator = jsonschema::draft7::new(&schema).expect("a schema");
    for template in ["pair", "star", "linux", "bench"] {
        let name = format!("{template}.lab.yaml");
        let output = directory.labctl(&["init", "--template", template, &name]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let verb = if template == "bench" { "bench" } else { "up" };
        let next = format!("next: labctl {verb} {name}\n");
        assert!(stderr(&output).ends_with(&next), "{}", stderr(&output));
        let path = directory.0.join(&name);
        let lab = Lab::load(&path).unwrap_or_else(|error| panic!("{}", error.render(false, None)));
        assert_eq!(lab.name, template);
        let text = fs::read_to_string(path).expect("readable");
        assert!(text.starts_with("# yaml-language-server: $schema=lab.schema.json\n"));
        let file: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
        assert!(validator.is_valid(&file), "{template}");
    }
    let beside = fs::read_to_string(directory.0.join("lab.schema.json")).expect("written");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&beside).expect("JSON"), schema);
    let printed = directory.labctl(&["schema"]);
    assert_eq!(String::from_utf8(printed.stdout).expect("text"), beside);
}

#[test]
fn nothing_is_replaced_unless_forced() {
    let directory = Directory::new("init-twice");
    let (file, schema) = (directory.0.join("my.lab.yaml"), directory.0.join("lab.schema.json"));
    fs::write(&schema, "{}").expect("written");
    assert_eq!(directory.labctl(&["init"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&schema).expect("readable"), "{}");
    fs::write(&file, "mine").expect("written");
    for args in [&["init"][..], &["init", "."]] {
        let output = directory.labctl(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("my.lab.yaml is there already"), "{}", stderr(&output));
        assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&file).expect("readable"), "mine");
    assert_eq!(directory.labctl(&["init", "--force"]).status.code(), Some(0));
    assert_eq!(Lab::load(&file).expect("valid").name, "my");
    let output = directory.labctl(&["init", "absent/my.lab.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write absent/my.lab.yaml"), "{}", stderr(&output));
}

#[test]
fn a_linux_guest_needs_a_kernel_first() {
    let directory = Directory::new("init-linux");
    let next = || {
        let output = directory.labctl(&["init", "--force", "--template", "linux", "l.lab.yaml"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let told = stderr(&output);
        let next = told.lines().last().and_then(|line| line.strip_prefix("next: "));
        (next.expect("what comes next").to_owned(), told)
    };
    let (command, told) = next();
    assert_eq!(command, "KERNEL=... INITRD=... labctl up l.lab.yaml");
    assert!(told.contains("images/linux/build in labctl's sources makes"), "{told}");
    fs::create_dir_all(directory.0.join("images/linux")).expect("created");
    fs::write(directory.0.join("images/linux/build"), b"").expect("written");
    assert_eq!(next().0, "images/linux/build && labctl up l.lab.yaml");
    directory.make_linux();
    assert_eq!(next().0, "labctl up l.lab.yaml");
}
