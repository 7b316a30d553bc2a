//! What a person or a program sees of a build.
//!
//! There are three ways: events as JSON, lines one after the other (`plain`), and, on a terminal, a live view (`view`).

mod kept;
mod plain;
mod printed;
mod tally;
pub(crate) mod text;
pub(crate) mod transfer;
mod units;
pub(crate) mod view;

pub(crate) use kept::Log;
use plain::Said;
use tally::Tally;
use text::{brief, shown_lines};
use view::{Screen, Size, View};

use crate::args::ShowArgs;
use crate::interrupt::Interrupt;
use crate::places::Places;
use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use strata_phases::summary::Summary;
use strata_phases::{Event, Failure, Level, Observer};
use strata_spec::exit::Exit;

pub(crate) use units::{BUSY, DIM, ERROR, GOOD, HEADING, WARNING, bytes, duration, rate};

/// Between two looks at a transfer: on a terminal, for a program, in a log.
const DRAWN: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(1);
const WRITTEN: Duration = Duration::from_secs(10);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
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

/// What is drawn on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    /// A whole build, unless more or less than usual is asked for.
    Build,
    /// The same for one of many builds, of which only failures and warnings stay.
    Again,
    /// Transfers only.
    Transfers,
}

/// Shows events as they happen.
pub(crate) struct Show {
    state: Arc<Mutex<State>>,
    json: bool,
    started: Instant,
}

struct State {
    out: Box<dyn Write + Send>,
    /// Where one sees how a transfer goes on, which is no part of the result. Events of a program stay together.
    aside: Box<dyn Write + Send>,
    detail: Detail,
    screen: Option<Screen>,
    /// Whether the screen shows a whole build, and nothing is written elsewhere.
    is_live: bool,
    /// Whether only failures and warnings stay.
    is_again: bool,
    view: View,
    tally: Tally,
    log: Option<Log>,
    /// Whether a phase was begun, where nothing is drawn.
    has_begun: bool,
    interrupt: Option<Interrupt>,
    /// The user's home, which a terminal has no room for.
    home: Option<PathBuf>,
    started: Instant,
}

impl Show {
    pub(crate) fn new(args: &ShowArgs, stream: Stream, drawn: Drawn, places: &Places) -> Self {
        if args.no_color {
            // For what is written past this, too: the failure in the end.
            ColorChoice::Never.write_global();
        }
        let is_dumb = places.variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_again = drawn == Drawn::Again && !args.verbose && !args.quiet;
        let is_drawn_again = is_again && !is_dumb && is_terminal(stream);
        let detail = match (args.quiet || is_again && !is_drawn_again, args.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        };
        let may_draw = !args.json && !is_dumb && detail != Detail::Quiet;
        let draws = |stream| may_draw && is_terminal(stream);
        let is_live = drawn != Drawn::Transfers && detail == Detail::Normal && draws(stream);
        let screen = if is_live { Some(stream) } else { Some(Stream::Err).filter(|aside| draws(*aside)) };
        let started = Instant::now();
        let state = Arc::new(Mutex::new(State {
            out: writer(stream),
            aside: writer(Stream::Err),
            detail,
            screen: screen.map(self::screen),
            is_live,
            is_again,
            view: View::default(),
            tally: Tally::default(),
            log: None,
            has_begun: false,
            interrupt: None,
            home: places.home().map(Path::to_owned),
            started,
        }));
        if screen.is_some() {
            let weak = Arc::downgrade(&state);
            // Detached: it ends soon after the last look.
            if thread::Builder::new().spawn(move || redraw(&weak)).is_err() {
                // There are lines where nothing can be drawn.
                let mut state = lock(&state);
                (state.screen, state.is_live) = (None, false);
            }
        }
        Self { state, json: args.json, started }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Has transfers end when somebody wants out.
    pub(crate) fn stops_with(&self, interrupt: &Interrupt) {
        self.state().interrupt = Some(interrupt.clone());
    }

    /// What ends transfers.
    pub(crate) fn interrupt(&self) -> Option<Interrupt> {
        self.state().interrupt.clone()
    }

    /// Shows nothing while something else has the terminal, and before it all that the buildpack said whose turn it is.
    pub(crate) fn away<T>(&self, has_terminal: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        let said = if state.is_live { state.view.give_output() } else { Vec::new() };
        state.screen.iter_mut().for_each(|screen| screen.draw(&said, Vec::new()));
        has_terminal()
    }

    /// Writes all that is shown from now on into a log, too.
    pub(crate) fn keep(&self, log: Log) {
        self.state().log = Some(log);
    }

    /// Where the log of a build is that failed. There is none when it failed before it began.
    pub(crate) fn end_log(&self) -> Option<PathBuf> {
        let mut state = self.state();
        if !state.view.has_begun() && !state.has_begun {
            // At worst it is pruned like others.
            state.log.take().map_or(Ok(()), Log::remove).unwrap_or_default();
        }
        state.log.as_ref().map(|log| log.path().to_owned())
    }

    /// How often a transfer is to be looked at: often where it is drawn, seldom where each look is a line.
    pub(crate) fn pace(&self) -> Duration {
        match (&self.state().screen, self.json) {
            (Some(_), _) => DRAWN,
            (None, true) => TOLD,
            (None, false) => WRITTEN,
        }
    }

    /// Does what is no phase, and remembers how long it took.
    pub(crate) fn part<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let before = lock(&self.state).tally.accounted();
        let outcome = work();
        lock(&self.state).tally.part(name, started.elapsed(), before);
        outcome
    }

