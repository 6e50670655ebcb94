//! Links the guest as a static, freestanding image laid out by `linker.ld`.

fn main() {
    let script = format!("{}/linker.ld", std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
    ] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rerun-if-changed=build.rs");
}
