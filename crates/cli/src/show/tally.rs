//! What a build did, put together from its events, and shown in the end.

use super::text::{Column, Table, shown};
use super::{DIM, GOOD, bytes, duration};
use anstyle::Style;
use std::time::Duration;
use strata_phases::Event;
use strata_phases::summary::{Buildpack, Count, Layers, Part, Phase, Summary, Transfer};

/// From how many milliseconds on a thing is worth a line.
const LONG: u64 = 100;

/// A summary while it grows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    summary: Summary,
    /// Where the transfer goes that is going on.
    transfer: Option<Transfer>,
}

impl Tally {
    /// Counts an event.
    pub(crate) fn take(&mut self, event: &Event) {
        let Self { summary, transfer } = self;
        match event {
            Event::PhaseFinished { phase, millis } => {
                summary.phases.push(Phase { phase: phase.clone(), millis: *millis });
            }
            Event::Detected { buildpacks, .. } => {
                let named = |label| Buildpack { buildpack: label, ..Buildpack::default() };
                summary.buildpacks = buildpacks.iter().map(|one| named(one.label())).collect();
            }
            Event::BuildpackFinished { buildpack, millis, .. } => {
                let found = summary.buildpacks.iter_mut().find(|one| one.buildpack == *buildpack);
                found.into_iter().for_each(|one| one.millis = *millis);
            }
            Event::Restored { id, size } => count(summary, id, |layers| layers.restored.add(*size)),
            Event::Layer { id, size, is_reused, .. } => count(summary, id, |layers| {
                if *is_reused { layers.reused.add(*size) } else { layers.built.add(*size) }
            }),
            Event::TransferStarted { from, to, .. } => {
                *transfer = Some(Transfer { from: from.clone(), to: to.clone(), ..Transfer::default() });
            }
            Event::TransferFinished { moved, millis } => {
                let transfer = transfer.take();
                summary.transfers.extend(transfer.map(|to| Transfer {
                    moved: *moved,
                    millis: *millis,
                    ..to
                }));
            }
            Event::Image { names, digest, size, process } => {
                summary.names.clone_from(names);
                summary.digest.clone_from(digest);
                summary.size = *size;
                summary.process.clone_from(process);
            }
            _ => {}
        }
    }

    /// Counts what is no phase, and began when so many milliseconds were [accounted for](Self::accounted).
    pub(crate) fn part(&mut self, name: &str, time: Duration, before: u64) {
        let within = self.accounted().saturating_sub(before);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_sub(within);
        self.summary.parts.push(Part { part: name.to_owned(), millis });
    }

    /// How many milliseconds are known by name.
    pub(crate) fn accounted(&self) -> u64 {
        accounted(&self.summary)
    }

    /// The whole, with what no event says.
    pub(crate) fn summary(&self, time: Duration, log: Option<String>, next: Vec<String>) -> Summary {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Summary { millis, log, next, ..self.summary.clone() }
    }
}

/// Counts a layer for the whole, and for its buildpack.
fn count(summary: &mut Summary, id: &str, add: impl Fn(&mut Layers)) {
    add(&mut summary.layers);
    let owner = id.rsplit_once(':').map(|(buildpack, _)| buildpack);
    let is_owner = |label: &str| label.split_once('@').map(|(id, _)| id) == owner;
    let found = summary.buildpacks.iter_mut().find(|one| is_owner(&one.buildpack));
    found.into_iter().for_each(|one| add(&mut one.layers));
}

