//! What programs print, as a line of a terminal would show it in the end.
//!
//! Buildpacks print what they like: colours, bars that a carriage return draws anew, and whatever moves the cursor, sets
//! titles or asks the terminal questions. Of that only the text is left, and colours.

use super::text::is_hidden;
use anstyle::{Ansi256Color, AnsiColor, Color, Effects, RgbColor, Style};
use anstyle_parse::{Params, Parser, Perform};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar as _;

/// How far beyond its end a line may be written to, in columns.
const BEYOND: usize = 512;
/// How many columns a line may have. What is beyond them is lost, so that no few bytes become very many.
const WIDEST: usize = 64 << 10;
/// How many marks a character may have above and below it.
const MARKS: usize = 4;
/// Columns from one stop of tabulators to the next.
const TAB: usize = 8;

/// A line as a terminal shows it when all of it is written: nothing but text and colours.
pub(crate) fn line(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { drawn(text, WIDEST) }
}

/// The same, of which no more than so many columns are wanted.
pub(crate) fn start(text: &str, columns: usize) -> String {
    if is_plain(text) {
        return fit(text, columns);
    }
    // So much more that what is lost is beyond something that is not.
    fit(&drawn(text, (columns + BEYOND + 2).min(WIDEST)), columns)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn drawn(text: &str, widest: usize) -> String {
    let mut row = Row { widest, ..Row::default() };
    let mut parser = Parser::<anstyle_parse::DefaultCharAccumulator>::new();
    text.bytes().for_each(|byte| parser.advance(&mut row, byte));
    row.text()
}

/// The same of a text that may have several lines.
pub(crate) fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// So many columns of a line that has nothing but text and colours, and a sign that there was more.
pub(crate) fn fit(line: &str, columns: usize) -> String {
    if width(line) <= columns {
        return line.to_owned();
    }
    let mut fitted = String::new();
    let (mut room, mut has_style) = (columns.saturating_sub(1), false);
    for piece in pieces(line) {
        match piece {
            Piece::Style(style) => {
                fitted.push_str(style);
                has_style = true;
            }
            Piece::Char(c) => match room.checked_sub(c.width().unwrap_or(0)) {
                Some(rest) => {
                    fitted.push(c);
                    room = rest;
                }
                None => break,
            },
        }
    }
    if has_style {
        fitted.push_str("\u{1b}[0m");
    }
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// How many columns a line takes that has nothing but text and colours.
pub(crate) fn width(line: &str) -> usize {
    let columns = |piece| if let Piece::Char(c) = piece { c.width().unwrap_or(0) } else { 0 };
    pieces(line).map(columns).sum()
}

enum Piece<'a> {
    Char(char),
    /// An escape sequence.
    Style(&'a str),
}

fn pieces(line: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.starts_with('\u{1b}') {
            let end = rest.find('m').map_or(rest.len(), |at| at + 1);
            let (style, after) = rest.split_at(end);
            rest = after;
            return Some(Piece::Style(style));
        }
        let c = rest.chars().next()?;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        Some(Piece::Char(c))
    })
}

/// One column, or the first of two.
#[derive(Clone, Default)]
struct Cell {
    /// None in the second column of a wide character.
    c: Option<char>,
    marks: Vec<char>,
    style: Style,
}

impl Cell {
    fn blank() -> Self {
        Self { c: Some(' '), ..Self::default() }
    }
}

/// A line while it is written.
#[derive(Default)]
struct Row {
    cells: Vec<Cell>,
    at: usize,
    /// How many columns there can be.
    widest: usize,
    style: Style,
}

impl Row {
    fn go(&mut self, at: usize) {
        self.at = at.min(self.cells.len() + BEYOND).min(self.widest);
    }

    fn put(&mut self, c: char, columns: usize) {
        if self.at + columns > self.widest {
            return;
        }
        while self.cells.len() < self.at + columns {
            self.cells.push(Cell::blank());
        }
        // Half of a wide character is no character.
        if self.cells.get(self.at).is_some_and(|cell| cell.c.is_none())
            && let Some(before) = self.cells.get_mut(self.at.wrapping_sub(1))
        {
            *before = Cell::blank();
        }
        if let Some(after) = self.cells.get_mut(self.at + columns).filter(|after| after.c.is_none()) {
            *after = Cell::blank();
        }
        for (index, cell) in self.cells.iter_mut().skip(self.at).take(columns).enumerate() {
            *cell = Cell { c: (index == 0).then_some(c), marks: Vec::new(), style: self.style };
        }
        self.at += columns;
    }

