//! `strata cache`.

use clap::{Args as ClapArgs, Subcommand};
use std::time::Duration;
use strata_decide::prune;

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
