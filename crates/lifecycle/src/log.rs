//! What a platform sees: lines on standard output, errors included, as platforms expect them there.
//!
//! Colors are on unless they are turned off, terminal or not: platforms pass the log on to one. Turning them off takes
//! them out of what buildpacks say, too.

use anstream::adapter::StripBytes;
use jiff::Zoned;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use strata_decide::inputs::value::GoDuration;
use strata_phases::{Event, Failure, Level, Observer};

const YELLOW_BOLD: &str = "\x1b[33;1m";
const RED_BOLD: &str = "\x1b[31;1m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// The least level of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Threshold {
    Debug,
    Info,
    Warn,
    Error,
    /// Nothing is that grave: not even the error that ends the phase is told.
    Fatal,
}

impl Threshold {
    /// Reads a level in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }

    fn of(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Detail | Level::Info => Self::Info,
            Level::Warn => Self::Warn,
        }
    }
}

/// Writes the log.
pub(crate) struct Logger {
    out: Mutex<Out>,
    threshold: Threshold,
}

struct Out {
    writer: Box<dyn Write + Send>,
    /// Takes colors out, also of sequences that come in two pieces.
    strip: Option<StripBytes>,
}

impl Logger {
    /// Writes everything, with colors, to standard output.
    pub(crate) fn to_stdout() -> Self {
        Self::new(Box::new(io::stdout()))
    }

    fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { out: Mutex::new(Out { writer, strip: None }), threshold: Threshold::Debug }
    }

    /// Takes colors out of all that follows.
    pub(crate) fn without_colors(&mut self) {
        self.out.get_mut().unwrap_or_else(PoisonError::into_inner).strip = Some(StripBytes::new());
    }

    /// Sets what is written.
    pub(crate) fn set_threshold(&mut self, threshold: Threshold) {
        self.threshold = threshold;
    }

    fn write(&self, bytes: &[u8]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let Out { writer, strip } = &mut *out;
        let written = match strip {
            Some(strip) => strip.strip_next(bytes).try_for_each(|part| writer.write_all(part)),
            None => writer.write_all(bytes),
        };
        // Whoever reads the log may have gone; the phase goes on.
        written.and_then(|()| writer.flush()).unwrap_or_default();
    }

    fn line(&self, threshold: Threshold, prefix: &str, text: &str) {
        if threshold >= self.threshold {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            self.write(format!("{prefix}{text}{end}").as_bytes());
        }
    }

    /// Says that something failed.
    pub(crate) fn error(&self, text: &str) {
        self.line(Threshold::Error, &format!("{RED_BOLD}ERROR: {RESET}"), text);
    }

    /// Says why the program ends, and what one can do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.error(&failure.chain());
        if let Some(hint) = &failure.hint {
            self.line(Threshold::Error, "", &format!("Hint: {hint}"));
        }
    }

    /// Says that a phase begins; only the creator does. The name is `ANALYZING` and so on.
    pub(crate) fn phase(&self, name: &str) {
        self.line(Threshold::Info, "", &format!("{CYAN}===> {name}{RESET}"));
    }

    /// Says at debug level that something begins, and, when the result is dropped, how long it took.
    pub(crate) fn timer(&self, name: impl Into<String>) -> Timer<'_> {
        let name = name.into();
        self.debug_at(|now| format!("Timer: {name} started at {now}"));
        Timer { log: self, name, start: Instant::now() }
    }

    /// Says at debug level what `text` makes of the time. Else the time zone is not even looked up: that can take longer
    /// than the phase.
    fn debug_at(&self, text: impl FnOnce(&str) -> String) {
        if Threshold::Debug >= self.threshold {
            self.debug(text(&local_time(&Zoned::now())));
        }
    }
}

impl Observer for Logger {
    fn event(&self, event: Event) {
        match event {
            Event::Message { level: Level::Warn, text } => {
                self.line(Threshold::Warn, &format!("{YELLOW_BOLD}Warning: {RESET}"), &text);
            }
            Event::Message { level, text } => self.line(Threshold::of(level), "", &text),
            Event::Output { line, .. } => self.write(format!("{line}\n").as_bytes()),
            Event::Detected { buildpacks, extensions, tried } => {
                let all = || extensions.iter().chain(&buildpacks);
                if all().count() != tried {
                    self.detail(format!("{} of {tried} buildpacks participating", all().count()));
                }
                let width = all().map(|module| module.id.len()).max().unwrap_or(0);
                for module in all() {
                    self.detail(format!("{:width$} {}", module.id, module.version));
                }
            }
            Event::NothingDetected { has_error, .. } => {
                self.error("No buildpack groups passed detection.");
                if !has_error {
                    self.error("Please check that you are running against the correct path.");
                }
            }
            Event::ExtensionStarted { extension } => {
                self.debug(format!("Running generate for extension {extension}"));
            }
            Event::ExtensionFinished { extension, .. } => {
                self.debug(format!("Finished running generate for extension {extension}"));
            }
            Event::BuildpackStarted { buildpack } => {
                self.debug(format!("Running build for buildpack {buildpack}"));
            }
            Event::BuildpackFinished { buildpack, .. } => {
                self.debug(format!("Finished running build for buildpack {buildpack}"));
            }
            _ => {}
        }
    }

