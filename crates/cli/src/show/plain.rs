//! Events as lines, one after the other: for pipes, log files, and those who ask for all of it.

use super::printed;
use super::tally;
use super::text::{shown, shown_lines};
use super::view::count;
use super::{DIM, Detail, HEADING, WARNING, bytes, duration, rate};
use std::time::Duration;
use strata_phases::{Event, Level};

/// One or more lines of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Who sees it.
    pub(crate) least: Detail,
    /// Whether it is no part of the result.
    pub(crate) is_aside: bool,
    pub(crate) text: String,
}

/// What there is to say of an event, for those who want so much detail.
pub(crate) fn lines(event: &Event, detail: Detail, columns: usize) -> Vec<Said> {
    let say = |least, text: String| vec![Said { least, is_aside: false, text }];
    let aside = |least, text: String| vec![Said { least, is_aside: true, text }];
    let dim = |text: String| format!("{DIM}{text}{DIM:#}");
    match event {
        Event::PhaseStarted { phase } => {
            say(Detail::Normal, format!("{HEADING}===> {}{HEADING:#}", banner(phase)))
        }
        Event::PhaseFinished { phase, millis } => {
            say(Detail::Verbose, dim(format!("{phase} took {}", duration(*millis))))
        }
        Event::Message { level: Level::Warn, text } => {
            say(Detail::Quiet, format!("{WARNING}Warning:{WARNING:#} {}", shown_lines(text)))
        }
        Event::Message { level: Level::Info, text } => say(Detail::Normal, printed::lines(text)),
        Event::Message { level: Level::Debug | Level::Detail, text } => {
            say(Detail::Verbose, dim(printed::lines(text)))
        }
        Event::Detected { buildpacks, extensions, .. } => {
            let all = || extensions.iter().chain(buildpacks);
            let width = all().map(|b| b.id.len()).max().unwrap_or(0);
            let line = |id: &str, version: &str| format!("{:width$} {}", shown(id), shown(version));
            all().flat_map(|b| say(Detail::Normal, line(&b.id, &b.version))).collect()
        }
        Event::BuildpackFinished { buildpack, millis, .. } => {
            say(Detail::Verbose, dim(format!("{} took {}", shown(buildpack), duration(*millis))))
        }
        Event::Output { buildpack, line } => {
            let line = printed::line(line);
            say(Detail::Normal, format!("{DIM}[{}]{DIM:#} {line}", shown(buildpack)))
        }
        Event::DetectOutput { buildpack, line } => {
            let line = printed::line(line);
            say(Detail::Verbose, format!("{DIM}[{}]{DIM:#} {line}", shown(buildpack)))
        }
        Event::Restored { id, size } => {
            say(Detail::Verbose, dim(format!("restored {} ({} unpacked)", shown(id), bytes(*size))))
        }
        Event::Layer { id, diff_id, size, uncompressed_size, is_reused, .. } => {
            let reused = if *is_reused { ", reused" } else { "" };
            let unpacked = uncompressed_size.map(|size| format!(" ({} unpacked)", bytes(size)));
            let sizes = dim(format!("{}{}{reused}", bytes(*size), unpacked.unwrap_or_default()));
            let mut said = say(Detail::Normal, format!("{:44} {sizes}", shown(id)));
            said.extend(say(Detail::Verbose, dim(format!("  diffID {diff_id}"))));
            said
        }
        // Others see it in the summary.
        Event::Image { digest, .. } if detail == Detail::Quiet => say(Detail::Quiet, digest.clone()),
        Event::Summary(summary) => {
            let mut said = say(Detail::Normal, format!("{HEADING}===> {}{HEADING:#}", banner("summary")));
            said.extend(
                tally::lines(summary, columns).into_iter().flat_map(|line| say(Detail::Normal, line)),
            );
            said
        }
        Event::TransferStarted { from, to, blobs, size } => {
            let sizes = if *size == 0 { String::new() } else { format!(", {}", bytes(*size)) };
            aside(
                Detail::Normal,
                match from {
                    // A file, which has no layers.
                    Some(from) if *blobs == 0 => format!("Fetching {}", shown(from)),
                    Some(from) => format!("Fetching {}{sizes} from {}", count(*blobs, "layer"), shown(from)),
                    None => format!("Copying {}{sizes} to {}", count(*blobs, "blob"), shown(to)),
                },
            )
        }
        Event::Blob { digest, size, how } => {
            aside(Detail::Verbose, dim(format!("  {how:7} {:>9}  {digest}", bytes(*size))))
        }
        Event::Progress { done, size, rate, .. } => {
            let of = if *size == 0 { String::new() } else { format!(" of {}", bytes(*size)) };
            aside(Detail::Normal, format!("  {}{of}, {}/s", bytes(*done), bytes(*rate)))
        }
        Event::Copied { .. } => copied(event, detail),
        // What was changed comes as a message, too. The program prints the failure that it ends with, once.
        _ => Vec::new(),
    }
}

fn copied(event: &Event, detail: Detail) -> Vec<Said> {
    use crate::show::GOOD;
    let Event::Copied { from, to, digest, image_id, artifacts, moved, millis, .. } = event else {
        return Vec::new();
    };
    let said = |least, text| Said { least, is_aside: false, text };
    if detail == Detail::Quiet {
        return vec![said(Detail::Quiet, image_id.as_ref().unwrap_or(digest).clone())];
    }
    let rate = bytes(rate(*moved, Duration::from_millis(*millis)));
    let mut lines = vec![format!("{GOOD}Image{GOOD:#}   {} is now {}", shown(from), shown(to))];
    // Nobody finds the digest of a manifest in Docker. With what is before it, no digest is more than 80 columns.
    lines.extend(match image_id {
        None => vec![format!("digest  {digest}")],
        Some(id) => vec![format!("id      {id}"), format!("copy of {digest}")],
    });
    if *artifacts > 0 {
        lines.push(format!("beside  {artifacts} that refer to it"));
    }
    lines.push(format!("moved   {} in {}, {rate}/s", bytes(*moved), duration(*millis)));
    lines.into_iter().map(|text| said(Detail::Normal, text)).collect()
}

fn banner(phase: &str) -> String {
    match phase {
        "analyze" => "ANALYZING",
        "detect" => "DETECTING",
        "restore" => "RESTORING",
        "build" => "BUILDING",
        "export" => "EXPORTING",
        "cache" => "CACHING",
        other => return shown(other).to_uppercase(),
    }
    .to_owned()
}
