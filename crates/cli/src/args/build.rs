//! `strata build` and `strata plan`.

use super::limits::LimitArgs;
use super::pack::{self, CachePlace, PackArgs};
use super::volume::{Volume, volume};
use super::{OutputFormat, ShowArgs, StoreArgs};
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;
use strata_decide::annotation;
use strata_oci::Compression;
use strata_spec::launch::Label;
use strata_spec::sealed::Policy;

/// Build an image from application source
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata build . -t web --builder builders/rust\n  \
    strata build ./app -t web --buildpack buildpacks/node --run-image oci:images/run\n  \
    strata build ./app -o image --builder builders/rust --env NODE_ENV=production\n  \
    strata build ./app -t web --builder builders/rust -o - | docker load\n  \
    strata build ./app -o registry:example.com/team/web:1.0 --builder builders/rust\n\n\
Exit codes: 20 no group passed detection, 21 the same and a buildpack erred, 51 a bin/build failed,\n\
52 a buildpack left broken files, 22 detection could not be carried out, 62 export failed, 12 unsupported buildpack API,\n\
3 something that is named cannot be used, 130 interrupted.")]
pub(crate) struct Build {
    /// The application's folder; or a tar archive of it; or an image with it, by its place, as in oci:DIR
    /// (with --path, the name of the image instead, as for pack)
    #[arg(default_value = ".", value_name = "APP-DIR")]
    pub(crate) app: PathBuf,
    /// The application, if the first argument is to be the image's name
    #[arg(short, long, value_name = "APP-DIR")]
    pub(crate) path: Option<PathBuf>,
    /// The application's folder within such an archive or image
    #[arg(long, value_name = "PATH")]
    pub(crate) source_path: Option<PathBuf>,
    /// Name of the image, for example web or example.com/team/web:1.0; repeat it for more names
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Put the image into the registries of its names, and do not keep it here
    #[arg(long)]
    pub(crate) publish: bool,
    /// A builder: an image, named as `strata copy` does, or a folder with a builder.toml
    /// [default: the one that the app's project.toml names]
    #[arg(short = 'B', long, value_name = "REF|DIR")]
    pub(crate) builder: Option<String>,
    /// A buildpack: a folder, an archive, a buildpackage, each here or at https://, or ID or ID@VERSION from the builder, or
    /// from urn:cnb:registry: the buildpack registry; repeat it to use several, in
    /// this order, instead of the builder's order, which from=builder stands for
    #[arg(short, long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) buildpack: Vec<String>,
    /// A buildpack that comes before each group of the order
    #[arg(long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) pre_buildpack: Vec<String>,
    /// A buildpack that comes after each group of the order
    #[arg(long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) post_buildpack: Vec<String>,
    /// The image to build on: scratch, or any that `strata copy` takes
    #[arg(long, value_name = "REF")]
    pub(crate) run_image: Option<String>,
    /// Also write the image to this folder as an OCI layout of its own, to a FILE.tar, with - to standard output, or to any
    /// place that `strata copy` takes by its prefix
    #[arg(short, long, value_name = "DIR|FILE.tar|-|PLACE")]
    pub(crate) output: Option<PathBuf>,
    /// What an archive is like [default: oci]
    #[arg(long, value_name = "FORMAT", requires = "output")]
    pub(crate) output_format: Option<OutputFormat>,
    /// What the app is and how it is built, as the project descriptor of buildpacks has it
    /// [default: project.toml in the app's folder, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) descriptor: Option<PathBuf>,
    /// Set a variable for the buildpacks; without =VALUE it is taken from your environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read such variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// The process type that the image starts by default
    #[arg(short = 'D', long, alias = "process-type", value_name = "TYPE")]
    pub(crate) default_process: Option<String>,
    /// What the build is for, as buildpacks know it
    #[arg(long, value_name = "ENVIRONMENT", default_value = "production", value_parser = exec_env)]
    pub(crate) exec_env: String,
    /// The date of the image: now, or seconds since 1970 [default: SOURCE_DATE_EPOCH, or else 1980]
    #[arg(long, value_name = "SECONDS|now")]
    pub(crate) creation_time: Option<String>,
    /// Do without the buildpacks that the builder's operator adds to every group
    #[arg(long)]
    pub(crate) disable_system_buildpacks: bool,
    /// Copy the SBOM files of buildpacks into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) sbom_output_dir: Option<PathBuf>,
    /// Write report.toml, as the platform specification has it, into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report_output_dir: Option<PathBuf>,
    /// What becomes of changes that a buildpack makes to the layers of others: off, warn, discard or error
    /// [default: the builder's choice, or else discard]
    #[arg(long, value_name = "POLICY")]
    pub(crate) sealed_layers: Option<Policy>,
    /// How new layers are compressed: gzip or zstd, with a level from 1 to 9 as in zstd:3, or none
    /// [default: gzip]
    #[arg(long, value_name = "HOW")]
    pub(crate) compression: Option<Compression>,
    /// Annotate the image's manifest; wins over the annotations of buildpacks
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation::parse)]
    pub(crate) annotation: Vec<Label>,
    /// Whether a bill of materials is put beside the image, as CycloneDX and SPDX
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) sbom: Beside,
    /// When a registry is asked for builder and run image; layers are fetched once in any case
    #[arg(long, value_name = "POLICY", default_value = "always")]
    pub(crate) pull_policy: PullPolicy,
    /// What the buildpacks reach
    #[arg(long, value_name = "NETWORK", default_value = "host")]
    pub(crate) network: NetworkArg,
    /// Show a file or folder of this machine to the buildpacks, read-only unless :rw is said
    #[arg(long, value_name = "FROM:TO[:ro|rw]", value_parser = volume)]
    pub(crate) volume: Vec<Volume>,
    /// Whose detector and builder run: Strata's, or those that the builder image has
    #[arg(long, value_name = "WHOSE", default_value = "strata")]
    pub(crate) lifecycle: LifecycleArg,
    /// When a bin/build fails, start a shell in its place: the same files, environment, folder and user
    #[arg(long, conflicts_with_all = ["json", "quiet"])]
    pub(crate) debug_shell: bool,
    /// Build again whenever a file of the app changes, or a buildpack or file that is named here, until Ctrl-C
    #[arg(long, conflicts_with_all = ["debug_shell", "dry_run"])]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    #[command(flatten)]
    pub(crate) of_pack: PackArgs,
    /// Say which buildpacks would take part, and why, as `strata plan` does, and build nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    // Last, as their headings hold for all that follows.
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Say which buildpacks would take part in a build, and why, without building
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata plan ./app --builder builders/rust\n  \
    strata plan ./app --builder builders/rust --json | jq '.group[].id'\n\n\
