//! `strata completions` and `strata man`: help for shells and manuals, out of the same description as `--help`.

use crate::args::{self, Args};
use crate::{Outcome, show};
use clap::CommandFactory as _;
use std::fs;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// Runs `strata completions`.
pub(crate) fn completions(args: &args::Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "strata", &mut script);
    show::print(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}

/// Runs `strata man`.
pub(crate) fn man(args: &args::Man) -> Outcome {
    let written =
        fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(Args::command(), &args.dir));
    written.map_err(|error| {
        Failure::caused(Exit::Other, format!("cannot write manual pages to {}", args.dir.display()), &error)
    })?;
    Ok(0)
}
