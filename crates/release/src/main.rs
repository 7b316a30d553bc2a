//! `strata-release`: from built programs to what platforms take a lifecycle from: a tarball per architecture, and an
//! image for all of them.
//!
//! It builds nothing and asks nobody: the programs, the crates they are made of, the version and the date are its
//! input, and the same input gives the same bytes.

mod args;
mod descriptor;
mod elf;
mod failure;
mod files;
mod graph;
mod image;
mod programs;
mod sbom;
mod tarball;

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser as _;

use failure::Failure;

fn main() -> ExitCode {
    match run(&args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut text = format!("strata-release: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            // Nowhere is left to say it when this fails.
            drop(writeln!(io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &args::Args) -> Result<(), Failure> {
    let release = args.release()?;
    let mut made = Vec::new();
    let mut images = Vec::new();
    for &arch in &args.arches() {
        let programs = programs::Programs::read(&args.programs, arch, &args.lock)?;
        let files = files::in_lifecycle(&release, &programs);
        made.push(tarball::write(&args.output, &release, arch, files.clone())?);
        images.push((arch, files));
    }
    made.push(image::write(&args.output, &release, images)?);
    let mut out = io::stdout().lock();
    made.iter()
        .try_for_each(|path| writeln!(out, "{}", path.display()))
        .map_err(Failure::write("the terminal"))
}
