//! What is drawn again and again: what is going on right now.

use super::{Phase, Running, Size, Transfer, View, millis};
use crate::show::printed::{fit, width};
use crate::show::text::shown;
use crate::show::{BUSY, DIM, GOOD, bytes, duration};
use std::iter;
use std::time::Duration;

/// How many lines of output are shown at most.
pub(super) const WINDOW: usize = 10;
/// A sign that something goes on.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How long each of its pictures stays, in milliseconds.
const TURN: u64 = 100;
/// Phases that a build has in any case.
const EXPECTED: [&str; 4] = ["detect", "restore", "build", "export"];

impl View {
    /// The lines of now, none wider than the terminal, and never so many that it has to scroll.
    pub(crate) fn frame(&self, now: Duration, size: Size) -> Vec<String> {
        if self.is_over {
            return Vec::new();
        }
        let columns = size.columns.saturating_sub(1);
        let rows = size.rows.saturating_sub(1);
        let phases = self.phases_line(now, columns);
        let room = rows.saturating_sub(usize::from(phases.is_some()));
        let mut lines = match (&self.transfer, &self.running, self.phases.last()) {
            (Some(transfer), _, _) => transfer.lines(now, columns),
            (None, Some(running), _) => self.running(running, now, room),
            (None, None, Some(phase)) if phase.took.is_none() => {
                let window = room.saturating_sub(1);
                let said = self.detecting.iter().skip(self.detecting.len().saturating_sub(window));
                let said = said.map(|line| format!("  {DIM}│{DIM:#} {line}"));
                iter::once(busy(&phase.name, phase.started, now, "")).chain(said).collect()
            }
            (None, None, _) => {
                self.between().map(|what| busy(what, self.idle, now, "")).into_iter().collect()
            }
        };
        lines.truncate(room);
        lines.extend(phases);
        lines.truncate(rows);
        lines.into_iter().map(|line| fit(&line, columns)).collect()
    }

    /// What goes on besides phases and transfers.
    fn between(&self) -> Option<&'static str> {
        let has = |name: &str| self.phases.iter().any(|phase| phase.name == name);
        match (has("detect"), has("export")) {
            (false, _) => Some("prepare"),
            (true, true) => Some("finish"),
            (true, false) => None,
        }
    }

    /// The lines of a transfer alone.
    pub(crate) fn transfer(&self, now: Duration, size: Size) -> Vec<String> {
        let columns = size.columns.saturating_sub(1);
        let lines = self.transfer.as_ref().map_or_else(Vec::new, |transfer| transfer.lines(now, columns));
        lines.into_iter().map(|line| fit(&line, columns)).collect()
    }

    fn running(&self, running: &Running, now: Duration, room: usize) -> Vec<String> {
        let place = self.group.saturating_sub(self.next.len());
        let place = format!("{place} of {}", self.group);
        let mut lines = vec![busy(&running.label.replace('@', " "), running.started, now, &place)];
        let next = (!self.next.is_empty()).then(|| {
            let names: Vec<_> =
                self.next.iter().map(|next| shown(&next.replace('@', " ")).into_owned()).collect();
            format!("  {DIM}then {}{DIM:#}", names.join(", "))
        });
        let window = room.saturating_sub(1 + usize::from(next.is_some())).min(WINDOW);
        let all = running.lines.len() + usize::from(running.so_far.is_some());
        let said = running.lines.iter().chain(&running.so_far).skip(all.saturating_sub(window));
        lines.extend(said.map(|line| format!("  {DIM}│{DIM:#} {line}")));
        lines.extend(next);
        lines
    }

    /// All phases in a line, those that are over with their time; nothing for a copy.
    fn phases_line(&self, now: Duration, columns: usize) -> Option<String> {
        let current = self.phases.last()?;
        let coming = EXPECTED.iter().rev().take_while(|name| **name != current.name).count();
        let is_known = EXPECTED.contains(&&*current.name) || current.name == "analyze";
        let coming = if is_known { &EXPECTED[EXPECTED.len() - coming..] } else { &[] };
        let all = |describe: &dyn Fn(&Phase) -> String| {
            let begun = self.phases.iter().map(describe);
            let coming = coming.iter().map(|name| format!("{DIM}{name}{DIM:#}"));
            begun.chain(coming).collect::<Vec<_>>().join(&format!("{DIM} · {DIM:#}"))
        };
        let whole = all(&|phase| phase.text(now, true));
        Some(if width(&whole) <= columns { whole } else { all(&|phase| phase.text(now, false)) })
    }
}

impl Phase {
    fn text(&self, now: Duration, with_times: bool) -> String {
        let name = shown(&self.name);
        match self.took {
            Some(millis) if with_times => format!("{GOOD}{name}{GOOD:#} {}", duration(millis)),
            Some(_) => format!("{GOOD}{name}{GOOD:#}"),
            None => format!("{BUSY}{name}{BUSY:#} {}", time(self.started, now)),
        }
    }
}

impl Transfer {
    fn lines(&self, now: Duration, columns: usize) -> Vec<String> {
        let rate = format!("{}/s", bytes(self.rate));
        let head = busy(&self.title, self.started, now, "");
        if self.size == 0 {
            return vec![head, format!("  {}  {rate}", bytes(self.done))];
        }
        let numbers = format!("  {} of {}  {rate}", bytes(self.done), bytes(self.size));
        let left = self.size.saturating_sub(self.done).checked_div(self.rate);
        let left = left.filter(|_| self.done < self.size).map_or_else(String::new, |seconds| match seconds {
            0..59 => format!("  {} s left", seconds + 1),
            seconds => format!("  {} left", duration(seconds.saturating_mul(1000))),
        });
        let room = columns.saturating_sub(width(&numbers) + 16).min(40);
        let bar = if room < 8 { String::new() } else { format!("  {}", bar(self.done, self.size, room)) };
        let left = if bar.is_empty() { String::new() } else { left };
        vec![head, format!("{numbers}{bar}{left}")]
    }
}

/// A bar of so many columns.
fn bar(done: u64, size: u64, columns: usize) -> String {
    let inside = columns.saturating_sub(2);
    // Of two numbers that fit.
    let filled = (u128::from(done.min(size)) * inside as u128).checked_div(u128::from(size)).unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(inside).min(inside);
    let tip = if filled < inside { ">" } else { "" };
    format!("[{}{tip}{}]", "=".repeat(filled), " ".repeat(inside.saturating_sub(filled + tip.len())))
}

/// A line for what is going on.
fn busy(name: &str, started: Duration, now: Duration, note: &str) -> String {
    let turn = usize::try_from(millis(now) / TURN).unwrap_or(0) % SPINNER.len();
    let sign = SPINNER.get(turn).copied().unwrap_or('*');
    let note = if note.is_empty() { String::new() } else { format!("  {DIM}{note}{DIM:#}") };
    format!("{BUSY}{sign} {}{BUSY:#}  {}{note}", shown(name), time(started, now))
}

fn time(started: Duration, now: Duration) -> String {
    let tenths = millis(now.saturating_sub(started)) / 100;
    if tenths < 600 { format!("{}.{} s", tenths / 10, tenths % 10) } else { duration(tenths * 100) }
}
