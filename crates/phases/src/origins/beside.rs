//! Reports beside images: found, judged, and put there.

use crate::event::Observer;
use crate::failure::{Failure, chain};
use crate::saving::Output;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::SystemTime;
use strata_decide::export::created;
use strata_decide::origins::{Unknown, blobs, moved};
use strata_decide::trace::choose::{self, is_to_come, rank};
use strata_oci::annotation::CREATED;
use strata_oci::media_type::is_manifest;
use strata_oci::{Descriptor, Digest, Encoded, Image, Manifest};
use strata_spec::exit::Exit;
use strata_spec::origins::provenance::{PREDICATE, PREDICATE_ANNOTATION, STATEMENT};
use strata_spec::origins::{Cause, MAX_REPORT, MEDIA_TYPE, Report, ReportError};
use strata_store::registry::{Offered, Statement};
use strata_store::{Medium, Store, StoreError, StoredImage, Tree, put_file};

/// More reports than anybody looks at: each build of the same image leaves one.
const MAX_REPORTS: usize = 64;
/// The size of all that are read of one image, in bytes: in memory, a report takes a multiple of it.
const MAX_REPORTS_SIZE: u64 = 8 * 1024 * 1024;
/// The largest manifest of a report, in bytes.
const MAX_ARTIFACT: u64 = 64 * 1024;
/// More statements than are ever offered at once, and their size in bytes: all are in memory.
const MAX_STATEMENTS: usize = 64;
const MAX_STATEMENTS_SIZE: u64 = 16 * 1024 * 1024;
/// Reports that are refused and told of, one by one.
const TOLD: usize = 5;

/// A report that lies beside an image, and is about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// What it says.
    pub report: Report,
    /// The checksum of its bytes.
    pub digest: Digest,
}

/// All reports beside an image, the one to be believed first, and what is wrong with those that are not to be believed.
///
/// # Errors
/// When the place keeps nothing beside images, or cannot be asked.
pub fn all(store: &dyn Store, image: &StoredImage) -> Result<(Vec<Beside>, Vec<String>), StoreError> {
    let diff_ids: Vec<String> = image.image.layers().iter().map(|layer| layer.diff_id.to_string()).collect();
    let is_of_image = |report: &Report| {
        let diff_ids = diff_ids.iter().map(String::as_str);
        match store.medium() {
            // Their digests are their own. What lies beside an image names its id there.
            Medium::Daemon(_) | Medium::DockerArchive => report.check_layers(diff_ids),
            _ => report.check(&image.manifest_digest.to_string(), diff_ids),
        }
    };
    let (mut found, refused) =
        find(store, &image.manifest_digest, is_of_image, &mut MAX_REPORTS_SIZE.clone())?;
    rank(&image.image, &mut found, |beside| (&beside.report, beside.digest.to_string()));
    Ok((found, refused))
}

/// The same for an image that need not be there any more: nobody can tell whether the layers are its own. `room` is how
/// many bytes of reports may still be read, and becomes less.
///
/// # Errors
/// As of [`all`].
pub fn of_digest(
    store: &dyn Store,
    digest: &Digest,
    room: &mut u64,
) -> Result<(Vec<Beside>, Vec<String>), StoreError> {
    let is_of_image = |report: &Report| {
        let (expected, found) = (digest.to_string(), report.image.digest.clone());
        if expected == found { Ok(()) } else { Err(ReportError::OtherImage { expected, found }) }
    };
    find(store, digest, is_of_image, room)
}

/// Whether a thing that refers to an image is a report, or what one says as a statement.
pub fn is_report(referrer: &Tree) -> bool {
    referrer.blobs.iter().any(|blob| [MEDIA_TYPE, STATEMENT].contains(&&*blob.media_type))
}