    /// What was done since this was made.
    pub(crate) fn summary(&self, next: Vec<String>) -> Summary {
        let state = self.state();
        let log = state.log.as_ref().map(|log| log.path().display().to_string());
        let mut summary = state.tally.summary(self.started.elapsed(), log, next);
        if summary.process.is_none() {
            // Without a program to run it would fail.
            summary.next.retain(|command| !command.starts_with("strata run "));
        }
        summary
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let mut state = self.state();
        state.screen.iter_mut().for_each(Screen::clear);
        state.screen = None;
    }
}

impl Observer for Show {
    fn event(&self, event: Event) {
        let mut state = self.state();
        if self.json {
            state.log(&event);
            state.tally.take(&event);
            state.has_begun |= matches!(event, Event::PhaseStarted { .. });
            // It comes again.
            if !matches!(event, Event::OutputSoFar { .. })
                && let Ok(text) = serde_json::to_string(&event)
            {
                printed(writeln!(state.out, "{text}").and_then(|()| state.out.flush()));
            }
            return;
        }
        state.event(&event);
    }
}

impl State {
    fn event(&mut self, event: &Event) {
        self.log(event);
        self.tally.take(event);
        let now = self.started.elapsed();
        let size = self.screen.as_ref().map_or(Size::USUAL, Screen::size);
        // Programs may say very much, and it is in lines already.
        let is_output =
            matches!(event, Event::Output { .. } | Event::OutputSoFar { .. } | Event::DetectOutput { .. });
        let is_kept = self.is_live || !is_output || self.detail == Detail::Quiet;
        let mut stay = if is_kept { self.view.take(event, now, size.columns) } else { Vec::new() };
        let said = || plain::lines(event, self.detail, size.columns);
        if !self.is_live {
            let is_drawn = self.screen.is_some() && matches!(event, Event::Progress { .. });
            let mut said = if is_drawn { Vec::new() } else { said() };
            if self.detail == Detail::Quiet && matches!(event, Event::Failed(_)) {
                let aside = |text| Said { least: Detail::Quiet, is_aside: true, text };
                said.extend(stay.into_iter().map(aside));
            }
            said.retain(|said| said.least <= self.detail);
            if self.is_again && matches!(event, Event::Image { .. }) {
                said.clear();
            }
            return self.write(&said);
        }
        let is_warning = matches!(event, Event::Message { level: Level::Warn, .. });
        let does_stay = !self.is_again || is_warning || matches!(event, Event::Failed(_));
        if !does_stay {
            stay.clear();
        }
        if does_stay && matches!(event, Event::Message { .. } | Event::Summary(_)) {
            let event = &shortened(event, self.home.as_deref());
            let said = || plain::lines(event, self.detail, size.columns);
            stay.extend(said().into_iter().filter(|said| said.least <= self.detail).map(|said| said.text));
        }
        if let (Some(screen), true) = (&mut self.screen, !stay.is_empty() || !is_output) {
            screen.draw(&stay, self.view.frame(now, size));
        }
    }

    fn write(&mut self, said: &[Said]) {
        if said.is_empty() {
            return;
        }
        self.screen.iter_mut().for_each(Screen::clear);
        for Said { is_aside, text, .. } in said {
            let to = if *is_aside { &mut self.aside } else { &mut self.out };
            let outcome = writeln!(to, "{text}").and_then(|()| to.flush());
            // The build goes on. Where not even standard error can be written, nobody can be told.
            if !is_aside {
                printed(outcome);
            }
        }
    }

    fn draw(&mut self) {
        let now = self.started.elapsed();
        if let Some(screen) = &mut self.screen {
            let size = screen.size();
            let frame = if self.is_live { self.view.frame(now, size) } else { self.view.transfer(now, size) };
            screen.draw(&[], frame);
        }
    }

    fn log(&mut self, event: &Event) {
        let Some(log) = &mut self.log else { return };
        if log.is_full() || matches!(event, Event::Progress { .. }) {
            return;
        }
        let time = self.started.elapsed();
        let mut said = plain::lines(event, Detail::Verbose, Size::USUAL.columns);
        if let Event::Failed(failure) = event {
            said.push(Said { least: Detail::Quiet, is_aside: false, text: failure_text(failure) });
        }
        let written = said.iter().try_for_each(|said| log.line(time, &said.text));
        if let Err(error) = written {
            let path = log.path().display().to_string();
            self.log = None;
            let text = format!("the log {path} cannot be written: {error}");
            self.event(&Event::Message { level: Level::Warn, text });
        }
    }
}

