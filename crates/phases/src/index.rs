//! What is known of the trees of a layers directory, from phase to phase: `<layers>/@strata/index.json`.
//!
//! The restorer knows the diffID of what it has extracted, the exporter that of what it has packed. As long as such a
//! tree is [unchanged](strata_layer::unchanged), nobody has to read it to know the diffID. Phases may run in containers
//! of their own; what they share is the layers directory.
//!
//! Buildpacks can write there too, so the index is a hint and never a proof. Its diffIDs are used for one thing only: to
//! choose a layer of the previous image or of the cache **that is recorded there for this very tree**, instead of packing
//! the tree. Those bytes are vouched for by that image or cache. New bytes never get a digest from the index. Whoever
//! forges it can at most bring the last build's version of a layer back; whoever can forge it could as well have put
//! that version into the tree, which belongs to the same user.

use crate::event::Observer;
use crate::files::{self, FileError, Links};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use strata_layer::unchanged::{Clock, Fingerprint, Moment, fingerprint, survey};
use strata_layer::{LayerError, Packed, Skeleton, Source};
use strata_oci::Digest;

/// The folder of what phases tell each other; no buildpack can have this name.
pub(crate) const FOLDER: &str = "@strata";
/// The largest index that is read, in bytes.
const MAX_INDEX: usize = 4 * 1024 * 1024;
/// Indexes of other versions are passed over.
const VERSION: u32 = 1;

/// The document. What is not understood of it is not known.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// Which start of the machine has recorded it.
    boot: String,
    /// By path below the layers directory.
    trees: BTreeMap<String, Entry>,
    /// Layers of the cache of which this build has read every byte.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    verified: BTreeSet<Digest>,
}

/// A tree as it was when its diffID was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Digest of what the file system said of it.
    tree: Digest,
    /// Digest of what its layer depends on besides.
    frame: Digest,
    /// Where the clock was then.
    clock: String,
    diff_id: Digest,
    /// Size of the archive in bytes.
    size: u64,
    /// Digest of the archive's [skeleton](Skeleton), if somebody had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skeleton: Option<Digest>,
}

/// What a tree makes when it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
}

impl Known {
    /// What is known of a layer that was packed.
    pub fn of(packed: &Packed) -> Self {
        Self { diff_id: packed.diff_id, size: packed.uncompressed_size }
    }
}

/// A tree as it was found.
#[derive(Debug, Clone)]
pub struct Sight {
    /// What the tree makes, if that is known.
    pub known: Option<Known>,
    /// Whether the tree was known and something of it was written since. It may still make the same.
    pub is_changed: bool,
    /// Whether this program has read it to know it.
    pub is_read: bool,
    /// What was known of its skeleton.
    skeleton: Option<Digest>,
    tail: String,
    frame: Digest,
    fingerprint: Fingerprint,
    /// Where the clock was afterwards, if that is past every change: only then it can be recorded what was read.
    clock: Option<Moment>,
}

impl Sight {
    /// Whether the tree was known and is to be packed without asking first whether it makes the same again, as it most
    /// probably does not. Where its names, modes and sizes are what they were, it was most probably written again with the same
    /// bytes, and to read it costs little beside packing it. `is_sent` says that what is packed for nothing is sent as well, so
    /// that it must certainly be something else.
    pub fn is_news(&self, source: &Source, is_sent: bool) -> bool {
        let is_unlike = |old| strata_layer::skeleton(source).is_ok_and(|skeleton| skeleton.digest != old);
        self.is_changed && self.skeleton.map_or(!is_sent, is_unlike)
    }
}

/// The index of a layers directory.
#[derive(Debug)]
pub struct Index {
    layers_dir: PathBuf,
    /// `None` where changes of files cannot be relied on to show.
    clock: Option<Clock>,
    /// Whether there is a document, which nothing may stay in that no longer holds.
    is_there: bool,
    trees: Mutex<BTreeMap<String, Entry>>,
    /// Layers of the cache that the restorer has verified, by their blobs or by trees that stayed.
    verified: Mutex<BTreeSet<Digest>>,
    /// Trees that this program has found, and knows what they make.
    seen: Mutex<BTreeMap<String, Sight>>,
}

