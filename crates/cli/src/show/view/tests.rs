//! What is drawn, and what stays, of a build at any moment.

use super::screen::redraw;
use super::*;
use anstream::adapter::strip_str;
use strata_spec::group::GroupElement;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plain(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| strip_str(line).to_string()).collect()
}

fn phase(name: &str) -> Event {
    Event::PhaseStarted { phase: name.into() }
}

fn over(name: &str, millis: u64) -> Event {
    Event::PhaseFinished { phase: name.into(), millis }
}

fn said(line: &str) -> Event {
    Event::Output { buildpack: "acme/deps@1.2.3".into(), line: line.into() }
}

fn detected() -> Event {
    let element =
        |id: &str| GroupElement { id: id.into(), version: "1.2.3".into(), ..GroupElement::default() };
    Event::Detected {
        buildpacks: vec![element("acme/engine"), element("acme/deps"), element("acme/last")],
        extensions: Vec::new(),
        tried: 5,
    }
}

/// A build that is with its second buildpack, and the lines that stay of it.
fn building(columns: usize) -> (View, Vec<String>) {
    let mut view = View::default();
    let mut stay = Vec::new();
    let engine = "acme/engine@1.2.3".to_owned();
    for event in [
        phase("detect"),
        detected(),
        over("detect", 250),
        phase("restore"),
        Event::Restored { id: "acme/engine:node".into(), size: 34_100_000 },
        over("restore", 1500),
        phase("build"),
        Event::BuildpackStarted { buildpack: engine.clone() },
        said("nobody sees this any more"),
        Event::BuildpackFinished {
            buildpack: engine,
            millis: 4100,
            layers: vec!["node".into(), "env".into()],
        },
        Event::BuildpackStarted { buildpack: "acme/deps@1.2.3".into() },
    ] {
        stay.extend(view.take(&event, seconds(2), columns));
    }
    (view, stay)
}

#[test]
fn what_is_done_is_one_line() {
    for (columns, expected) in [
        (
            80,
            [
                "✓ detect                                       250 ms  3 buildpacks",
                "✓ restore                                       1.5 s  1 layer, 34.1 MB",
                "  ✓ acme/engine 1.2.3                           4.1 s  2 layers, 1 restored",
            ],
        ),
        (
            40,
            [
                "✓ detect                         250 ms",
                "✓ restore                         1.5 s",
                "  ✓ acme/engine 1.2.3             4.1 s",
            ],
        ),
        (20, ["✓ detect     250 ms", "✓ restore     1.5 s", "  ✓ acm….3    4.1 s"]),
    ] {
        assert_eq!(plain(&building(columns).1), expected);
    }
}

#[test]
fn what_is_said_while_buildpacks_detect_is_drawn_until_they_are_done() {
    let mut view = View::default();
    view.take(&Event::PhaseStarted { phase: "detect".into() }, seconds(1), 80);
    for number in 0..20 {
        let line = format!("\u{1b}[2Jlooks at {number}");
        view.take(&Event::DetectOutput { buildpack: "acme/deps@1.2.3".into(), line }, seconds(1), 80);
    }
    let frame = plain(&view.frame(seconds(2), Size { columns: 80, rows: 6 }));
    let expected =
        ["⠋ detect  1.0 s", "  │ [acme/deps@1.2.3] looks at 17", "  │ [acme/deps@1.2.3] looks at 18"];
    assert_eq!(frame[..3], expected);
    assert_eq!(frame[3], "  │ [acme/deps@1.2.3] looks at 19");
    assert_eq!(plain(&view.frame(seconds(2), Size { columns: 80, rows: 24 })).len(), 12);
    view.take(&Event::PhaseFinished { phase: "detect".into(), millis: 9 }, seconds(2), 80);
    assert!(!plain(&view.frame(seconds(2), Size { columns: 80, rows: 24 })).concat().contains("looks"));
}

