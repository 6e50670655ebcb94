//! What README.md says is true: its lab file is one, and its commands do what they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::process::Command;

use common::kvm;
use common::labs::{Labs, repository, text};

/// The code blocks of a language in a section of README.md.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let section = readme.split(&format!("\n## {section}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_lab_file_is_valid_and_so_is_its_experiment() {
    let labs = Labs::new("readme-file");
    let lab = blocks("Labs", "yaml").concat() + &blocks("Experiments", "yaml").concat();
    let file = labs.file("readme", &lab);
    let valid = labs.json(&["validate", &file]);
    assert_eq!(valid["name"], "demo");
    assert!(valid["bench"]["cells"].as_array().unwrap().len() > 10);
}

#[test]
fn a_stranger_gets_a_lab_by_the_first_commands() {
    let Some(_kvm) = kvm() else { return };
    let labs = Labs::new("readme-walk");
    let commands = &blocks("Labs", "sh")[0];
    let labctl = labs.command(&[]);
    let directory = std::path::Path::new(labctl.get_program()).parent().unwrap().display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let walk = Command::new("bash")
        .args(["-e", "-c", commands])
        .current_dir(labs.path(""))
        .env("PATH", path)
        .env("LABCTL_STATE_DIR", labs.state())
        .output()
        .unwrap();
    let (out, err) = (text(&walk.stdout), text(&walk.stderr));
    assert!(walk.status.success(), "{commands}\n{out}{err}");
    let tells = |what: &str| assert!(format!("{out}{err}").contains(what), "{what}:\n{out}{err}");
    tells("my is valid");
    tells("\"event\":\"final\",\"role\":\"rx\"");
    tells("my is ready, in the background");
    tells("my is down");
    assert!(labs.is_clean());
}
