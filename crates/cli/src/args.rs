//! The command line.

mod limits;
mod pack;

use crate::images::platform;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use strata_decide::{annotation, prune};
use strata_oci::{Compression, Platform};
use strata_spec::launch::Label;
use strata_spec::sealed::Policy;

use limits::LimitArgs;
pub(crate) use pack::{CachePlace, PackArgs};

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

/// Build an image from application source
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata build . -t web --builder builders/rust\n  \
    strata build ./app -t web --buildpack buildpacks/node --run-image oci:images/run\n  \
    strata build ./app -o image --builder builders/rust --env NODE_ENV=production\n  \
    strata build ./app -t web --builder builders/rust -o - | docker load\n  \
    strata build ./app -o registry:example.com/team/web:1.0 --builder builders/rust\n\n\
Exit codes: 20 no group passed detection, 21 the same and a buildpack erred, 51 a bin/build failed,\n\
52 a buildpack left broken files, 62 export failed, 12 unsupported buildpack API, 130 interrupted.")]
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
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    #[command(flatten)]
    pub(crate) of_pack: PackArgs,
    /// Say which buildpacks would take part, and why, as `strata plan` does, and build nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
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

/// Make builder images, and tidy up after them
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    /// Make a builder image
    Create(BuilderCreate),
    /// Remove unpacked layers of builders and other images
    Prune(BuilderPrune),
}

/// Make a builder image
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExamples:\n  \
    strata builder create builders/mine --config builder.toml\n  \
    strata builder create registry:example.com/builders/mine:1.0"))]
pub(crate) struct BuilderCreate {
    /// Where the image goes
    #[arg(value_name = "IMAGE")]
    pub(crate) to: String,
    /// What goes into it, in the format that pack uses
    #[arg(short, long, value_name = "FILE", default_value = "builder.toml")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Remove unpacked layers of builders and other images
#[derive(Debug, ClapArgs)]
pub(crate) struct BuilderPrune {
    /// Only those that nobody used for so many days; those in use stay in any case
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub(crate) unused_for: u64,
}

/// Make images of buildpacks
#[derive(Debug, Subcommand)]
pub(crate) enum BuildpackCommand {
    /// Make a buildpackage: an image of a buildpack and those that it is made of
    Package(BuildpackPackage),
}

/// Make a buildpackage: an image of a buildpack and those that it is made of
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExamples:\n  \
    strata buildpack package node.cnb --path buildpacks/node\n  \
    strata buildpack package registry:example.com/buildpacks/node:1.0 --config package.toml"))]
pub(crate) struct BuildpackPackage {
    /// Where the image goes; FILE.cnb is an archive
    #[arg(value_name = "IMAGE")]
    pub(crate) to: String,
    /// The buildpack's folder
    #[arg(short, long, value_name = "DIR", default_value = ".", conflicts_with = "config")]
    pub(crate) path: PathBuf,
    /// What goes into it, in the format that pack uses [default: package.toml in the buildpack's folder, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What the image is for [default: Linux on this machine]
    #[arg(long, visible_alias = "target", value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
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

/// A file or folder of this machine that buildpacks see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Here.
    pub(crate) from: PathBuf,
    /// There.
    pub(crate) to: PathBuf,
    pub(crate) is_writable: bool,
}

/// Understands the name of an execution environment, for the command line.
fn exec_env(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    is_name.then(|| text.to_owned()).ok_or_else(|| "expected letters, digits, '.' and '-'".to_owned())
}

/// What is the build's own, or the kernel's.
const TAKEN: &[&str] = &["/cnb", "/layers", "/proc", "/sys", "/dev", "/platform/env"];

/// Understands `FROM:TO[:ro|rw]`, for the command line.
fn volume(text: &str) -> Result<Volume, String> {
    let (rest, is_writable) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, false),
        Some((rest, "rw")) => (rest, true),
        _ => (text, false),
    };
    let (from, to) = rest.rsplit_once(':').ok_or("expected FROM:TO, FROM:TO:ro or FROM:TO:rw")?;
    let to = PathBuf::from(to);
    let is_plain = to.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if from.is_empty() || !to.is_absolute() || !is_plain || to.components().count() < 2 {
        return Err("TO is an absolute path without '..', and not /".to_owned());
    }
    if TAKEN.iter().any(|taken| to.starts_with(taken))
        || to == Path::new("/platform")
        || to == Path::new("/workspace")
    {
        return Err(format!("{} is not for volumes; bindings go to /platform/bindings", to.display()));
    }
    Ok(Volume { from: from.into(), to, is_writable })
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
    /// Also in OCI archives and in layouts without a tag, where some programs expect one thing and no more
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

/// What is to be done when an origin is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RequireOrigins {
    /// The build fails
    Fail,
    /// The layer is made anew
    Discard,
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

