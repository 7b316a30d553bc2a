//! Builds the launcher for the musl target and hands its path to the program, which carries it inside.
//!
//! A nested cargo call with a target folder of its own: artifact dependencies, which would say this in the manifest,
//! are not stable. `STRATA_LAUNCHER` names a launcher that was built elsewhere instead.

#![expect(clippy::disallowed_methods, reason = "cargo talks to build scripts through the environment")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-env-changed=STRATA_LAUNCHER");
    println!("cargo::rerun-if-changed=../launcher/src");
    println!("cargo::rerun-if-changed=../launcher/Cargo.toml");
    println!("cargo::rerun-if-changed=../launch/src");
    let launcher = match env::var_os("STRATA_LAUNCHER") {
        Some(path) => {
            let path = PathBuf::from(path).canonicalize()?;
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => build()?,
    };
    println!("cargo::rustc-env=STRATA_LAUNCHER_PATH={}", launcher.display());
    Ok(())
}

/// Builds `strata-launcher`, for musl where the target is installed, else statically linked with glibc.
fn build() -> Outcome<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let musl = format!("{arch}-unknown-linux-musl");
    let (target, static_flag) = if has_target(&musl)? {
        (musl, "")
    } else {
        println!("cargo::warning=target {musl} is not installed: the launcher is linked with a static glibc");
        (format!("{arch}-unknown-linux-gnu"), "-Ctarget-feature=+crt-static\x1f")
    };
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let target_dir = Path::new(&env::var("OUT_DIR")?).join("launcher");
    let cargo_home = env::var("CARGO_HOME").unwrap_or_else(|_| format!("{}/.cargo", home()));
    // Paths of this machine must not get into a program that gets into images.
    let flags = format!(
        "{static_flag}--remap-path-prefix={cargo_home}=/cargo\x1f--remap-path-prefix={}=/strata",
        workspace.display()
    );
    let mut cargo = Command::new(env::var("CARGO")?);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let is_of_this_build =
            ["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PROFILE_", "CARGO_ENCODED_", "CARGO_PKG_"];
        if is_of_this_build.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(&*name);
        }
    }
    // As `scripts/release` does it, so that the launcher of a lifecycle's image and this one are the same bytes: then an image
    // has the same launcher layer whoever built it.
    if target.ends_with("-musl") {
        let under = target.replace('-', "_").to_uppercase();
        cargo.env(format!("CARGO_TARGET_{under}_LINKER"), "rust-lld");
    }
    let status = cargo
        .args(["build", "--locked", "--quiet", "--profile", "launcher", "-p", "strata-launcher"])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&workspace)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .status()?;
    if !status.success() {
        return Err(format!("building the launcher for {target} failed").into());
    }
    Ok(target_dir.join(target).join("launcher/launcher"))
}

fn home() -> String {
    env::var("HOME").unwrap_or_default()
}

fn has_target(target: &str) -> Outcome<bool> {
    let rustc = env::var("RUSTC")?;
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output()?;
    Ok(output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
