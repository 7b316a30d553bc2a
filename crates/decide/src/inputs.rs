//! What the platform wants, from flags, variables and defaults (platform specification, "Inputs").
//!
//! Pure: flags are parsed, the environment is a map, and the one question about a file is a function given by the
//! caller. What must hold among the values is in [`check`].

pub mod check;
pub mod value;

use crate::origins::Require;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use strata_spec::inputs::{self as table, Input, LAYERS_PLACEHOLDER};
use value::{GoDuration, Value};

/// Where the order is when the platform neither says so nor put it among the layers.
const BUILDER_ORDER: &str = "/cnb/order.toml";

/// A variable whose value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is '{value}', which is no user or group; expected a number from 0 to 4294967294")]
pub struct IdError {
    /// The variable's name.
    pub variable: String,
    /// What it holds.
    pub value: String,
}

/// The flags that were given, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given(Vec<(&'static str, Value)>);

impl Given {
    /// Adds a flag.
    pub fn push(&mut self, input: &Input, value: Value) {
        self.0.push((input.flag, value));
    }

    fn all<'a>(&'a self, input: &Input) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.0.iter().filter(move |(name, _)| *name == input.flag).map(|(_, value)| value)
    }

    fn last(&self, input: &Input) -> Option<&Value> {
        self.all(input).next_back()
    }
}

/// Flags and variables together.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The flags.
    pub flags: &'a Given,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
}

impl<'a> Sources<'a> {
    /// The variables of an input that are set; an empty one is not.
    fn variables(self, input: &Input) -> impl Iterator<Item = (&'static str, &'a str)> {
        let set = move |name: &'static &'static str| Some((*name, self.env.get(*name)?.as_str()));
        input.env.iter().filter_map(set).filter(|(_, value)| !value.is_empty())
    }

    /// A text. The last flag wins even when it is empty: so a platform takes a variable back.
    pub fn text(self, input: &Input) -> String {
        match self.flags.last(input) {
            Some(Value::Text(text)) => text.clone(),
            _ => self.variables(input).next().map_or(input.default, |(_, value)| value).to_owned(),
        }
    }

    /// A text, or nothing.
    fn optional(self, input: &Input) -> Option<String> {
        Some(self.text(input)).filter(|text| !text.is_empty())
    }

    fn path(self, input: &Input) -> PathBuf {
        self.text(input).into()
    }

    /// A truth value. A variable that is none counts as false.
    pub fn bool(self, input: &Input) -> bool {
        match self.flags.last(input) {
            Some(Value::Bool(value)) => *value,
            _ => self.variables(input).any(|(_, text)| value::parse_bool(text) == Some(true)),
        }
    }

    /// Whether origins must be known. What is neither a truth value nor `discard` was meant to ask for something.
    fn require(self, input: &Input) -> Require {
        match self.text(input).as_str() {
            "" => Require::Nothing,
            "discard" => Require::Discard,
            text if value::parse_bool(text) == Some(false) => Require::Nothing,
            _ => Require::Known,
        }
    }

    /// A user or a group.
    ///
    /// # Errors
    /// When a variable holds something else. To take it for 0 would be to make a typing error root.
    pub fn id(self, input: &Input) -> Result<u32, IdError> {
        match (self.flags.last(input), self.variables(input).next()) {
            (Some(Value::Id(id)), _) => Ok(*id),
            (_, Some((variable, text))) => value::parse_decimal_id(text)
                .map_err(|_form_or_range| IdError { variable: variable.to_owned(), value: text.to_owned() }),
            (_, None) => Ok(0),
        }
    }

    /// A length of time. A variable that is none counts as not set.
    pub fn duration(self, input: &Input) -> GoDuration {
        match self.flags.last(input) {
            Some(Value::Duration(duration)) => *duration,
            _ => {
                let texts = self.variables(input).map(|(_, text)| text).chain([input.default]);
                texts.filter_map(|text| text.parse().ok()).next().unwrap_or_default()
            }
        }
    }

    /// The variable's elements, then those of the flags. Empty ones, as after a comma at the end, are dropped.
    pub fn list(self, input: &Input) -> Vec<String> {
        let of_variable = self.variables(input).flat_map(|(_, text)| text.split(','));
        let of_flags = self.flags.all(input).filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        });
        of_variable.chain(of_flags).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// Whether images are OCI layouts on disk, by either spelling.
    fn use_layout(self) -> bool {
        let spellings = [&table::LAYOUT, &table::OCI];
        let given: Vec<&Input> =
            spellings.into_iter().filter(|input| self.flags.last(input).is_some()).collect();
        if given.is_empty() {
            spellings.into_iter().any(|input| self.bool(input))
        } else {
            given.into_iter().any(|input| self.bool(input))
        }
    }

    /// The directory of layouts, by either spelling. Only the draft's spelling of the switch brings a default.
    fn layout_dir(self) -> Option<PathBuf> {
        let draft_dir = &table::OCI_DIR;
        let draft_is_used = self.bool(&table::OCI)
            || self.flags.last(draft_dir).is_some()
            || self.variables(draft_dir).next().is_some();
        let first_by_flag =
            self.flags.last(draft_dir).is_some() && self.flags.last(&table::LAYOUT_DIR).is_none();
        let official = self.optional(&table::LAYOUT_DIR).filter(|_| !first_by_flag);
        official.or_else(|| self.optional(draft_dir).filter(|_| draft_is_used)).map(PathBuf::from)
    }

    /// Whether layers of earlier builds stay where they are. The creator has another name for the flag.
    fn skip_layers(self) -> bool {
        match self.flags.last(&table::SKIP_RESTORE) {
            Some(_) => self.bool(&table::SKIP_RESTORE),
            None => self.bool(&table::SKIP_LAYERS),
        }
    }
}

