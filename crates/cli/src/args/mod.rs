//! The command line.

mod build;
mod builder;
mod cache;
mod image;
mod limits;
mod pack;
mod platform;
mod refused;
mod volume;

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

pub(crate) use build::{
    Beside, Build, LifecycleArg, NetworkArg, Plan, PullPolicy, ReportArgs, RequireOrigins,
};
pub(crate) use builder::{BuilderCommand, BuilderCreate, BuilderPrune, BuildpackCommand, BuildpackPackage};
pub(crate) use cache::{Cache, CacheCommand, PruneCache};
pub(crate) use image::{
    Attach, Copy, Diff, Inspect, OutputFormat, Rebase, Run, Sbom, SbomCommand, SbomDiff, SbomFormat, Trace,
    Validate,
};
pub(crate) use pack::CachePlace;
pub(crate) use refused::refuse;
pub(crate) use volume::Volume;

use platform::platform;

/// Builds OCI images with Cloud Native Buildpacks, without Docker and without root.
#[derive(Debug, Parser)]
#[command(name = "strata", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from application source
    Build(Box<Build>),
    /// Say which buildpacks would take part in a build, and why, without building
    Plan(Box<Plan>),
    /// Make builder images, and tidy up after them
    #[command(subcommand)]
    Builder(BuilderCommand),
    /// Make images of buildpacks
    #[command(subcommand)]
    Buildpack(BuildpackCommand),
    /// Print what a shell needs to complete commands
    Completions(Completions),
    /// Write manual pages into a folder
    Man(Man),
    /// Run an image in a sandbox
    Run(Run),
    /// Show what is in an image
    Inspect(Inspect),
    /// Say where an image, a layer of it, or a file in it comes from
    Trace(Trace),
    /// Say what differs between two images: inputs, layers, files
    Diff(Diff),
    /// Take an image from one place to another
    Copy(Copy),
    /// Put a newer run image below an image, without building it again
    Rebase(Rebase),
    /// Put a file beside an image: an SBOM, a signature, a report
    Attach(Attach),
    /// Prove that an image is whole and consistent
    Validate(Validate),
    /// Show what an image is made of, or what is different between two
    Sbom(Box<Sbom>),
    /// Show what builds have kept for those to come, and remove what is old
    Cache(Cache),
}

/// The forms that the name of an image has.
const PLACES: &str = "Images are named by:\n  \
    NAME                         kept by Strata, or else in a registry\n  \
    oci:DIR[:TAG]                a folder in the OCI image layout\n  \
    oci-archive:FILE[:TAG]       a tar archive of one\n  \
    docker-archive:FILE[:NAME]   what `docker save` writes\n  \
    registry:NAME                in a registry; docker://NAME is the same\n  \
    docker:NAME                  in the Docker daemon";

/// Print what a shell needs to complete commands
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata completions bash > ~/.local/share/bash-completion/completions/strata\n  \
    strata completions fish > ~/.config/fish/completions/strata.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Write manual pages into a folder
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  strata man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// The folder; it is made where missing
    pub(crate) dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StoreArgs {
    /// Where images are kept, one OCI layout each [default: $XDG_DATA_HOME/strata/images]
    #[arg(long, value_name = "DIR")]
    pub(crate) layout_dir: Option<PathBuf>,
    /// Start of names whose registry may do without HTTPS or a certificate; repeat it for several
    #[arg(long, value_name = "NAME")]
    pub(crate) insecure_registry: Vec<String>,
}

#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct ShowArgs {
    /// Show more: what each buildpack said during detection, digests of layers
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Show only warnings, errors and the image's digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print events as JSON, one a line, for machines
    #[arg(long, conflicts_with_all = ["verbose", "quiet"])]
    pub(crate) json: bool,
    /// Never use colour (nor when NO_COLOR is set or the output is no terminal)
    #[arg(long)]
    pub(crate) no_color: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
