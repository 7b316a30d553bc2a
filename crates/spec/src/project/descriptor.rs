//! `project.toml` (specification "Project Descriptor", schemas 0.1, 0.2 and 0.3; the first as pack reads it).

use crate::doc::{DocError, Place};
use serde::Deserialize;
use toml::Spanned;

/// The schema of a file that names none.
const OLDEST: &str = "0.1";

/// A whole `project.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// What the app says of itself.
    pub declared: Declared,
    /// How it wants to be built.
    pub build: Build,
    /// What there is to say about the file that does not keep it from being used, for people.
    pub warnings: Vec<String>,
}

/// What an app says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// For machines, as in `com.example.web`.
    pub id: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Any text.
    pub version: Option<String>,
    /// Names or addresses.
    pub authors: Vec<String>,
    /// Where the source is, as written: it may hold a secret.
    pub source_url: Option<String>,
    /// Where the documentation is, as written.
    pub documentation_url: Option<String>,
    /// Types of licenses, as SPDX has them.
    pub licenses: Vec<String>,
}

/// How an app wants to be built: `[io.buildpacks]`, or `[build]` in schema 0.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// Patterns as in `.gitignore`: only what they match is built. Never together with `exclude`.
    pub include: Vec<String>,
    /// Patterns as in `.gitignore`: what they match is not built.
    pub exclude: Vec<String>,
    /// The builder.
    pub builder: Option<String>,
    /// In the place of the builder's order.
    pub group: Vec<Buildpack>,
    /// Before each group of the builder's order.
    pub pre: Vec<Buildpack>,
    /// After each group of the builder's order.
    pub post: Vec<Buildpack>,
    /// For the buildpacks.
    pub env: Vec<Variable>,
}

/// A buildpack that a project names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buildpack {
    /// By a place, or as `ID` or `ID@VERSION`.
    Named(String),
    /// By what it does.
    Script(Script),
}

/// A buildpack that is nothing but a `bin/build`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its id.
    pub id: String,
    /// Its version; `0.0.0` for a script without one.
    pub version: String,
    /// The version of the Buildpack API, as written.
    pub api: String,
    /// What runs it, perhaps with one argument.
    pub shell: String,
    /// What is run.
    pub inline: String,
}

/// A variable of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Which schema a file has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioned {
    #[serde(rename = "_")]
    project: Option<Version>,
    io: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Version {
    schema_version: Option<Spanned<String>>,
}

/// Schema 0.1.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Old {
    project: Table,
    build: OldBuild,
}

/// Schemas 0.2 and 0.3.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct New {
    #[serde(rename = "_")]
    project: Table,
    io: Io,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Io {
    buildpacks: NewBuild,
}

/// `[_]`, or `[project]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Table {
    /// Known already.
    #[serde(rename = "schema-version")]
    _schema_version: Option<String>,
    id: Option<String>,
    name: Option<String>,
    version: Option<String>,
    authors: Vec<String>,
    source_url: Option<String>,
    documentation_url: Option<String>,
    licenses: Vec<Spanned<License>>,
    /// Anything.
    #[serde(rename = "metadata")]
    _metadata: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct License {
    r#type: String,
    uri: String,
}