    /// Puts a mark above or below the character before.
    fn mark(&mut self, mark: char) {
        let before = self.cells.iter_mut().take(self.at).rev().find(|cell| cell.c.is_some());
        if let Some(cell) = before.filter(|cell| cell.marks.len() < MARKS) {
            cell.marks.push(mark);
        }
    }

    fn text(&self) -> String {
        let end = self.cells.iter().rposition(|cell| cell.c != Some(' ') || cell.style != Style::new());
        let mut text = String::with_capacity(self.cells.len());
        let mut style = Style::new();
        for cell in self.cells.iter().take(end.map_or(0, |end| end + 1)) {
            let Some(c) = cell.c else { continue };
            if cell.style != style {
                // Writing to a text cannot fail.
                write!(text, "{style:#}{}", cell.style).unwrap_or_default();
                style = cell.style;
            }
            text.push(c);
            text.extend(&cell.marks);
        }
        write!(text, "{style:#}").unwrap_or_default();
        text
    }
}

impl Perform for Row {
    fn print(&mut self, c: char) {
        match c.width() {
            // Whether a picture is wide with it depends on the terminal.
            _ if matches!(c, '\u{fe00}'..='\u{fe0f}') => {}
            _ if is_hidden(c) => c.escape_unicode().for_each(|c| self.put(c, 1)),
            Some(0) => self.mark(c),
            columns => self.put(c, columns.unwrap_or(1)),
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.at = 0,
            b'\t' => self.go((self.at / TAB + 1) * TAB),
            0x08 => self.at = self.at.saturating_sub(1),
            // A sound, and what separates nothing on a terminal.
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|param| param.first()).copied().unwrap_or(0);
        let count = usize::from(first.max(1));
        match action {
            b'm' => self.style = styled(self.style, params),
            b'C' => self.go(self.at + count),
            b'D' => self.at = self.at.saturating_sub(count),
            b'G' => self.go(count - 1),
            b'K' if first == 0 => self.cells.truncate(self.at),
            b'K' if first == 2 => self.cells.clear(),
            _ => {}
        }
    }
}

/// A style after "select graphic rendition" (ECMA-48, 8.3.117). What blinks or cannot be seen is left out.
fn styled(mut style: Style, params: &Params) -> Style {
    let all: Vec<u16> = params.iter().flatten().copied().collect();
    let mut rest = all.as_slice();
    if rest.is_empty() {
        return Style::new();
    }
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let off = |effects: Effects| style.effects(style.get_effects() - effects);
        style = match *first {
            0 => Style::new(),
            1 => style.bold(),
            2 => style.dimmed(),
            3 => style.italic(),
            4 => style.underline(),
            7 => style.invert(),
            9 => style.strikethrough(),
            22 => off(Effects::BOLD | Effects::DIMMED),
            23 => off(Effects::ITALIC),
            24 => off(Effects::UNDERLINE),
            27 => off(Effects::INVERT),
            29 => off(Effects::STRIKETHROUGH),
            code @ (30..=37 | 90..=97) => style.fg_color(ansi(code)),
            code @ (40..=47 | 100..=107) => style.bg_color(ansi(code - 10)),
            39 => style.fg_color(None),
            49 => style.bg_color(None),
            code @ (38 | 48) => {
                let Some((color, after)) = extended(rest) else { return style };
                rest = after;
                if code == 38 { style.fg_color(Some(color)) } else { style.bg_color(Some(color)) }
            }
            _ => style,
        };
    }
    style
}

fn ansi(code: u16) -> Option<Color> {
    use AnsiColor::{Black, Blue, Cyan, Green, Magenta, Red, White, Yellow};
    let colors = [Black, Red, Green, Yellow, Blue, Magenta, Cyan, White];
    let color = colors.get(usize::from(code % 10)).copied()?;
    Some(Color::Ansi(color.bright(code >= 90)))
}

