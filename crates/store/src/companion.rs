//! What lies beside an image, in one piece: for places that have room for images and nothing else.
//!
//! It is a tar archive of `beside.json`, which lists the files and names the image by its id, and of the files, named by
//! their digests. An archive of Docker's has it as one member more, a daemon as the layer of a small image, and
//! [`Records`] in a file for what a daemon does not have. Whoever wrote it may lie: it is verified, and bounded.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strata_layer::{LayerError, Owner, TarWriter, visit_files};
use strata_oci::annotation::CREATED;
use strata_oci::{Descriptor, Digest, Document};

use crate::artifact::{self, Artifact, EMPTY_CONFIG};
use crate::layout::lock::Lock;
use crate::{StoreError, Tree, temporary};

/// Larger ones are refused, in bytes; a report has four million at most.
pub(crate) const MAX_SIZE: u64 = 32 << 20;
/// More files are refused. Of those that are added, the oldest go first.
const MAX_FILES: usize = 64;
/// What all files may have together when one is added, in bytes: the list and the archive need room, too.
const MAX_BYTES: usize = 24 << 20;
/// Lists the files.
const LIST: &str = "beside.json";
const VERSION: u32 = 1;
/// Images whose companions are remembered on this machine: those that were written last.
const MAX_RECORDS: usize = 256;

/// The label of a small image that has one, in a daemon or saved from it: the id of the image that it is about.
pub(crate) const LABEL: &str = "io.strata.origins.of";

/// What lies beside one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Companion {
    /// The image's id.
    of: Digest,
    /// The oldest first.
    files: Vec<Beside>,
}

