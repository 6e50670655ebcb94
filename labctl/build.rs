//! Notes the commit labctl is built from, for the metadata of its results.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Outside a repository, or without git, the commit is simply not known.
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo:rustc-env=LABCTL_COMMIT={commit}");
        // HEAD's log grows whenever HEAD moves, by a commit as by a checkout.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo:rerun-if-changed={log}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
