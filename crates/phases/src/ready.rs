//! Trees of cached layers that stay from one build to the next, so that they need not be extracted again.
//!
//! ```text
//! <folder>/<hex>        the tree of the layer with this diffID
//! <folder>/<hex>.json   what the file system said of it when it was put there
//! ```
//!
//! The folder belongs to whoever builds, and no buildpack can reach it. Once a build is complete and no process of a
//! buildpack is left, trees are moved there of which it is certain that they are what the cache has: those that were
//! restored and in which nothing was written since, those that the program read for the image or the cache, and others after
//! they were read. Nothing counts that buildpacks can
//! write, as the [index](crate::index) in the layers directory does. The next build moves a tree into its place if the
//! file system says what it said then ([unchanged](strata_layer::unchanged)), and gives all of it the time of now, as
//! extracting does. Whatever is in the way of that, the layer is extracted; a tree that is moved is gone from here, so
//! nothing that a build that failed has done to it comes back.

use crate::event::Observer;
use crate::failure::chain;
use crate::files::{self, FileError, Links};
use crate::index::Index;
use crate::stoppable::Stoppable;
use crate::trees::Trees;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use strata_layer::threads::try_each;
use strata_layer::unchanged::{Clock, Fingerprint, Moment, fingerprint, renew, survey_plain};
use strata_layer::{HashWriter, LayerError, Skeleton, Source, write_tar};
use strata_oci::Digest;
use strata_spec::buildpack::escape_id;
use strata_spec::cache::CacheMetadata;
use strata_spec::layer;

/// Records of other versions are passed over.
const VERSION: u32 = 1;
/// The largest record that is read, in bytes.
const MAX_RECORD: usize = 64 * 1024;
/// With less than these bytes free on the disk, no tree stays.
const MIN_FREE: u64 = 1 << 30;

/// What the file system said of a tree.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u32,
    /// Which start of the machine has recorded it.
    boot: String,
    /// Where the clock was then.
    clock: String,
    tree: Digest,
    /// Of the archive that it makes.
    skeleton: Digest,
    /// Size of that archive in bytes.
    size: u64,
}

/// Trees that stay from one build of an app to the next.
pub struct Ready {
    dir: PathBuf,
    clock: Clock,
    /// Trees that were restored by this build, by path below the layers directory.
    restored: Mutex<BTreeMap<PathBuf, (Digest, Fingerprint)>>,
}

/// What builds leave each other.
#[derive(Clone, Copy)]
pub struct Leaving<'a> {
    /// What the cache has.
    pub cached: &'a CacheMetadata,
    /// The layers directory.
    pub trees: Trees<'a>,
    /// Knows which trees this program has read; those are not read again.
    pub index: &'a Index,
    /// Where everything else goes that is in the folder of trees.
    pub rest: &'a Path,
    /// How many trees are looked at side by side.
    pub threads: usize,
    /// Set from outside when nobody wants to wait any more.
    pub stop: &'a AtomicBool,
}

/// Why a tree is not moved.
#[derive(Debug, thiserror::Error)]
enum ReadyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot move it")]
    Io(#[from] io::Error),
    #[error("cannot understand its record")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Other(&'static str),
}