impl Index {
    /// Reads the index of a layers directory; nothing is known where it cannot be read or relied on.
    pub fn open(layers_dir: &Path, observer: &dyn Observer) -> Self {
        let clock = Clock::of(layers_dir).unwrap_or_else(|error| {
            observer.debug(format!("changes of files in {} do not show: {error}", layers_dir.display()));
            None
        });
        let found = read(layers_dir);
        let is_there = !matches!(found, Ok(None));
        let (trees, verified) = match (&clock, found) {
            (Some(clock), Ok(Some(document))) if document.boot == clock.boot() => {
                (document.trees, document.verified)
            }
            (_, Ok(_)) => Default::default(),
            (_, Err(error)) => {
                let cause = crate::failure::chain(&error);
                observer.debug(format!("nothing is known of unchanged trees: {cause}"));
                Default::default()
            }
        };
        let (trees, verified) = (Mutex::new(trees), Mutex::new(verified));
        Self { layers_dir: layers_dir.to_owned(), clock, is_there, trees, verified, seen: Mutex::default() }
    }

    /// Looks at a tree. `None` when it cannot be told whether it changes.
    pub fn look(&self, source: &Source) -> Option<Sight> {
        let clock = self.clock.as_ref()?;
        let Source::Dir { dir, .. } = source else { return None };
        let tail = dir.strip_prefix(&self.layers_dir).ok()?.to_str()?.to_owned();
        let frame = source.frame()?;
        // Whatever is the matter with a tree is told when it is read.
        let fingerprint = fingerprint(dir, clock).ok()?;
        let now = clock.now().ok()?;
        let entry = self.trees().get(&tail).cloned();
        let old = entry.as_ref().filter(|entry| entry.tree != fingerprint.digest && entry.frame == frame);
        let (is_changed, skeleton) = (old.is_some(), old.and_then(|old| old.skeleton));
        let known = entry.filter(|entry| {
            entry.tree == fingerprint.digest
                && entry.frame == frame
                && entry.clock.parse::<Moment>().is_ok_and(|then| then <= now)
        });
        let known = known.map(|Entry { diff_id, size, .. }| Known { diff_id, size });
        let clock = if known.is_some() { None } else { clock.pass(fingerprint.newest).ok()? };
        let sight = Sight { known, is_changed, is_read: false, skeleton, tail, frame, fingerprint, clock };
        if known.is_some() {
            self.seen().insert(sight.tail.clone(), sight.clone());
        }
        Some(sight)
    }

    /// As [`look`](Self::look), unless this program knows the tree from before. Only where nothing has been written to
    /// the layers meanwhile, or what was written since is to wait for the next build.
    pub fn recall(&self, source: &Source) -> Option<Sight> {
        let Source::Dir { dir, .. } = source else { return None };
        let tail = dir.strip_prefix(&self.layers_dir).ok()?.to_str()?;
        let seen = self.seen().get(tail).cloned();
        match seen.filter(|seen| source.frame() == Some(seen.frame)) {
            None => self.look(source),
            seen => seen,
        }
    }

