//! Fields and notes, made to fit the terminal.

use super::show::ODD;
use crate::show::print;
use crate::show::text::{hanging, shown};
use anstyle::Style;

/// Columns that the names of fields take, and the gap behind them.
const NAMES: usize = 13;

/// Where an answer for people goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sheet {
    /// The columns that there are.
    pub(crate) width: usize,
}

impl Sheet {
    /// A field; none without a value.
    pub(crate) fn field(self, name: &str, value: &str) {
        if !value.is_empty() {
            self.styled(Style::new(), name, value);
        }
    }

    /// A field whose name looks like this.
    pub(crate) fn styled(self, style: Style, name: &str, value: &str) {
        // A longer name has its value begin later.
        let first = NAMES.max(name.len() + 3);
        for (index, line) in hanging(&shown(value), self.width, (first, NAMES)).iter().enumerate() {
            if index == 0 {
                print(format!("  {style}{name:<10}{style:#} {line}").trim_end());
            } else {
                print(line);
            }
        }
    }

    /// Something that is said below all else.
    pub(crate) fn note(self, text: &str) {
        self.told("", "Note:", text);
    }

    /// A text with a heading of one or two words.
    pub(crate) fn told(self, before: &str, heading: &str, text: &str) {
        for (index, line) in hanging(&shown(text), self.width, (heading.len() + 1, 6)).iter().enumerate() {
            if index == 0 {
                print(format!("{before}{ODD}{heading}{ODD:#} {line}").trim_end());
            } else {
                print(line);
            }
        }
    }

    /// Notes, apart from what comes before.
    pub(crate) fn notes(self, notes: &[String]) {
        if !notes.is_empty() {
            print("");
        }
        notes.iter().for_each(|note| self.note(note));
    }
}
