//! What an image says of the source that it was built from.
//!
//! The label has only what is the same for everyone who builds one commit: the commit, the folder in the repository, a
//! digest of what is not committed, and the repository's URL in one spelling. What differs from one clone to the next
//! (names of branches, the nearest tag, names of changed files) is for the report.

pub mod git;
pub mod hg;
pub mod svn;
mod url;

pub use url::public_url;

use strata_oci::annotation::{AUTHORS, CREATED, DOCUMENTATION, LICENSES, REVISION, SOURCE, TITLE, VERSION};
use strata_oci::{Digest, Hasher};
use strata_spec::launch::Label;
use strata_spec::project::{Declared, Source};
use toml::Value;

/// The keys that [`standard`] may give.
pub const STANDARD: [&str; 8] = [SOURCE, REVISION, VERSION, CREATED, TITLE, LICENSES, AUTHORS, DOCUMENTATION];

/// Names of files that the report has at most.
const MAX_NAMES: usize = 100;
/// Longer texts of a `project.toml` are left out, in bytes.
const MAX_TEXT: usize = 1024;

/// Where an app comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A commit of a repository.
    Commit(Box<Commit>),
    /// A commit, of which it is not known what was changed since.
    Checkout(Checkout),
    /// A file or an image that was given as the source.
    Given(Given),
    /// A folder of which no more is known than what is in it.
    Content(Digest),
}

/// What keeps a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum System {
    /// Git.
    #[default]
    Git,
    /// Mercurial.
    Mercurial,
    /// Subversion.
    Subversion,
}

impl System {
    /// The type of a source, which is the name of its program.
    pub fn word(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Mercurial => "hg",
            Self::Subversion => "svn",
        }
    }

    /// What it calls a commit.
    fn key(self) -> &'static str {
        match self {
            Self::Git | Self::Mercurial => "commit",
            Self::Subversion => "revision",
        }
    }
}

/// A commit as it can be read without the program that knows the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// What keeps its repository: Git or Mercurial.
    pub system: System,
    /// Its id, in hex digits.
    pub commit: String,
    /// The app's folder in the repository; empty for its top.
    pub path: String,
    /// Where it was cloned from, as configured: it may hold a secret.
    pub url: Option<String>,
    /// Of all files that are built.
    pub content: Digest,
}

impl Default for Checkout {
    fn default() -> Self {
        Self {
            system: System::Git,
            commit: String::new(),
            path: String::new(),
            url: None,
            content: Digest::of(b""),
        }
    }
}

/// An archive or an image that the app is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// `archive` or `image`.
    pub kind: &'static str,
    /// Of the file, or of the image's manifest.
    pub digest: Digest,
    /// The name of the file without its folder.
    pub file: Option<String>,
    /// The image's name in a registry, without its tag.
    pub repository: Option<String>,
    /// The tags that it was asked for by.
    pub refs: Vec<String>,
    /// The folder in the image.
    pub path: Option<String>,
}

/// A commit, and what was there besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// What keeps its repository.
    pub system: System,
    /// Its id, in hex digits; of Subversion its number, or several as `svnversion` has them.
    pub commit: String,
    /// When it was committed: RFC 3339, in seconds.
    pub created: Option<String>,
    /// The app's folder in the repository; empty for its top.
    pub path: String,
    /// Where it was cloned from, as configured: it may hold a secret. Of Subversion the top of the repository.
    pub url: Option<String>,
    /// The branch, where that is part of a commit: in Mercurial, and in Subversion by the usual names of folders.
    pub branch: Option<String>,
    /// What tells Subversion's repositories apart that have no URL for everyone.
    pub uuid: Option<String>,
    /// Full names of the branches and tags that point to the commit.
    pub refs: Vec<String>,
    /// The nearest tag, as `git describe` has it.
    pub describe: Option<String>,
    /// Whether older commits are missing.
    pub is_shallow: bool,
    /// Submodules in the app's folder.
    pub submodules: Vec<Submodule>,
    /// What is not committed.
    pub changes: Option<Changes>,
    /// Paths that are to be ignored, below the app's folder; they are built all the same.
    pub ignored: Vec<String>,
}

