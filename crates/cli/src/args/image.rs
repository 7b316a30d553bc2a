//! What is done with images that are there.

use super::{Beside, PLACES, ShowArgs, StoreArgs, platform};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;
use strata_decide::annotation;
use strata_oci::Platform;
use strata_spec::launch::Label;

/// Run an image in a sandbox
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  strata run web --env PORT=9000\n\nThe network is this machine's. The exit code is the process's own; 3 when the image cannot be opened, 82 when it could not be started."
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
told, and 3 when there is no such image or layer, or it cannot be opened."))]
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
Exit codes: 0 they are one image, 1 they are not, 2 that cannot be told, 3 one cannot be opened."))]
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
What refers to the image comes along: SBOMs, signatures, reports.\n\
OCI archives, and folders without a tag, get reports and Strata's SBOMs with 'always' only.\n\
Docker's daemons and archives have room for reports only. A daemon's are kept on this\n\
machine, and with --origins always in the daemon, too."))]
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

/// Put a newer run image below an image, without building it again
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\n\
The image takes the place of what it was. Its own layers stay as they are, and are neither read nor sent\n\
where they are there; the report beside it is carried on, and its bill of materials made anew. Signatures\n\
are of the image before. Archives are not changed where they are."))]
pub(crate) struct Rebase {
    /// Name of the image
    pub(crate) name: String,
    /// The new run image [default: the one that the image names, as it is now]
    #[arg(long, value_name = "REF")]
    pub(crate) run_image: Option<String>,
    /// Also where something speaks against it: another system, or an image that is not made to be rebased
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// Prove that an image is whole and consistent
#[derive(Debug, ClapArgs)]
#[command(after_help = format!("{PLACES}\n\nEvery blob is read. Exit codes: 0 nothing is wrong, 1 something is, 3 the image cannot be opened."))]
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
    fn media_types_have_two_parts() {
        for good in ["text/plain", "application/vnd.cyclonedx+json", "a/b"] {
            assert_eq!(media_type(good).unwrap(), good);
        }
        for bad in ["", "text", "text/", "/plain", "a/b/c", "a b/c", "text/plain; charset=utf-8", ".a/b"] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
    }
}
