//! Builds the guest in `pktguest/` and tells the library where it is.
//!
//! The guest is its own workspace with its own linker script, so it is built by a cargo of its own,
//! with the toolchain that builds us and nothing of the outer build's settings.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The guest's target: what the host already has; the guest uses no library of it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let guest = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("pktguest");
    let target_dir = PathBuf::from(variable("OUT_DIR")).join("pktguest");
    // Not the whole directory: a hand-made build's `target` would trigger us each time.
    for input in ["Cargo.toml", "Cargo.lock", "build.rs", "linker.ld", "src"] {
        println!("cargo::rerun-if-changed={}", guest.join(input).display());
    }
    build(&guest, &target_dir);
    let image = target_dir.join(TARGET).join("release/pktguest");
    println!("cargo::rustc-env=PKTGUEST_PATH={}", image.display());
}

fn build(guest: &Path, target_dir: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os().filter(|(name, _)| is_outer_setting(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let status = cargo
        // Empty but set: also overrides flags from configuration files.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .current_dir(guest)
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("building pktguest failed: {status}"),
        Err(error) => panic!("cannot start cargo to build pktguest: {error}"),
    }
}

/// Whether a variable would leak settings into the guest's build: compiler flags and wrappers
/// (clippy is one), profiles, targets, what cargo tells build scripts. The toolchain and how to
/// reach the registry stay.
fn is_outer_setting(name: &str) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const OTHERS: [&str; 6] = [
        "MAKEFLAGS",
        "MFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
    ];
    let is_cargos = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
    is_cargos || OTHERS.contains(&name)
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
