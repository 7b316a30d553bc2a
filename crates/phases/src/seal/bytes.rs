//! The bytes of sealed layers: packed while the next buildpack runs, left in `<layers>/@exported` for those that export.
//!
//! A layer that is set apart stays what it is (one of which a file has a name elsewhere is not set apart), and its tree is compressed in the background. Else, of a layer with the
//! policy `discard` the archive is copied before the next buildpack starts, to a file without a name, which no buildpack
//! can reach; it is compressed from there. Of other layers the tree itself is compressed in the background, and the outcome
//! counts as long as the tree is [unchanged](strata_layer::unchanged).
//!
//! A layer that is what the previous image and the cache have is not copied: its record names the diffID alone, under
//! which both have it.
//!
//! Buildpacks can write below `@exported`. What is said of the blobs is therefore kept in memory until the last buildpack
//! and its processes are gone, and written then; whoever uses a blob verifies it while reading.

use crate::event::Observer;
use crate::failure::{Failure, chain};
use crate::files::{self, FileError, Links};
use crate::found::FoundLayer;
use crate::index::{Index, Known, Sight};
use crate::stoppable::Stoppable;
use crate::trees::{TreeError, Trees};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use strata_layer::{Archive, LayerError, Owner, Packed, Packer, Source};
use strata_oci::{BadCompression, Compression, Digest};
use strata_spec::buildpack::escape_id;
use strata_spec::doc::MAX_DOCUMENT;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::LifecycleMetadata;
use strata_spec::sealed::Policy;
use tempfile::NamedTempFile;

/// The folder of sealed bytes, below the layers directory; no buildpack can have this name.
const FOLDER: &str = "@exported";
/// The largest record that is read, in bytes.
const MAX_RECORD: usize = 64 * 1024;
/// Records of other versions are passed over.
const VERSION: u32 = 4;
/// How much the work in the background gives way to the buildpack.
const NICE: i32 = 5;

/// What is said of one sealed layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u32,
    /// The one that it belongs to.
    #[serde(flatten)]
    build: Build,
    policy: Policy,
    /// The layer's folder in the image, and its owner there.
    path: String,
    uid: u64,
    gid: u64,
    diff_id: Digest,
    uncompressed_size: u64,
    /// The blob beside the record; without one the previous image and the cache have the layer.
    blob: Option<Blob>,
}

/// How a layer is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    compression: String,
    digest: Digest,
    size: u64,
}

/// Why a layer cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BytesError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot write to {FOLDER}")]
    Io(#[from] io::Error),
    #[error("cannot understand its record")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Compression(#[from] BadCompression),
    #[error("it was sealed for another image: as {0} of user {1} and group {2}")]
    Frame(String, u64, u64),
}

/// How layers become sealed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// What export will make of the layers.
    pub trees: Trees<'a>,
    /// How the blobs are stored that the image will have. Layers for the cache alone are not compressed.
    pub compression: Compression,
    /// How many threads compress.
    pub threads: usize,
    /// What the label of the previous image says, if export can take layers from that.
    pub previous: Option<&'a LifecycleMetadata>,
}

/// What the bytes of a layer are made of.
enum Bytes {
    /// The archive, for a layer whose tree may change.
    Spool(File),
    /// The tree, as it was seen; of one that is set apart nobody has to have seen how it was.
    Tree(Option<Sight>),
    /// Nothing: they are where they are known to be.
    Recorded(Known),
}

/// A layer that is to be packed.
pub(super) struct Job {
    policy: Policy,
    /// Whether its tree stays what it is, so that those that export can pack it as well.
    is_apart: bool,
    /// Below the layers directory.
    tail: PathBuf,
    source: Source,
    bytes: Bytes,
    compression: Compression,
}

/// A layer of which that many bytes are packed is packed to its end.
const WELL_UNDER_WAY: usize = 16 << 20;

/// When those that pack layers are to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The build failed.
    pub(super) has_failed: AtomicBool,
    /// The buildpacks are done, so packing no longer costs nothing: somebody waits.
    pub(super) is_awaited: AtomicBool,
}

/// A layer that was packed.
pub(super) struct Made {
    policy: Policy,
    tail: PathBuf,
    source: Source,
    compression: Compression,
    outcome: Result<(Known, Option<(Packed, NamedTempFile)>), BytesError>,
}

/// What those that export find of a layer.
pub(crate) enum Contents {
    /// All of it.
    Here(Source),
    /// Which layer it was; its tree is another by now.
    Recorded(Known),
}