    fn output(&self, bytes: &[u8]) -> bool {
        self.write(bytes);
        true
    }
}

/// Says how long something took, when it is dropped.
pub(crate) struct Timer<'a> {
    log: &'a Logger,
    name: String,
    start: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let took = GoDuration::from(self.start.elapsed());
        self.log.debug_at(|now| format!("Timer: {} ran for {took} and ended at {now}", self.name));
    }
}

/// A time as RFC 3339 has it, to the second.
fn local_time(time: &Zoned) -> String {
    let zone = if time.offset().is_zero() { "Z" } else { "%:z" };
    time.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use strata_spec::exit::Exit;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(prepare: impl FnOnce(&mut Logger), say: impl FnOnce(&Logger)) -> String {
        let buffer = Buffer::default();
        let mut log = Logger::new(Box::new(buffer.clone()));
        prepare(&mut log);
        say(&log);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn say_all(log: &Logger) {
        log.debug("d".into());
        log.detail("l".into());
        log.info("i\n".into());
        log.warn("w".into());
        log.error("e");
        log.event(Event::Output { buildpack: "b@1".into(), line: "\x1b[1mo\x1b[0m".into() });
    }

    #[test]
    fn lines_have_the_prefixes_and_colors_of_their_level() {
        let expected = "d\nl\ni\n\x1b[33;1mWarning: \x1b[0mw\n\x1b[31;1mERROR: \x1b[0me\n\x1b[1mo\x1b[0m\n";
        assert_eq!(logged(|_| (), say_all), expected);
    }

    #[test]
    fn colors_are_taken_out_of_everything() {
        assert_eq!(logged(Logger::without_colors, say_all), "d\nl\ni\nWarning: w\nERROR: e\no\n");
        let in_pieces = |log: &Logger| {
            assert!(log.output(b"a\x1b[3"));
            assert!(log.output(b"1mb"));
        };
        assert_eq!(logged(Logger::without_colors, in_pieces), "ab");
    }

    #[test]
    fn what_is_below_the_threshold_is_not_written_but_buildpacks_are_heard() {
        for (level, expected) in [
            ("info", "l\ni\nWarning: w\nERROR: e\no\n"),
            ("Warning", "Warning: w\nERROR: e\no\n"),
            ("ERROR", "ERROR: e\no\n"),
            ("fatal", "o\n"),
        ] {
            let prepare = |log: &mut Logger| {
                log.without_colors();
                log.set_threshold(Threshold::parse(level).unwrap());
            };
            assert_eq!(logged(prepare, say_all), expected, "{level}");
        }
        assert_eq!(Threshold::parse(""), None);
        assert_eq!(Threshold::parse("trace"), None);
    }

    #[test]
    fn a_failure_comes_with_its_cause_and_its_hint() {
        let failure = Failure::caused(Exit::Other, "failed to do", &io::Error::other("cause")).hint("try");
        let text = logged(Logger::without_colors, |log| log.failure(&failure));
        assert_eq!(text, "ERROR: failed to do: cause\nHint: try\n");
    }

    #[test]
    fn a_timer_says_at_debug_level_when_it_starts_and_ends() {
        let text = logged(|_| (), |log| drop(log.timer("Saving app...")));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Timer: Saving app... started at 2"), "{text}");
        assert!(lines[1].starts_with("Timer: Saving app... ran for "), "{text}");
        assert!(lines[1].contains("s and ended at 2"), "{text}");
        let quiet = |log: &mut Logger| log.set_threshold(Threshold::Info);
        assert_eq!(logged(quiet, |log| drop(log.timer("x"))), "");
    }

    #[test]
    fn times_are_local_and_to_the_second() {
        for (zone, expected) in [("UTC", "2024-05-06T07:08:09Z"), ("Etc/GMT-2", "2024-05-06T09:08:09+02:00")]
        {
            let hours = if zone == "UTC" { 0 } else { 2 };
            let zone = jiff::tz::Offset::constant(hours).to_time_zone();
            let time: jiff::Timestamp = "2024-05-06T07:08:09.5Z".parse().unwrap();
            assert_eq!(local_time(&time.to_zoned(zone)), expected);
        }
    }
}
