//! The live view of a build: what is known of it, what is drawn of that, and what stays on the terminal.
//!
//! Nothing here draws or reads a clock. Events come with the time since the program began; out of them come lines that
//! stay, and, at any time, the lines of a frame that is drawn again and again below them.

mod frame;
mod screen;
#[cfg(test)]
mod tests;

use crate::show::printed::{fit, start};
use crate::show::text::shown;
use crate::show::{DIM, ERROR, GOOD, bytes, duration, rate};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use strata_phases::{Event, Failure};
use strata_spec::exit::Exit;

pub(crate) use screen::{Screen, Size};

/// How many lines of a buildpack's output are kept for the case that it fails.
const TAIL: usize = 500;
/// How many characters of each.
const LONGEST: usize = 4000;

/// A build, or a copy, as far as it is.
#[derive(Debug, Default)]
pub(crate) struct View {
    phases: Vec<Phase>,
    /// The buildpacks that are yet to come.
    next: VecDeque<String>,
    /// How many buildpacks take part.
    group: usize,
    running: Option<Running>,
    /// What was said last while buildpacks detect.
    detecting: VecDeque<String>,
    transfer: Option<Transfer>,
    /// By buildpack, how many layers were restored.
    restored: BTreeMap<String, usize>,
    restored_size: u64,
    /// Layers of the image so far: all, and those that are reused.
    layers: (usize, usize),
    /// When the last phase was over.
    idle: Duration,
    /// Whether nothing follows.
    is_over: bool,
}

#[derive(Debug)]
struct Phase {
    name: String,
    started: Duration,
    /// Milliseconds, once it is over.
    took: Option<u64>,
}

/// The buildpack whose turn it is.
#[derive(Debug)]
struct Running {
    label: String,
    started: Duration,
    lines: VecDeque<String>,
    so_far: Option<String>,
    /// Lines that are no longer kept.
    dropped: usize,
}

#[derive(Debug)]
struct Transfer {
    title: String,
    started: Duration,
    size: u64,
    done: u64,
    rate: u64,
}

impl View {
    /// Takes an event in, and gives lines that stay on a terminal of so many columns.
    pub(crate) fn take(&mut self, event: &Event, now: Duration, columns: usize) -> Vec<String> {
        match event {
            Event::PhaseStarted { phase } => {
                self.phases.push(Phase { name: phase.clone(), started: now, took: None });
                Vec::new()
            }
            Event::PhaseFinished { phase, millis } => {
                self.idle = now;
                self.detecting.clear();
                let found = self.phases.iter_mut().rev().find(|one| one.name == *phase);
                found.into_iter().for_each(|one| one.took = Some(*millis));
                let note = self.note(phase);
                vec![done("", phase, *millis, &note, columns)]
            }
            Event::Detected { buildpacks, .. } => {
                self.group = buildpacks.len();
                self.next = buildpacks.iter().map(strata_spec::group::GroupElement::label).collect();
                Vec::new()
            }
            Event::Restored { id, size } => {
                let buildpack = id.rsplit_once(':').map_or("", |(buildpack, _)| buildpack);
                *self.restored.entry(buildpack.to_owned()).or_default() += 1;
                self.restored_size = self.restored_size.saturating_add(*size);
                Vec::new()
            }
            Event::DetectOutput { buildpack, line } => {
                self.detecting.push_back(format!("{DIM}[{}]{DIM:#} {}", shown(buildpack), short(line)));
                if self.detecting.len() > frame::WINDOW {
                    self.detecting.pop_front();
                }
                Vec::new()
            }
            Event::BuildpackStarted { buildpack } => {
                self.next.retain(|next| next != buildpack);
                self.running = Some(Running::new(buildpack, now));
                Vec::new()
            }
            Event::Output { line, .. } => {
                self.running.iter_mut().for_each(|running| running.push(line));
                Vec::new()
            }
            Event::OutputSoFar { line: text, .. } => {
                self.running.iter_mut().for_each(|running| running.so_far = Some(short(text)));
                Vec::new()
            }
            Event::BuildpackFinished { buildpack, millis, layers } => {
                self.running = None;
                let id = buildpack.split_once('@').map_or(&**buildpack, |(id, _)| id);
                let restored = self.restored.get(id).copied().unwrap_or_default();
                let note = match (layers.len(), restored) {
                    (0, _) => String::new(),
                    (all, 0) => count(all, "layer"),
                    (all, restored) => format!("{}, {restored} restored", count(all, "layer")),
                };
                vec![done("  ", &buildpack.replace('@', " "), *millis, &note, columns)]
            }
            Event::Layer { is_reused, .. } => {
                self.layers.0 += 1;
                self.layers.1 += usize::from(*is_reused);
                Vec::new()
            }
            Event::Failed(failure) => self.failed(failure, now, columns),
            Event::Summary(_) => {
                self.is_over = true;
                Vec::new()
            }
            event => self.take_transfer(event, now, columns),
        }
    }