/// All that a platform can tell a phase. Directories marked absolute are; other paths are as given, and relative ones
/// are relative to the working directory. An empty path is what an empty flag makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// `analyzed.toml`.
    pub analyzed: PathBuf,
    /// The application; absolute.
    pub app_dir: PathBuf,
    /// Whether the label `io.buildpacks.app.source` is written.
    pub app_source_label: bool,
    /// The builder's own settings; absolute.
    pub build_config_dir: PathBuf,
    /// The image in which buildpacks run.
    pub build_image: Option<String>,
    /// Buildpacks; absolute.
    pub buildpacks_dir: PathBuf,
    /// The cache as a directory; absolute.
    pub cache_dir: Option<PathBuf>,
    /// The cache as an image.
    pub cache_image: Option<String>,
    /// How new layers are compressed.
    pub compression: Option<String>,
    /// The run image by the deprecated flag `-image`.
    pub deprecated_run_image: Option<String>,
    /// The execution environment.
    pub exec_env: String,
    /// Which image is extended: `build` or `run`.
    pub extend_kind: String,
    /// Layers made by extensions.
    pub extended_dir: PathBuf,
    /// Extensions; absolute.
    pub extensions_dir: PathBuf,
    /// Whether to rebase even when it may break the image.
    pub force_rebase: bool,
    /// What extensions generate; absolute.
    pub generated_dir: PathBuf,
    /// The group to run as.
    pub gid: u32,
    /// `group.toml`.
    pub group: PathBuf,
    /// Registries that may be reached without TLS.
    pub insecure_registries: Vec<String>,
    /// How long layers made by extensions are kept.
    pub kaniko_cache_ttl: GoDuration,
    /// The launch layers' cache; absolute.
    pub launch_cache_dir: Option<PathBuf>,
    /// The launcher program.
    pub launcher: PathBuf,
    /// The launcher's SBOM files.
    pub launcher_sbom_dir: PathBuf,
    /// Layers; absolute.
    pub layers_dir: PathBuf,
    /// OCI layouts; absolute.
    pub layout_dir: Option<PathBuf>,
    /// `order.toml`.
    pub order: PathBuf,
    /// The image that is made.
    pub output_image: Option<String>,
    /// Whether image and cache are exported at the same time.
    pub parallel_export: bool,
    /// `plan.toml`.
    pub plan: PathBuf,
    /// What the platform gives to buildpacks; absolute.
    pub platform_dir: PathBuf,
    /// The image to take layers from.
    pub previous_image: Option<String>,
    /// The process that the image starts by default.
    pub process_type: Option<String>,
    /// `project-metadata.toml`.
    pub project_metadata: PathBuf,
    /// `report.toml`.
    pub report: PathBuf,
    /// The operator's own table for the report.
    pub report_extra: Option<PathBuf>,
    /// Whether the report says where layers come from.
    pub report_origins: bool,
    /// Whether that must be known of layers that come back.
    pub require_origins: Require,
    /// The run image.
    pub run_image: Option<String>,
    /// The run image by the variable alone, whatever the flag said.
    pub run_image_of_env: Option<String>,
    /// `run.toml`.
    pub run: PathBuf,
    /// What becomes of changes to the layers of other buildpacks.
    pub sealed_layers: Option<String>,
    /// Whether layers of earlier builds stay where they are.
    pub skip_layers: bool,
    /// `stack.toml`.
    pub stack: PathBuf,
    /// `system.toml`.
    pub system: PathBuf,
    /// Further names for the image that is made.
    pub tags: Vec<String>,
    /// The user to run as.
    pub uid: u32,
    /// Whether images are in a docker daemon.
    pub use_daemon: bool,
    /// Whether images are OCI layouts on disk.
    pub use_layout: bool,
    /// Whether that is said as the draft of layouts had it, which also named the run image to the exporter.
    pub use_draft: bool,
}

/// The names that stand after the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The image that is made; empty for phases that make none.
    pub image: String,
    /// Further names for it.
    pub tags: Vec<String>,
}