fn find(
    store: &dyn Store,
    subject: &Digest,
    check: impl Fn(&Report) -> Result<(), ReportError>,
    room: &mut u64,
) -> Result<(Vec<Beside>, Vec<String>), StoreError> {
    let mut entries = store.referrers(subject, Some(MEDIA_TYPE))?;
    let mut known = BTreeSet::new();
    entries.retain(|entry| known.insert(entry.digest));
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let latest = in_a_day();
    let check = |beside: Beside| match check(&beside.report) {
        Ok(()) if latest.as_ref().is_some_and(|latest| is_to_come(&beside.report, latest)) => {
            Err(format!("it is of {}, which is yet to come", beside.report.build.time))
        }
        Ok(()) => Ok(beside),
        Err(error) => Err(error.to_string()),
    };
    sort(&mut entries, latest.as_deref());
    if entries.len() > MAX_REPORTS {
        let more = entries.len() - MAX_REPORTS;
        refused.push(format!("{more} older ones, for no more than {MAX_REPORTS} are read"));
    }
    let whole = (*room).min(MAX_REPORTS_SIZE);
    let (mut left, mut skipped) = (whole, 0_usize);
    for entry in entries.iter().take(MAX_REPORTS) {
        match one(store, subject, entry, &mut left).transpose().map(|outcome| outcome.and_then(check)) {
            Some(Ok(beside)) => found.push(beside),
            Some(Err(reason)) => refused.push(format!("{}: {reason}", entry.digest)),
            None => skipped += 1,
        }
    }
    *room -= whole - left;
    if skipped > 0 {
        let limit = MAX_REPORTS_SIZE >> 20;
        refused.push(format!("{skipped} for their size, for no more than {limit} MiB are read of one image"));
    }
    Ok((found, refused))
}

/// The newest first, as far as that is known: the order of referrers is any, though most lists grow at their end.
fn sort(entries: &mut [Descriptor], latest: Option<&str>) {
    entries.reverse();
    entries.sort_by_cached_key(|entry| {
        let time = entry.annotations.get(CREATED);
        let is_possible = |time: &&String| latest.is_none_or(|latest| time.as_str() <= latest);
        std::cmp::Reverse(time.filter(is_possible).cloned())
    });
}

/// The latest time that a report may have: clocks differ.
fn in_a_day() -> Option<String> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    created(&since.as_secs().saturating_add(24 * 60 * 60).to_string())
}

/// What the other reports beside an image say that the first does not.
pub fn disagreements(found: &[Beside]) -> Vec<String> {
    let Some((believed, others)) = found.split_first() else { return Vec::new() };
    choose::disagreements(&believed.report, others.iter().map(|other| &other.report))
}

/// The report to be believed beside an image. What others there say is a warning, and so is what keeps them from being
/// believed.
///
/// # Errors
/// Why there is none to be believed.
pub fn latest(store: &dyn Store, image: &StoredImage, observer: &dyn Observer) -> Result<Beside, Unknown> {
    let unknown = |cause, text: String| Unknown { cause, text };
    let (found, refused) = all(store, image).map_err(|error| match error {
        StoreError::NoReferrers => {
            unknown(Cause::NoPlace, "the previous image is where nothing is kept beside images".into())
        }
        error => {
            let failure = Failure::caused(Exit::Other, "the report cannot be looked for", &error);
            observer.warn(failure.chain());
            unknown(Cause::NoReport, failure.chain())
        }
    })?;
    if !found.is_empty() {
        let refused = refused.iter().take(TOLD);
        let refused = refused.map(|reason| format!("a report beside the image is refused: {reason}"));
        refused.chain(disagreements(&found)).for_each(|told| observer.warn(told));
    }
    match (found.into_iter().next(), refused.as_slice()) {
        (Some(beside), _) => Ok(beside),
        (None, []) => Err(unknown(Cause::NoReport, "no report lies beside the previous image".into())),
        (None, refused) => {
            let text = format!("the report beside the previous image is refused: {}", refused.join("; "));
            observer.warn(text.clone());
            Err(unknown(Cause::ReportRefused, text))
        }
    }
}

