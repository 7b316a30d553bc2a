//! What a program is made of, in three formats: the exporter copies these files into app images.
//!
//! Listed is what is linked into the program: its crates, without build scripts, macros and tests. Everything that
//! such documents usually take from a clock or from chance comes from the input.

mod cyclonedx;
mod spdx;
mod syft;

use serde_json::Value;
use strata_oci::Digest;

use crate::args::Release;
use crate::graph::{Crate, Id};
use crate::programs::Program;

/// The tool that wrote the documents.
const TOOL: (&str, &str) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
/// Where the source of this project is.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The documents by the part of the file name that tells them apart.
pub(crate) fn write(release: &Release, program: &Program) -> [(&'static str, Value); 3] {
    let bill = Bill { release, program };
    [("cdx", cyclonedx::write(&bill)), ("spdx", spdx::write(&bill)), ("syft", syft::write(&bill))]
}

/// What all formats need.
struct Bill<'a> {
    release: &'a Release,
    program: &'a Program,
}

impl<'a> Bill<'a> {
    /// All crates but the program's own, by name and version.
    fn libraries(&self) -> impl Iterator<Item = (&'a Id, &'a Crate)> {
        let graph = &self.program.graph;
        graph.crates.iter().filter(|(id, _)| **id != graph.root)
    }

    /// The crate of the program itself.
    fn root(&self) -> &'a Crate {
        &self.program.graph.crates[&self.program.graph.root]
    }

    /// What the program is known by: its crate, in the version of the release.
    fn program_purl(&self) -> String {
        let (name, _) = &self.program.graph.root;
        format!("pkg:cargo/{name}@{}?{}", escape(&self.release.version), self.source_qualifier())
    }

    /// The package URL of a crate (<https://github.com/package-url/purl-spec>). A crate without checksum is one of
    /// this project, and no registry has it.
    fn purl(&self, id: &Id, of: &Crate) -> String {
        let (name, version) = id;
        match of.checksum {
            _ if *id == self.program.graph.root => self.program_purl(),
            Some(_) => format!("pkg:cargo/{name}@{}", escape(version)),
            None => format!("pkg:cargo/{name}@{}?{}", escape(version), self.source_qualifier()),
        }
    }

    fn source_qualifier(&self) -> String {
        format!("vcs_url={}", escape(&self.source()))
    }

    /// Where the source of this release is, as SPDX writes it.
    fn source(&self) -> String {
        match self.release.commit.as_str() {
            "" => format!("git+{REPOSITORY}"),
            commit => format!("git+{REPOSITORY}@{commit}"),
        }
    }

    /// A UUID that is the same for the same program and release, of the version for custom contents (RFC 9562).
    fn uuid(&self) -> String {
        let Release { version, commit, created } = self.release;
        let Program { name, digest, .. } = self.program;
        let mut bytes: [u8; 16] = [0; 16];
        let seed = Digest::of(format!("{name} {version} {commit} {created} {digest}").as_bytes());
        bytes.copy_from_slice(&seed.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Percent-encodes what a package URL gives a meaning of its own.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '+' | '@' | '%' | '&' | '?' | '#' | ' ' => out.push_str(&format!("%{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
