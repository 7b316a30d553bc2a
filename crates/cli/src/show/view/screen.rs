//! The end of a terminal that is drawn again and again, below all that stays.
//!
//! No cursor is hidden and no mode is set: however the program ends, the terminal is as it was, and what is written next
//! comes below.

use crate::show::printed::width;
use anstream::adapter::strip_str;
use rustix::termios::tcgetwinsize;
use std::io::Write;
use std::os::fd::AsFd;

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// What is assumed where nothing is said.
    pub(crate) const USUAL: Self = Self { columns: 80, rows: 24 };

    /// That of a terminal.
    pub(crate) fn of(terminal: &impl AsFd) -> Self {
        let Ok(size) = tcgetwinsize(terminal) else { return Self::USUAL };
        let or = |value: u16, usual| if value == 0 { usual } else { usize::from(value) };
        Self { columns: or(size.ws_col, Self::USUAL.columns), rows: or(size.ws_row, Self::USUAL.rows) }
    }
}

/// A terminal, and what is drawn there.
pub(crate) struct Screen {
    out: Box<dyn Terminal>,
    has_color: bool,
    drawn: Vec<String>,
}

/// Something that can be written to, and has a size.
pub(crate) trait Terminal: Write + Send {
    /// Its size now.
    fn size(&self) -> Size;
}

impl<T: Write + Send + AsFd> Terminal for T {
    fn size(&self) -> Size {
        Size::of(self)
    }
}

impl Screen {
    /// Nothing is drawn yet.
    pub(crate) fn new(out: Box<dyn Terminal>, has_color: bool) -> Self {
        Self { out, has_color, drawn: Vec::new() }
    }

    pub(crate) fn size(&self) -> Size {
        self.out.size()
    }

    /// Draws `frame` in place of what was drawn, below lines that stay.
    pub(crate) fn draw(&mut self, stay: &[String], frame: Vec<String>) {
        if stay.is_empty() && frame == self.drawn {
            return;
        }
        let plain = |line: &String| if self.has_color { line.clone() } else { strip_str(line).to_string() };
        let (stay, shown): (Vec<_>, Vec<_>) =
            (stay.iter().map(plain).collect(), frame.iter().map(plain).collect());
        let text = redraw(&self.drawn, &stay, &shown, self.out.size().columns);
        self.drawn = frame;
        // In one piece, so that nothing flickers. Whoever looks may have gone; the build goes on.
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).unwrap_or_default();
    }

    /// Takes away what is drawn.
    pub(crate) fn clear(&mut self) {
        self.draw(&[], Vec::new());
    }
}

/// What a terminal has to be told. The cursor is at the beginning of the line below `drawn`, and comes to be below `frame`.
///
/// Lines are erased one by one: some terminals keep what was on the screen, as something that scrolled away, when all of
/// it is erased at once.
pub(super) fn redraw(drawn: &[String], stay: &[String], frame: &[String], columns: usize) -> String {
    const ERASE: &str = "\u{1b}[K";
    const NEXT: &str = "\r\n";
    let up = |rows: usize| if rows == 0 { String::new() } else { format!("\u{1b}[{rows}A") };
    // A terminal that became narrower has broken lines by now.
    let mut rows: usize = drawn.iter().map(|line| width(line).div_ceil(columns.max(1)).max(1)).sum();
    let mut text = format!("\r{}", up(rows));
    if !stay.is_empty() {
        // Lines that stay may be longer than the terminal is wide.
        text.push_str(&format!("{ERASE}{NEXT}").repeat(rows));
        text.push_str(&format!("{ERASE}{}", up(rows)));
        rows = 0;
    }
    stay.iter().for_each(|line| text.extend([line, NEXT]));
    frame.iter().for_each(|line| text.extend([line, ERASE, NEXT]));
    let left = rows.saturating_sub(frame.len());
    text.push_str(&format!("{ERASE}{NEXT}").repeat(left));
    // On the last line, a person may have typed something.
    text.push_str(&format!("{ERASE}{}", up(left)));
    text
}
