//! One instruction: its name, flags and arguments.

use super::lines::{Lines, Logical};
use super::words::{self, Announced, BLANK};
use super::{Argument, Command, CommandLine, Flag, Instruction, Source, Stage, Transfer};
use crate::doc::DocError;

pub(super) enum Parsed {
    From(Stage),
    Other(Instruction),
}

/// A here-document that was read.
struct Document {
    announced: Announced,
    /// As written.
    content: String,
}

impl Document {
    /// Its lines without the tabs that are to be dropped.
    fn content(&self) -> String {
        if !self.announced.chomps {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What an instruction is made of.
struct Parts<'a> {
    name: &'a str,
    flags: Vec<Flag>,
    arguments: &'a str,
    documents: Vec<Document>,
    escape: char,
}

/// Parses a line, and takes the here-documents behind it.
pub(super) fn parse(logical: &Logical, lines: &mut Lines<'_>) -> Result<Parsed, DocError> {
    let text = logical.text.trim();
    let place = |message: String| DocError::at_line(logical.line, message);
    let upper = |name: &str| name.to_ascii_uppercase();
    let (word, rest) = text.split_once(BLANK).unwrap_or((text, ""));
    let name = upper(word);
    let (raw_flags, arguments) = words::flags(rest, lines.escape);
    let arguments = arguments.trim();
    let takes = |name: &str| matches!(name, "ADD" | "COPY" | "RUN");
    let inner = arguments.split(BLANK).next().unwrap_or_default();
    let takes_documents = takes(&name) || (name == "ONBUILD" && takes(&upper(inner)));
    let mut documents = Vec::new();
    if takes_documents && strings(arguments).is_none() {
        for announced in words::announced(text) {
            let content = lines.until(&announced.name, announced.chomps)?;
            documents.push(Document { announced, content });
        }
    }
    let flags = raw_flags.iter().map(|flag| flag_of(flag)).collect();
    let parts = Parts { name: &name, flags, arguments, documents, escape: lines.escape };
    parts.check_flags().map_err(place)?;
    if name == "FROM" {
        return parts.from(logical.line).map(Parsed::From).map_err(place);
    }
    let command = parts.command().map_err(place)?;
    Ok(Parsed::Other(Instruction { line: logical.line, text: text.to_owned(), flags: parts.flags, command }))
}

fn flag_of(word: &str) -> Flag {
    let flag = word.strip_prefix("--").unwrap_or(word);
    match flag.split_once('=') {
        Some((name, value)) => Flag { name: name.to_owned(), value: Some(value.to_owned()) },
        None => Flag { name: flag.to_owned(), value: None },
    }
}

/// A JSON array of strings, if the text is an array. An array of something else is `Err`.
fn strings(text: &str) -> Option<Result<Vec<String>, String>> {
    let array: Vec<serde_json::Value> = text.starts_with('[').then(|| serde_json::from_str(text).ok())??;
    let string = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text),
        other => Err(format!("{other} in an array of strings")),
    };
    Some(array.into_iter().map(string).collect())
}

/// The flags of an instruction: those with a value, those that say yes or no, and those that may be there more than once.
fn known_flags(name: &str) -> (&'static [&'static str], &'static [&'static str], &'static [&'static str]) {
    match name {
        "ADD" => (&["chown", "chmod", "checksum"], &["link", "keep-git-dir", "unpack"], &["exclude"]),
        "COPY" => (&["chown", "chmod", "from"], &["link", "parents"], &["exclude"]),
        "FROM" => (&["platform"], &[], &[]),
        "HEALTHCHECK" => (&["interval", "timeout", "start-period", "start-interval", "retries"], &[], &[]),
        "RUN" => (&["network", "security"], &[], &["mount", "device"]),
        _ => (&[], &[], &[]),
    }
}

