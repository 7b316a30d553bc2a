//! Finds the image a user names on the command line, wherever it is.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use strata_oci::{Digest, Platform, Reference};

use crate::archive::{DockerArchive, Format, OciArchive, WAITING_ROOM, Writer};
use crate::wire::Stop;
use crate::{Embedded, Layout, Records, Store, StoreError, daemon, layout, registry};

/// The path that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// Where a user says that an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `oci:<directory>[:<tag>]`: a directory in the OCI image layout.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The tag.
        tag: Option<String>,
    },
    /// `oci-archive:<file>[:<tag>]`: a tar archive of an OCI layout.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// A tag, or the whole name of an image.
        tag: Option<String>,
    },
    /// `docker-archive:<file>[:<name>]`: as `docker save` writes it.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// The name of an image.
        name: Option<String>,
    },
    /// `registry:<name>` or `docker://<name>`: in a registry.
    Registry(String),
    /// `docker:<name>` or `docker-daemon:<name>`: in the Docker daemon.
    Daemon(String),
    /// `<name>`: kept by Strata, or else in a registry.
    Named {
        /// What it means.
        name: Reference,
        /// As the user wrote it.
        written: String,
    },
}

/// Gives a variable of the environment.
pub type Variable<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// What it takes to open a [`Source`].
pub struct Surroundings<'a> {
    /// The images that Strata keeps.
    pub embedded: Embedded,
    /// Gives variables of the environment: for credentials, proxies and the place of the daemon.
    pub variable: Variable<'a>,
    /// See [`registry::Settings::insecure`].
    pub insecure: Vec<String>,
    stop: Stop,
    /// What is remembered of images in daemons, if anything is.
    records: Option<Records>,
    client: OnceLock<registry::Client>,
}

impl<'a> Surroundings<'a> {
    /// Nothing is read or connected to yet.
    pub fn new(
        embedded: Embedded,
        variable: impl Fn(&str) -> Option<String> + 'a,
        insecure: Vec<String>,
    ) -> Self {
        let variable = Box::new(variable);
        let (stop, client) = (Stop::default(), OnceLock::new());
        Self { embedded, variable, insecure, stop, records: None, client }
    }

    /// The same; registries and daemons are waited for until somebody wants out.
    #[must_use]
    pub fn stopping(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// Whether somebody wants out.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The same, with what is remembered of images in daemons.
    #[must_use]
    pub fn recorded(self, records: Records) -> Self {
        Self { records: Some(records), ..self }
    }

    /// Writes what a web server has at an address: see [`registry::Client::fetch`].
    ///
    /// # Errors
    ///
    /// As there, and when `CNB_REGISTRY_AUTH` is malformed.
    pub fn fetch(&self, address: &str, limit: u64, to: &mut dyn Write) -> Result<Digest, StoreError> {
        self.client()?.fetch(address, limit, to)
    }

    /// As [`fetch`](Self::fetch), unless it is known: see [`registry::Client::fetch_unless`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fetch_unless(
        &self,
        address: &str,
        known: &registry::Validators,
        limit: u64,
        to: &mut dyn Write,
    ) -> Result<Option<registry::Download>, StoreError> {
        self.client()?.fetch_unless(address, known, limit, to)
    }

    fn registry(&self, name: &str) -> Result<registry::Image, StoreError> {
        Ok(self.client()?.open(name)?)
    }

    /// One client for all names: registries share blobs between repositories of one.
    fn client(&self) -> Result<&registry::Client, StoreError> {
        Ok(match self.client.get() {
            Some(client) => client,
            None => {
                let settings = registry::Settings::from_variables(&self.variable);
                let settings = settings.map_err(registry::Error::from)?;
                let settings = registry::Settings {
                    insecure: self.insecure.clone(),
                    stop: self.stop.clone(),
                    ..settings
                };
                self.client.get_or_init(|| registry::Client::new(settings))
            }
        })
    }

    fn daemon(&self, name: &str) -> Result<daemon::Image, StoreError> {
        let variable = |name: &str| (self.variable)(name);
        let settings = daemon::Settings::from_variables(&variable, PathBuf::from(WAITING_ROOM));
        let settings = daemon::Settings { stop: self.stop.clone(), ..settings };
        let image = daemon::Client::new(settings)?.open(name)?;
        Ok(match &self.records {
            Some(records) => image.recorded(records.clone()),
            None => image,
        })
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Surroundings").field("embedded", &self.embedded).finish_non_exhaustive()
    }
}