impl Sealing<'_> {
    fn folder(&self) -> Result<PathBuf, FileError> {
        files::below(self.trees.layers.real, FOLDER)
    }

    /// Takes up a layer whose buildpack is done; `None` when its bytes are known to those that will want them.
    pub(super) fn take(
        &self,
        policy: Policy,
        (buildpack, layer): (&GroupElement, &FoundLayer),
        is_apart: bool,
        index: &Index,
    ) -> Result<Option<Job>, BytesError> {
        let tail = Path::new(&escape_id(&buildpack.id)).join(&layer.name);
        let source = self.trees.source(&tail)?;
        let sight = index.look(&source);
        let known = sight.as_ref().and_then(|sight| sight.known);
        let bytes = match (policy, sight, known) {
            (Policy::Discard, _, Some(known)) if self.is_kept(buildpack, layer, &known) => {
                Bytes::Recorded(known)
            }
            (Policy::Discard, sight, _) if is_apart => Bytes::Tree(sight),
            (Policy::Discard, ..) => Bytes::Spool(self.spool(&source)?),
            (_, sight @ Some(_), None) => Bytes::Tree(sight),
            // Without a sight nobody can tell later whether the bytes are still those of the tree.
            _ => return Ok(None),
        };
        let compression = if layer.toml.types.launch { self.compression } else { Compression::None };
        Ok(Some(Job { policy, is_apart, tail, source, bytes, compression }))
    }

    /// Whether a layer whose tree is known can be had again without its tree. What is known of a tree comes from the cache,
    /// and if that loses the layer, the image does not suffer: it can be had from the previous image.
    fn is_kept(&self, buildpack: &GroupElement, layer: &FoundLayer, known: &Known) -> bool {
        let labelled = |label: &LifecycleMetadata| {
            let of = label.buildpacks.iter().find(|of| of.key == buildpack.id)?;
            Some(of.layers.get(&layer.name)?.sha == known.diff_id.to_string())
        };
        !layer.toml.types.launch || self.previous.and_then(labelled).unwrap_or_default()
    }

    /// The archive of a layer, in a file that no buildpack can reach.
    fn spool(&self, source: &Source) -> Result<File, BytesError> {
        let folder = self.folder()?;
        std::fs::create_dir_all(&folder)?;
        let mut spool = tempfile::tempfile_in(folder)?;
        strata_layer::write_tar(source, &mut spool)?;
        spool.rewind()?;
        Ok(spool)
    }

    /// Packs what comes, one layer after the other, until no more can come. Once somebody waits, what is not well under way
    /// is left to those that export: they do not pack what an image has already, and what they pack is read once.
    pub(super) fn work(&self, jobs: Receiver<Job>, index: &Index, ending: &Ending) -> Vec<Made> {
        // The threads that compress inherit it. Without it the buildpack gets a little less.
        rustix::process::nice(NICE).unwrap_or_default();
        let packer = Packer::new(self.threads);
        let make = |mut job: Job| {
            let outcome = self.pack(&mut job, &packer, ending);
            if job.may_be_left() && outcome.is_err() && ending.is_awaited.load(Ordering::Relaxed) {
                return None;
            }
            if let (Ok((known, _)), Bytes::Tree(sight)) = (&outcome, &job.bytes) {
                index.record(sight.as_ref(), *known);
            }
            let Job { policy, tail, source, compression, .. } = job;
            Some(Made { policy, tail, source, compression, outcome })
        };
        jobs.into_iter().filter_map(make).collect()
    }

    fn pack(
        &self,
        job: &mut Job,
        packer: &Packer,
        ending: &Ending,
    ) -> Result<(Known, Option<(Packed, NamedTempFile)>), BytesError> {
        if let Bytes::Recorded(known) = job.bytes {
            return Ok((known, None));
        }
        let folder = self.folder()?;
        std::fs::create_dir_all(&folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        let is_awaited = job.may_be_left().then_some(&ending.is_awaited);
        let out = Stoppable::new(file.as_file_mut(), &ending.has_failed);
        let mut out = Leavable { out, is_awaited, written: 0 };
        let packed = match &mut job.bytes {
            Bytes::Spool(spool) => packer.pack_with(|tar| pass_on(spool, tar), job.compression, &mut out)?,
            _ => packer.pack(&job.source, job.compression, &mut out)?,
        };
        Ok((Known::of(&packed), Some((packed, file))))
    }

    /// Leaves what was packed, with its records, for those that export.
    ///
    /// # Errors
    /// When the bytes of a layer are lost that nobody else has.
    pub(super) fn leave(&self, made: Vec<Made>, observer: &dyn Observer) -> Result<(), Failure> {
        for made in made {
            let (policy, tail) = (made.policy, made.tail.clone());
            if let Err(error) = self.leave_one(made) {
                let what = format!("cannot seal layer '{}'", tail.display());
                if policy == Policy::Discard {
                    return Err(Failure::caused(Exit::Build, format!("failed to build: {what}"), &error));
                }
                // Its tree is read when it is exported.
                observer.debug(format!("{what}: {}", chain(&error)));
            }
        }
        Ok(())
    }

    fn leave_one(&self, made: Made) -> Result<(), BytesError> {
        let (known, packed) = made.outcome?;
        let Source::Dir { as_path, .. } = made.source else { return Ok(()) };
        let path = blob(self.trees.layers.real, &made.tail)?;
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        files::remove(&path)?;
        let keep = |(packed, file): (Packed, NamedTempFile)| -> Result<Blob, BytesError> {
            file.persist(&path).map_err(|error| error.error)?;
            let compression = made.compression.to_string();
            Ok(Blob { compression, digest: packed.digest, size: packed.size })
        };
        let Owner { uid, gid } = self.trees.owner;
        let record = Record {
            version: VERSION,
            build: Build::here(self.trees.layers.real)?,
            policy: made.policy,
            path: as_path,
            uid,
            gid,
            diff_id: known.diff_id,
            uncompressed_size: known.size,
            blob: packed.map(keep).transpose()?,
        };
        Ok(files::write(
            &record_path(self.trees.layers.real, &made.tail)?,
            &serde_json::to_string_pretty(&record)?,
        )?)
    }
}

