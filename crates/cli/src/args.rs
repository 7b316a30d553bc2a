//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

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
    Build(Build),
    /// Run an image in a sandbox
    Run(Run),
    /// Show what is in an image
    Inspect(Inspect),
}

/// Build an image from application source
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata build . -t web --builder builders/rust\n  \
    strata build ./app -t web --buildpack buildpacks/node --run-image oci:images/run\n  \
    strata build ./app -o image --builder builders/rust --env NODE_ENV=production\n\n\
Exit codes: 20 no group passed detection, 21 the same and a buildpack erred, 51 a bin/build failed,\n\
52 a buildpack left broken files, 62 export failed, 12 unsupported buildpack API, 130 interrupted.")]
pub(crate) struct Build {
    /// The application's folder
    #[arg(default_value = ".", value_name = "APP-DIR")]
    pub(crate) app: PathBuf,
    /// Name of the image, for example web or example.com/team/web:1.0
    #[arg(short, long, value_name = "NAME", required_unless_present = "output")]
    pub(crate) tag: Option<String>,
    /// A folder with a builder.toml: buildpacks, order, build and run images
    #[arg(long, value_name = "DIR", required_unless_present = "buildpack")]
    pub(crate) builder: Option<PathBuf>,
    /// A buildpack's folder; repeat it to use several, in this order, instead of the builder's order
    #[arg(long, value_name = "DIR")]
    pub(crate) buildpack: Vec<PathBuf>,
    /// The image to build on: scratch, oci:DIR, or oci:DIR:TAG
    #[arg(long, value_name = "REF")]
    pub(crate) run_image: Option<String>,
    /// Also write the image as an OCI layout of its own to this folder
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Set a variable for the buildpacks; without =VALUE it is taken from your environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read such variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// The process type that the image starts by default
    #[arg(long, alias = "default-process", value_name = "TYPE")]
    pub(crate) process_type: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// Run an image in a sandbox
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  strata run web --env PORT=9000\n\nThe network is this machine's. The exit code is the process's own; 82 when it could not be started."
)]
pub(crate) struct Run {
    /// Name of the image
    pub(crate) name: String,
    /// Set a variable for the process
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read such variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Another process type than the default
    #[arg(long, value_name = "TYPE")]
    pub(crate) process_type: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Arguments for the process
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// Show what is in an image
#[derive(Debug, ClapArgs)]
pub(crate) struct Inspect {
    /// Name of the image, oci:DIR, or oci:DIR:TAG
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StoreArgs {
    /// Where images are kept, one OCI layout each [default: $XDG_DATA_HOME/strata/images]
    #[arg(long, value_name = "DIR")]
    pub(crate) layout_dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
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