/// A place that an image is written to.
pub struct Target {
    store: Box<dyn Store>,
    archive: Option<Writer>,
    /// A directory that was not there before.
    made: Option<PathBuf>,
}

impl Target {
    /// The place.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Makes what was put visible, where that is not so yet.
    ///
    /// # Errors
    ///
    /// When an archive cannot be written to its end.
    pub fn finish(self) -> Result<(), StoreError> {
        self.archive.map_or(Ok(()), Writer::finish)
    }

    /// Leaves nothing behind of an image that could not be put. What was there before stays.
    ///
    /// # Errors
    ///
    /// When a directory cannot be removed.
    pub fn give_up(self) -> Result<(), StoreError> {
        let Self { store, made, .. } = self;
        drop(store);
        let Some(dir) = made else { return Ok(()) };
        std::fs::remove_dir_all(&dir).map_err(StoreError::io("remove", &dir))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Target").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl Source {
    /// Whether the text starts with the name of a kind of place; else it is the name of an image.
    #[must_use]
    pub fn has_prefix(text: &str) -> bool {
        const PREFIXES: [&str; 7] = [
            "oci:",
            "oci-archive:",
            "docker-archive:",
            "docker://",
            "registry:",
            "docker-daemon:",
            "docker:",
        ];
        PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    }

    /// Understands what a user wrote. A directory or a file that exists under the whole text after the prefix wins over
    /// one with a tag.
    ///
    /// # Errors
    ///
    /// When the text has none of the forms.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let refused = || StoreError::Source(text.to_owned());
        let after = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        let whole = |name: &str| name.parse::<Reference>().map(|_| name.to_owned());
        if let Some(rest) = after("oci:") {
            let (dir, tag) = split_layout(rest);
            tag.as_deref().map_or(Ok(()), layout::check_name)?;
            return Ok(Self::Layout { dir, tag });
        }
        if let Some(rest) = after("oci-archive:") {
            let (file, tag) = split_archive(rest);
            tag.as_deref().map_or(Ok(()), layout::check_name)?;
            return Ok(Self::OciArchive { file, tag });
        }
        if let Some(rest) = after("docker-archive:") {
            let (file, name) = split_archive(rest);
            return Ok(Self::DockerArchive { file, name });
        }
        if let Some(rest) = after("docker://").or_else(|| after("registry:")) {
            return Ok(Self::Registry(whole(rest).map_err(registry::Error::from)?));
        }
        if let Some(rest) = after("docker-daemon:").or_else(|| after("docker:")) {
            let id = rest.strip_prefix("sha256:").unwrap_or(rest);
            let is_id = Digest::from_hex(id).is_ok();
            return Ok(Self::Daemon(if is_id {
                rest.to_owned()
            } else {
                whole(rest).map_err(daemon::Error::from)?
            }));
        }
        // Said with all the forms there are, rather than with what is wrong with this one.
        let name = text.parse().ok().ok_or_else(refused)?;
        Ok(Self::Named { name, written: text.to_owned() })
    }

    /// Opens the place to read one image: for this platform, when there are several, else for Linux on this machine.
    /// Whether there is an image is found out by reading it.
    ///
    /// # Errors
    ///
    /// When an archive cannot be read, or a name is none.
    pub fn open(
        &self,
        surroundings: &Surroundings<'_>,
        platform: Option<&Platform>,
    ) -> Result<Box<dyn Store>, StoreError> {
        let platform =
            platform.cloned().unwrap_or_else(|| Platform::new("linux", crate::host_architecture()));
        Ok(match self {
            Self::Layout { dir, tag } => Box::new(layout_of(dir, tag.as_deref()).for_platform(platform)),
            Self::OciArchive { file, tag } => {
                let archive = OciArchive::open(file)?.for_platform(platform);
                Box::new(match tag {
                    Some(tag) => archive.tagged(tag)?,
                    None => archive,
                })
            }
            Self::DockerArchive { file, name } => {
                let archive = DockerArchive::open(file)?.for_platform(platform);
                Box::new(match name {
                    Some(name) => archive.named(name)?,
                    None => archive,
                })
            }
            Self::Registry(name) => Box::new(surroundings.registry(name)?.for_platform(platform)),
            Self::Daemon(name) => Box::new(surroundings.daemon(name)?),
            Self::Named { name, written } => {
                let layout = surroundings.embedded.layout_for(name).for_platform(platform.clone());
                match layout.read_image() {
                    Ok(None) => Box::new(surroundings.registry(written)?.for_platform(platform)),
                    // What is wrong with it shows again when it is used.
                    Ok(Some(_)) | Err(_) => Box::new(layout),
                }
            }
        })
    }