impl Job {
    /// Whether those that export find the same in the tree.
    fn may_be_left(&self) -> bool {
        self.is_apart && matches!(self.bytes, Bytes::Tree(_))
    }
}

/// A writer that fails where others can do the rest as well.
struct Leavable<'a> {
    out: Stoppable<'a, &'a mut File>,
    is_awaited: Option<&'a AtomicBool>,
    written: usize,
}

impl Write for Leavable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_awaited = self.is_awaited.is_some_and(|is_awaited| is_awaited.load(Ordering::Relaxed));
        if is_awaited && self.written < WELL_UNDER_WAY {
            return Err(io::Error::other("it is left to those that export"));
        }
        let count = self.out.write(bytes)?;
        self.written += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pass_on(from: &mut File, out: &mut dyn Write) -> Result<(), LayerError> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).map_err(|source| LayerError::Read { source })? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count]).map_err(|source| LayerError::Write { source })?,
        }
    }
}

fn blob(layers_dir: &Path, tail: &Path) -> Result<PathBuf, FileError> {
    with_ending(layers_dir, tail, ".blob")
}

fn record_path(layers_dir: &Path, tail: &Path) -> Result<PathBuf, FileError> {
    with_ending(layers_dir, tail, ".json")
}

fn with_ending(layers_dir: &Path, tail: &Path, ending: &str) -> Result<PathBuf, FileError> {
    let mut name = Path::new(FOLDER).join(tail).into_os_string();
    name.push(ending);
    files::below(layers_dir, PathBuf::from(name))
}

/// What names the build that left the layers: the digest of its `config/metadata.toml` and when that was written. Builders
/// that know nothing of sealed layers leave the records of a build before them in their place; what they build is another,
/// or the very same document is, written at another time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Build {
    build: Digest,
    // Records of other versions do without.
    #[serde(default)]
    written_seconds: i64,
    #[serde(default)]
    written_nanoseconds: i64,
}

impl Build {
    /// The one that left the layers that are there.
    pub(super) fn here(layers_dir: &Path) -> Result<Self, FileError> {
        let path = metadata_of(layers_dir)?;
        let bytes = files::read_bytes(&path, Links::Refuse, MAX_DOCUMENT)?;
        let (written_seconds, written_nanoseconds) = match path.symlink_metadata() {
            Ok(metadata) => (metadata.mtime(), metadata.mtime_nsec()),
            // It is no build that anybody recorded.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(source) => return Err(FileError::Io { action: "look at", path, source }),
        };
        Ok(Self { build: Digest::of(&bytes.unwrap_or_default()), written_seconds, written_nanoseconds })
    }