/// Reads a report; `None` when there is not enough room for it.
fn one(
    store: &dyn Store,
    subject: &Digest,
    entry: &Descriptor,
    room: &mut u64,
) -> Result<Option<Beside>, String> {
    // All that an index names would be read.
    if !is_manifest(&entry.media_type) {
        return Err("it is no artifact".into());
    }
    if entry.size > MAX_ARTIFACT {
        return Err(format!("its manifest is larger than {} KiB", MAX_ARTIFACT >> 10));
    }
    let tree = store
        .read_referrer(entry)
        .map_err(|error| unreadable(&error))?
        .ok_or("it is listed and not there")?;
    let (root, bytes) = tree.documents.last().ok_or("it is empty")?;
    let manifest = Manifest::parse(bytes, Some(&root.media_type))
        .map_err(|error| format!("it is no artifact: {error}"))?;
    if manifest.subject.is_none_or(|found| found.digest != *subject) {
        return Err("it is an artifact of another image".into());
    }
    let file = manifest.layers.iter().find(|file| file.media_type == MEDIA_TYPE).ok_or("it has no report")?;
    match room.checked_sub(file.size) {
        _ if file.size > MAX_REPORT as u64 => {}
        None => return Ok(None),
        Some(less) => *room = less,
    }
    let text =
        String::from_utf8(contents(store, file)?).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let report = Report::parse(&text).map_err(|error| error.to_string())?;
    Ok(Some(Beside { report, digest: file.digest }))
}

/// A report or a statement, read to its end and verified.
fn contents(store: &dyn Store, file: &Descriptor) -> Result<Vec<u8>, String> {
    if file.size > MAX_REPORT as u64 {
        return Err(format!("it is larger than {} MiB", MAX_REPORT >> 20));
    }
    let blob = store.open_blob(file).map_err(|error| unreadable(&error))?.ok_or("its file is not there")?;
    let mut bytes = Vec::new();
    blob.take(MAX_REPORT as u64 + 1).read_to_end(&mut bytes).map_err(|error| format!("its file: {error}"))?;
    Ok(bytes)
}

fn unreadable(error: &StoreError) -> String {
    format!("it cannot be read: {}", chain(error))
}

/// Puts a file beside an image, in each of its places: made at a time, and of statements with the type of what they say.
/// Says where that was not possible, and why.
pub fn attach(
    outputs: &[&Output],
    image: &StoredImage,
    media_type: &str,
    bytes: &[u8],
    (time, predicate): (&str, Option<&str>),
) -> Vec<(String, StoreError)> {
    let size = image.manifest.len() as u64;
    let subject = Descriptor::new(image.image.media_type(), image.manifest_digest, size);
    let mut annotations = BTreeMap::from([(CREATED.to_owned(), time.to_owned())]);
    annotations.extend(predicate.map(|kind| (PREDICATE_ANNOTATION.to_owned(), kind.to_owned())));
    let mut done = BTreeSet::new();
    let mut failed = Vec::new();
    for (name, output) in outputs {
        // Names of one repository share what is beside the image.
        if done.insert(output.identifier(image))
            && let Err(error) = output.attach(&subject, media_type, media_type, bytes, &annotations)
        {
            failed.push((name.clone(), error));
        }
    }
    failed
}

/// Puts the reports of an image of Docker's, which has no manifest, beside a copy that has one: they name that, and its blobs, and
/// say what they said.
///
/// # Errors
/// When they cannot be read, or put there.
pub fn carry(
    (from, image): (&dyn Store, &StoredImage),
    (to, copy): (&dyn Store, &Encoded),
    name: &str,
    observer: &dyn Observer,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::caused(Exit::Other, "the reports beside the image do not come along", error)
    };
    let (found, refused) = all(from, image).map_err(|error| failed(&error))?;
    for reason in refused.iter().take(TOLD) {
        observer.warn(format!("a report beside the image is refused, and does not come along: {reason}"));
    }
    let image = Image::from_parts(&copy.manifest, &copy.config).map_err(|error| failed(&error))?;
    let blobs = blobs(&image);
    let subject = copy.manifest_descriptor();
    let mut statements = Vec::new();
    // The oldest first, as they came.
    for beside in found.into_iter().rev() {
        let report = moved(beside.report, &copy.manifest_digest, copy.manifest.len() as u64, &blobs);
        let time = report.rebases.last().map_or(&report.build.time, |latest| &latest.time).clone();
        let text = super::document(report.clone(), observer)?;
        let mut annotations = BTreeMap::from([(CREATED.to_owned(), time)]);
        put_file(to, &subject, (MEDIA_TYPE, text.as_bytes()), &annotations)
            .map_err(|error| failed(&error))?;
        if let Some(statement) = report.provenance(&Digest::of(text.as_bytes()).to_string()) {
            annotations.insert(PREDICATE_ANNOTATION.to_owned(), PREDICATE.to_owned());
            let bytes = statement.to_string().into_bytes();
            put_file(to, &subject, (STATEMENT, &bytes), &annotations).map_err(|error| failed(&error))?;
            statements.push(Statement { media_type: STATEMENT.into(), bytes, predicate: PREDICATE.into() });
        }
    }
    if !statements.is_empty() {
        offer(to, name, &copy.manifest_digest, &statements, observer);
    }
    Ok(())
}