    /// Opens the place to write one image, or an index. In an archive for which no name is given, the image gets `name`.
    ///
    /// # Errors
    ///
    /// When the place cannot be written, or the name is one that a new image cannot be given.
    pub fn create(
        &self,
        surroundings: &Surroundings<'_>,
        name: Option<&Reference>,
    ) -> Result<Target, StoreError> {
        let store: Box<dyn Store> = match self {
            Self::Layout { dir, tag } => {
                return in_layout(dir, tag.as_deref().or(name.and_then(Reference::tag)));
            }
            Self::OciArchive { file, tag } => return archive(file, Format::Oci, tag.as_deref(), name),
            Self::DockerArchive { file, name: own } => {
                return archive(file, Format::Docker, own.as_deref(), name);
            }
            Self::Registry(name) => Box::new(surroundings.registry(name)?),
            Self::Daemon(name) => Box::new(surroundings.daemon(name)?),
            Self::Named { name, written } => {
                let tag = name.tag().ok_or_else(|| StoreError::Name(written.clone()))?;
                return in_layout(surroundings.embedded.layout_for(name).dir(), Some(tag));
            }
        };
        Ok(Target { store, archive: None, made: None })
    }

    /// Whether this kind of place has indexes of images for several platforms.
    #[must_use]
    pub fn has_indexes(&self) -> bool {
        !matches!(self, Self::DockerArchive { .. } | Self::Daemon(_))
    }

    /// Whether this kind of place has manifests: where it has none, the digest of an image says nothing.
    #[must_use]
    pub fn has_manifests(&self) -> bool {
        self.has_indexes()
    }

    /// Whether this kind of place keeps what refers to images: SBOMs, signatures.
    #[must_use]
    pub fn has_referrers(&self) -> bool {
        self.has_manifests()
    }

    /// The name that an image of this place has everywhere.
    #[must_use]
    pub fn name(&self) -> Option<Reference> {
        match self {
            Self::Named { name, .. } => Some(name.clone()),
            // Checked when parsed, or only an id.
            Self::Registry(text) | Self::Daemon(text) => text.parse().ok(),
            Self::DockerArchive { name: Some(text), .. } | Self::OciArchive { tag: Some(text), .. } => {
                whole_name(text)
            }
            _ => None,
        }
    }
}

fn layout_of(dir: &Path, tag: Option<&str>) -> Layout {
    let layout = Layout::open(dir);
    match tag {
        Some(tag) => layout.tagged(tag),
        None => layout,
    }
}

fn in_layout(dir: &Path, tag: Option<&str>) -> Result<Target, StoreError> {
    let made = dir.symlink_metadata().is_err().then(|| dir.to_owned());
    let layout = Layout::open_or_create(dir)?;
    let layout = match tag {
        Some(tag) => layout.tagged(tag),
        None => layout,
    };
    Ok(Target { store: Box::new(layout), archive: None, made })
}

/// The name of an image, if it is more than a tag.
fn whole_name(text: &str) -> Option<Reference> {
    text.contains([':', '/']).then(|| text.parse().ok()).flatten()
}

fn archive(
    file: &Path,
    format: Format,
    own: Option<&str>,
    name: Option<&Reference>,
) -> Result<Target, StoreError> {
    let own_name = own.and_then(|text| match format {
        Format::Oci => whole_name(text),
        Format::Docker => text.parse().ok(),
    });
    if own.is_some() && own_name.is_none() && format == Format::Docker {
        return Err(StoreError::Name(own.unwrap_or_default().to_owned()));
    }
    let mut writer = if file == Path::new(STANDARD_OUTPUT) {
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        let out = out.map_err(StoreError::io("write", Path::new("standard output")))?;
        Writer::stream(File::from(out), "standard output", format)?
    } else {
        Writer::create(file, format)?
    };
    match (&own_name, own, name) {
        (Some(name), _, _) | (None, None, Some(name)) => writer = writer.named(name.clone()),
        (None, Some(tag), _) => writer = writer.tagged(tag),
        (None, None, None) => {}
    }
    Ok(Target { store: Box::new(writer.clone()), archive: Some(writer), made: None })
}

/// A directory and a tag. Directories may have colons.
fn split_layout(text: &str) -> (PathBuf, Option<String>) {
    if Path::new(text).is_dir() {
        return (text.into(), None);
    }
    match text.rsplit_once(':') {
        Some((dir, tag)) if !dir.is_empty() && !tag.contains('/') => (dir.into(), Some(tag.to_owned())),
        _ => (text.into(), None),
    }
}

