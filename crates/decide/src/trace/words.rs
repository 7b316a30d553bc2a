//! What is known of layers, in words.

use super::Row;
use super::path::Deed;
use strata_spec::origins::{Cause, Evidence, Kind, OnExport, Origin, Reason, ReasonCode, Source};
use strata_spec::sealed::{Changes, Outcome};
use toml::Value;

/// Digits of ids and digests that tell them apart by eye.
const SHORT: usize = 12;

/// How a layer came to be in this build, in a word or two.
pub fn how(row: &Row) -> &'static str {
    match (row.from, row.on_export) {
        (Evidence::ThisBuild, Some(OnExport::Reused)) => "built, same",
        (Evidence::ThisBuild, _) => "built",
        (Evidence::Cache, _) => "restored",
        (Evidence::PreviousImage, _) => "reused",
        (Evidence::RunImage, _) => "inherited",
        (Evidence::Unknown, Some(OnExport::Added)) => "added",
        (Evidence::Unknown, Some(OnExport::Reused)) => "reused",
        (Evidence::Unknown, Some(OnExport::Cached)) => "cached",
        (Evidence::Unknown, Some(OnExport::Discarded)) => "discarded",
        (Evidence::Unknown, Some(OnExport::Inherited)) => "inherited",
        (Evidence::Unknown, None) => "unknown",
    }
}

/// How long ago a build was, in builds.
pub fn ago(builds: u64) -> String {
    if builds == 1 { "1 build ago".to_owned() } else { format!("{builds} builds ago") }
}

/// Who made a layer.
pub fn made_by(row: &Row) -> String {
    match row.kind {
        Some(Kind::RunImage) => "run image".into(),
        Some(Kind::Buildpack | Kind::Extension) if !row.buildpack_version.is_empty() => {
            format!("{}@{}", row.buildpack, row.buildpack_version)
        }
        Some(Kind::Buildpack | Kind::Extension) => row.buildpack.clone(),
        Some(Kind::App) => "the app".into(),
        Some(_) => row.build.as_ref().map_or("lifecycle", |build| &build.program).to_owned(),
        None => "unknown".into(),
    }
}

/// A source on a few characters: `git 1a2b3c4d5e6f`, with a `+` for what is not committed.
pub fn source(source: &Source) -> String {
    source_of(source, SHORT)
}

/// The same, with so many digits of a commit or checksum.
pub fn source_of(source: &Source, digits: usize) -> String {
    let (version, plus) = version(source);
    format!("{} {}{plus}", source.kind, shortened(&version, digits)).trim().to_owned()
}

/// A source with its version at full length.
pub fn exact_source(source: &Source) -> String {
    let (version, plus) = version(source);
    format!("{} {version}{plus}", source.kind).trim().to_owned()
}

fn version(source: &Source) -> (String, &'static str) {
    let text = |key: &str| source.version.get(key).and_then(Value::as_str);
    let plus = if text("changes").is_some() { "+" } else { "" };
    let first = source.version.values().find_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    });
    let version = text("commit")
        .or(text("revision"))
        .or(text("digest"))
        .map(str::to_owned)
        .or(first)
        .unwrap_or_default();
    (version, plus)
}

/// A long id or digest by its first characters.
pub fn short(id: &str) -> String {
    shortened(id, SHORT)
}

fn shortened(id: &str, digits: usize) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_hex = hex.len() > SHORT && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { hex.chars().take(digits).collect() } else { id.to_owned() }
}

/// Why an origin is unknown.
pub fn unknown(origin: &Origin) -> String {
    let cause = match origin.cause {
        Some(Cause::NoRecord) => "the cache has no record of it",
        Some(Cause::NoReport) => "no report lies beside the image before",
        Some(Cause::NoPlace) => "the image before is where nothing is kept beside images",
        Some(Cause::ReportRefused) => "the report beside the image before is refused",
        Some(Cause::NotReported) => "the report beside the image before does not know either",
        None => "the report does not say",
    };
    if origin.text.is_empty() { cause.to_owned() } else { origin.text.clone() }
}

/// What a buildpack did to a layer that is not its own, and what became of that: a sentence.
pub fn changed(changes: &Changes) -> String {
    let became = match changes.outcome {
        Outcome::Kept => "the layer has it so",
        Outcome::Discarded => "discarded",
        Outcome::Refused => "refused",
    };
    format!("{changes} ({became})")
}

/// What a buildpack did to a path: a sentence without its end.
pub fn deed(deed: &Deed) -> String {
    let Deed { by, kind, folder, outcome } = deed;
    let became = match outcome {
        Outcome::Kept => "",
        Outcome::Discarded => " (discarded)",
        Outcome::Refused => " (refused)",
    };
    let kind = match kind.as_deref() {
        None => return format!("perhaps {by}, which changed more than the report names"),
        Some("chmod") => "changed its mode",
        Some(kind) => kind,
    };
    let with = match folder.as_deref() {
        None => String::new(),
        Some("") => " with its layer".to_owned(),
        Some(folder) => format!(" with {folder}"),
    };
    format!("{by} {kind}{}{became}", if kind.contains(' ') { String::new() } else { format!(" it{with}") })
}

/// Why a layer was made again, or was not: a sentence.
pub fn why(reason: &Reason) -> String {
    let keys = if reason.keys.is_empty() { String::new() } else { format!(" ({})", reason.keys.join(", ")) };
    let mut text = format!("{}{keys}", code(reason.code));
    if !reason.also.is_empty() {
        let also: Vec<_> = reason.also.iter().map(|also| code(*also)).collect();
        text.push_str(&format!("; also {}", also.join(", ")));
    }
    if !reason.text.is_empty() {
        text.push_str(&format!(": {}", reason.text));
    }
    text
}

fn code(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::Unchanged => "it is the one of the build before",
        ReasonCode::Reproduced => "it was made again, with the same contents",
        ReasonCode::FirstBuild => "no build before is known",
        ReasonCode::NewLayer => "the build before had no such layer",
        ReasonCode::NotCached => "its buildpack does not have it cached, so every build makes it",
        ReasonCode::NoCache => "there was no cache to restore it from, or nothing in it",
        ReasonCode::NotRestored => "nothing was restored, as was asked for",
        ReasonCode::NotInCache => "the cache did not have it",
        ReasonCode::CacheDamaged => "the cache had it, with wrong bytes",
        ReasonCode::OriginRequired => "it was there, and was ignored: its origin is unknown",
        ReasonCode::BuildpackVersionChanged => "another version of the buildpack made it",
        ReasonCode::TypesChanged => "its types changed",
        ReasonCode::MetadataChanged => "its metadata changed",
        ReasonCode::BaseChanged => "the run image changed",
        ReasonCode::SourceChanged => "the app's source changed",
        ReasonCode::ContentsChanged => "its contents changed, and nothing else that is known",
        ReasonCode::Unknown => "it is not known",
    }
}