#[test]
fn what_goes_on_is_drawn_with_the_last_lines_of_output() {
    let (mut view, _) = building(80);
    for line in [
        "one",
        "\u{1b}[31mtwo\u{1b}[0m \u{1b}[2J漢字",
        "a very long line that does not fit into forty columns",
    ] {
        view.take(&said(line), seconds(3), 80);
    }
    let so_far = Event::OutputSoFar { buildpack: "acme/deps@1.2.3".into(), line: "10%\r20%".into() };
    view.take(&so_far, seconds(3), 80);
    let size = |columns, rows| Size { columns, rows };
    assert_eq!(
        plain(&view.frame(seconds(5), size(80, 24))),
        [
            "⠋ acme/deps 1.2.3  3.0 s  2 of 3",
            "  │ one",
            "  │ two 漢字",
            "  │ a very long line that does not fit into forty columns",
            "  │ 20%",
            "  then acme/last 1.2.3",
            "detect 250 ms · restore 1.5 s · build 3.0 s · export",
        ]
    );
    // Colours stay, and nothing else does.
    assert!(view.frame(seconds(5), size(80, 24))[2].ends_with("\u{1b}[31mtwo\u{1b}[0m 漢字"));
    assert_eq!(
        plain(&view.frame(seconds(5), size(40, 6))),
        [
            "⠋ acme/deps 1.2.3  3.0 s  2 of 3",
            "  │ a very long line that does not fit…",
            "  │ 20%",
            "  then acme/last 1.2.3",
            "detect · restore · build 3.0 s · export",
        ]
    );
    assert_eq!(plain(&view.frame(seconds(5), size(10, 3))), ["⠋ acme/d…", "detect ·…"]);
    view.take(&said("30%"), seconds(3), 80);
    assert_eq!(plain(&view.frame(seconds(5), size(80, 24)))[4], "  │ 30%");
}

#[test]
fn no_line_is_ever_wider_than_the_terminal_nor_a_frame_higher() {
    let (mut view, _) = building(80);
    for number in 0..50 {
        view.take(
            &said(&format!("{number} 漢字\u{1b}[32m🎉 e\u{301}\t{}", "長い".repeat(number))),
            seconds(3),
            80,
        );
    }
    let transfer =
        Event::TransferStarted { from: Some("a".repeat(90)), to: "b".into(), blobs: 3, size: 1 << 40 };
    let progress = Event::Progress { done: 1 << 39, size: 1 << 40, moved: 1 << 39, rate: 1 << 20 };
    for event in [None, Some(transfer), Some(progress)] {
        event.into_iter().for_each(|event| drop(view.take(&event, seconds(3), 80)));
        for columns in 0..220 {
            for rows in [0, 1, 2, 3, 5, 24] {
                let frame = view.frame(seconds(5), Size { columns, rows });
                assert!(frame.len() < rows.max(1), "{columns} {rows}: {frame:#?}");
                let widest = frame.iter().map(|line| crate::show::printed::width(line)).max().unwrap_or(0);
                assert!(widest < columns.max(1), "{columns} {rows}: {frame:#?}");
            }
        }
    }
}

#[test]
fn a_transfer_has_bytes_and_rate() {
    let mut view = View::default();
    let started =
        |size| Event::TransferStarted { from: Some("acme/base".into()), to: String::new(), blobs: 2, size };
    let progress = |size| Event::Progress { done: 30_000_000, size, moved: 0, rate: 10_000_000 };
    let drawn = |view: &mut View, size, columns| {
        view.take(&started(size), seconds(1), columns);
        view.take(&progress(size), seconds(1), columns);
        plain(&view.frame(seconds(4), Size { columns, rows: 24 }))
    };
    assert_eq!(
        drawn(&mut view, 40_000_000, 80),
        [
            "⠋ fetch acme/base  3.0 s",
            "  30.0 MB of 40.0 MB  10.0 MB/s  [======================>       ]  2 s left",
        ]
    );
    assert_eq!(drawn(&mut view, 40_000_000, 40)[1], "  30.0 MB of 40.0 MB  10.0 MB/s");
    assert_eq!(drawn(&mut view, 0, 40)[1], "  30.0 MB  10.0 MB/s");
    let over = Event::TransferFinished { moved: 40_000_000, millis: 4000 };
    let stay = view.take(&over, seconds(5), 80);
    assert_eq!(plain(&stay), ["✓ fetch acme/base                               4.0 s  40.0 MB, 10.0 MB/s"]);
    assert_eq!(plain(&view.frame(seconds(5), Size::USUAL)), ["⠋ prepare  5.0 s"]);
    assert!(view.transfer(seconds(5), Size::USUAL).is_empty());
}