impl Inputs {
    /// Resolves all inputs. `current_dir` is absolute; `exists` says whether there is a file.
    ///
    /// # Errors
    /// When the user or the group is not a number.
    pub fn resolve(
        from: Sources<'_>,
        names: Names,
        current_dir: &Path,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, IdError> {
        let layers = from.text(&table::LAYERS);
        let below_layers = |input: &Input| PathBuf::from(replace_placeholder(&from.text(input), &layers));
        let absolute = |path: PathBuf| make_absolute(path, current_dir);
        let dir = |input: &Input| absolute(from.path(input));
        let optional_dir = |input: &Input| from.optional(input).map(|text| absolute(text.into()));
        let without_flags = Sources { flags: &Given::default(), ..from };
        Ok(Self {
            analyzed: below_layers(&table::ANALYZED),
            app_dir: dir(&table::APP),
            app_source_label: from.bool(&table::APP_SOURCE_LABEL),
            build_config_dir: dir(&table::BUILD_CONFIG),
            build_image: from.optional(&table::BUILD_IMAGE),
            buildpacks_dir: dir(&table::BUILDPACKS),
            cache_dir: optional_dir(&table::CACHE_DIR),
            cache_image: from.optional(&table::CACHE_IMAGE),
            compression: from.optional(&table::COMPRESSION),
            deprecated_run_image: from.optional(&table::IMAGE),
            exec_env: from.text(&table::EXEC_ENV),
            extend_kind: from.text(&table::KIND),
            extended_dir: below_layers(&table::EXTENDED),
            extensions_dir: dir(&table::EXTENSIONS),
            force_rebase: from.bool(&table::FORCE),
            generated_dir: absolute(below_layers(&table::GENERATED)),
            gid: from.id(&table::GID)?,
            group: below_layers(&table::GROUP),
            insecure_registries: from.list(&table::INSECURE_REGISTRY),
            kaniko_cache_ttl: from.duration(&table::KANIKO_CACHE_TTL),
            launch_cache_dir: optional_dir(&table::LAUNCH_CACHE),
            launcher: from.path(&table::LAUNCHER),
            launcher_sbom_dir: from.path(&table::LAUNCHER_SBOM),
            layers_dir: dir(&table::LAYERS),
            layout_dir: from.layout_dir().map(absolute),
            order: order(from, &layers, exists),
            output_image: Some(names.image).filter(|name| !name.is_empty()),
            parallel_export: from.bool(&table::PARALLEL),
            plan: below_layers(&table::PLAN),
            platform_dir: dir(&table::PLATFORM),
            previous_image: from.optional(&table::PREVIOUS_IMAGE),
            process_type: from.optional(&table::PROCESS_TYPE),
            project_metadata: below_layers(&table::PROJECT_METADATA),
            report: below_layers(&table::REPORT),
            report_extra: from.optional(&table::REPORT_EXTRA).map(PathBuf::from),
            // Who requires origins wants the next build to find them.
            report_origins: from.bool(&table::REPORT_ORIGINS)
                || from.require(&table::REQUIRE_ORIGINS) != Require::Nothing,
            require_origins: from.require(&table::REQUIRE_ORIGINS),
            run_image: from.optional(&table::RUN_IMAGE),
            run_image_of_env: without_flags.optional(&table::RUN_IMAGE),
            run: from.path(&table::RUN),
            sealed_layers: from.optional(&table::SEALED_LAYERS),
            skip_layers: from.skip_layers(),
            stack: from.path(&table::STACK),
            system: from.path(&table::SYSTEM),
            tags: from.list(&table::TAG).into_iter().chain(names.tags).collect(),
            uid: from.id(&table::UID)?,
            use_daemon: from.bool(&table::DAEMON),
            use_layout: from.use_layout(),
            use_draft: from.use_layout() && from.bool(&table::OCI),
        })
    }
}

/// The order: the default is a file among the layers, or the builder's own when that is not there.
fn order(from: Sources<'_>, layers: &str, exists: &dyn Fn(&Path) -> bool) -> PathBuf {
    let text = from.text(&table::ORDER);
    let path = PathBuf::from(replace_placeholder(&text, layers));
    if text == table::ORDER.default && !exists(&path) { BUILDER_ORDER.into() } else { path }
}

/// Puts the layers directory into a path; without one, the path becomes relative.
fn replace_placeholder(path: &str, layers: &str) -> String {
    if layers.is_empty() {
        path.replacen(&format!("{LAYERS_PLACEHOLDER}/"), "", 1)
    } else {
        path.replacen(LAYERS_PLACEHOLDER, layers, 1)
    }
}

/// An absolute path without `.` and `..`, as Go's `filepath.Abs` makes it; an empty one stays empty.
fn make_absolute(path: PathBuf, current_dir: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        return path;
    }
    let mut clean = PathBuf::from("/");
    for part in current_dir.join(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests;