    /// Whether there was a phase.
    pub(crate) fn has_begun(&self) -> bool {
        !self.phases.is_empty()
    }

    fn take_transfer(&mut self, event: &Event, now: Duration, columns: usize) -> Vec<String> {
        match event {
            Event::TransferStarted { from, to, size, .. } => {
                let title = match from {
                    Some(from) => format!("fetch {}", shown(from)),
                    None => format!("copy to {}", shown(to)),
                };
                self.transfer = Some(Transfer { title, started: now, size: *size, done: 0, rate: 0 });
            }
            Event::Progress { done, size, rate, .. } => {
                if let Some(transfer) = &mut self.transfer {
                    (transfer.done, transfer.size, transfer.rate) = (*done, *size, *rate);
                }
            }
            Event::TransferFinished { moved, millis } => {
                let Some(Transfer { title, .. }) = self.transfer.take() else { return Vec::new() };
                let rate = rate(*moved, Duration::from_millis(*millis));
                let note = match moved {
                    0 => String::new(),
                    moved => format!("{}, {}/s", bytes(*moved), bytes(rate)),
                };
                return vec![done("", &title, *millis, &note, columns)];
            }
            _ => {}
        }
        Vec::new()
    }

    /// What there is to say of a phase that is over.
    fn note(&self, phase: &str) -> String {
        match phase {
            "detect" => count(self.group, "buildpack"),
            "restore" => match self.restored.values().sum() {
                0 => String::new(),
                all => format!("{}, {}", count(all, "layer"), bytes(self.restored_size)),
            },
            "export" => {
                let (all, reused) = self.layers;
                if reused == 0 {
                    count(all, "layer")
                } else {
                    format!("{}, {reused} reused", count(all, "layer"))
                }
            }
            _ => String::new(),
        }
    }

    /// All that the buildpack said whose turn it is, as lines that stay. It is given once.
    pub(crate) fn give_output(&mut self) -> Vec<String> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let dropped = std::mem::take(&mut running.dropped);
        let before = (dropped > 0).then(|| format!("{DIM}  … {} before{DIM:#}", count(dropped, "line")));
        let said = running.lines.drain(..).chain(running.so_far.take());
        before.into_iter().chain(said.map(|line| format!("  {line}"))).collect()
    }

    /// What was said last stays; of a build that somebody stopped, nobody asks why.
    fn failed(&mut self, failure: &Failure, now: Duration, columns: usize) -> Vec<String> {
        self.transfer = None;
        self.detecting.clear();
        let is_stopped = failure.exit == Exit::Interrupted;
        let what = match (&self.running, self.phases.last()) {
            (Some(running), _) => Some((running.label.replace('@', " "), running.started)),
            (None, Some(phase)) if phase.took.is_none() => Some((phase.name.clone(), phase.started)),
            _ => None,
        };
        let mut lines = Vec::new();
        if let Some((name, started)) = what {
            let time = millis(now.saturating_sub(started));
            lines.push(row(&format!("{ERROR}✗{ERROR:#} "), &name, time, "", columns));
        }
        if !is_stopped {
            lines.extend(self.give_output());
        }
        self.running = None;
        self.is_over = true;
        lines
    }
}

impl Running {
    fn new(label: &str, started: Duration) -> Self {
        let (lines, so_far) = (VecDeque::new(), None);
        Self { label: label.to_owned(), started, lines, so_far, dropped: 0 }
    }

    fn push(&mut self, text: &str) {
        self.so_far = None;
        self.lines.push_back(short(text));
        if self.lines.len() > TAIL {
            self.lines.pop_front();
            self.dropped += 1;
        }
    }
}

/// A line of output, not endless.
fn short(text: &str) -> String {
    start(text, LONGEST)
}

/// A line for what is done.
fn done(indent: &str, name: &str, millis: u64, note: &str, columns: usize) -> String {
    row(&format!("{indent}{GOOD}✓{GOOD:#} "), name, millis, note, columns)
}

/// A sign, a name, a time and a note; where there is no room for all, the note goes first.
fn row(sign: &str, name: &str, millis: u64, note: &str, columns: usize) -> String {
    const NAME: usize = 42;
    const TIME: usize = 9;
    const NOTE: usize = 24;
    let time = duration(millis);
    let room = columns.saturating_sub(1);
    let is_wide = room >= 2 + NAME + TIME + 2 + NOTE;
    let width = if is_wide { NAME } else { room.saturating_sub(2 + TIME).min(NAME) };
    let width = (width + 2).saturating_sub(crate::show::printed::width(sign));
    let name = shown(name);
    let name = crate::show::text::cut(&name, width);
    let fill = " ".repeat(width.saturating_sub(crate::show::printed::width(&name)));
    let note = if is_wide && !note.is_empty() { format!("  {DIM}{note}{DIM:#}") } else { String::new() };
    fit(&format!("{sign}{name}{fill}{time:>TIME$}{note}"), room)
}

/// A number of things.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
