//! Texts from elsewhere, on a terminal.

use anstyle::Style;
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A text in which nothing moves the cursor, changes colours, breaks the line or turns the direction of writing: such
/// characters are spelled out, as in `\u{1b}`.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// The same of a text that may have several lines.
pub(crate) fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// A text in which digests have 12 of their 64 digits, which is enough to tell them apart by eye.
pub(crate) fn brief(text: &str) -> String {
    const SIGN: &str = "sha256:";
    let mut pieces = text.split(SIGN);
    let mut brief = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_hex = |hex: &str| hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = piece.split_at_checked(64).filter(|(hex, _)| is_hex(hex));
        let (hex, rest) = digits.map_or((piece, ""), |(hex, rest)| (hex.get(..12).unwrap_or(hex), rest));
        brief.extend([SIGN, hex, rest]);
    }
    brief
}

/// Whether a character is not to be seen, or changes how others are.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// JSON in which control characters beyond ASCII are spelled out as well: terminals obey them.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    let is_plain = |c: char| c == '\n' || !is_hidden(c);
    if text.chars().all(is_plain) {
        return Ok(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            safe.push(c);
        } else {
            // They occur within strings only, where this says the same.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        }
    }
    Ok(safe)
}

/// How a column of a table may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Flush left, and cut in its middle down to so many columns of the terminal when there is no room.
    Text(usize),
    /// Flush left, never cut.
    Word,
    /// Flush right, never cut.
    Number,
}

/// A text and how it looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text from anywhere.
    pub(crate) fn new(text: &str, style: Style) -> Self {
        Self { text: shown(text).into_owned(), style }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Style::new())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Rows of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Texts below rows, by the row's index.
    notes: Vec<(usize, String)>,
}

impl Table {
    /// A table with a first row of titles.
    pub(crate) fn new(columns: &[(&str, Column)], style: Style) -> Self {
        let titles = columns.iter().map(|(title, _)| Cell::new(title, style)).collect();
        Self {
            columns: columns.iter().map(|(_, column)| *column).collect(),
            rows: vec![titles],
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Adds a text of any length below the last row.
    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push((self.rows.len() - 1, shown(text).into_owned()));
    }

    /// The lines of the table, made to fit into so many columns of a terminal if that can be.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        let widths = self.widths(width);
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            lines.push(self.line(row, &widths));
            for (_, note) in self.notes.iter().filter(|(at, _)| *at == index) {
                let indent = widths.first().copied().unwrap_or_default() + 4;
                lines.extend(
                    wrapped(note, width.saturating_sub(indent)).map(|line| " ".repeat(indent) + line),
                );
            }
        }
        lines
    }

    fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        let mut line = String::new();
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        for (index, ((cell, column), width)) in
            row.iter().zip(&self.columns).zip(widths).enumerate().take(last + 1)
        {
            let text = cut(&cell.text, *width);
            let fill = " ".repeat(width.saturating_sub(text.width()));
            let style = cell.style;
            let (before, after) = match column {
                Column::Number => (fill.as_str(), ""),
                // Nothing at the end of lines.
                _ if index == last => ("", ""),
                _ => ("", fill.as_str()),
            };
            let gap = if index == 0 { "" } else { "  " };
            line.push_str(&format!("{gap}{before}{style}{text}{style:#}{after}"));
        }
        line
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let natural = |index: usize| {
            self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(natural).collect();
        let gaps = 2 * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            // The one that has most to spare.
            let spare = |index: usize| match self.columns[index] {
                Column::Text(least) => widths[index].saturating_sub(least),
                Column::Word | Column::Number => 0,
            };
            match (0..widths.len()).max_by_key(|index| spare(*index)).filter(|index| spare(*index) > 0) {
                Some(index) => widths[index] -= 1,
                None => break,
            }
        }
        widths
    }
}

/// A text in lines of so many columns, broken at spaces where there are some.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut used, mut end, mut space) = (0, rest.len(), None);
        for (at, c) in rest.char_indices() {
            used += c.width().unwrap_or(0);
            if used > width.max(20) {
                end = space.unwrap_or(at);
                break;
            }
            if c == ' ' {
                space = Some(at);
            }
        }
        let (line, next) = rest.split_at(end);
        rest = next.trim_start();
        Some(line)
    })
}

