//! `buildpack.toml` (buildpack specification, "buildpack.toml").

use crate::doc::{DocError, from_toml};
use crate::order::Order;
use serde::Deserialize;

/// A buildpack's descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// The Buildpack API version, as written; empty when the key is absent.
    #[serde(default)]
    pub api: String,
    /// The `[buildpack]` table.
    #[serde(default)]
    pub buildpack: Info,
    /// The orders of a composite buildpack; empty for a component buildpack.
    #[serde(default)]
    pub order: Order,
    /// The targets that the buildpack can build for.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// The stacks of older buildpacks.
    #[serde(default)]
    pub stacks: Vec<Stack>,
}

/// The `[buildpack]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// Globally unique id, for example `example/node`.
    #[serde(default)]
    pub id: String,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// The version, `X.Y.Z`.
    #[serde(default)]
    pub version: String,
    /// The home page.
    #[serde(default)]
    pub homepage: String,
    /// Whether user-provided environment variables are kept away from detect and build.
    #[serde(default)]
    pub clear_env: bool,
    /// The SBOM media types that the buildpack may write.
    #[serde(default)]
    pub sbom_formats: Vec<String>,
    /// The execution environments that the buildpack is for; empty for all.
    #[serde(default)]
    pub exec_env: Vec<String>,
}

/// One `[[targets]]` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Operating system; empty matches all.
    #[serde(default)]
    pub os: String,
    /// Architecture; empty matches all.
    #[serde(default)]
    pub arch: String,
    /// Architecture variant. The reference reads `arch-variant`, the specification says `variant`; both are read.
    #[serde(default, rename = "arch-variant", alias = "variant")]
    pub variant: String,
    /// Distributions; empty matches all.
    #[serde(default)]
    pub distros: Vec<Distro>,
}

/// One `[[targets.distros]]` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Distro {
    /// As `ID` of `/etc/os-release`.
    #[serde(default)]
    pub name: String,
    /// As `VERSION_ID` of `/etc/os-release`.
    #[serde(default)]
    pub version: String,
}

/// One `[[stacks]]` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Stack {
    /// The stack's id; `*` for any.
    #[serde(default)]
    pub id: String,
}

/// Ids that are folders of the lifecycle's own in `<layers>` (buildpack specification, "buildpack.toml").
const RESERVED_IDS: &[&str] = &["app", "config", "generated", "sbom", ".", ".."];

impl Descriptor {
    /// Parses a descriptor. That id, version and API make sense is checked where they are used.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let descriptor: Self = from_toml(text)?;
        check_id(&descriptor.buildpack.id)?;
        Ok(descriptor)
    }

    /// Whether the buildpack is made of others.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }
}

/// Refuses an id that cannot be a folder beside the lifecycle's own.
///
/// # Errors
/// When it is empty, reserved, or has other characters than the specification allows.
pub fn check_id(id: &str) -> Result<(), DocError> {
    check_named("buildpack", id)
}

/// The same for the id of a table `[of]`.
pub(crate) fn check_named(of: &str, id: &str) -> Result<(), DocError> {
    if id.is_empty() {
        return Err(DocError::whole(format!("{of}.id is missing")));
    }
    // The specification has no `_`; buildpacks in use have.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"./-_".contains(&b);
    if id.bytes().all(is_plain) && !RESERVED_IDS.contains(&id) {
        return Ok(());
    }
    Err(DocError::whole(format!(
        "{of}.id '{id}' is not allowed; letters, digits and ./- are, but none of {}",
        RESERVED_IDS.join(", ")
    )))
}

/// A buildpack id as a folder name: `/` becomes `_` (platform specification, "layers directory").
pub fn escape_id(id: &str) -> String {
    id.replace('/', "_")
}