/// A repository within the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// Its folder, below the app's.
    pub path: String,
    /// The commit that the outer repository names.
    pub commit: String,
    /// Whether its files are there.
    pub is_checked_out: bool,
}

/// What is not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Of the changed files' names and contents.
    pub digest: Digest,
    /// Their names, below the app's folder.
    pub files: Vec<String>,
}

/// What the label says.
pub fn label(origin: &Origin, declared: &Declared) -> Source {
    let mut source = Source::default();
    match origin {
        Origin::Commit(commit) => {
            let changes = commit.changes.as_ref().map(|changes| changes.digest.to_string());
            source.kind = commit.system.word().into();
            put(&mut source.version, commit.system.key(), Some(commit.commit.clone()));
            put(&mut source.version, "changes", changes);
            put(&mut source.metadata, "branch", commit.branch.clone().and_then(short));
            put(&mut source.metadata, "path", Some(commit.path.clone()).filter(|path| !path.is_empty()));
            put(&mut source.metadata, "url", commit.url.as_deref().and_then(public_url));
            put(&mut source.metadata, "uuid", commit.uuid.clone().and_then(short));
        }
        Origin::Checkout(checkout) => {
            source.kind = checkout.system.word().into();
            put(&mut source.version, "commit", Some(checkout.commit.clone()));
            put(&mut source.version, "digest", Some(checkout.content.to_string()));
            put(&mut source.metadata, "path", Some(checkout.path.clone()).filter(|path| !path.is_empty()));
            put(&mut source.metadata, "url", checkout.url.as_deref().and_then(public_url));
        }
        Origin::Given(given) => {
            source.kind = given.kind.into();
            put(&mut source.version, "digest", Some(given.digest.to_string()));
            put(&mut source.metadata, "path", given.path.clone());
            put(&mut source.metadata, "repository", given.repository.clone());
        }
        Origin::Content(digest) => {
            source.kind = "content".into();
            put(&mut source.version, "digest", Some(digest.to_string()));
        }
    }
    let project = project(declared);
    if !project.is_empty() {
        source.metadata.insert("project".into(), project.into());
    }
    source
}

/// What the report says: all that the label says, and what differs between two clones.
pub fn detailed(origin: &Origin, declared: &Declared) -> Source {
    let mut source = label(origin, declared);
    let commit = match origin {
        Origin::Commit(commit) => commit,
        Origin::Given(given) => {
            put(&mut source.metadata, "file", given.file.clone());
            if !given.refs.is_empty() {
                let refs: Vec<Value> = given.refs.iter().cloned().map(Value::from).collect();
                source.metadata.insert("refs".into(), refs.into());
            }
            return source;
        }
        Origin::Checkout(_) | Origin::Content(_) => return source,
    };
    let metadata = &mut source.metadata;
    let names = |names: &[String]| -> Value {
        names.iter().take(MAX_NAMES).cloned().map(Value::from).collect::<Vec<_>>().into()
    };
    put(metadata, "describe", commit.describe.clone());
    if !commit.refs.is_empty() {
        metadata.insert("refs".into(), names(&commit.refs));
    }
    if commit.is_shallow {
        metadata.insert("shallow".into(), true.into());
    }
    let changed = commit.changes.as_ref().map(|changes| &changes.files);
    for (key, files) in [("changed", changed), ("ignored", Some(&commit.ignored))] {
        let Some(files) = files.filter(|files| !files.is_empty()) else { continue };
        metadata.insert(format!("{key}-count"), Value::from(i64::try_from(files.len()).unwrap_or(i64::MAX)));
        metadata.insert(format!("{key}-files"), names(files));
    }
    let submodules: Vec<Value> = commit.submodules.iter().take(MAX_NAMES).map(submodule).collect();
    if !submodules.is_empty() {
        metadata.insert("submodules".into(), submodules.into());
    }
    source
}

fn submodule(submodule: &Submodule) -> Value {
    let mut table = toml::Table::new();
    put(&mut table, "path", Some(submodule.path.clone()));
    put(&mut table, "commit", Some(submodule.commit.clone()));
    table.insert("checked-out".into(), submodule.is_checked_out.into());
    table.into()
}

