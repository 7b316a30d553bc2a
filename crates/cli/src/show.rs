//! What a person or a program sees of a build.

use crate::args::ShowArgs;
use crate::text::shown_lines;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strata_phases::{Event, Failure, Level, Observer};
use strata_spec::exit::Exit;

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

const MEASURED: &str = "  {decimal_bytes} of {decimal_total_bytes}  {msg}  [{wide_bar}] {eta}";
const UNMEASURED: &str = "  {spinner} {decimal_bytes}  {msg}  {elapsed}";
/// Between two looks at a transfer: on a terminal, for a program, in a log.
const DRAWN: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(1);
const WRITTEN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Quiet,
    Normal,
    Verbose,
}

/// Where a program can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Shows events as they happen.
pub(crate) struct Show {
    out: Mutex<Box<dyn Write + Send>>,
    /// Where one sees how a transfer goes on, which is no part of the result. Events of a program stay together.
    aside: Mutex<Box<dyn Write + Send>>,
    json: bool,
    detail: Detail,
    /// A line of the terminal that is drawn again and again.
    bar: Mutex<Option<ProgressBar>>,
}

impl Show {
    pub(crate) fn new(args: &ShowArgs, stream: Stream) -> Self {
        let choice = if args.no_color { ColorChoice::Never } else { ColorChoice::Auto };
        let detail = match (args.quiet, args.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        };
        let writer = |stream| -> Mutex<Box<dyn Write + Send>> {
            Mutex::new(match stream {
                Stream::Out => Box::new(AutoStream::new(std::io::stdout(), choice)),
                Stream::Err => Box::new(AutoStream::new(std::io::stderr(), choice)),
            })
        };
        let (out, aside) = (writer(stream), writer(Stream::Err));
        Self { out, aside, json: args.json, detail, bar: Mutex::default() }
    }

    fn line(&self, least: Detail, text: &str) {
        self.write(&self.out, least, text);
    }

    fn aside(&self, least: Detail, text: &str) {
        self.write(&self.aside, least, text);
    }

    fn write(&self, to: &Mutex<Box<dyn Write + Send>>, least: Detail, text: &str) {
        if self.detail < least {
            return;
        }
        let write = || {
            let mut out = to.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever reads the output may have gone; the build goes on.
            writeln!(out, "{text}").and_then(|()| out.flush()).unwrap_or_default();
        };
        match &*self.bar() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a transfer is to be looked at: often where it is drawn, seldom where each look is a line.
    pub(crate) fn pace(&self) -> Duration {
        match (&*self.bar(), self.json) {
            (Some(_), _) => DRAWN,
            (None, true) => TOLD,
            (None, false) => WRITTEN,
        }
    }

    /// Draws how far a transfer is, from now on, if there is a terminal and somebody wants to see it.
    fn draw(&self, size: u64) {
        if self.json || self.detail < Detail::Normal || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = if size == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(size) };
        let template = if size == 0 { UNMEASURED } else { MEASURED };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        *self.bar() = Some(bar.with_style(style.progress_chars("=> ")));
    }

    fn progress(&self, done: u64, size: u64, rate: u64) {
        if let Some(bar) = &*self.bar() {
            // A daemon is sent other bytes than were read.
            if size > 0 && bar.length() != Some(size) {
                bar.set_length(size);
            }
            bar.set_position(done);
            return bar.set_message(format!("{}/s", bytes(rate)));
        }
        let of = if size == 0 { String::new() } else { format!(" of {}", bytes(size)) };
        self.aside(Detail::Normal, &format!("  {}{of}, {}/s", bytes(done), bytes(rate)));
    }