/// A path as people write it.
fn below_home(path: &str, home: Option<&Path>) -> String {
    let below = home.and_then(|home| Path::new(path).strip_prefix(home).ok());
    below.map_or_else(|| path.to_owned(), |below| format!("~/{}", below.display()))
}

/// The same for a terminal, which is narrow.
fn shortened(event: &Event, home: Option<&Path>) -> Event {
    match event.clone() {
        Event::Message { level: Level::Info, text } => {
            Event::Message { level: Level::Info, text: brief(&text) }
        }
        Event::Summary(summary) => {
            let log = summary.log.as_deref().map(|log| below_home(log, home));
            Event::Summary(Box::new(Summary { log, ..*summary }))
        }
        other => other,
    }
}

/// Draws again and again what is going on, as long as somebody shows it.
fn redraw(state: &Weak<Mutex<State>>) {
    loop {
        thread::sleep(DRAWN);
        let Some(state) = state.upgrade() else { return };
        lock(&state).draw();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Out => std::io::stdout().is_terminal(),
        Stream::Err => std::io::stderr().is_terminal(),
    }
}

fn writer(stream: Stream) -> Box<dyn Write + Send> {
    match stream {
        Stream::Out => Box::new(AutoStream::auto(std::io::stdout())),
        Stream::Err => Box::new(AutoStream::auto(std::io::stderr())),
    }
}

fn screen(stream: Stream) -> Screen {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    match stream {
        Stream::Out => {
            let has_color = AutoStream::choice(&out) != ColorChoice::Never;
            Screen::new(Box::new(out), has_color)
        }
        Stream::Err => {
            let has_color = AutoStream::choice(&err) != ColorChoice::Never;
            Screen::new(Box::new(err), has_color)
        }
    }
}

/// Prints a failure for people, on standard error.
pub(crate) fn failure(failure: &Failure, home: Option<&Path>) {
    let mut err = AutoStream::auto(std::io::stderr());
    // There is nowhere left to complain to.
    let log = failure.log.as_deref().map(|log| below_home(log, home));
    writeln!(err, "{}", failure_text(&Failure { log, ..failure.clone() })).unwrap_or_default();
}

fn failure_text(failure: &Failure) -> String {
    // What failed is often a file of somebody else's, and causes cite it.
    let mut text = format!("{ERROR}ERROR:{ERROR:#} {}", shown_lines(&failure.message));
    for cause in &failure.causes {
        text.push_str("\n  cause: ");
        // The last words of programs, too.
        text.push_str(&strip_str(&printed::lines(cause)).to_string());
    }
    if let Some(hint) = &failure.hint {
        text.push_str("\nHint: ");
        text.push_str(&shown_lines(hint));
    }
    if let Some(log) = &failure.log {
        text.push_str("\nLog: ");
        text.push_str(&shown_lines(log));
    }
    text
}

/// Why a line could not be printed, the first of them: commands print many, and ask once, at their end.
static UNPRINTED: OnceLock<io::Error> = OnceLock::new();

/// Prints one line to standard output. [`all_printed`] says whether that was possible.
pub(crate) fn print(text: &str) {
    let mut out = AutoStream::auto(std::io::stdout());
    printed(writeln!(out, "{text}"));
}

/// Remembers that a line could not be printed. Whoever reads the output may have gone, which is no fault.
fn printed(outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        UNPRINTED.get_or_init(|| error);
    }
}

/// Makes sure that all lines were printed: half of a table must not pass for the whole.
pub(crate) fn all_printed() -> Result<(), Failure> {
    UNPRINTED
        .get()
        .map_or(Ok(()), |error| Err(Failure::caused(Exit::NoAnswer, "cannot print the answer", error)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_room_for_what_is_long() {
        let log = |home: &str| {
            let summary = Summary { log: Some("/home/me/logs/a.log".to_owned()), ..Summary::default() };
            match shortened(&Event::Summary(Box::new(summary)), Some(Path::new(home))) {
                Event::Summary(summary) => summary.log.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((&*log("/home/me"), &*log("/home/m")), ("~/logs/a.log", "/home/me/logs/a.log"));
        let text = format!("content sha256:{}", "a".repeat(64));
        let warning = Event::Message { level: Level::Warn, text: text.clone() };
        assert_eq!(shortened(&warning, None), warning);
        let info = Event::Message { level: Level::Info, text };
        let short = Event::Message { level: Level::Info, text: "content sha256:aaaaaaaaaaaa".to_owned() };
        assert_eq!(shortened(&info, None), short);
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_550), "1.5 kB");
        assert_eq!(bytes(2_000_000_000), "2.0 GB");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(12_345), "12.3 s");
        assert_eq!(duration(62_345), "1m 02s");
        assert_eq!(duration(3_720_000), "1h 02m");
        assert_eq!(rate(3_000_000, Duration::from_millis(1500)), 2_000_000);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