Flags are those of `strata build`, which does the same with --dry-run; what is only about the image changes nothing.\n\
Detection runs in the sandbox as in a build. Nothing is kept but the unpacked layers of a builder.\n\
Exit codes: 0 a group passes, 20 none does, 21 none does and a buildpack erred.")]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) build: Build,
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// In each build
    Always,
    /// When no build has seen the name before
    IfNotPresent,
}

/// Whose phases run in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LifecycleArg {
    /// Strata's
    Strata,
    /// The builder image's own, in /cnb/lifecycle; layers are not sealed then
    Builder,
}

/// What buildpacks reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// All that this machine reaches, and what listens on it
    Host,
    /// Nothing
    None,
}

/// Understands the name of an execution environment, for the command line.
fn exec_env(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    is_name.then(|| text.to_owned()).ok_or_else(|| "expected letters, digits, '.' and '-'".to_owned())
}

/// What earlier builds left.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "What earlier builds left")]
pub(crate) struct CacheArgs {
    /// Keep the cache in this folder; pack's type=build;format=… is understood, too
    /// [default: one for each app in $XDG_CACHE_HOME/strata/apps]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cache_image", "no_cache"], value_parser = pack::cache)]
    pub(crate) cache: Option<CachePlace>,
    /// Keep the cache in an image: in a registry, or in a folder as oci:DIR
    #[arg(long, value_name = "REF", conflicts_with = "no_cache")]
    pub(crate) cache_image: Option<String>,
    /// Empty the cache first, and restore nothing of the previous image
    #[arg(long)]
    pub(crate) clear_cache: bool,
    /// Neither use nor fill a cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// The image whose layers are used again [default: the one that is replaced]
    #[arg(long, value_name = "REF")]
    pub(crate) previous_image: Option<String>,
}

/// When something is put beside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beside {
    /// Where it is in nobody's way: beside images that Strata keeps, in registries, in layouts under a tag
    Auto,
    /// Also in OCI archives and in layouts without a tag, where some programs expect one thing and no more, and reports in
    /// Docker's daemon, in a small image
    Always,
    /// Nowhere
    Never,
}

/// What is said of where layers come from.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Where layers come from")]
pub(crate) struct ReportArgs {
    /// Also write the report of the build to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Whether a report is put beside the image
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) origins: Beside,
    /// A TOML file with a table of your own for the report
    #[arg(long, value_name = "FILE")]
    pub(crate) report_extra: Option<PathBuf>,
    /// Fail when a layer comes back whose origin is unknown, or with =discard have it made anew
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "fail")]
    pub(crate) require_origins: Option<RequireOrigins>,
}

impl ReportArgs {
    /// Whether anybody will read what is gathered for a report.
    pub(crate) fn is_wanted(&self) -> bool {
        self.origins != Beside::Never || self.report.is_some() || self.require_origins.is_some()
    }
}

/// What is to be done when an origin is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RequireOrigins {
    /// The build fails
    Fail,
    /// The layer is made anew
    Discard,
}
