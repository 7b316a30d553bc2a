//! Texts from elsewhere on their way to a terminal: what programs print, names, and JSON. Nothing moves the cursor, and no
//! line is wider than it may be.
#![no_main]

// These belong to a program, which is no library.
#[allow(dead_code, unreachable_pub, reason = "only a part of it is called")]
#[path = "../../crates/cli/src/show/printed.rs"]
mod printed;
#[allow(dead_code, unreachable_pub, reason = "only a part of it is called")]
#[path = "../../crates/cli/src/show/text.rs"]
mod text;

use libfuzzer_sys::fuzz_target;

/// What is left without colours: they are all that begins with an escape.
fn without_colours(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let mut left = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (codes, rest) = piece.split_once('m').expect("a colour ends");
        let codes = codes.strip_prefix('[').expect("a colour begins");
        assert!(codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'), "{codes:?}");
        left.push_str(rest);
    }
    left
}

fuzz_target!(|bytes: &[u8]| {
    let said = String::from_utf8_lossy(bytes);
    for line in said.split('\n') {
        let whole = printed::line(line);
        assert!(!without_colours(&whole).contains(text::is_hidden), "{whole:?}");
        for columns in [0, 1, 20] {
            let start = printed::start(line, columns);
            assert!(!without_colours(&start).contains(text::is_hidden), "{start:?}");
            assert!(printed::width(&start) <= columns, "{columns}: {start:?}");
        }
    }
    drop(printed::lines(&said));
    assert!(!text::shown(&said).contains(text::is_hidden));
    let value = serde_json::Value::from(&*said);
    let json = text::json(&value).expect("any text is JSON");
    assert!(!json.contains(text::is_hidden));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("written and read"), value);
    let mut table =
        text::Table::new(&[("A", text::Column::Text(4)), ("B", text::Column::Word)], anstyle::Style::new());
    table.row(said.splitn(2, '\n').map(text::Cell::from).collect());
    table.note(&said);
    assert!(table.lines(20).iter().all(|line| !line.contains(text::is_hidden)));
});
