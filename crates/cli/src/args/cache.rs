//! `strata cache`.

use clap::{Args as ClapArgs, Subcommand};
use std::time::Duration;
use strata_decide::prune;

/// Show what builds have kept for those to come, and remove what is old
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  \
    strata cache du                          what the layers of each cache take up\n  \
    strata cache prune                       those unused for 30 days\n  \
    strata cache prune web --dry-run         what would be removed of one app\n\n\
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
    /// Remove caches: those that are old, those named, or the least recently used
    Prune(PruneCache),
}

/// What is old, where nobody says.
const OLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl PruneCache {
    /// Since when caches are to be unused that go.
    pub(crate) fn limit(&self) -> Option<Duration> {
        let is_asked = self.all || self.max_size.is_some() || !self.app.is_empty();
        self.older_than.or(Some(OLD).filter(|_| !is_asked))
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PruneCache {
    /// Names of images, or folders of apps: only their caches
    pub(crate) app: Vec<String>,
    /// Only those that no build has used for so long, for example 12h or 2w
    /// [default: 30d, if nothing else is asked for]
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
