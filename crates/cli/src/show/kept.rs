//! Logs of builds, kept for a while: a terminal shows the end of what a failed build said, and they have the rest.
//!
//! They hold what buildpacks said and what Strata did, each line with the seconds since the build began. Strata itself
//! writes no value of a variable there; buildpacks may, so that nobody else can read them.

use anstream::adapter::strip_str;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many logs are kept.
const LOGS: usize = 20;
/// How many bytes they may have together, not counting the newest.
const BYTES: u64 = 100 << 20;
/// How many bytes one may have.
const LONGEST: u64 = 32 << 20;

/// A log that is being written.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    room: u64,
}

impl Log {
    /// Begins a log in a folder, and removes old ones.
    pub(crate) fn create(dir: &Path, now: SystemTime, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = strata_decide::export::created(&seconds.to_string()).unwrap_or_default();
        let (path, file) = create_new(dir, &file_name(&time, name, std::process::id()))?;
        let mut log = Self { path, file, room: LONGEST };
        let version = env!("CARGO_PKG_VERSION");
        log.line(Duration::ZERO, &format!("strata {version} builds {name} on {time}"))?;
        prune(dir, LOGS, BYTES)?;
        Ok(log)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it takes nothing more.
    pub(crate) fn is_full(&self) -> bool {
        self.room == 0
    }

    /// Writes lines, without colours. What was written is there, however this process ends.
    pub(crate) fn line(&mut self, time: Duration, text: &str) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        let mut lines = String::with_capacity(text.len() + 16);
        for line in text.split('\n') {
            let line = strip_str(line);
            let line = format!("[{:>8}.{:03}] {line}\n", time.as_secs(), time.subsec_millis());
            match self.room.checked_sub(line.len() as u64) {
                Some(room) => {
                    self.room = room;
                    lines.push_str(&line);
                }
                None => {
                    self.room = 0;
                    lines.push_str("This log is long enough; what follows is left out.\n");
                    break;
                }
            }
        }
        self.file.write_all(lines.as_bytes())
    }

    /// Removes it.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

/// A new file; one process can build twice in a second.
fn create_new(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let stem = name.strip_suffix(".log").unwrap_or(name);
    let mut number = 1;
    loop {
        let name = if number == 1 { name.to_owned() } else { format!("{stem}-{number}.log") };
        let path = dir.join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            opened => return Ok((path, opened?)),
        }
    }
}

/// Sorted by their names, logs are sorted by their age.
fn file_name(time: &str, name: &str, process: u32) -> String {
    let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).take(60).collect();
    format!("{time}-{}-{process}.log", name.trim_matches(['-', '.']))
}

/// Removes the oldest logs, until so many are left and the older ones of them have no more bytes than that together.
fn prune(dir: &Path, logs: usize, bytes: u64) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_log = Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "log");
        if is_log && entry.file_type()?.is_file() {
            found.push((entry.file_name(), entry.path(), entry.metadata()?.len()));
        }
    }
    found.sort();
    let mut size = 0_u64;
    for (place, (_, path, length)) in found.iter().rev().enumerate() {
        // The newest is being written.
        size = size.saturating_add(if place == 0 { 0 } else { *length });
        if place >= logs || size > bytes {
            match fs::remove_file(path) {
                // Another build was faster.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_log_has_times_and_no_colours_and_is_nobody_elses() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("strata/logs");
        let mut log = Log::create(&dir, UNIX_EPOCH + Duration::from_secs(1), "acme/web:1").unwrap();
        log.line(Duration::from_millis(12_345), "\u{1b}[31mred\u{1b}[0m\nsecond").unwrap();
        let name = format!("19700101T000001Z-acme-web-1-{}.log", std::process::id());
        assert_eq!(names(&dir), [name]);
        let text = fs::read_to_string(log.path()).unwrap();
        let rest = text.split_once('\n').unwrap();
        assert!(rest.0.ends_with("builds acme/web:1 on 1970-01-01T00:00:01Z"), "{text}");
        assert_eq!(rest.1, "[      12.345] red\n[      12.345] second\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(log.path())), (0o700, 0o600));
    }

    #[test]
    fn a_log_does_not_fill_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let mut log = Log::create(root.path(), UNIX_EPOCH, "x").unwrap();
        log.room = 40;
        for _ in 0..9 {
            log.line(Duration::ZERO, "0123456789").unwrap();
        }
        let text = fs::read_to_string(log.path()).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.ends_with("left out.\n"), "{text}");
    }

    #[test]
    fn old_logs_go() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let write = |name: &str, size| fs::write(dir.join(name), vec![b'x'; size]).unwrap();
        for name in ["1.log", "2.log", "3.log", "4.log", "notes"] {
            write(name, 10);
        }
        prune(dir, 3, 100).unwrap();
        assert_eq!(names(dir), ["2.log", "3.log", "4.log", "notes"]);
        write("4.log", 1000);
        prune(dir, 3, 10).unwrap();
        assert_eq!(names(dir), ["3.log", "4.log", "notes"]);
    }
}