/// Puts statements about an image also where Sigstore's tools look for them, which is in registries only, and only where
/// nothing is yet. What else keeps them from there is a warning: they are listed beside the image in any case.
pub fn offer(
    to: &dyn Store,
    name: &str,
    subject: &Digest,
    statements: &[Statement],
    observer: &dyn Observer,
) {
    let Medium::Registry(image) = to.medium() else { return };
    match image.offer_statements(subject, statements) {
        Ok(Offered::There) => {}
        Ok(Offered::Taken) => observer.detail(format!(
            "{name} has attestations under a tag already: they stay as they are, and the provenance is listed as a referrer"
        )),
        Err(error) => {
            let what = format!("cosign will not find the provenance of {name}");
            observer.warn(Failure::caused(Exit::Other, what, &error).chain());
        }
    }
}

/// The same with the statements among what was copied. Where the source has something of its own under that tag, which is not
/// copied and may be signed, nothing unsigned gets in its way.
pub fn offer_copied(
    (from, to): (&dyn Store, &dyn Store),
    name: &str,
    referrers: &[Tree],
    observer: &dyn Observer,
) {
    if !matches!(to.medium(), Medium::Registry(_)) {
        return;
    }
    let mut found: BTreeMap<Digest, Vec<Statement>> = BTreeMap::new();
    let (mut count, mut size) = (0, 0_u64);
    for (subject, file, predicate) in referrers.iter().filter_map(statement) {
        (count, size) = (count + 1, size.saturating_add(file.size));
        if count > MAX_STATEMENTS || size > MAX_STATEMENTS_SIZE {
            observer.warn(format!(
                "cosign will not find all statements in {name}: more than {MAX_STATEMENTS}, or {} MiB, are too many",
                MAX_STATEMENTS_SIZE >> 20
            ));
            break;
        }
        match contents(from, &file) {
            Ok(bytes) => found.entry(subject).or_default().push(Statement {
                media_type: STATEMENT.to_owned(),
                bytes,
                predicate,
            }),
            Err(reason) => {
                observer.warn(format!("cosign will not find the statement {}: {reason}", file.digest))
            }
        }
    }
    for (subject, statements) in &found {
        let has_others = match from.medium() {
            Medium::Registry(source) => source.has_other_statements(subject, statements),
            _ => Ok(false),
        };
        match has_others {
            Ok(false) => offer(to, name, subject, statements, observer),
            Ok(true) => observer.warn(format!(
                "the attestations that cosign finds of {subject} are not copied to {name}: copy the tag sha256-{}.att as well",
                subject.hex()
            )),
            Err(error) => {
                let what = format!("cosign will not find the provenance of {subject} in {name}");
                observer.warn(Failure::caused(Exit::Other, what, &error).chain());
            }
        }
    }
}

