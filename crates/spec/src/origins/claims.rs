//! `@strata/build.json` in the layers directory: what the builder saw. It is a claim, no more: buildpacks that run as
//! the same user can write the file.

use super::Input;
use super::parse::is_word;
use crate::DocError;
use crate::labels::from_json;
use serde::{Deserialize, Serialize};

/// The file, below the layers directory.
pub const PATH: &str = "@strata/build.json";
/// The largest one that is read, in bytes.
pub const MAX_CLAIMS: usize = 4 * 1024 * 1024;
/// More than any build has, of anything.
const MAX_COUNT: usize = 4096;

/// What the builder saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claims {
    /// 1.
    pub version: u32,
    /// The distribution of the build environment, as name and version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub distro: String,
    /// What the platform gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// The buildpacks that ran, in order.
    #[serde(default)]
    pub buildpacks: Vec<Ran>,
}

/// One buildpack's turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ran {
    /// Its id.
    pub id: String,
    /// All layers that had contents when it began: `<buildpack>:<layer>`.
    #[serde(default)]
    pub before: Vec<Seen>,
    /// Its own layers that had contents when it was done.
    #[serde(default)]
    pub after: Vec<Seen>,
}

/// A layer with contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// `<buildpack>:<layer>`.
    pub id: String,
    /// Its folder's inode: another one is another folder.
    #[serde(default)]
    pub inode: u64,
}

impl Claims {
    /// Parses `build.json`.
    ///
    /// # Errors
    /// When it is not what a builder writes.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        if text.len() > MAX_CLAIMS {
            return Err(DocError::whole("it is too large"));
        }
        let claims: Self = from_json(text)?;
        if claims.version != 1 || !claims.words().all(|word| is_word(word)) {
            return Err(DocError::whole("it is of no known form"));
        }
        let is_small = |ran: &Ran| ran.before.len() <= MAX_COUNT && ran.after.len() <= MAX_COUNT;
        if claims.inputs.len() > MAX_COUNT
            || claims.buildpacks.len() > MAX_COUNT
            || !claims.buildpacks.iter().all(is_small)
        {
            return Err(DocError::whole("it has too many entries"));
        }
        Ok(claims)
    }

    fn words(&self) -> impl Iterator<Item = &String> {
        let seen = self.buildpacks.iter().flat_map(|ran| ran.before.iter().chain(&ran.after));
        let inputs = self.inputs.iter().flat_map(|input| [&input.name, &input.digest]);
        let buildpacks = self.buildpacks.iter().map(|ran| &ran.id);
        inputs.chain([&self.distro]).chain(buildpacks).chain(seen.map(|seen| &seen.id))
    }

    /// The document.
    ///
    /// # Errors
    /// Never in practice: every member has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether a layer's folder was there when its buildpack began, and stayed; `None` when the buildpack is not claimed
    /// to have run.
    pub fn was_kept(&self, buildpack: &str, layer: &str) -> Option<bool> {
        let id = format!("{buildpack}:{layer}");
        let ran = self.buildpacks.iter().find(|ran| ran.id == buildpack)?;
        Some(ran.before.iter().any(|seen| seen.id == id && ran.after.contains(seen)))
    }

    /// The other layers that were there when a layer's buildpack was done; `None` when that is not claimed to have run.
    pub fn neighbours(&self, buildpack: &str, layer: &str) -> Option<Vec<&str>> {
        let id = format!("{buildpack}:{layer}");
        let own = format!("{buildpack}:");
        let ran = self.buildpacks.iter().find(|ran| ran.id == buildpack)?;
        // Its own of before may be gone, or made again.
        let others = ran.before.iter().filter(|seen| !seen.id.starts_with(&own));
        let mut ids: Vec<&str> = others.chain(&ran.after).map(|seen| seen.id.as_str()).collect();
        ids.retain(|other| *other != id);
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}