    /// Takes the line of the terminal away again.
    pub(crate) fn end_transfer(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    fn image(&self, names: &[String], digest: &str, size: u64, process: Option<&str>) {
        if self.detail == Detail::Quiet {
            return self.line(Detail::Quiet, digest);
        }
        self.line(Detail::Normal, &format!("{GOOD}Image{GOOD:#} {}", names.join(", ")));
        self.line(Detail::Normal, &format!("  digest   {digest}"));
        self.line(Detail::Normal, &format!("  size     {}", bytes(size)));
        match process {
            Some(kind) => self.line(Detail::Normal, &format!("  starts   {kind}")),
            None => self.line(Detail::Normal, "  starts   nothing by default: no default process"),
        }
    }
}

impl Observer for Show {
    fn event(&self, event: Event) {
        if self.json {
            if let Ok(text) = serde_json::to_string(&event) {
                self.line(Detail::Quiet, &text);
            }
            return;
        }
        match event {
            Event::PhaseStarted { phase } => {
                let banner = match phase.as_str() {
                    "analyze" => "ANALYZING",
                    "detect" => "DETECTING",
                    "restore" => "RESTORING",
                    "build" => "BUILDING",
                    "export" => "EXPORTING",
                    "cache" => "CACHING",
                    other => other,
                };
                self.line(Detail::Normal, &format!("{HEADING}===> {banner}{HEADING:#}"));
            }
            Event::PhaseFinished { phase, millis } => {
                self.line(Detail::Verbose, &format!("{DIM}{phase} took {}{DIM:#}", duration(millis)));
            }
            Event::Message { level: Level::Warn, text } => {
                self.line(Detail::Quiet, &format!("{WARNING}Warning:{WARNING:#} {}", shown_lines(&text)));
            }
            Event::Message { level: Level::Info, text } => self.line(Detail::Normal, &text),
            Event::Message { level: Level::Debug | Level::Detail, text } => {
                self.line(Detail::Verbose, &format!("{DIM}{text}{DIM:#}"));
            }
            Event::Detected { buildpacks, .. } => {
                let width = buildpacks.iter().map(|b| b.id.len()).max().unwrap_or(0);
                for b in &buildpacks {
                    self.line(Detail::Normal, &format!("{:width$} {}", b.id, b.version));
                }
            }
            // What was changed comes as a message, too.
            Event::BuildpackStarted { .. } | Event::NothingDetected { .. } | Event::Changed { .. } => {}
            Event::BuildpackFinished { buildpack, millis } => {
                self.line(Detail::Verbose, &format!("{DIM}{buildpack} took {}{DIM:#}", duration(millis)));
            }
            Event::Output { buildpack, line } => {
                self.line(Detail::Normal, &format!("{DIM}[{buildpack}]{DIM:#} {line}"));
            }
            Event::Layer { id, diff_id, size, uncompressed_size, .. } => {
                let sizes = format!("{} ({} unpacked)", bytes(size), bytes(uncompressed_size));
                self.line(Detail::Normal, &format!("{id:44} {DIM}{sizes}{DIM:#}"));
                self.line(Detail::Verbose, &format!("{DIM}  diffID {diff_id}{DIM:#}"));
            }
            Event::Image { names, digest, size, process } => {
                self.image(&names, &digest, size, process.as_deref());
            }
            Event::TransferStarted { to, blobs, size } => {
                let sizes = if size == 0 { String::new() } else { format!(", {}", bytes(size)) };
                self.aside(Detail::Normal, &format!("Copying {blobs} blobs{sizes} to {to}"));
                self.draw(size);
            }
            Event::Blob { digest, size, how } => {
                self.aside(Detail::Verbose, &format!("{DIM}  {how:7} {:>9}  {digest}{DIM:#}", bytes(size)));
            }
            Event::Progress { done, size, rate, .. } => self.progress(done, size, rate),
            Event::Copied { from, to, digest, artifacts, moved, millis } => {
                if self.detail == Detail::Quiet {
                    return self.line(Detail::Quiet, &digest);
                }
                self.line(Detail::Normal, &format!("{GOOD}Image{GOOD:#} {from} is now {to}"));
                self.line(Detail::Normal, &format!("  digest   {digest}"));
                if artifacts > 0 {
                    self.line(Detail::Normal, &format!("  beside   {artifacts} that refer to it"));
                }
                let rate = bytes(rate(moved, Duration::from_millis(millis)));
                let moved = format!("{} in {}, {rate}/s", bytes(moved), duration(millis));
                self.line(Detail::Normal, &format!("  moved    {moved}"));
            }
            // The program prints the failure that it ends with, once.
            Event::Failed(_) => {}
        }
    }
}

/// Prints a failure for people, on standard error.
pub(crate) fn failure(failure: &Failure) {
    let mut err = AutoStream::auto(std::io::stderr());
    // What failed is often a file of somebody else's, and causes cite it.
    let mut text = format!("{ERROR}ERROR:{ERROR:#} {}", shown_lines(&failure.message));
    for cause in &failure.causes {
        text.push_str("\n  cause: ");
        text.push_str(&shown_lines(cause));
    }
    if let Some(hint) = &failure.hint {
        text.push_str("\nHint: ");
        text.push_str(&shown_lines(hint));
    }
    // There is nowhere left to complain to.
    writeln!(err, "{text}").unwrap_or_default();
}

/// Prints one line to standard output.
pub(crate) fn print(text: &str) {
    let mut out = AutoStream::auto(std::io::stdout());
    // Whoever reads the output may have gone.
    writeln!(out, "{text}").unwrap_or_default();
}

/// Prints a document to standard output, where the half of one must not pass for the whole.
pub(crate) fn document(text: &str, what: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the output has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused(Exit::Other, format!("cannot print {what}"), &error))
        }
        _ => Ok(()),
    }
}

/// Prints one line to standard error.
pub(crate) fn print_err(text: &str) {
    let mut err = AutoStream::auto(std::io::stderr());
    // Whoever reads it may have gone.
    writeln!(err, "{text}").unwrap_or_default();
}

/// Bytes a second.
pub(crate) fn rate(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    // Of two numbers that fit.
    u64::try_from(u128::from(count) * 1000 / millis).unwrap_or(u64::MAX)
}

/// Milliseconds for people.
fn duration(millis: u64) -> String {
    if millis < 1000 {
        return format!("{millis} ms");
    }
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// Bytes for people, in powers of 1000.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut scaled = count;
    let mut tenths = 0;
    let mut unit = "B";
    for next in units {
        if scaled < 1000 {
            break;
        }
        tenths = scaled % 1000 / 100;
        scaled /= 1000;
        unit = next;
    }
    if unit == "B" { format!("{scaled} B") } else { format!("{scaled}.{tenths} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_550), "1.5 kB");
        assert_eq!(bytes(2_000_000_000), "2.0 GB");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(12_345), "12.3 s");
        assert_eq!(rate(3_000_000, Duration::from_millis(1500)), 2_000_000);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