/// A file and a name. Names have colons, too: the longest file that exists counts, else what is before the first one.
fn split_archive(text: &str) -> (PathBuf, Option<String>) {
    if Path::new(text).is_file() {
        return (text.into(), None);
    }
    let splits: Vec<_> = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..])).collect();
    let existing = splits.iter().rev().find(|(file, _)| Path::new(file).is_file());
    match existing.or(splits.first()) {
        Some((file, name)) if !file.is_empty() && !name.is_empty() => (file.into(), Some((*name).to_owned())),
        _ => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch;

    #[test]
    fn a_directory_with_colons_wins_over_a_tag() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("host:5000").join("x:y");
        std::fs::create_dir_all(&dir).unwrap();
        let text = dir.to_str().unwrap();
        for (spec, path, tag) in [
            (format!("oci:{text}"), text.to_owned(), None),
            (format!("oci:{text}:v1"), text.to_owned(), Some("v1")),
            ("oci:a/b:run".to_owned(), "a/b".to_owned(), Some("run")),
            ("oci:a:5/b".to_owned(), "a:5/b".to_owned(), None),
        ] {
            let expected = Source::Layout { dir: path.into(), tag: tag.map(str::to_owned) };
            assert_eq!(Source::parse(&spec).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn a_file_with_colons_wins_over_a_name() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a:1.tar");
        std::fs::write(&file, "").unwrap();
        let text = file.to_str().unwrap();
        for (rest, path, name) in [
            (text.to_owned(), text, None),
            (format!("{text}:web:v1"), text, Some("web:v1")),
            ("new.tar:host:5000/web:v1".to_owned(), "new.tar", Some("host:5000/web:v1")),
            ("new.tar".to_owned(), "new.tar", None),
        ] {
            let name = name.map(str::to_owned);
            let expected = Source::DockerArchive { file: path.into(), name: name.clone() };
            assert_eq!(Source::parse(&format!("docker-archive:{rest}")).unwrap(), expected, "{rest}");
            let expected = Source::OciArchive { file: path.into(), tag: name };
            assert_eq!(Source::parse(&format!("oci-archive:{rest}")).unwrap(), expected, "{rest}");
        }
    }

    #[test]
    fn places_are_told_apart_by_their_prefix() {
        let named = |text: &str| Source::Named { name: text.parse().unwrap(), written: text.to_owned() };
        for (text, expected) in [
            ("web", named("web")),
            ("example.com/team/web:1", named("example.com/team/web:1")),
            ("docker://web", Source::Registry("web".to_owned())),
            ("registry:host:5000/web", Source::Registry("host:5000/web".to_owned())),
            ("docker:web:1", Source::Daemon("web:1".to_owned())),
            ("docker-daemon:web:1", Source::Daemon("web:1".to_owned())),
        ] {
            assert_eq!(Source::has_prefix(text), !matches!(expected, Source::Named { .. }), "{text}");
            assert_eq!(Source::parse(text).unwrap(), expected, "{text}");
        }
        for bad in
            ["", "oci:", "oci:a:", "oci:a:b c", "oci-archive:", "docker-archive:", "docker://", "docker://A"]
        {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
        let error = Source::parse("./image.tar").unwrap_err();
        assert!(error.to_string().contains("oci-archive:<file>"), "{error}");
    }

    #[test]
    fn a_name_is_looked_for_among_the_own_images_first() {
        let root = tempfile::tempdir().unwrap();
        let surroundings = Surroundings::new(Embedded::new(root.path()), |_| None, Vec::new());
        let source = Source::parse("web").unwrap();
        let medium = || format!("{:?}", source.open(&surroundings, None).unwrap().medium());
        assert!(medium().starts_with("Registry("), "{}", medium());
        source.create(&surroundings, None).unwrap().give_up().unwrap();
        assert!(medium().starts_with("Registry("), "{}", medium());
        let target = source.create(&surroundings, None).unwrap();
        let image = scratch::base("amd64", 1, 1, "1980-01-01T00:00:01Z").unwrap();
        image.put_in(target.store(), &[]).unwrap();
        target.finish().unwrap();
        assert!(medium().starts_with("Layout("), "{}", medium());
        let by_digest = format!("web@sha256:{}", "0".repeat(64));
        assert!(Source::parse(&by_digest).unwrap().create(&surroundings, None).is_err());
    }
}