fn project(declared: &Declared) -> toml::Table {
    let mut table = toml::Table::new();
    put(&mut table, "id", declared.id.clone().and_then(short));
    put(&mut table, "name", declared.name.clone().and_then(short));
    put(&mut table, "version", declared.version.clone().and_then(short));
    put(&mut table, "source-url", declared.source_url.as_deref().and_then(public_url));
    let licenses: Vec<Value> = declared.licenses.iter().cloned().filter_map(short).map(Value::from).collect();
    if !licenses.is_empty() {
        table.insert("licenses".into(), licenses.into());
    }
    table
}

/// The standard labels and annotations (OCI image specification, "Pre-Defined Annotation Keys"). `created` is the date
/// that was asked for, RFC 3339; without one it is that of the commit, if that is all that was built.
pub fn standard(origin: &Origin, declared: &Declared, created: Option<String>) -> Vec<Label> {
    let (commit, cloned) = match origin {
        Origin::Commit(commit) => (Some(commit), commit.url.as_deref()),
        Origin::Checkout(checkout) => (None, checkout.url.as_deref()),
        Origin::Given(_) | Origin::Content(_) => (None, None),
    };
    let clean = commit.filter(|commit| commit.changes.is_none());
    let url = declared.source_url.as_deref().or(cloned).and_then(public_url);
    let dirty = |commit: &Commit| if commit.changes.is_some() { "-dirty" } else { "" };
    let revision = commit.map(|commit| format!("{}{}", commit.commit, dirty(commit)));
    let version =
        declared.version.clone().and_then(short).or_else(|| clean.and_then(|commit| git::tag(&commit.refs)));
    let created = created.or_else(|| clean?.created.clone());
    let documentation = declared.documentation_url.as_deref().and_then(public_url);
    [(SOURCE, url), (REVISION, revision), (VERSION, version), (CREATED, created)]
        .into_iter()
        .chain([
            (TITLE, declared.name.clone().and_then(short)),
            (LICENSES, licenses(&declared.licenses).and_then(short)),
            (AUTHORS, Some(declared.authors.join(", ")).filter(|text| !text.is_empty()).and_then(short)),
            (DOCUMENTATION, documentation),
        ])
        .filter_map(|(key, value)| Some(Label { key: key.to_owned(), value: value? }))
        .collect()
}

/// One expression of all licenses, which hold side by side.
fn licenses(all: &[String]) -> Option<String> {
    let is_choice = |text: &str| text.to_ascii_uppercase().contains(" OR ");
    let one = |text: &String| if is_choice(text) { format!("({text})") } else { text.clone() };
    match all {
        [] => None,
        [only] => Some(only.clone()),
        all => Some(all.iter().map(one).collect::<Vec<_>>().join(" AND ")),
    }
}

/// A text that is fit to be shown.
fn short(text: String) -> Option<String> {
    Some(text).filter(|text| text.len() <= MAX_TEXT && !text.contains(char::is_control))
}

fn put(table: &mut toml::Table, key: &str, value: Option<String>) {
    if let Some(value) = value {
        table.insert(key.to_owned(), value.into());
    }
}

/// What a path of the app is, for the digest of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A file that can be executed.
    Program,
    /// A symbolic link; its content is what it says.
    Link,
    /// A folder without anything in it.
    EmptyDir,
    /// It was there and is not any more.
    Gone,
}

/// The digest of files by their names and contents. They have to come in the order of their names, as bytes; of each
/// it takes in its mode as Git has it, the digest of its content, its name and a zero byte:
/// `100644 sha256:… name\0`, `100755`, `120000` for a link, `040000 -` for an empty folder and `000000 -` for what is gone.
#[derive(Default)]
pub struct ContentDigest(Hasher);

impl ContentDigest {
    /// Adds a path; `content` is none for those that have no content.
    pub fn add(&mut self, kind: Kind, name: &[u8], content: Option<&Digest>) {
        let mode = match kind {
            Kind::File => "100644",
            Kind::Program => "100755",
            Kind::Link => "120000",
            Kind::EmptyDir => "040000",
            Kind::Gone => "000000",
        };
        let content = content.map_or_else(|| "-".to_owned(), Digest::to_string);
        self.0.update(format!("{mode} {content} ").as_bytes());
        self.0.update(name);
        self.0.update(b"\0");
    }

    /// The digest of all.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

impl std::fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentDigest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
