//! Runs a program of a buildpack or an extension, and passes on what it says.

use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::process::{self, Ended, Invocation, Lines, Run};
use std::time::{Duration, Instant};
use strata_decide::detect::Kind;
use strata_spec::exit::Exit;

/// How often a line that has not ended is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A program, and what is said of it should it fail.
pub(crate) struct Heard<'a> {
    /// What it is of.
    pub(crate) kind: Kind,
    /// `id@version`.
    pub(crate) label: &'a str,
    /// `bin/build`, …
    pub(crate) name: &'static str,
    /// What is run.
    pub(crate) invocation: &'a Invocation,
    /// How a failure of it ends.
    pub(crate) exit: Exit,
}

impl Heard<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// When it fails, or cannot be started.
    pub(crate) fn run(&self, observer: &dyn Observer) -> Result<(), Failure> {
        let buildpack = || self.label.to_owned();
        let mut lines = Lines::default();
        let mut looked = Instant::now();
        let mut tail = Tail::default();
        let mut on_line = |line: String| {
            tail.push(&line);
            observer.event(Event::Output { buildpack: buildpack(), line });
        };
        let outcome = process::run(self.invocation, &mut |bytes| {
            if !observer.output(bytes) {
                lines.feed(bytes, &mut on_line);
                if let Some(line) = lines.so_far().filter(|_| looked.elapsed() > BETWEEN_LOOKS) {
                    looked = Instant::now();
                    observer.event(Event::OutputSoFar { buildpack: buildpack(), line });
                }
            }
        });
        lines.finish(&mut on_line);
        let Self { kind, label, name, exit, .. } = *self;
        match outcome {
            Ok(Run { ended: Ended::Code(0), .. }) => Ok(()),
            Ok(run) => {
                let how = match run.ended {
                    Ended::Code(_) => format!("ended with {}", run.ended),
                    Ended::Signal(_) => format!("was {}", run.ended),
                };
                let message = format!("failed to build: {name} of {kind} {label} {how}");
                let failure = Failure { causes: tail.causes(), ..Failure::new(exit, message) };
                observer.failed(label, self.invocation);
                Err(run.ended.hint().into_iter().fold(failure.hinted(), Failure::hint))
            }
            // Whoever cannot be started has failed, too.
            Err(error) => {
                let message = format!("failed to build: cannot run {name} for {kind} {label}");
                let failure = Failure::caused(exit, message, &error);
                Err(match process::not_started(&self.invocation.program, &error) {
                    Some((cause, hint)) => Failure { causes: vec![cause], ..failure }.hint(hint),
                    None => failure.hinted(),
                })
            }
        }
    }
}

/// The last thing that a program said: most often the reason why it failed.
#[derive(Default)]
struct Tail(Option<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        let line = process::without_colours(line);
        if !line.trim().is_empty() {
            self.0 = Some(line.trim().to_owned());
        }
    }

    fn causes(self) -> Vec<String> {
        self.0.map(|line| format!("its last words: {line}")).into_iter().collect()
    }
}