/// What a statement is about, its file, and the type of what it says; `None` for anything else.
fn statement(tree: &Tree) -> Option<(Digest, Descriptor, String)> {
    let (root, bytes) = tree.documents.last()?;
    let manifest = Manifest::parse(bytes, Some(&root.media_type)).ok()?;
    let predicate = manifest.annotations.get(PREDICATE_ANNOTATION)?.clone();
    match manifest.layers.as_slice() {
        [file] if file.media_type == STATEMENT => Some((manifest.subject?.digest, file.clone(), predicate)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_oci::{Image, Index, media_type};
    use strata_store::Layout;

    /// An image in a layout, and whatever lies beside it.
    fn layout(dir: &std::path::Path) -> (Layout, StoredImage) {
        let layout = Layout::open(dir).for_one_image("latest".to_owned());
        let image = Image::empty("linux", "amd64");
        let encoded = image.encode().unwrap();
        layout.put_image(&encoded, &["latest".to_owned()]).unwrap();
        let stored = layout.read_image().unwrap().unwrap();
        (layout, stored)
    }

    fn report(digest: &str, number: usize, size: usize) -> String {
        let id = format!("{number:032x}");
        let text = format!(
            "schema-version = 1\n[image]\ndigest = \"{digest}\"\n[build]\nid = \"{id}\"\ntime = \"2026-03-01T10:00:00Z\"\n# "
        );
        format!("{text}{}\n", "x".repeat(size))
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = layout(dir.path());
        let digest = image.manifest_digest.to_string();
        let subject = image.encoded().manifest_descriptor();
        let put = |number: usize, size: usize| {
            let time = format!("2026-03-{:02}T10:00:00Z", number + 1);
            let notes = BTreeMap::from([(CREATED.to_owned(), time)]);
            let text = report(&digest, number, size);
            layout.attach(&subject, MEDIA_TYPE, MEDIA_TYPE, text.as_bytes(), &notes).unwrap();
        };
        put(0, 10);
        (1..5).for_each(|number| put(number, 3 << 20));
        let (found, refused) = all(&layout, &image).unwrap();
        let ids: BTreeSet<&str> =
            found.iter().map(|beside| beside.report.build.id.trim_start_matches('0')).collect();
        assert_eq!(ids, BTreeSet::from(["", "3", "4"]), "the latest, and what there is room for");
        assert_eq!(refused, ["2 for their size, for no more than 8 MiB are read of one image"]);
        let mut room = 4 << 20;
        let (found, _) = of_digest(&layout, &image.manifest_digest, &mut room).unwrap();
        assert_eq!((found.len(), room < 1 << 20), (2, true));
        // Larger than any.
        put(5, 5 << 20);
        let (found, refused) = all(&layout, &image).unwrap();
        assert!(found.len() == 3 && refused[0].ends_with("it is larger than 4 MiB"), "{refused:?}");
    }

    #[test]
    fn what_is_no_report_is_not_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = layout(dir.path());
        let subject = image.encoded().manifest_descriptor();
        let notes = BTreeMap::from([("note".to_owned(), "x".repeat(100 << 10))]);
        layout.attach(&subject, MEDIA_TYPE, MEDIA_TYPE, b"", &notes).unwrap();
        layout.attach(&subject, MEDIA_TYPE, "text/plain", b"note", &BTreeMap::new()).unwrap();
        let mut index = Index::default();
        index.subject = Some(subject);
        index.artifact_type = Some(MEDIA_TYPE.into());
        let bytes = index.encode().unwrap();
        let root = Descriptor::of(media_type::OCI_INDEX, &bytes);
        layout.put_referrer(&Tree { documents: vec![(root, bytes)], blobs: Vec::new() }).unwrap();
        let (found, mut refused) = all(&layout, &image).unwrap();
        assert_eq!(found, []);
        refused.sort_by_key(|reason| reason.split_once(": ").map(|(_, why)| why.to_owned()));
        for (reason, why) in refused.iter().zip([
            "it has no report",
            "it is no artifact",
            "its manifest is larger than 64 KiB",
        ]) {
            assert!(reason.ends_with(why), "{refused:?}");
        }
        assert_eq!(refused.len(), 3);
    }

    #[test]
    fn reports_are_read_from_the_newest_to_the_oldest() {
        let entry = |name: &str, time: Option<&str>| {
            let mut entry = Descriptor::of(name, name.as_bytes());
            entry.annotations.extend(time.map(|time| (CREATED.to_owned(), time.to_owned())));
            entry
        };
        let mut entries = [
            entry("undated", None),
            entry("new", Some("2026-03-02T10:00:00Z")),
            entry("to come", Some("9999-01-01T00:00:00Z")),
            entry("old", Some("2026-03-01T10:00:00Z")),
            entry("as new", Some("2026-03-02T10:00:00Z")),
        ];
        sort(&mut entries, Some("2026-03-03T00:00:00Z"));
        let names = entries.map(|entry| entry.media_type);
        assert_eq!(names, ["as new", "new", "old", "to come", "undated"]);
    }
}