/// What both schemas have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OldBuild {
    include: Option<Spanned<Vec<String>>>,
    exclude: Option<Vec<String>>,
    builder: Option<String>,
    buildpacks: Vec<Spanned<Entry>>,
    env: Vec<Spanned<Assigned>>,
    pre: Addition,
    post: Addition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NewBuild {
    include: Option<Spanned<Vec<String>>>,
    exclude: Option<Vec<String>>,
    builder: Option<String>,
    group: Vec<Spanned<Entry>>,
    build: Variables,
    /// In the words of older files: `[[io.buildpacks.env.build]]`.
    env: OldVariables,
    pre: Addition,
    post: Addition,
    #[serde(rename = "schema-version")]
    _schema_version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Variables {
    env: Option<Vec<Spanned<Assigned>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OldVariables {
    build: Vec<Spanned<Assigned>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Addition {
    group: Vec<Spanned<Entry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Entry {
    id: String,
    version: String,
    uri: String,
    script: Option<RawScript>,
    exec_env: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawScript {
    api: String,
    shell: String,
    inline: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Assigned {
    name: String,
    value: String,
    exec_env: Vec<String>,
}

impl Project {
    /// Parses `project.toml` for an execution environment, as in `production`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, the schema is one that is not known, or what is asked for
    /// contradicts itself.
    pub fn parse(text: &str, exec_env: &str) -> Result<Self, DocError> {
        let doc = Doc { text, exec_env };
        let versioned: Versioned = crate::doc::from_toml(text)?;
        let named = versioned.project.as_ref().and_then(|project| project.schema_version.as_ref());
        let version = named.map_or(OLDEST, |version| version.as_ref().as_str());
        let (table, build, ignored) = match version {
            OLDEST => {
                let (Old { project, build }, ignored) = doc.read::<Old>()?;
                (project, build.into(), ignored)
            }
            "0.2" | "0.3" => {
                let (New { project, io }, ignored) = doc.read::<New>()?;
                (project, io.buildpacks, ignored)
            }
            other => {
                let start = named.map_or(0, |version| version.span().start);
                let known = "0.1, 0.2 and 0.3 are known";
                return Err(doc.wrong(start, format!("the schema version is '{other}'; {known}")));
            }
        };
        let mut warnings = Vec::new();
        if named.is_none() && (versioned.project.is_some() || versioned.io.is_some()) {
            warnings.push(
                "there is no schema-version in [_], so schema 0.1 is taken, which has neither [_] nor [io.buildpacks]"
                    .to_owned(),
            );
        }
        let ignored: Vec<&str> =
            ignored.iter().map(String::as_str).filter(|key| is_ours(key, version)).collect();
        if !ignored.is_empty() {
            warnings.push(format!("schema {version} has no {}; ignored", ignored.join(", ")));
        }
        Ok(Self { declared: doc.declared(table)?, build: doc.build(build)?, warnings })
    }
}

/// Whether somebody who wrote this key expects something of it here; other tables belong to others.
fn is_ours(key: &str, version: &str) -> bool {
    let starts = |tables: &[&str]| tables.iter().any(|table| key.starts_with(table));
    match version {
        OLDEST => starts(&["project.", "build.", "io.buildpacks"]),
        _ => starts(&["_.", "io.buildpacks"]),
    }
}

impl From<OldBuild> for NewBuild {
    fn from(old: OldBuild) -> Self {
        Self {
            include: old.include,
            exclude: old.exclude,
            builder: old.builder,
            group: old.buildpacks,
            build: Variables { env: Some(old.env) },
            pre: old.pre,
            post: old.post,
            ..Self::default()
        }
    }
}

/// A document, to say where in it something is wrong.
struct Doc<'a> {
    text: &'a str,
    exec_env: &'a str,
}

impl Doc<'_> {
    fn wrong(&self, start: usize, message: impl Into<String>) -> DocError {
        DocError { message: message.into(), place: Some(Place::of(self.text, start)) }
    }

    /// The document, and the keys of it that nobody reads.
    fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<(T, Vec<String>), DocError> {
        let failed = |error: toml::de::Error| DocError::of(self.text, &error);
        let mut ignored = Vec::new();
        let reader = toml::Deserializer::parse(self.text).map_err(failed)?;
        // A part of the path where a value comes with its place.
        let shown =
            |path: serde_ignored::Path<'_>| path.to_string().replace(".$__serde_spanned_private_value", "");
        let value = serde_ignored::deserialize(reader, |path| ignored.push(shown(path))).map_err(failed)?;
        Ok((value, ignored))
    }

    fn declared(&self, table: Table) -> Result<Declared, DocError> {
        for license in &table.licenses {
            let License { r#type, uri } = license.as_ref();
            if r#type.is_empty() && uri.is_empty() {
                return Err(self.wrong(license.span().start, "a license needs a type or a uri"));
            }
        }
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        let licenses = table.licenses.into_iter().map(|license| license.into_inner().r#type);
        Ok(Declared {
            id: text(table.id),
            name: text(table.name),
            version: text(table.version),
            authors: table.authors.into_iter().filter(|author| !author.is_empty()).collect(),
            source_url: text(table.source_url),
            documentation_url: text(table.documentation_url),
            licenses: licenses.filter(|kind| !kind.is_empty()).collect(),
        })
    }

    fn build(&self, build: NewBuild) -> Result<Build, DocError> {
        if let (Some(include), Some(_)) = (&build.include, &build.exclude) {
            return Err(
                self.wrong(include.span().start, "there are both include and exclude; only one is allowed")
            );
        }
        Ok(Build {
            include: build.include.map(Spanned::into_inner).unwrap_or_default(),
            exclude: build.exclude.unwrap_or_default(),
            builder: build.builder.filter(|builder| !builder.is_empty()),
            group: self.buildpacks(build.group)?,
            pre: self.buildpacks(build.pre.group)?,
            post: self.buildpacks(build.post.group)?,
            env: self.variables(build.build.env.unwrap_or(build.env.build))?,
        })
    }

    /// Whether an entry is for the execution environment that is built for.
    fn is_meant(&self, exec_env: &[String]) -> bool {
        exec_env.is_empty() || exec_env.iter().any(|name| name == "*" || name == self.exec_env)
    }

    fn buildpacks(&self, entries: Vec<Spanned<Entry>>) -> Result<Vec<Buildpack>, DocError> {
        let meant = entries.into_iter().filter(|entry| self.is_meant(&entry.as_ref().exec_env));
        let one = |entry: Spanned<Entry>| {
            let start = entry.span().start;
            buildpack(entry.into_inner()).map_err(|problem| self.wrong(start, problem))
        };
        meant.map(one).collect()
    }

    fn variables(&self, all: Vec<Spanned<Assigned>>) -> Result<Vec<Variable>, DocError> {
        let meant = all.into_iter().filter(|one| self.is_meant(&one.as_ref().exec_env));
        let one = |variable: Spanned<Assigned>| {
            let start = variable.span().start;
            let Assigned { name, value, .. } = variable.into_inner();
            let is_name = !name.is_empty() && !name.contains(['=', '/', '\0']) && name != "." && name != "..";
            if is_name {
                Ok(Variable { name, value })
            } else {
                Err(self.wrong(start, format!("'{name}' is no name of a variable")))
            }
        };
        meant.map(one).collect()
    }
}

fn buildpack(entry: Entry) -> Result<Buildpack, &'static str> {
    let Entry { id, version, uri, script, .. } = entry;
    match (script, uri.is_empty()) {
        (Some(_), false) => Err("a buildpack has a uri or a script, not both"),
        (Some(_), _) if id.is_empty() => Err("a buildpack with a script needs an id"),
        (Some(script), _) if script.api.is_empty() || script.inline.is_empty() => {
            Err("a script needs api and inline")
        }
        (Some(RawScript { shell, .. }), _) if shell.contains('\n') => Err("a shell is one line"),
        (Some(RawScript { api, shell, inline }), _) => Ok(Buildpack::Script(Script {
            id,
            version: if version.is_empty() { "0.0.0".to_owned() } else { version },
            api,
            shell: if shell.is_empty() { "/bin/sh".to_owned() } else { shell },
            inline,
        })),
        (None, false) if !version.is_empty() => Err("a buildpack has a uri or a version, not both"),
        (None, false) => Ok(Buildpack::Named(uri)),
        (None, true) if id.is_empty() => Err("a buildpack needs an id or a uri"),
        (None, true) if version.is_empty() => Ok(Buildpack::Named(id)),
        (None, true) => Ok(Buildpack::Named(format!("{id}@{version}"))),
    }
}

#[cfg(test)]
mod tests;
