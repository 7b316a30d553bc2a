//! The files of a lifecycle: what is in `/cnb/lifecycle`.

use strata_layer::{Content, GeneratedEntry, Owner};

use crate::args::Release;
use crate::programs::{Program, Programs};
use crate::{descriptor, sbom};

/// The names under which platforms call the phases.
const PHASES: [&str; 8] =
    ["analyzer", "builder", "creator", "detector", "exporter", "extender", "rebaser", "restorer"];

/// The descriptor, the directory and what is in it, in the order of the reference's releases.
pub(crate) fn in_lifecycle(release: &Release, programs: &Programs) -> Vec<GeneratedEntry> {
    let mut files: Vec<GeneratedEntry> =
        PHASES.iter().map(|phase| entry(phase, 0o777, Content::Symlink("lifecycle".to_owned()))).collect();
    for program in [&programs.lifecycle, &programs.launcher] {
        files.push(entry(program.name, 0o755, Content::Bytes(program.bytes.clone())));
        files.extend(bills(release, program));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    for file in &mut files {
        file.name.insert_str(0, "lifecycle/");
    }
    let toml = descriptor::lifecycle_toml(&release.version);
    let mut all = vec![
        entry("lifecycle.toml", 0o644, Content::Bytes(toml.into_bytes())),
        entry("lifecycle", 0o755, Content::Dir),
    ];
    all.extend(files);
    all
}

/// The same files below another directory, with the directory itself first: readers of images skip one entry.
pub(crate) fn below(dir: &str, mut files: Vec<GeneratedEntry>) -> Vec<GeneratedEntry> {
    for file in &mut files {
        file.name = format!("{dir}/{}", file.name);
    }
    files.insert(0, entry(dir, 0o755, Content::Dir));
    files
}

fn bills(release: &Release, program: &Program) -> impl Iterator<Item = GeneratedEntry> {
    sbom::write(release, program).into_iter().map(|(format, document)| {
        let name = format!("{}.sbom.{format}.json", program.name);
        entry(&name, 0o644, Content::Bytes(format!("{document:#}\n").into_bytes()))
    })
}

fn entry(name: &str, mode: u32, content: Content) -> GeneratedEntry {
    GeneratedEntry { name: name.to_owned(), mode, owner: Owner::ROOT, content }
}
