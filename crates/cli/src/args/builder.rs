//! `strata builder` and `strata buildpack`.

use super::{PLACES, StoreArgs, platform};
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;
use strata_oci::Platform;

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
