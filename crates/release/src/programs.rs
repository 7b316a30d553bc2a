//! The built programs of one architecture.

use std::fs;
use std::path::Path;

use strata_oci::Digest;

use crate::args::Arch;
use crate::elf;
use crate::failure::Failure;
use crate::graph::Graph;

/// The launcher is copied into every image, so its size is paid for again and again. In bytes.
const LAUNCHER_LIMIT: usize = 700 * 1024;

/// A program, and what it is made of.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) graph: Graph,
}

/// The programs of a lifecycle.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) lifecycle: Program,
    pub(crate) launcher: Program,
}

impl Programs {
    /// Reads and checks what was built for `arch`.
    pub(crate) fn read(dir: &Path, arch: Arch, lock: &Path) -> Result<Self, Failure> {
        let dir = dir.join(arch.name());
        let lock = fs::read_to_string(lock).map_err(Failure::read(lock))?;
        let programs = Self {
            lifecycle: read(&dir, "lifecycle", arch, &lock)?,
            launcher: read(&dir, "launcher", arch, &lock)?,
        };
        let size = programs.launcher.bytes.len();
        if size > LAUNCHER_LIMIT {
            let reason = format!("it has {size} bytes, and the limit is {LAUNCHER_LIMIT}");
            return Err(Failure::Program { path: dir.join("launcher"), reason });
        }
        Ok(programs)
    }
}

fn read(dir: &Path, name: &'static str, arch: Arch, lock: &str) -> Result<Program, Failure> {
    let path = dir.join(name);
    let bytes = fs::read(&path).map_err(Failure::read(&path))?;
    if let Some(reason) = elf::problem(&bytes, arch) {
        return Err(Failure::Program { path, reason });
    }
    let list = path.with_extension("crates");
    let tree = fs::read_to_string(&list).map_err(Failure::read(&list))?;
    let graph = Graph::parse(&tree, lock).map_err(|source| Failure::Crates { program: path, source })?;
    Ok(Program { name, digest: Digest::of(&bytes), bytes, graph })
}