/// A colour of 256 or of all, and what follows it.
fn extended(codes: &[u16]) -> Option<(Color, &[u16])> {
    let byte = |code: &u16| u8::try_from(*code).ok();
    match codes {
        [5, index, rest @ ..] => Some((Color::Ansi256(Ansi256Color(byte(index)?)), rest)),
        [2, r, g, b, rest @ ..] => Some((Color::Rgb(RgbColor(byte(r)?, byte(g)?, byte(b)?)), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_a_terminal_shows_in_the_end() {
        for (said, expected) in [
            ("plain é 漢", "plain é 漢"),
            // Bars that are drawn again and again.
            (" 10%\r 50%\r100%", "100%"),
            ("longer line\rshort", "shortr line"),
            ("longer line\r\u{1b}[Kshort", "short"),
            ("longer line\u{1b}[2K\u{1b}[1Gshort", "short"),
            ("a\u{8}b", "b"),
            ("\u{1b}[3Dab\u{1b}[2Cc\u{1b}[1GA", "Ab  c"),
            ("a\tb", "a       b"),
            ("é trailing   ", "é trailing"),
            // Nothing that does more than colour.
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}[2J\u{1b}[H\u{1b}[?25l\u{1b}[5A\u{1b}[6nx\u{1b}c", "x"),
            ("\u{1b}P$q\u{1b}\\\u{1b}(0x\u{7}", "x"),
            ("\u{1b}[", ""),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("\u{1b}[5;8mseen", "seen"),
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[31mred", "\u{1b}[31mred\u{1b}[0m"),
            (
                "\u{1b}[1;38;5;200;4mx\u{1b}[22my",
                "\u{1b}[1m\u{1b}[4m\u{1b}[38;5;200mx\u{1b}[0m\u{1b}[4m\u{1b}[38;5;200my\u{1b}[0m",
            ),
            ("\u{1b}[48;2;1;2;3mx", "\u{1b}[48;2;1;2;3mx\u{1b}[0m"),
            ("\u{1b}[38;2;1mx", "x"),
            // Marks and wide characters.
            ("e\u{301}", "e\u{301}"),
            ("\u{301}", ""),
            ("漢x\r\u{1b}[1Cy", " yx"),
            ("漢x\ry", "y x"),
            ("ab漢\r\u{1b}[1C字", "a字 "),
            ("❤\u{fe0f}", "❤"),
        ] {
            assert_eq!(line(said), expected.trim_end_matches(' '), "{said:?}");
        }
        assert_eq!(line(&format!("e{}", "\u{301}".repeat(100))).chars().count(), 1 + MARKS);
        assert_eq!(line("\u{1b}[65535Gx").len(), BEYOND + 1);
        assert_eq!(lines("a\rb\nc\u{7}"), "b\nc");
    }

    #[test]
    fn few_bytes_do_not_become_very_many() {
        for bytes in ["\u{1b}[999Cx", "\tx", "\u{1b}[65535Gx", "\u{202e}", "漢"] {
            let said = bytes.repeat((64 << 10) / bytes.len());
            let shown = line(&said);
            assert!((30_000..=WIDEST).contains(&width(&shown)), "{bytes:?}: {}", width(&shown));
            let start = start(&said, 100);
            assert!(width(&start) <= 100 && start.ends_with('…'), "{bytes:?}: {start:?}");
        }
        assert_eq!(start("é".repeat(100).as_str(), 100), "é".repeat(100));
        assert_eq!(start("long\r\u{1b}[Kré", 3), "ré");
    }

    #[test]
    fn a_line_fits() {
        for (line, columns, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("漢字漢", 5, "漢字…"),
            ("漢字漢", 4, "漢…"),
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("\u{1b}[31mred and more\u{1b}[0m", 4, "\u{1b}[31mred\u{1b}[0m…"),
            ("\u{1b}[31mred\u{1b}[0m", 3, "\u{1b}[31mred\u{1b}[0m"),
            ("x", 0, ""),
        ] {
            assert_eq!(fit(line, columns), expected);
            assert!(width(&fit(line, columns)) <= columns, "{line}");
        }
    }
}