impl Parts<'_> {
    fn check_flags(&self) -> Result<(), String> {
        // The instruction behind it has flags of its own.
        if self.name == "ONBUILD" {
            return Ok(());
        }
        let (valued, switches, repeated) = known_flags(self.name);
        for (i, Flag { name, value }) in self.flags.iter().enumerate() {
            let has = |names: &[&str]| names.contains(&name.as_str());
            let is_yes_or_no = |value: &str| ["true", "false"].iter().any(|v| value.eq_ignore_ascii_case(v));
            if has(switches) {
                if value.as_deref().is_some_and(|value| !is_yes_or_no(value)) {
                    return Err(format!("the flag --{name} can be true or false"));
                }
            } else if !has(valued) && !has(repeated) {
                return Err(format!("{} has no flag --{name}", self.name));
            } else if value.is_none() {
                return Err(format!("the flag --{name} has no value"));
            }
            if !has(repeated) && self.flags.iter().take(i).any(|flag| flag.name == *name) {
                return Err(format!("the flag --{name} is given twice"));
            }
        }
        Ok(())
    }

    fn from(&self, line: usize) -> Result<Stage, String> {
        let words = words::plain(self.arguments);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if word.eq_ignore_ascii_case("as") => {
                (image, Some(name.to_ascii_lowercase()))
            }
            _ => return Err("FROM takes an image, and a name behind AS if it is to have one".into()),
        };
        let is_name = |name: &String| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
            return Err(format!("'{name}' cannot be the name of a stage"));
        }
        let platform = self.flags.iter().find_map(|flag| flag.value.clone());
        Ok(Stage { line, image: image.clone(), name, platform, instructions: Vec::new() })
    }

    fn command(&self) -> Result<Command, String> {
        Ok(match self.name {
            "ADD" => Command::Add(self.transfer()?),
            "ARG" => Command::Arg(self.arguments()?),
            "CMD" => Command::Cmd(self.command_line(self.arguments)?),
            "COPY" => Command::Copy(self.transfer()?),
            "ENTRYPOINT" => Command::Entrypoint(self.command_line(self.arguments)?),
            "ENV" => Command::Env(self.pairs()?),
            "EXPOSE" => Command::Expose(self.some(words::plain(self.arguments))?),
            "HEALTHCHECK" => Command::Healthcheck(self.healthcheck()?),
            "LABEL" => Command::Label(self.pairs()?),
            "MAINTAINER" => Command::Maintainer(self.one()?),
            "ONBUILD" => Command::Onbuild(self.onbuild()?),
            "RUN" => Command::Run(self.run()?),
            "SHELL" => match strings(self.arguments) {
                Some(words) => Command::Shell(self.some(words?)?),
                None => return Err("SHELL takes an array of strings: [\"/bin/sh\", \"-c\"]".into()),
            },
            "STOPSIGNAL" => Command::StopSignal(self.one()?),
            "USER" => Command::User(self.one()?),
            "VOLUME" => Command::Volume(self.some(self.list()?)?),
            "WORKDIR" => Command::Workdir(self.one()?),
            name => return Err(format!("'{name}' is no instruction")),
        })
    }

    fn one(&self) -> Result<String, String> {
        self.some(vec![self.arguments.to_owned()]).map(|words| words.concat())
    }

    fn some(&self, words: Vec<String>) -> Result<Vec<String>, String> {
        if words.iter().all(String::is_empty) {
            return Err(format!("{} has no argument", self.name));
        }
        Ok(words)
    }

    fn list(&self) -> Result<Vec<String>, String> {
        strings(self.arguments).unwrap_or_else(|| Ok(words::plain(self.arguments)))
    }

    fn command_line(&self, text: &str) -> Result<CommandLine, String> {
        match strings(text) {
            Some(words) => words.map(CommandLine::Exec),
            None => Ok(CommandLine::Shell(text.to_owned())),
        }
    }

    fn run(&self) -> Result<CommandLine, String> {
        self.one()?;
        let mut text = match self.command_line(self.arguments)? {
            CommandLine::Shell(text) => text,
            other => {
                let CommandLine::Exec(words) = &other else { return Ok(other) };
                return self.some(words.clone()).map(|_| other);
            }
        };
        if let Some(document) = self.documents.first()
            && words::here_document(&text).is_some()
        {
            let content = document.content();
            return Ok(if content.starts_with("#!") {
                CommandLine::Script { name: document.announced.name.clone(), content }
            } else {
                CommandLine::Shell(content)
            });
        }
        for Document { announced, content } in &self.documents {
            text.extend(["\n", content, &announced.name]);
        }
        Ok(CommandLine::Shell(text))
    }

    fn transfer(&self) -> Result<Transfer, String> {
        let mut words = self.list()?;
        let destination = words.pop().unwrap_or_default();
        if words.is_empty() {
            return Err(format!("{} takes sources and a destination", self.name));
        }
        if words::here_document(&destination).is_some() {
            return Err(format!("the destination of {} cannot be a here-document", self.name));
        }
        let mut documents = self.documents.iter();
        let source = |word: String| match words::here_document(&word).and_then(|_| documents.next()) {
            Some(document) => Source::Inline {
                name: document.announced.name.clone(),
                content: document.content(),
                expands: document.announced.expands,
            },
            None => Source::Path(word),
        };
        Ok(Transfer { sources: words.into_iter().map(source).collect(), destination })
    }

    fn arguments(&self) -> Result<Vec<Argument>, String> {
        let argument = |word: String| match word.split_once('=') {
            Some(("", _)) => Err("ARG without a name".to_owned()),
            Some((name, value)) => Ok(Argument { name: name.to_owned(), default: Some(value.to_owned()) }),
            None => Ok(Argument { name: word, default: None }),
        };
        self.some(words::quoted(self.arguments, self.escape))?.into_iter().map(argument).collect()
    }

    /// `name=value …`, or the older `name value`.
    fn pairs(&self) -> Result<Vec<(String, String)>, String> {
        let words = self.some(words::quoted(self.arguments, self.escape))?;
        if words.first().is_some_and(|word| !word.contains('=')) {
            let pair = self.arguments.split_once(BLANK);
            let (name, value) = pair.ok_or_else(|| format!("{} takes names and values", self.name))?;
            return Ok(vec![(name.to_owned(), value.trim_start_matches(BLANK).to_owned())]);
        }
        let pair = |word: &String| match word.split_once('=') {
            Some(("", _)) => Err(format!("{} without a name", self.name)),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("'{word}' has no =; {} takes name=value", self.name)),
        };
        words.iter().map(pair).collect()
    }

    fn healthcheck(&self) -> Result<Option<CommandLine>, String> {
        let (word, rest) = self.arguments.split_once(BLANK).unwrap_or((self.arguments, ""));
        match (word.to_ascii_uppercase().as_str(), rest.trim()) {
            ("NONE", "") => Ok(None),
            ("CMD", rest) if !rest.is_empty() => self.command_line(rest).map(Some),
            _ => Err("HEALTHCHECK takes NONE, or CMD and a command".into()),
        }
    }

    fn onbuild(&self) -> Result<String, String> {
        let mut text = self.one()?;
        let inner = text.split(BLANK).next().unwrap_or_default().to_ascii_uppercase();
        if matches!(inner.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            return Err(format!("{inner} cannot be behind ONBUILD"));
        }
        for Document { announced, content } in &self.documents {
            text.extend(["\n", content, &announced.name]);
        }
        Ok(text)
    }
}