/// A file beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Beside {
    artifact_type: String,
    media_type: String,
    annotations: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    version: u32,
    image: String,
    files: Vec<Listed>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    artifact_type: String,
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Companion {
    /// Nothing lies beside the image yet.
    pub(crate) fn new(of: Digest) -> Self {
        Self { of, files: Vec::new() }
    }

    /// The image's id.
    pub(crate) fn of(&self) -> &Digest {
        &self.of
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes an artifact with one file, whose bytes `open` gives.
    ///
    /// # Errors
    ///
    /// When the bytes are not there, or too many; of anything else than such an artifact.
    pub(crate) fn add(
        &mut self,
        tree: &Tree,
        place: &Path,
        open: impl FnOnce(&Descriptor) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<(), StoreError> {
        let (_, entry) = artifact::root_of(tree, place)?;
        let Some((root, bytes)) = tree.documents.last() else { return Ok(()) };
        let document = Document::parse(bytes, Some(&root.media_type))
            .map_err(|source| StoreError::Manifest { path: place.to_owned(), source })?;
        let refused = || {
            let reason = "only artifacts that are one file have room there".to_owned();
            StoreError::Companion { path: place.to_owned(), reason }
        };
        let Document::Manifest(manifest) = document else { return Err(refused()) };
        let [file] = manifest.layers.as_slice() else { return Err(refused()) };
        let missing = || StoreError::Missing { path: place.to_owned(), digest: file.digest };
        let bytes = open(file)?.ok_or_else(missing)?;
        if bytes.len() > MAX_BYTES {
            return Err(StoreError::TooLarge { path: place.to_owned(), limit: MAX_BYTES as u64 });
        }
        self.put(Beside {
            artifact_type: entry.artifact_type.unwrap_or_default(),
            media_type: file.media_type.clone(),
            annotations: entry.annotations,
            bytes,
        });
        Ok(())
    }

    /// Takes what is beside the same image elsewhere.
    pub(crate) fn merge(&mut self, other: Self) {
        if other.of == self.of {
            other.files.into_iter().for_each(|file| self.put(file));
        }
    }

    fn put(&mut self, file: Beside) {
        if self.files.contains(&file) {
            return;
        }
        self.files.push(file);
        self.files.sort_by(|a, b| a.annotations.get(CREATED).cmp(&b.annotations.get(CREATED)));
        let size = |files: &[Beside]| files.iter().map(|file| file.bytes.len()).sum::<usize>();
        while self.files.len() > MAX_FILES || size(&self.files) > MAX_BYTES {
            self.files.remove(0);
        }
    }

    /// As artifacts of an image that the place calls by this descriptor.
    pub(crate) fn artifacts(&self, subject: &Descriptor) -> Result<Vec<Artifact>, serde_json::Error> {
        let artifact = |file: &Beside| {
            let descriptor = Descriptor::of(&file.media_type, &file.bytes);
            Artifact::new(subject, &file.artifact_type, descriptor, &file.annotations)
        };
        self.files.iter().map(artifact).collect()
    }

    /// A file of an artifact, or its configuration.
    pub(crate) fn bytes(&self, digest: &Digest) -> Option<&[u8]> {
        if *digest == Digest::of(EMPTY_CONFIG) {
            return Some(EMPTY_CONFIG);
        }
        self.files.iter().map(|file| file.bytes.as_slice()).find(|bytes| Digest::of(bytes) == *digest)
    }

    /// Writes it. Equal ones have equal bytes.
    pub(crate) fn write<W: Write>(&self, out: W) -> Result<W, LayerError> {
        let mut tar = TarWriter::new(out);
        let mut put =
            |name: &str, bytes: &[u8]| tar.file(name, 0o644, Owner::ROOT, bytes.len() as u64, &mut &*bytes);
        let mut names = Vec::new();
        let mut files = Vec::new();
        for file in &self.files {
            let digest = Digest::of(&file.bytes);
            if !names.contains(&digest) {
                put(&digest.hex(), &file.bytes)?;
                names.push(digest);
            }
            files.push(Listed {
                artifact_type: file.artifact_type.clone(),
                media_type: file.media_type.clone(),
                digest: digest.to_string(),
                annotations: file.annotations.clone(),
            });
        }
        let list = List { version: VERSION, image: self.of.to_string(), files };
        let list = serde_json::to_vec(&list).map_err(|error| LayerError::Read { source: error.into() })?;
        put(LIST, &list)?;
        tar.finish()
    }

    /// Reads what [`Self::write`] wrote, or what somebody says that it did.
    pub(crate) fn read(from: impl Read, place: &Path) -> Result<Self, StoreError> {
        let path = || place.to_owned();
        let mut members = BTreeMap::new();
        // One byte more tells what is too long from what ends there.
        let mut limited = from.take(MAX_SIZE + 1);
        let visited = visit_files(&mut limited, |name, bytes| {
            let mut read = Vec::new();
            bytes.read_to_end(&mut read).map_err(|source| LayerError::Read { source })?;
            members.insert(name.to_owned(), read);
            Ok::<_, LayerError>(())
        });
        if limited.limit() == 0 {
            return Err(StoreError::TooLarge { path: path(), limit: MAX_SIZE });
        }
        visited.map_err(|source| StoreError::Archive { path: path(), source })?;
        let refused = |reason: &str| StoreError::Companion { path: path(), reason: reason.to_owned() };
        let list = members.remove(Path::new(LIST)).ok_or_else(|| refused("it has no list"))?;
        let list: List = serde_json::from_slice(&list).map_err(|error| refused(&error.to_string()))?;
        if list.version != VERSION {
            return Err(refused(&format!("its version is {}, and only {VERSION} is known", list.version)));
        }
        if list.files.len() > MAX_FILES {
            return Err(refused("it lists too many files"));
        }
        let digest = |text: &str| text.parse::<Digest>().map_err(|error| refused(&error.to_string()));
        let mut companion = Self::new(digest(&list.image)?);
        for Listed { artifact_type, media_type, digest: named, annotations } in list.files {
            let named = digest(&named)?;
            let bytes = members.get(Path::new(&named.hex())).ok_or_else(|| refused("a file is not there"))?;
            if Digest::of(bytes) != named {
                return Err(refused("a file is not the one that is listed"));
            }
            companion.put(Beside { artifact_type, media_type, annotations, bytes: bytes.clone() });
        }
        Ok(companion)
    }
}

/// What the names of records start with that are not whole yet.
const TEMP_PREFIX: &str = ".beside-";

/// What is remembered on this machine of images that are in daemons.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// A folder, which need not be there yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, of: &Digest) -> PathBuf {
        self.dir.join(format!("{}.tar", of.hex()))
    }

    pub(crate) fn read(&self, of: &Digest) -> Result<Option<Companion>, StoreError> {
        let path = self.path(of);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let found = Companion::read(file, &path)?;
        if found.of != *of {
            return Err(StoreError::Companion { path, reason: "it is of another image".to_owned() });
        }
        Ok(Some(found))
    }

    /// Remembers what `change` makes of what was remembered of the image, and forgets what was written longest ago. Nobody
    /// else writes meanwhile. What was remembered and is broken is replaced.
    pub(crate) fn change(
        &self,
        of: &Digest,
        change: impl FnOnce(&mut Companion) -> Result<(), StoreError>,
    ) -> Result<Companion, StoreError> {
        std::fs::create_dir_all(&self.dir).map_err(StoreError::io("make", &self.dir))?;
        let _alone = Lock::exclusive(&self.dir)?;
        let before = match self.read(of) {
            Err(error @ StoreError::Io { .. }) => return Err(error),
            found => found.ok().flatten(),
        };
        let mut companion = before.unwrap_or_else(|| Companion::new(*of));
        change(&mut companion)?;
        self.write(&companion)?;
        Ok(companion)
    }

    fn write(&self, companion: &Companion) -> Result<(), StoreError> {
        let path = self.path(&companion.of);
        temporary::sweep(&self.dir, TEMP_PREFIX);
        let mut file = temporary::locked(&self.dir, TEMP_PREFIX)?;
        companion
            .write(&mut file)
            .map_err(|source| StoreError::ArchiveWrite { path: path.clone(), source })?;
        file.persist(&path).map_err(|error| StoreError::io("write", &path)(error.error))?;
        self.prune(&path)
    }

    fn prune(&self, last: &Path) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(StoreError::io("list", &self.dir))? {
            let entry = entry.map_err(StoreError::io("list", &self.dir))?;
            let path = entry.path();
            // Another process may have been faster.
            let time = entry.metadata().and_then(|metadata| metadata.modified());
            if let (true, Ok(time)) = (path != last && path.extension().is_some_and(|end| end == "tar"), time)
            {
                found.push((time, path));
            }
        }
        found.sort();
        let excess = (found.len() + 1).saturating_sub(MAX_RECORDS);
        for (_, path) in found.into_iter().take(excess) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(text: &str, time: &str) -> (Tree, Vec<u8>) {
        let subject = Descriptor::of(strata_oci::media_type::OCI_MANIFEST, b"somewhere else");
        let file = Descriptor::of("text/report", text.as_bytes());
        let annotations = BTreeMap::from([(CREATED.to_owned(), time.to_owned())]);
        let artifact = Artifact::new(&subject, "text/kind", file, &annotations).unwrap();
        (artifact.into_tree(), text.as_bytes().to_vec())
    }

    fn companion(texts: &[(&str, &str)]) -> Companion {
        let mut companion = Companion::new(Digest::of(b"image"));
        for (text, time) in texts {
            let (tree, bytes) = artifact(text, time);
            companion.add(&tree, Path::new("place"), |_| Ok(Some(bytes))).unwrap();
        }
        companion
    }

    fn bytes(companion: &Companion) -> Vec<u8> {
        companion.write(Vec::new()).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let all = companion(&[("one", "2026-01-02"), ("two", "2026-01-01"), ("one", "2026-01-02")]);
        let read = Companion::read(bytes(&all).as_slice(), Path::new("x")).unwrap();
        assert_eq!(read, all);
        assert_eq!(read.files.iter().map(|file| file.bytes.as_slice()).collect::<Vec<_>>(), [b"two", b"one"]);
        let subject = Descriptor::of("text/image", b"image");
        let artifacts = read.artifacts(&subject).unwrap();
        assert_eq!(artifacts.len(), 2);
        for artifact in artifacts {
            let tree = artifact.into_tree();
            let (of, entry) = artifact::root_of(&tree, Path::new("x")).unwrap();
            assert_eq!((of, entry.artifact_type.as_deref()), (subject.digest, Some("text/kind")));
            assert!(tree.blobs.iter().all(|blob| read.bytes(&blob.digest).is_some()));
        }
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let texts: Vec<String> = (0..MAX_FILES + 3).map(|number| format!("{number:04}")).collect();
        let texts: Vec<(&str, &str)> = texts.iter().map(|text| (text.as_str(), text.as_str())).collect();
        let kept = companion(&texts);
        assert_eq!((kept.files.len(), kept.files[0].bytes.as_slice()), (MAX_FILES, &b"0003"[..]));
        let large = "x".repeat(MAX_BYTES);
        let kept = companion(&[("small", "1"), (&large, "2")]);
        assert_eq!(kept.files.len(), 1);
        assert!((bytes(&kept).len() as u64) < MAX_SIZE);
    }

    #[test]
    fn what_lies_is_refused() {
        let good = bytes(&companion(&[("one", "1")]));
        let tar = |members: &[(&str, &[u8])]| {
            let mut tar = TarWriter::new(Vec::new());
            for (name, bytes) in members {
                tar.file(name, 0o644, Owner::ROOT, bytes.len() as u64, &mut &**bytes).unwrap();
            }
            tar.finish().unwrap()
        };
        let image = Digest::of(b"image");
        let list = |version: u32, of: &str| {
            format!(
                r#"{{"version":{version},"image":"{image}","files":[{{"artifactType":"a","mediaType":"b","digest":"{of}"}}]}}"#
            )
        };
        let one = Digest::of(b"one");
        let name = one.hex();
        for (archive, why) in [
            (b"no archive at all, and long enough to be taken for one".repeat(20), "cannot"),
            (good[..good.len() - 2000].to_vec(), ""),
            (tar(&[("other", b"x")]), "it has no list"),
            (tar(&[(LIST, b"{")]), "EOF"),
            (tar(&[(LIST, list(2, &one.to_string()).as_bytes())]), "version is 2"),
            (tar(&[(LIST, list(1, &one.to_string()).as_bytes())]), "a file is not there"),
            (tar(&[(LIST, list(1, "../x").as_bytes())]), "../x"),
            (tar(&[(&name, b"two"), (LIST, list(1, &one.to_string()).as_bytes())]), "not the one"),
            (tar(&[("a", &vec![0; MAX_SIZE as usize])]), "larger than"),
        ] {
            let error = Companion::read(archive.as_slice(), Path::new("x")).unwrap_err();
            let text = format!("{error} {:?}", std::error::Error::source(&error));
            assert!(text.contains(why), "{text} does not say {why}");
        }
    }

    #[test]
    fn records_are_of_an_image_and_not_without_end() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::new(root.path().join("deep/records"));
        let all = companion(&[("one", "1")]);
        assert_eq!(records.read(all.of()).unwrap(), None);
        let put = |all: &Companion| {
            records
                .change(all.of(), |kept| {
                    kept.merge(all.clone());
                    Ok(())
                })
                .unwrap()
        };
        put(&all);
        assert_eq!(records.read(all.of()).unwrap(), Some(all.clone()));
        let other = Digest::of(b"other");
        std::fs::copy(records.path(all.of()), records.path(&other)).unwrap();
        assert!(records.read(&other).unwrap_err().to_string().contains("another image"));
        for number in 0..MAX_RECORDS + 5 {
            put(&Companion::new(Digest::of(number.to_string().as_bytes())));
        }
        assert_eq!(std::fs::read_dir(records.dir()).unwrap().count(), MAX_RECORDS);
        let last = Digest::of((MAX_RECORDS + 4).to_string().as_bytes());
        assert!(records.read(&last).unwrap().is_some());
    }
    #[test]
    fn what_is_recorded_at_once_is_all_there() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::new(root.path().join("records"));
        let of = Digest::of(b"image");
        let texts: Vec<String> = (0..16).map(|number| format!("{number:02}")).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                let records = &records;
                scope.spawn(move || {
                    let more = companion(&[(text, text)]);
                    records
                        .change(&of, |kept| {
                            kept.merge(more);
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(records.read(&of).unwrap().unwrap().files.len(), texts.len());
        // What is broken is replaced, and what cannot be read is not.
        std::fs::write(records.path(&of), "no archive").unwrap();
        let one = companion(&[("one", "1")]);
        assert_eq!(
            records
                .change(&of, |kept| {
                    kept.merge(one.clone());
                    Ok(())
                })
                .unwrap(),
            one
        );
        std::fs::remove_file(records.path(&of)).unwrap();
        std::os::unix::fs::symlink(records.path(&of), records.path(&of)).unwrap();
        assert!(matches!(records.change(&of, |_| Ok(())), Err(StoreError::Io { .. })));
    }
}