/// A summary for people, made to fit into so many columns.
pub(crate) fn lines(summary: &Summary, columns: usize) -> Vec<String> {
    let mut table = Table::new(
        &[
            ("", Column::Text(12)),
            ("TIME", Column::Number),
            ("BUILT", Column::Number),
            ("RESTORED", Column::Number),
            ("REUSED", Column::Number),
        ],
        DIM,
    );
    let mut add = |name: &str, millis, layers: &Layers| {
        let Layers { built, restored, reused } = layers;
        let mut row = vec![name.to_owned().into(), duration(millis).into()];
        row.extend([built, restored, reused].map(|count| number(count).into()));
        table.row(row);
    };
    for Transfer { from, millis, .. } in summary.transfers.iter().filter(|one| one.from.is_some()) {
        add(&format!("fetch {}", from.as_deref().unwrap_or_default()), *millis, &Layers::default());
    }
    for Phase { phase, millis } in &summary.phases {
        let own = if phase == "export" { others(summary) } else { Layers::default() };
        add(phase, *millis, &own);
        for Buildpack { buildpack, millis, layers } in summary.buildpacks.iter().filter(|_| phase == "build")
        {
            add(&format!("  {}", buildpack.replace('@', " ")), *millis, layers);
        }
    }
    for Transfer { to, millis, .. } in summary.transfers.iter().filter(|one| one.from.is_none()) {
        add(&format!("copy to {to}"), *millis, &Layers::default());
    }
    for Part { part, millis } in summary.parts.iter().filter(|part| part.millis >= LONG) {
        add(part, *millis, &Layers::default());
    }
    let others = other_millis(summary);
    if others >= LONG {
        add("other", others, &Layers::default());
    }
    add("all", summary.millis, &summary.layers);
    let mut lines = table.lines(columns);
    lines.push(String::new());
    lines.extend(image(summary));
    lines
}

/// How many milliseconds have no line of their own.
fn other_millis(summary: &Summary) -> u64 {
    let short = summary.parts.iter().map(|part| part.millis).filter(|millis| *millis < LONG);
    summary.millis.saturating_sub(accounted(summary)) + short.sum::<u64>()
}

fn accounted(summary: &Summary) -> u64 {
    let phases = summary.phases.iter().map(|phase| phase.millis);
    let parts = summary.parts.iter().map(|part| part.millis);
    let transfers = summary.transfers.iter().map(|transfer| transfer.millis);
    phases.chain(parts).chain(transfers).sum()
}

/// Layers of no buildpack: the app's, and Strata's own.
fn others(summary: &Summary) -> Layers {
    let rest = |of: fn(&Layers) -> Count| {
        let taken = summary.buildpacks.iter().map(|one| of(&one.layers));
        taken.fold(of(&summary.layers), |all, one| Count {
            count: all.count.saturating_sub(one.count),
            size: all.size.saturating_sub(one.size),
        })
    };
    let (built, reused) = (rest(|layers| layers.built), rest(|layers| layers.reused));
    Layers { built, reused, restored: rest(|layers| layers.restored) }
}

fn number(count: &Count) -> String {
    if count.count == 0 { String::new() } else { format!("{}, {}", count.count, bytes(count.size)) }
}