/// What an archive is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// An OCI layout, which `docker load`, podman, skopeo and ctr take
    Oci,
    /// As `docker save` writes it: larger, for programs that take nothing else
    Docker,
}

/// Show what is in an image
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExamples:\n  \
    strata inspect web --json\n  \
    strata inspect web --artifact application/spdx+json > sbom.json"))]
pub(crate) struct Inspect {
    /// Name of the image
    pub(crate) name: String,
    /// Of an index, the image for this platform [default: Linux on this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// Print a file that is attached to the image instead: by its digest, its artifact's, or the artifact's type
    #[arg(long, value_name = "DIGEST|TYPE", conflicts_with = "json")]
    pub(crate) artifact: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Say where an image, a layer of it, or a file in it comes from
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExamples:\n  \
    strata trace web                          all layers: who made them, when, from which source\n  \
    strata trace web --why                    why each was made again or not\n  \
    strata trace web --layer acme/node:deps   the builds that a layer went through\n  \
    strata trace web /workspace/index.js      which layer a file comes from\n\n\
What is known comes from the image's labels and from the report that `strata build` leaves beside an image. An\n\
image without a report is told apart into layers all the same. Exit codes: 0, 1 when the path is in no layer, 2 when it cannot be\n\
told, and 3 when there is no such image or layer."))]
pub(crate) struct Trace {
    /// Name of the image
    pub(crate) name: String,
    /// A path in the image: which layer it comes from, and what it shadows
    #[arg(conflicts_with_all = ["layer", "why"])]
    pub(crate) path: Option<PathBuf>,
    /// A layer: the builds that it went through, back to the one that made it
    #[arg(long, value_name = "BUILDPACK:LAYER", conflicts_with = "why")]
    pub(crate) layer: Option<String>,
    /// Why each layer was made again, or was not
    #[arg(long)]
    pub(crate) why: bool,
    /// Print what is known as SLSA provenance, an in-toto statement that nobody has signed
    #[arg(long, conflicts_with_all = ["path", "layer", "why", "json"])]
    pub(crate) statement: bool,
    /// Print the predicate of that statement alone, for `cosign attest --type slsaprovenance1 --predicate FILE`
    #[arg(long, conflicts_with_all = ["path", "layer", "why", "json", "statement"])]
    pub(crate) predicate: bool,
    /// Of an index, the image for this platform [default: Linux on this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Say what differs between two images: inputs, layers, files
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExample:\n  \
    strata diff web:1.0 registry:example.com/team/web:1.1\n\n\
Exit codes: 0 they are one image, 1 they are not, 2 that cannot be told, 3 one is not there."))]
pub(crate) struct Diff {
    /// Name of the first image
    pub(crate) old: String,
    /// Name of the second image
    pub(crate) new: String,
    /// Show all files that differ, not the first of each layer only
    #[arg(long, conflicts_with = "no_files")]
    pub(crate) all: bool,
    /// Do not look into layers
    #[arg(long)]
    pub(crate) no_files: bool,
    /// Of indexes, the images for this platform [default: Linux on this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Put a file beside an image: an SBOM, a signature, a report
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\n\
The file becomes an artifact that refers to the image, as the OCI distribution specification has it. Archives and\n\
Docker daemons have no room for it.\n\nExample:\n  \
    strata attach example.com/team/web:1.0 sbom.json --type application/spdx+json"))]
pub(crate) struct Attach {
    /// Name of the image; of an index, the index itself
    pub(crate) name: String,
    /// The file; - is standard input
    pub(crate) file: PathBuf,
    /// What kind of artifact it is, for example application/spdx+json
    #[arg(long = "type", value_name = "TYPE", value_parser = media_type)]
    pub(crate) kind: String,
    /// What the file's bytes are [default: the artifact's type]
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    pub(crate) media_type: Option<String>,
    /// Annotate the artifact
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation::parse)]
    pub(crate) annotation: Vec<Label>,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Take an image from one place to another
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nExamples:\n  \
    strata copy web registry:example.com/team/web:1.0\n  \
    strata copy registry:busybox oci-archive:busybox.tar --all\n  \
    strata copy web docker-archive:- | docker load\n\n\
What refers to the image comes along (SBOMs, signatures, reports), except from or to a Docker daemon or\n\
archive, which have no room for it."))]
pub(crate) struct Copy {
    /// Name of the image
    pub(crate) from: String,
    /// Where it goes; an archive named - is standard output
    pub(crate) to: String,
    /// Of an index, all images; the default where the target can have them
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// Leave behind what refers to the image
    #[arg(long)]
    pub(crate) no_referrers: bool,
    /// Whether the bill of materials comes along that Strata put beside the image
    #[arg(long, value_name = "WHEN", default_value = "auto", conflicts_with = "no_referrers")]
    pub(crate) sbom: Beside,
    /// Whether the reports of builds come along, which say where the image comes from
    #[arg(long, value_name = "WHEN", default_value = "auto", conflicts_with = "no_referrers")]
    pub(crate) origins: Beside,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// Prove that an image is whole and consistent
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nEvery blob is read. Exit codes: 0 nothing is wrong, 1 something is."))]
pub(crate) struct Validate {
    /// Name of the image; of an index, all its images are looked at
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Show what an image is made of, or what is different between two
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = format!("{PLACES}\n\nExamples:\n  \
    strata sbom web\n  \
    strata sbom web --format spdx -o web.spdx.json\n  \
    strata sbom web --layer jre\n  \
    strata sbom diff web:1.0 web:1.1\n\n\
An image that was built by Strata has its bill of materials beside it. Of any other, it is put together out of what\n\
its buildpacks wrote into the image and of the package databases in its layers.")
)]
pub(crate) struct Sbom {
    #[command(subcommand)]
    pub(crate) command: Option<SbomCommand>,
    /// Name of the image; one that is called diff is registry:diff or oci:diff
    #[arg(required = true)]
    pub(crate) name: Option<String>,
    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: SbomFormat,
    /// Only what is in this layer, by its name or as BUILDPACK:LAYER
    #[arg(long, value_name = "NAME")]
    pub(crate) layer: Option<String>,
    /// Only what this buildpack brought, with or without @VERSION
    #[arg(long, value_name = "ID")]
    pub(crate) buildpack: Option<String>,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Leave alone what is attached, and read the image
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Of an index, the image for this platform [default: Linux on this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SbomCommand {
    /// Show packages that were added, removed and changed, and the layers that did it
    Diff(SbomDiff),
}

/// What a bill of materials is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SbomFormat {
    /// CycloneDX 1.5, as JSON
    Cyclonedx,
    /// SPDX 2.3, as JSON
    Spdx,
    /// For people
    Table,
}

/// Show packages that were added, removed and changed, and the layers that did it
#[derive(Debug, ClapArgs)]
#[command(after_help = PLACES)]
pub(crate) struct SbomDiff {
    /// Name of the image before
    pub(crate) before: String,
    /// Name of the image after
    pub(crate) after: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Leave alone what is attached, and read the images
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Of an index, the image for this platform [default: Linux on this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Show what builds have kept for those to come, and remove what is old
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata cache du\n  \
    strata cache prune --older-than 30d\n  \
    strata cache prune web --dry-run\n\n\
Only the caches that builds make by themselves are looked at, not those named by --cache or --cache-image.")]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the caches: app, size, last use
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the layers of each cache take up
    Du {
        /// Names of images, or folders of apps [default: all]
        app: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove caches: those named, those that are old, or the least recently used
    Prune(PruneCache),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PruneCache {
    /// Names of images, or folders of apps: only their caches
    #[arg(required_unless_present_any = ["older_than", "max_size", "all"])]
    pub(crate) app: Vec<String>,
    /// Only those that no build has used for so long, for example 30d, 12h or 2w
    #[arg(long, value_name = "TIME", value_parser = prune::duration)]
    pub(crate) older_than: Option<Duration>,
    /// The least recently used, until the rest has no more than this, for example 10GB
    #[arg(long, value_name = "SIZE", value_parser = prune::size)]
    pub(crate) max_size: Option<u64>,
    /// All of them
    #[arg(long, conflicts_with_all = ["app", "older_than", "max_size"])]
    pub(crate) all: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
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

/// Understands the type of a file, as in `text/plain` (RFC 6838, section 4.2).
fn media_type(text: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() < 128
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match text.split_once('/') {
        Some((kind, name)) if is_name(kind) && is_name(name) => Ok(text.to_owned()),
        _ => Err("expected a media type, as in application/spdx+json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_two_or_three_parts() {
        let volume = |text: &str| {
            volume(text).map(|v| (v.from.display().to_string(), v.to.display().to_string(), v.is_writable))
        };
        for (text, from, to, is_writable) in [
            ("a:/b", "a", "/b", false),
            ("/a:1:/b/c:rw", "/a:1", "/b/c", true),
            ("a:/platform/bindings/x:ro", "a", "/platform/bindings/x", false),
        ] {
            assert_eq!(volume(text), Ok((from.to_owned(), to.to_owned(), is_writable)), "{text}");
        }
        for bad in
            ["", "a", "a:b", ":/b", "a:/", "a:/b/../c", "a:/cnb/x", "a:/layers", "a:/workspace", "a:/b:rx"]
        {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn media_types_have_two_parts() {
        for good in ["text/plain", "application/vnd.cyclonedx+json", "a/b"] {
            assert_eq!(media_type(good).unwrap(), good);
        }
        for bad in ["", "text", "text/", "/plain", "a/b/c", "a b/c", "text/plain; charset=utf-8", ".a/b"] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
