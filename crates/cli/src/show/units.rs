//! Numbers for people, and the colours they are in.

use anstyle::{AnsiColor, Style};
use std::time::Duration;

pub(crate) const HEADING: Style = AnsiColor::Cyan.on_default().bold();
pub(crate) const BUSY: Style = AnsiColor::Cyan.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Bytes a second.
pub(crate) fn rate(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    // Of two numbers that fit.
    u64::try_from(u128::from(count) * 1000 / millis).unwrap_or(u64::MAX)
}

/// Milliseconds for people.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
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