/// A text in lines of so many columns, broken at spaces. The first line begins at the first of two columns, and has no
/// spaces before it; the others begin at the second one. A word that does not fit there begins further left.
pub(crate) fn hanging(text: &str, width: usize, (first, others): (usize, usize)) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut used, mut is_empty) = (first, true);
    for word in text.split(' ') {
        let needed = word.width();
        let gap = usize::from(!is_empty);
        if let Some(line) = lines.last_mut().filter(|_| used + gap + needed <= width) {
            line.push_str(if is_empty { "" } else { " " });
            line.push_str(word);
            used += gap + needed;
        } else {
            let indent = if others + needed <= width { others } else { others.min(4) };
            lines.push(" ".repeat(indent) + word);
            used = indent + needed;
        }
        is_empty = false;
    }
    lines
}

/// A text without its middle, if it is wider than so many columns.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(1);
    let start = take(text.chars(), room.div_ceil(2));
    let end: String = take(text.chars().rev(), room - start.width()).chars().rev().collect();
    Cow::Owned(format!("{start}…{end}"))
}

fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut room = width;
    chars
        .take_while(|c| {
            let needed = c.width().unwrap_or(0);
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hang_where_they_do_not_fit() {
        let hung = |text: &str, width: usize| hanging(text, width, (6, 6)).join("\n");
        for (text, width, expected) in [
            ("one two", 80, "one two"),
            ("one two", 13, "one two"),
            ("one two", 12, "one\n      two"),
            ("one two three", 18, "one two\n      three"),
            ("0123456789", 14, "\n    0123456789"),
            ("0123456789", 5, "\n    0123456789"),
            ("a 0123456789 b", 14, "a\n    0123456789\n      b"),
            ("漢字漢字 漢", 14, "漢字漢字\n      漢"),
            ("a  b", 80, "a  b"),
            ("", 80, ""),
        ] {
            assert_eq!(hung(text, width), expected, "{text} {width}");
        }
        assert_eq!(hanging("one two", usize::MAX, (6, 6)), ["one two"]);
    }

    #[test]
    fn digests_may_be_brief() {
        let long = format!("Source: content sha256:{}, and more", "0123456789abcdef".repeat(4));
        assert_eq!(brief(&long), "Source: content sha256:0123456789ab, and more");
        for text in ["", "sha256:", "x sha256:é", "sha256:0123456789abcdef sha256:z"] {
            assert_eq!(brief(text), text);
        }
    }

    #[test]
    fn nothing_from_elsewhere_moves_the_cursor() {
        for (text, expected) in [
            ("plain é 漢", "plain é 漢"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc\rd", "a\\u{a}b\\u{9}c\\u{d}d"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{200b}\u{e0041}", "\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown_lines("a\n\u{1b}[2Jb"), "a\n\\u{1b}[2Jb");
        let value = serde_json::json!({"a": "\u{9b}\u{1b}\u{7f}\u{e0041}é"});
        let text = json(&value).unwrap();
        assert_eq!(text, "{\n  \"a\": \"\\u009b\\u001b\\u007f\\udb40\\udc41é\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn tables_fit_where_they_can() {
        let mut table = Table::new(
            &[
                ("NAME", Column::Text(6)),
                ("N", Column::Number),
                ("WORD", Column::Word),
                ("", Column::Text(4)),
            ],
            Style::new(),
        );
        table.row(vec!["a-very-long-name".into(), "1".into(), "built".into(), "".into()]);
        table.row(vec!["漢字漢字".into(), "200".into(), "x\n".into(), "end".into()]);
        assert_eq!(
            table.lines(200),
            [
                "NAME                N  WORD",
                "a-very-long-name    1  built",
                "漢字漢字          200  x\\u{a}  end"
            ]
        );
        assert_eq!(
            table.lines(27),
            ["NAME         N  WORD", "a-ve…name    1  built", "漢字漢字   200  x\\u{a}  end"]
        );
        let narrow = table.lines(5);
        assert_eq!(narrow[1], "a-v…me    1  built");
        assert_eq!(narrow[2], "漢…字   200  x\\u{a}  end");
    }
}