    /// Whether this one is what is there now. Archives may round times down to seconds; a time of that kind that nobody
    /// copied does not occur.
    pub(super) fn is(&self, here: &Self) -> bool {
        (&self.build, self.written_seconds) == (&here.build, here.written_seconds)
            && [self.written_nanoseconds, 0].contains(&here.written_nanoseconds)
    }
}

fn metadata_of(layers_dir: &Path) -> Result<PathBuf, FileError> {
    files::below(layers_dir, "config/metadata.toml")
}

/// Removes the bytes that an earlier build sealed.
pub(super) fn forget(layers_dir: &Path) -> Result<(), FileError> {
    files::remove(&layers_dir.join(FOLDER))
}

/// A layer of the builder's, as those that export find it: its sealed bytes, its tree, or what is recorded of it; `None`
/// when there are no contents. `index` knows whether a tree is what its sealed bytes were made of.
///
/// # Errors
/// When the tree cannot be reached, or later changes are to be discarded and the sealed bytes cannot be used.
pub(crate) fn contents_of(
    trees: &Trees<'_>,
    index: &Index,
    buildpack: &str,
    layer: &str,
    observer: &dyn Observer,
) -> Result<Option<Contents>, BytesError> {
    let tail = Path::new(&escape_id(buildpack)).join(layer);
    let sealed = find(trees, &tail, observer)?;
    let here = |source| Ok(Some(Contents::Here(source)));
    // No buildpack runs any more.
    let known_of = |tree: &Source| index.recall(tree).and_then(|sight| sight.known);
    match sealed {
        // Under `error` the builder made sure that the tree was still what it had packed.
        Some((Policy::Discard | Policy::Error, _, Some(archive))) => return here(Source::Archive(archive)),
        Some((_, known, None)) => {
            // Whatever a later buildpack made of the tree is to be discarded.
            let tree = trees.source(&tail).ok().filter(|tree| known_of(tree) == Some(known));
            return tree.map_or(Ok(Some(Contents::Recorded(known))), here);
        }
        _ => {}
    }
    if !files::below(trees.layers.real, &tail)?.is_dir() {
        return Ok(None);
    }
    let tree = trees.source(&tail)?;
    let archive = sealed.and_then(|(_, known, archive)| archive.filter(|_| known_of(&tree) == Some(known)));
    here(archive.map_or(tree, Source::Archive))
}

/// What a builder sealed of a layer: the policy, which layer it was, and the bytes unless others have them.
type Sealed = (Policy, Known, Option<Archive>);

fn find(trees: &Trees<'_>, tail: &Path, observer: &dyn Observer) -> Result<Option<Sealed>, BytesError> {
    let layers_dir = trees.layers.real;
    let about = record_path(layers_dir, tail)?;
    let Some(bytes) = files::read_bytes(&about, Links::Refuse, MAX_RECORD)? else {
        return Ok(None);
    };
    let record: Record = serde_json::from_slice(&bytes)?;
    let path = blob(layers_dir, tail)?;
    let problem = if record.version != VERSION || !record.build.is(&Build::here(layers_dir)?) {
        Some("of another build")
    } else {
        (record.blob.is_some() && !path.is_file()).then_some("gone")
    };
    if let Some(problem) = problem {
        let layer = tail.display();
        let more = match record.policy {
            Policy::Discard => ", with whatever later buildpacks changed in it",
            // Nobody had changed anything when the build ended, or the changes were to be kept.
            _ => "",
        };
        let what = format!("the sealed bytes of layer '{layer}' are {problem}");
        observer.warn(format!("{what}; it is taken as it is{more}"));
        return Ok(None);
    }
    let is_for_this = record.path == format!("{}/{}", trees.layers.seen, tail.display())
        && (record.uid, record.gid) == (trees.owner.uid, trees.owner.gid);
    if !is_for_this && record.policy == Policy::Discard {
        return Err(BytesError::Frame(record.path, record.uid, record.gid));
    }
    let Record { policy, diff_id, uncompressed_size, .. } = record;
    let archive = |Blob { compression, digest, size }: Blob| -> Result<Archive, BytesError> {
        let packed = Packed { diff_id, digest, size, uncompressed_size };
        Ok(Archive { path, compression: compression.parse()?, packed })
    };
    let archive = record.blob.map(archive).transpose()?;
    Ok(is_for_this.then_some((policy, Known { diff_id, size: uncompressed_size }, archive)))
}
