//! What the fingers of those who know pack type: understood where it means something here, and told where it does not.

use super::{Build, platform};
use clap::Args as ClapArgs;
use std::path::{Path, PathBuf};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::host_architecture;

/// Flags of pack that nothing depends on here.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct PackArgs {
    #[arg(long, hide = true)]
    trust_builder: bool,
    #[arg(long, hide = true)]
    trust_extra_buildpacks: bool,
    /// What is drawn on a terminal anyhow.
    #[arg(long, hide = true, conflicts_with_all = ["json", "quiet", "verbose"])]
    interactive: bool,
    #[arg(long, hide = true)]
    sparse: bool,
    #[arg(long, hide = true)]
    userns_host: bool,
    #[arg(long, hide = true, value_name = "IMAGE")]
    lifecycle_image: Option<String>,
    #[arg(long, hide = true, value_name = "ADDRESS")]
    docker_host: Option<String>,
    #[arg(long, hide = true, value_name = "EXTENSION", value_delimiter = ',')]
    extension: Vec<String>,
    #[arg(long, hide = true, value_name = "OS/ARCH", value_parser = platform)]
    platform: Option<strata_oci::Platform>,
}

/// Where a cache is that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CachePlace {
    /// In a folder.
    Folder(PathBuf),
    /// In an image.
    Image(String),
    /// Among those that Strata keeps, under this name.
    Volume(String),
    /// Where it is usually: pack's launch cache has nothing to do with layers of builds.
    Usual,
}

/// Understands a folder, or `type=build;format=bind;source=DIR` and the like, for the command line.
pub(super) fn cache(text: &str) -> Result<CachePlace, String> {
    if !text.contains("type=") && !text.contains("format=") {
        return Ok(CachePlace::Folder(text.into()));
    }
    let (mut kind, mut format, mut name, mut source) = ("build", "volume", None, None);
    for field in text.split(';').filter(|field| !field.trim().is_empty()) {
        let (key, value) =
            field.trim().split_once('=').ok_or_else(|| format!("'{field}' is no KEY=VALUE"))?;
        match key {
            "type" => kind = value,
            "format" => format = value,
            "name" => name = Some(value.to_owned()),
            "source" => source = Some(value.to_owned()),
            _ => return Err(format!("'{key}' is not known; type, format, name and source are")),
        }
    }
    match (kind, format) {
        ("launch", _) => Ok(CachePlace::Usual),
        ("build", "bind") => {
            source.map(|dir| CachePlace::Folder(dir.into())).ok_or("a bind needs source=DIR".into())
        }
        ("build", "image") => name.map(CachePlace::Image).ok_or("an image needs name=NAME".into()),
        ("build", "volume") => Ok(name.map_or(CachePlace::Usual, CachePlace::Volume)),
        ("build", _) => Err(format!("the format '{format}' is not known; bind, image and volume are")),
        _ => Err(format!("the type '{kind}' is not known; build and launch are")),
    }
}

impl Build {
    /// The same command line in one form: with the app where it is, all names of the image and the place of the cache.
    ///
    /// # Errors
    /// When something is asked for that cannot be had here.
    pub(crate) fn settled(mut self) -> Result<Self, Failure> {
        if let Some(path) = self.path.take() {
            let name = std::mem::replace(&mut self.app, path);
            if name != Path::new(".") {
                self.tag.insert(0, name.to_string_lossy().into_owned());
            }
        }
        match self.cache.cache.take() {
            Some(CachePlace::Image(name)) => self.cache.cache_image = Some(name),
            place => self.cache.cache = place.filter(|place| *place != CachePlace::Usual),
        }
        let refused = |message: String| Err(Failure::new(Exit::InvalidArguments, message));
        if !self.of_pack.extension.is_empty() {
            return refused("cannot build with --extension: image extensions are not supported".into());
        }
        let host = host_architecture();
        match &self.of_pack.platform {
            Some(wanted) if wanted.os != "linux" || wanted.architecture != host => {
                refused(format!("cannot build for {wanted}: this machine is linux/{host}"))
            }
            _ => Ok(self),
        }
    }

    /// What there is to say of flags that change nothing.
    pub(crate) fn notices(&self) -> Vec<String> {
        let of = &self.of_pack;
        let untrusted = "buildpacks never see the credentials of registries";
        let report = &self.report;
        let is_spare = report.report_extra.is_some() && !report.is_wanted();
        [
            (is_spare, "--report-extra", "with --origins never there is no report"),
            (of.trust_builder, "--trust-builder", untrusted),
            (of.trust_extra_buildpacks, "--trust-extra-buildpacks", untrusted),
            (of.sparse, "--sparse", "layers of run images are there once, for all images"),
            (of.userns_host, "--userns-host", "each build has a user namespace of its own"),
            (of.lifecycle_image.is_some(), "--lifecycle-image", "the phases are Strata's own"),
            (
                of.docker_host.is_some(),
                "--docker-host",
                "no daemon is needed; DOCKER_HOST says where docker:NAME is",
            ),
        ]
        .into_iter()
        .filter(|(is_given, ..)| *is_given)
        .map(|(_, flag, why)| format!("{flag} changes nothing here: {why}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_named_as_here_or_as_pack_does() {
        for (text, expected) in [
            ("dir", CachePlace::Folder("dir".into())),
            ("type=build;format=bind;source=/a=b", CachePlace::Folder("/a=b".into())),
            ("type=build;format=image;name=r.io/x", CachePlace::Image("r.io/x".into())),
            ("format=volume;name=x;", CachePlace::Volume("x".into())),
            ("type=build;format=volume", CachePlace::Usual),
            ("type=launch;format=bind;source=x", CachePlace::Usual),
        ] {
            assert_eq!(cache(text), Ok(expected), "{text}");
        }
        for bad in
            ["type=x", "format=x", "format=bind", "type=build;format=image", "type=build;x", "type=build;x=1"]
        {
            assert!(cache(bad).is_err(), "{bad}");
        }
    }
}