impl Ready {
    /// The trees in `dir`, which is made if it is not there. `None` where changes of files do not show, or trees cannot be
    /// moved to and from the layers directory.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: &Path, layers_dir: &Path) -> io::Result<Option<Self>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let devices = (dir.symlink_metadata()?.dev(), layers_dir.symlink_metadata()?.dev());
        if devices.0 != devices.1 {
            return Ok(None);
        }
        let new = |clock| Self { dir: dir.to_owned(), clock, restored: Mutex::default() };
        Ok(Clock::of(dir)?.map(new))
    }

    /// Moves the tree of a layer to `<layers>/<tail>`, in place of what is there. `None` when there is none, or it may be
    /// another by now.
    pub(crate) fn take(
        &self,
        diff_id: &Digest,
        layers_dir: &Path,
        tail: &Path,
        observer: &dyn Observer,
    ) -> Option<Skeleton> {
        self.try_take(diff_id, layers_dir, tail).unwrap_or_else(|error| {
            observer.debug(format!("the tree of {diff_id} is not used: {}", chain(&error)));
            None
        })
    }

    fn try_take(
        &self,
        diff_id: &Digest,
        layers_dir: &Path,
        tail: &Path,
    ) -> Result<Option<Skeleton>, ReadyError> {
        let (tree, record) = self.places(diff_id);
        let Some(bytes) = files::read_bytes(&record, Links::Refuse, MAX_RECORD)? else { return Ok(None) };
        let known: Record = serde_json::from_slice(&bytes)?;
        let now = self.clock.now()?;
        let is_believed = known.version == VERSION
            && known.boot == self.clock.boot()
            && known.clock.parse::<Moment>().is_ok_and(|then| then <= now);
        if !is_believed {
            return Err(ReadyError::Other("it was recorded at another time"));
        }
        if fingerprint(&tree, &self.clock)?.digest != known.tree {
            return Err(ReadyError::Other("something was written to it"));
        }
        let to = files::below(layers_dir, tail)?;
        files::remove(&to)?;
        to.parent().map_or(Ok(()), files::make_dir)?;
        std::fs::rename(&tree, &to)?;
        files::remove(&record)?;
        if let Err(error) = renew(&to) {
            files::remove(&to)?;
            return Err(error.into());
        }
        Ok(Some(Skeleton { digest: known.skeleton, size: known.size }))
    }

    /// Remembers a tree as it was when it was restored.
    pub(crate) fn restored(&self, tail: &Path, diff_id: Digest, fingerprint: Fingerprint) {
        self.lock().insert(tail.to_owned(), (diff_id, fingerprint));
    }

    /// Moves the trees of cached layers here; what else is here goes to the folder `rest`, to be removed with that. To be
    /// called when the build is complete, and nobody needs the layers directory any more. A tree that cannot be moved is
    /// extracted by the next build, and so are those that were not yet looked at when somebody stopped it.
    pub fn keep(&self, leaving: &Leaving<'_>, observer: &dyn Observer) {
        let Leaving { cached, rest, threads, stop, .. } = *leaving;
        if let Err(error) = self.clear(rest) {
            observer.debug(format!("{}: no trees stay: {}", self.dir.display(), chain(&error)));
            return;
        }
        let is_full = rustix::fs::statvfs(&self.dir)
            .map_or(true, |stat| stat.f_bavail.saturating_mul(stat.f_frsize) < MIN_FREE);
        if is_full {
            observer.debug(format!("{}: the disk is too full for trees to stay", self.dir.display()));
            return;
        }
        let layers = cached.buildpacks.iter().flat_map(|buildpack| {
            let folder = escape_id(&buildpack.key);
            let named = buildpack.layers.iter().filter(|(name, _)| layer::is_name(name));
            named.map(move |(name, entry)| (Path::new(&folder).join(name), &entry.sha))
        });
        let layers: Vec<(PathBuf, &String)> = layers.collect();
        let put = |(tail, sha): &(PathBuf, &String)| -> Result<(), Infallible> {
            if !stop.load(Ordering::Relaxed)
                && let Err(error) = self.put(tail, sha, leaving)
            {
                observer.debug(format!("the tree of {} does not stay: {}", tail.display(), chain(&error)));
            }
            Ok(())
        };
        let Ok(_) = try_each(&layers, threads, put);
    }

    fn put(&self, tail: &Path, sha: &str, leaving: &Leaving<'_>) -> Result<(), ReadyError> {
        let Leaving { trees, index, stop, .. } = *leaving;
        // What this build has put into the cache has a digest for a name.
        let Ok(diff_id) = sha.parse::<Digest>() else { return Ok(()) };
        let from = files::below(trees.layers.real, tail)?;
        let source = trees.source(tail).map_err(io::Error::other)?;
        // Archives may have what would be in the way of those who remove the tree one day.
        let Some((here, skeleton)) = survey_plain(&source, &self.clock)? else {
            return Err(ReadyError::Other("it is not as extraction makes it"));
        };
        let known = [self.lock().remove(tail), index.read_here(&source)];
        if !known.contains(&Some((diff_id, here))) {
            self.read(&source, &from, (diff_id, here), stop)?;
        }
        let (tree, record) = self.places(&diff_id);
        std::fs::rename(&from, &tree)?;
        // The folder itself has changed by that, and nothing else may at the same moment.
        let found = fingerprint(&tree, &self.clock)?;
        let Some(then) = self.clock.pass(found.newest)? else {
            return Err(ReadyError::Other("its times are in the future"));
        };
        let Skeleton { digest: skeleton, size } = skeleton;
        let (boot, clock, tree) = (self.clock.boot().to_owned(), then.to_string(), found.digest);
        let known = Record { version: VERSION, boot, clock, tree, skeleton, size };
        Ok(files::write(&record, &serde_json::to_string(&known)?)?)
    }

    /// Makes sure that a tree that looks so is this layer as it would be extracted.
    fn read(
        &self,
        source: &Source,
        dir: &Path,
        (diff_id, before): (Digest, Fingerprint),
        stop: &AtomicBool,
    ) -> Result<(), ReadyError> {
        self.clock.pass(before.newest)?.ok_or(ReadyError::Other("its times are in the future"))?;
        let mut hash = HashWriter::new(Stoppable::new(io::sink(), stop));
        write_tar(source, &mut hash)?;
        let (_, found, _) = hash.finish();
        let is_same = found == diff_id && fingerprint(dir, &self.clock)? == before;
        if is_same { Ok(()) } else { Err(ReadyError::Other("it is not what the cache has")) }
    }

    /// Moves all that is here into another folder.
    fn clear(&self, rest: &Path) -> Result<(), ReadyError> {
        std::fs::create_dir_all(rest)?;
        for path in files::list(&self.dir)? {
            if let Some(name) = path.file_name() {
                std::fs::rename(&path, rest.join(name))?;
            }
        }
        Ok(())
    }

    fn places(&self, diff_id: &Digest) -> (PathBuf, PathBuf) {
        let hex = diff_id.hex();
        (self.dir.join(&hex), self.dir.join(format!("{hex}.json")))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (Digest, Fingerprint)>> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::export::{Parents, Place};
    use crate::index::Known;
    use std::fs;
    use std::time::SystemTime;
    use strata_layer::Owner;
    use strata_spec::labels::{BuildpackLayers, LayerEntry};

    struct Silent;

    impl Observer for Silent {
        fn event(&self, _: Event) {}
    }

    const TAIL: &str = "a_b/x";

    /// A layers directory on a disk with a layer, and a folder for trees.
    struct Bench {
        base: tempfile::TempDir,
        diff_id: Digest,
    }

    impl Bench {
        fn new() -> Self {
            let base = tempfile::tempdir_in("/var/tmp").unwrap();
            let dir = base.path().join("layers").join(TAIL);
            fs::create_dir_all(dir.join("bin")).unwrap();
            fs::write(dir.join("bin/tool"), "one").unwrap();
            std::os::unix::fs::symlink("bin/tool", dir.join("link")).unwrap();
            let mut bench = Self { base, diff_id: Digest::of(b"") };
            bench.diff_id = strata_layer::diff_id(&bench.trees().source(Path::new(TAIL)).unwrap()).unwrap().0;
            bench
        }

        fn path(&self, tail: &str) -> PathBuf {
            self.base.path().join(tail)
        }

        fn trees(&self) -> Trees<'_> {
            let real = Box::leak(self.path("layers").into_boxed_path());
            let layers = Place { real, seen: "/layers" };
            Trees { layers, owner: Owner::ROOT, parents: Parents::Fixed }
        }

        fn ready(&self) -> Ready {
            let ready = Ready::open(&self.path("trees"), &self.path("layers")).unwrap();
            ready.expect("the tests need ext4, XFS or Btrfs for /var/tmp")
        }

        fn index(&self) -> Index {
            Index::open(&self.path("layers"), &Silent)
        }

        fn keep(&self, ready: &Ready, diff_id: &Digest) {
            self.keep_unless(false, ready, &self.index(), diff_id);
        }

        fn keep_unless(&self, is_stopped: bool, ready: &Ready, index: &Index, diff_id: &Digest) {
            let entry = LayerEntry { sha: diff_id.to_string(), cache: true, ..LayerEntry::default() };
            let layers = [("x".to_owned(), entry)].into();
            let buildpack = BuildpackLayers { key: "a/b".into(), layers, ..BuildpackLayers::default() };
            let cached = CacheMetadata { buildpacks: vec![buildpack], ..CacheMetadata::default() };
            let stat = rustix::fs::statvfs(self.base.path()).unwrap();
            let free = stat.f_bavail * stat.f_frsize;
            assert!(free >= MIN_FREE, "the tests need {MIN_FREE} bytes free in /var/tmp, which has {free}");
            self.leave(&cached, is_stopped, ready, index);
        }

        fn leave(&self, cached: &CacheMetadata, is_stopped: bool, ready: &Ready, index: &Index) {
            let (trees, rest, stop) = (self.trees(), self.path("rest"), AtomicBool::new(is_stopped));
            ready.keep(&Leaving { cached, trees, index, rest: &rest, threads: 2, stop: &stop }, &Silent);
        }

        /// What the next build finds.
        fn take(&self) -> Option<Skeleton> {
            self.ready().take(&self.diff_id, &self.path("layers"), Path::new(TAIL), &Silent)
        }

        fn names(&self, dir: &str) -> Vec<String> {
            let paths = files::list(&self.path(dir)).unwrap();
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn a_tree_stays_and_comes_back_as_if_it_had_been_extracted() {
        let bench = Bench::new();
        let source = bench.trees().source(Path::new(TAIL)).unwrap();
        let expected = strata_layer::skeleton(&source).unwrap();
        let file = bench.path("layers/a_b/x/bin/tool");
        let old = SystemTime::now() - std::time::Duration::from_secs(1000);
        fs::File::open(&file).unwrap().set_modified(old).unwrap();
        let inode = file.metadata().unwrap().ino();
        bench.keep(&bench.ready(), &bench.diff_id);
        assert!(!bench.path("layers").join(TAIL).exists());
        // Whatever is in its place is replaced.
        fs::create_dir_all(bench.path("layers/a_b/x/other")).unwrap();
        assert_eq!(bench.take(), Some(expected));
        assert_eq!(
            (fs::read_to_string(&file).unwrap().as_str(), file.metadata().unwrap().ino()),
            ("one", inode)
        );
        assert!(file.metadata().unwrap().modified().unwrap() > old + std::time::Duration::from_secs(500));
        assert_eq!(bench.names("layers/a_b/x"), ["bin", "link"]);
        // It is there once.
        assert_eq!(bench.names("trees"), [""; 0]);
        assert_eq!(bench.take(), None);
    }

    #[test]
    fn a_tree_that_may_be_another_by_now_is_not_used() {
        type Change = dyn Fn(&Path, &Path);
        let changes: [&Change; 7] = [
            &|tree, _| {
                let file = tree.join("bin/tool");
                let before = file.metadata().unwrap().modified().unwrap();
                fs::write(&file, "two").unwrap();
                fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
            },
            &|tree, _| fs::write(tree.join("more"), "").unwrap(),
            &|tree, _| {
                let copy = tree.with_file_name("copy");
                assert!(
                    std::process::Command::new("cp")
                        .arg("-a")
                        .args([tree, &copy])
                        .status()
                        .unwrap()
                        .success()
                );
                fs::remove_dir_all(tree).unwrap();
                fs::rename(copy, tree).unwrap();
            },
            &|tree, _| fs::remove_dir_all(tree).unwrap(),
            &|_, record| fs::write(record, "{").unwrap(),
            &|_, record| edit(record, "boot", "another".into()),
            &|_, record| edit(record, "clock", "99999999999.000000000".into()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let bench = Bench::new();
            bench.keep(&bench.ready(), &bench.diff_id);
            let tree = bench.path("trees").join(bench.diff_id.hex());
            change(&tree, &tree.with_extension("json"));
            assert_eq!(bench.take(), None, "{number}");
            assert!(!bench.path("layers").join(TAIL).exists(), "{number}");
        }
    }

    fn edit(record: &Path, key: &str, value: serde_json::Value) {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        json[key] = value;
        fs::write(record, json.to_string()).unwrap();
    }

    #[test]
    fn only_what_the_cache_has_stays() {
        let bench = Bench::new();
        // The tree is another than the cache has.
        bench.keep(&bench.ready(), &Digest::of(b"other"));
        assert_eq!(bench.names("trees"), [""; 0]);
        // Who waits for the program to end does not wait for a tree.
        bench.keep_unless(true, &bench.ready(), &bench.index(), &bench.diff_id);
        assert_eq!(bench.names("trees"), [""; 0]);
        // As archives make none: who has the other name could write to it later.
        let file = bench.path("layers/a_b/x/bin/tool");
        fs::hard_link(&file, bench.path("layers/elsewhere")).unwrap();
        bench.keep(&bench.ready(), &bench.diff_id);
        assert_eq!(bench.names("trees"), [""; 0]);
        fs::remove_file(bench.path("layers/elsewhere")).unwrap();
        bench.keep(&bench.ready(), &bench.diff_id);
        assert_eq!(bench.names("trees").len(), 2);
        // What is not of this build goes.
        bench.leave(&CacheMetadata::default(), false, &bench.ready(), &bench.index());
        assert_eq!((bench.names("trees").len(), bench.names("rest").len()), (0, 2));
    }

    #[test]
    fn what_was_restored_is_read_only_if_something_was_written_to_it() {
        let bench = Bench::new();
        let dir = bench.path("layers").join(TAIL);
        let restored = |ready: &Ready| {
            let found = fingerprint(&dir, &ready.clock).unwrap();
            ready.clock.pass(found.newest).unwrap().unwrap();
            // No tree makes this.
            ready.restored(Path::new(TAIL), Digest::of(b"restored"), found);
        };
        let ready = bench.ready();
        restored(&ready);
        fs::write(dir.join("bin/tool"), "two").unwrap();
        bench.keep(&ready, &Digest::of(b"restored"));
        assert_eq!(bench.names("trees"), [""; 0]);
        let permit = |mode| {
            fs::set_permissions(dir.join("bin"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        // As an archive may have it; nobody could remove it.
        permit(0o555);
        restored(&ready);
        bench.keep(&ready, &Digest::of(b"restored"));
        assert_eq!(bench.names("trees"), [""; 0]);
        permit(0o755);
        restored(&ready);
        bench.keep(&ready, &Digest::of(b"restored"));
        assert_eq!(bench.names("trees").len(), 2);
    }

    #[test]
    fn what_the_program_has_read_is_not_read_again() {
        let bench = Bench::new();
        let source = bench.trees().source(Path::new(TAIL)).unwrap();
        // No tree makes this.
        let known = Known { diff_id: Digest::of(b"read"), size: 7 };
        let read = || {
            let index = bench.index();
            index.record(index.look(&source).as_ref(), known);
            index
        };
        // What an index of before says is not believed.
        read().save(&Silent);
        bench.keep(&bench.ready(), &known.diff_id);
        assert_eq!(bench.names("trees"), [""; 0]);
        let index = bench.index();
        assert_eq!(index.look(&source).unwrap().known, Some(known));
        bench.keep_unless(false, &bench.ready(), &index, &known.diff_id);
        assert_eq!(bench.names("trees"), [""; 0]);
        fs::remove_dir_all(bench.path("layers/@strata")).unwrap();
        // Nor what was read before somebody wrote to it.
        let index = read();
        fs::write(bench.path("layers/a_b/x/bin/tool"), "two").unwrap();
        bench.keep_unless(false, &bench.ready(), &index, &known.diff_id);
        assert_eq!(bench.names("trees"), [""; 0]);
        bench.keep_unless(false, &bench.ready(), &read(), &known.diff_id);
        assert_eq!(bench.names("trees").len(), 2);
    }
}