    /// What a tree makes: as known when it was seen, or else by reading it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn know(&self, source: &Source, sight: Option<&Sight>) -> Result<Known, LayerError> {
        if let Source::Archive(archive) = source {
            return Ok(Known::of(&archive.packed));
        }
        if let Some(known) = sight.and_then(|sight| sight.known) {
            return Ok(known);
        }
        let (diff_id, size) = strata_layer::diff_id(source)?;
        let known = Known { diff_id, size };
        self.record(sight, known);
        Ok(known)
    }

    /// What a tree makes, and how the file system told of it, if this very program has read it: nobody had to be believed.
    pub(crate) fn read_here(&self, source: &Source) -> Option<(Digest, Fingerprint)> {
        let Source::Dir { dir, .. } = source else { return None };
        let tail = dir.strip_prefix(&self.layers_dir).ok()?.to_str()?;
        let seen = self.seen().get(tail).filter(|seen| seen.is_read).cloned()?;
        let known = seen.known.filter(|_| source.frame() == Some(seen.frame))?;
        Some((known.diff_id, seen.fingerprint))
    }

    /// Remembers what a tree made when it was read after it was [seen](Self::look), unless it changed meanwhile.
    pub fn record(&self, sight: Option<&Sight>, known: Known) {
        let (Some(clock), Some(sight)) = (&self.clock, sight) else { return };
        let Some(then) = sight.clock else { return };
        let again = fingerprint(&self.layers_dir.join(&sight.tail), clock);
        if again.is_ok_and(|again| again == sight.fingerprint) {
            let entry = Entry {
                tree: sight.fingerprint.digest,
                frame: sight.frame,
                clock: then.to_string(),
                diff_id: known.diff_id,
                size: known.size,
                skeleton: None,
            };
            self.trees().insert(sight.tail.clone(), entry);
            let (known, is_changed, is_read) = (Some(known), false, true);
            let sight = Sight { known, is_changed, is_read, clock: None, ..sight.clone() };
            self.seen().insert(sight.tail.clone(), sight);
        }
    }

    /// Remembers what a tree makes that was restored a moment ago: the same archive, if that looks as the one that would be
    /// packed. It does not if the user of the build is another one by now, or for what cannot be restored as it was.
    /// Gives what the file system says of it then.
    pub fn restored(&self, source: &Source, diff_id: Digest, skeleton: Skeleton) -> Option<Fingerprint> {
        let (tail, entry, fingerprint) = self.restored_entry(source, diff_id, skeleton)?;
        self.trees().insert(tail, entry);
        Some(fingerprint)
    }

    /// Remembers that this build had this layer of the cache: from the blob, of which it read every byte, or from a tree that had
    /// stayed. Of that, every byte was read by the build that left it; of the blob none need have been read since it was
    /// written, and damage to it is found by whoever extracts it.
    pub fn verify(&self, diff_id: Digest) {
        self.verified().insert(diff_id);
    }

    /// Forgets what an earlier restorer has verified: that was another build.
    pub fn begin_restore(&self) {
        self.verified().clear();
    }

    /// Whether the restorer of this build [had](Self::verify) this layer of the cache.
    pub fn is_verified(&self, diff_id: &Digest) -> bool {
        self.verified().contains(diff_id)
    }

    fn restored_entry(
        &self,
        source: &Source,
        diff_id: Digest,
        skeleton: Skeleton,
    ) -> Option<(String, Entry, Fingerprint)> {
        let clock = self.clock.as_ref()?;
        let Source::Dir { dir, .. } = source else { return None };
        let tail = dir.strip_prefix(&self.layers_dir).ok()?.to_str()?.to_owned();
        let frame = source.frame()?;
        // Whatever is the matter with a tree is told when it is read.
        let passed = clock.pass(clock.now().ok()?).ok()??;
        let (fingerprint, found) = survey(source, clock).ok()?;
        // What is newer was written by somebody else.
        let is_same = found == skeleton && fingerprint.newest < passed;
        let entry = Entry {
            tree: fingerprint.digest,
            frame,
            clock: passed.to_string(),
            diff_id,
            size: skeleton.size,
            skeleton: Some(skeleton.digest),
        };
        is_same.then_some((tail, entry, fingerprint))
    }

    /// Writes down what is known, for the phases that follow. Nothing is lost without it but time.
    pub fn save(&self, observer: &dyn Observer) {
        let Some(clock) = &self.clock else { return };
        // Held until it is written: image and cache may be exported side by side.
        let trees = self.trees();
        let verified = self.verified().clone();
        if trees.is_empty() && verified.is_empty() && !self.is_there {
            return;
        }
        let boot = clock.boot().to_owned();
        let document = Document { version: VERSION, boot, trees: BTreeMap::clone(&trees), verified };
        if let Err(error) = write(&self.layers_dir, &document) {
            observer.debug(format!("what is known of trees is not kept: {}", crate::failure::chain(&error)));
        }
    }

    fn trees(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verified(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Sight>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot understand {FOLDER}/index.json")]
    Json(#[from] serde_json::Error),
}

fn path(layers_dir: &Path) -> Result<PathBuf, FileError> {
    files::below(layers_dir, Path::new(FOLDER).join("index.json"))
}

fn read(layers_dir: &Path) -> Result<Option<Document>, IndexError> {
    let Some(bytes) = files::read_bytes(&path(layers_dir)?, Links::Refuse, MAX_INDEX)? else {
        return Ok(None);
    };
    let document: Document = serde_json::from_slice(&bytes)?;
    Ok(Some(document).filter(|document| document.version == VERSION))
}

fn write(layers_dir: &Path, document: &Document) -> Result<(), IndexError> {
    let text = serde_json::to_string_pretty(document)?;
    Ok(files::write(&path(layers_dir)?, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use std::fs;
    use strata_layer::{Compression, Owner, pack};

    struct Silent;

    impl Observer for Silent {
        fn event(&self, _: Event) {}
    }

    /// A layers directory on a disk, with a layer.
    fn layers() -> (tempfile::TempDir, Source) {
        let layers = tempfile::tempdir_in("/var/tmp").unwrap();
        let dir = layers.path().join("a_b/x");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "one").unwrap();
        let source =
            Source::Dir { dir, as_path: "/layers/a_b/x".into(), parents: vec![], owner: Owner::ROOT };
        (layers, source)
    }

    /// Packs a tree as export does, and says what it made.
    fn packed(index: &Index, source: &Source) -> Known {
        let sight = index.look(source).unwrap();
        assert_eq!(sight.known, None);
        let packed = pack(source, Compression::None, 1, &mut std::io::sink()).unwrap();
        let known = Known::of(&packed);
        index.record(Some(&sight), known);
        index.save(&Silent);
        known
    }

    fn known(layers: &Path, source: &Source) -> Option<Known> {
        Index::open(layers, &Silent).look(source).unwrap().known
    }

    #[test]
    fn what_is_unchanged_is_known_to_the_next_phase() {
        let (layers, source) = layers();
        assert_eq!(known(layers.path(), &source), None);
        let expected = packed(&Index::open(layers.path(), &Silent), &source);
        assert_eq!(known(layers.path(), &source), Some(expected));
        assert_eq!(fs::read_dir(layers.path().join(FOLDER)).unwrap().count(), 1);
        let Source::Dir { dir, as_path, parents, .. } = source.clone() else { unreachable!() };
        let other = Source::Dir { dir: dir.clone(), as_path, parents, owner: Owner { uid: 1, gid: 1 } };
        assert_eq!(known(layers.path(), &other), None);
        // Within the tick of the clock that read it, and with the same size.
        fs::write(dir.join("file"), "two").unwrap();
        assert_eq!(known(layers.path(), &source), None);
    }

    #[test]
    fn what_is_recalled_is_not_looked_at_again() {
        let (layers, source) = layers();
        let index = Index::open(layers.path(), &Silent);
        // Nothing is known of it yet.
        assert_eq!(index.recall(&source).unwrap().known, None);
        let expected = packed(&index, &source);
        let Source::Dir { dir, as_path, parents, owner } = source.clone() else { unreachable!() };
        let other = Source::Dir { dir: dir.clone(), as_path: as_path + "y", parents: parents.clone(), owner };
        fs::write(dir.join("file"), "two").unwrap();
        assert_eq!(index.recall(&source).unwrap().known, Some(expected));
        assert_eq!(index.recall(&other).unwrap().known, None);
        // Another program has not seen it, and who looks sees the change.
        assert_eq!(Index::open(layers.path(), &Silent).recall(&source).unwrap().known, None);
        let sight = index.look(&source).unwrap();
        assert_eq!((sight.known, sight.is_changed, sight.is_news(&source, true)), (None, true, false));
    }

    #[test]
    fn a_tree_that_changes_while_it_is_read_is_not_known() {
        let (layers, source) = layers();
        let index = Index::open(layers.path(), &Silent);
        let sight = index.look(&source).unwrap();
        fs::write(layers.path().join("a_b/x/file"), "two").unwrap();
        index.record(Some(&sight), Known { diff_id: Digest::of(b""), size: 1 });
        assert_eq!(index.look(&source).unwrap().known, None);
    }

    #[test]
    fn an_index_of_another_boot_of_a_later_clock_or_of_nonsense_is_not_believed() {
        let (layers, source) = layers();
        let path = layers.path().join(FOLDER).join("index.json");
        let expected = packed(&Index::open(layers.path(), &Silent), &source);
        let text = fs::read_to_string(&path).unwrap();
        let mut late: serde_json::Value = serde_json::from_str(&text).unwrap();
        late["trees"]["a_b/x"]["clock"] = "99999999999.000000000".into();
        let mut booted: serde_json::Value = serde_json::from_str(&text).unwrap();
        booted["boot"] = "another".into();
        let mut newer: serde_json::Value = serde_json::from_str(&text).unwrap();
        newer["version"] = 2.into();
        let huge = format!("{text}{}", " ".repeat(MAX_INDEX));
        for bad in [late.to_string(), booted.to_string(), newer.to_string(), huge, "{".into(), String::new()]
        {
            fs::write(&path, bad).unwrap();
            assert_eq!(known(layers.path(), &source), None);
        }
        fs::write(&path, &text).unwrap();
        assert_eq!(known(layers.path(), &source), Some(expected));
        // A link that a buildpack made is neither read nor written through.
        let outside = layers.path().join("outside");
        fs::rename(layers.path().join(FOLDER), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, layers.path().join(FOLDER)).unwrap();
        assert_eq!(known(layers.path(), &source), None);
        fs::write(outside.join("index.json"), "kept").unwrap();
        packed(&Index::open(layers.path(), &Silent), &source);
        assert_eq!(fs::read(outside.join("index.json")).unwrap(), b"kept");
    }
}