/// Which image it is, and what to do with it.
fn image(summary: &Summary) -> Vec<String> {
    let plain = Style::new();
    let names = summary.names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    let starts = summary.process.as_deref().unwrap_or("nothing by default: no default process");
    let mut rows = vec![
        (GOOD, "Image", names),
        // Together not more than 80 columns.
        (plain, "digest", summary.digest.clone()),
        (plain, "size", bytes(summary.size)),
        (plain, "starts", shown(starts).into_owned()),
    ];
    rows.extend(summary.log.iter().map(|log| (plain, "log", shown(log).into_owned())));
    let next = summary.next.iter().enumerate();
    rows.extend(
        next.map(|(at, command)| (plain, if at == 0 { "next" } else { "" }, shown(command).into_owned())),
    );
    rows.into_iter().map(|(style, title, text)| format!("{style}{title:<8}{style:#}{text}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::group::GroupElement;

    fn layer(id: &str, size: u64, is_reused: bool) -> Event {
        let (diff_id, digest) = (String::new(), String::new());
        Event::Layer { id: id.into(), diff_id, digest, size, uncompressed_size: None, is_reused }
    }

    fn element(id: &str, version: &str) -> GroupElement {
        GroupElement { id: id.into(), version: version.into(), ..GroupElement::default() }
    }

    #[test]
    fn a_summary_says_what_each_part_did_and_fits() {
        let buildpacks =
            vec![element("acme/node", "1.2.3"), element("acme/a-very-long-name-of-a-buildpack", "10.0.0")];
        let phase = |phase: &str, millis| Event::PhaseFinished { phase: phase.into(), millis };
        let node = "acme/node@1.2.3".to_owned();
        let digest = format!("sha256:{}", "a".repeat(64));
        let names = vec!["web:latest".to_owned()];
        let mut tally = Tally::default();
        for event in [
            Event::TransferStarted { from: Some("acme/builder".into()), to: "x".into(), blobs: 2, size: 0 },
            Event::TransferFinished { moved: 7, millis: 2500 },
            Event::Detected { buildpacks, extensions: Vec::new(), tried: 3 },
            phase("detect", 12),
            Event::Restored { id: "acme/node:deps".into(), size: 34_100_000 },
            phase("restore", 300),
            Event::BuildpackFinished { buildpack: node, millis: 61_000, layers: Vec::new() },
            phase("build", 62_000),
            layer("acme/node:deps", 12_300_000, true),
            layer("acme/node:dist", 1_000, false),
            layer("app", 2_000, false),
            phase("export", 1_100),
            Event::Image { names, digest: digest.clone(), size: 50_000_000, process: Some("web".into()) },
        ] {
            tally.take(&event);
        }
        let summary = tally.summary(Duration::from_millis(65_000), None, vec!["strata run web".into()]);
        let layers = summary.buildpacks[0].layers;
        assert_eq!((layers.built, layers.restored.count), (Count { count: 1, size: 1000 }, 1));
        assert_eq!(summary.layers.built, Count { count: 2, size: 3000 });
        let plain = |line: String| anstream::adapter::strip_str(&line).to_string();
        let lines: Vec<String> = lines(&summary, 80).into_iter().map(plain).collect();
        let title = format!("{:45}TIME      BUILT    RESTORED      REUSED", "");
        assert_eq!(
            lines,
            [
                title.get(4..).unwrap(),
                "fetch acme/builder                      2.5 s",
                "detect                                  12 ms",
                "restore                                300 ms",
                "build                                  1m 02s",
                "  acme/node 1.2.3                      1m 01s  1, 1.0 kB  1, 34.1 MB  1, 12.3 MB",
                "  acme/a-very-long…a-buildpack 10.0.0    0 ms",
                "export                                  1.1 s  1, 2.0 kB",
                "all                                    1m 05s  2, 3.0 kB  1, 34.1 MB  1, 12.3 MB",
                "",
                "Image   web:latest",
                &format!("digest  {digest}"),
                "size    50.0 MB",
                "starts  web",
                "next    strata run web",
            ]
        );
        assert!(lines.iter().all(|line| super::super::printed::width(line) <= 80));
    }

    #[test]
    fn what_is_no_phase_is_told_by_name_without_the_phases_in_it() {
        let mut tally = Tally::default();
        tally.take(&Event::PhaseFinished { phase: "analyze".into(), millis: 40 });
        tally.part("earlier", Duration::from_millis(250), 0);
        tally.part("app", Duration::from_millis(30), tally.accounted());
        let summary = tally.summary(Duration::from_millis(500), None, Vec::new());
        let parts: Vec<_> = summary.parts.iter().map(|part| (part.part.as_str(), part.millis)).collect();
        assert_eq!(parts, [("earlier", 210), ("app", 30)]);
        let plain = |line: String| anstream::adapter::strip_str(&line).to_string();
        let lines: Vec<String> = lines(&summary, 80).into_iter().map(plain).collect();
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: Vec<String> = lines[1..5].iter().map(words).collect();
        // What is short is with the rest.
        assert_eq!(words, ["analyze 40 ms", "earlier 210 ms", "other 250 ms", "all 500 ms"]);
    }
}