#[test]
fn what_goes_on_besides_phases_is_drawn_until_all_is_over() {
    let mut view = View::default();
    let drawn = |view: &View| plain(&view.frame(seconds(4), Size::USUAL));
    assert_eq!(drawn(&view), ["⠋ prepare  4.0 s"]);
    view.take(&phase("analyze"), seconds(1), 80);
    view.take(&over("analyze", 2), seconds(2), 80);
    let coming = " · detect · restore · build · export";
    assert_eq!(drawn(&view), ["⠋ prepare  2.0 s", &format!("analyze 2 ms{coming}")]);
    view.take(&phase("export"), seconds(2), 80);
    view.take(&phase("detect"), seconds(2), 80);
    view.take(&over("export", 2), seconds(3), 80);
    view.take(&over("detect", 2), seconds(3), 80);
    assert_eq!(drawn(&view)[0], "⠋ finish  1.0 s");
    view.take(&Event::Summary(Box::default()), seconds(3), 80);
    assert!(drawn(&view).is_empty());
}

#[test]
fn all_that_a_failed_buildpack_said_last_stays() {
    let (mut view, _) = building(80);
    for number in 0..TAIL + 2 {
        view.take(&said(&format!("line {number}")), seconds(3), 80);
    }
    let failed = Event::Failed(Failure::new(Exit::BuildpackBuild, "it failed"));
    let stay = plain(&view.take(&failed, seconds(5), 80));
    assert_eq!(
        stay[..3],
        ["✗ acme/deps 1.2.3                               3.0 s", "  … 2 lines before", "  line 2"]
    );
    assert_eq!((stay.len(), stay.last().unwrap().as_str()), (TAIL + 2, "  line 501"));
    assert!(view.frame(seconds(6), Size::USUAL).is_empty());
    let (mut view, _) = building(80);
    view.take(&said("line"), seconds(3), 80);
    let stopped = Event::Failed(Failure::new(Exit::Interrupted, "interrupted"));
    assert_eq!(view.take(&stopped, seconds(5), 80).len(), 1);
}

#[test]
fn what_was_drawn_is_drawn_over() {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    for (drawn, stay, frame, columns, expected) in [
        (&[][..], &[][..], &["a"][..], 80, "\ra<K\n<K"),
        (&["a", "b"], &[], &["c"], 80, "\r<2Ac<K\n<K\n<K<1A"),
        (&["a", "b"], &["stays"], &["c"], 80, "\r<2A<K\n<K\n<K<2Astays\nc<K\n<K"),
        (&["a", ""], &[], &[], 80, "\r<2A<K\n<K\n<K<2A"),
        // The terminal has broken the lines by now.
        (&["0123456789", "漢字漢字漢字"], &[], &[], 4, "\r<6A<K\n<K\n<K\n<K\n<K\n<K\n<K<6A"),
        (&["\u{1b}[31m0123\u{1b}[0m"], &[], &[], 4, "\r<1A<K\n<K<1A"),
    ] {
        let text = redraw(&lines(drawn), &lines(stay), &lines(frame), columns);
        assert_eq!(text.replace("\u{1b}[", "<").replace("\r\n", "\n"), expected);
    }
}
