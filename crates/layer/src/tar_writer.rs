//! Writes tar archives whose bytes equal those of Go's `archive/tar` with the format left open: USTAR where it fits,
//! else PAX. Nothing is read from the file system and nothing is sanitised.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::LayerError;
use crate::pattern::clean_bytes;

/// Who owns an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
}

impl Owner {
    /// User 0 and group 0.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// The modification time of every entry: 1980-01-01T00:00:01Z, in seconds.
pub const MTIME: u64 = 315_532_801;

const BLOCK: usize = 512;
const NAME: usize = 100;
const PREFIX: usize = 155;
const COPY: usize = 128 * 1024;
const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes one archive, entry by entry.
///
/// Names are taken as they are: the caller chooses leading slashes and gives directories no trailing one.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    buffer: Vec<u8>,
}

/// An entry as it goes into a header, before a format is chosen.
struct Header<'a> {
    name: &'a [u8],
    link: &'a [u8],
    kind: u8,
    mode: u32,
    owner: Owner,
    size: u64,
    device: (u32, u32),
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive. `out` gets many small writes: give a buffered one.
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Adds a directory.
    pub fn dir(&mut self, name: impl AsRef<OsStr>, mode: u32, owner: Owner) -> Result<(), LayerError> {
        self.plain(name.as_ref(), b"", b'5', mode, owner, (0, 0))
    }

    /// Adds a symbolic link; `target` is stored as it is.
    pub fn symlink(
        &mut self,
        name: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
        mode: u32,
        owner: Owner,
    ) -> Result<(), LayerError> {
        self.plain(name.as_ref(), target.as_ref().as_bytes(), b'2', mode, owner, (0, 0))
    }

    /// Adds another name of a file that is in the archive already, by the name that it has there.
    pub fn hard_link(
        &mut self,
        name: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
        mode: u32,
        owner: Owner,
    ) -> Result<(), LayerError> {
        self.plain(name.as_ref(), target.as_ref().as_bytes(), b'1', mode, owner, (0, 0))
    }

    /// Adds a named pipe.
    pub fn fifo(&mut self, name: impl AsRef<OsStr>, mode: u32, owner: Owner) -> Result<(), LayerError> {
        self.plain(name.as_ref(), b"", b'6', mode, owner, (0, 0))
    }

    /// Adds a character device with its major and minor number.
    pub fn char_device(
        &mut self,
        name: impl AsRef<OsStr>,
        mode: u32,
        owner: Owner,
        device: (u32, u32),
    ) -> Result<(), LayerError> {
        self.plain(name.as_ref(), b"", b'3', mode, owner, device)
    }

    /// Adds a block device with its major and minor number.
    pub fn block_device(
        &mut self,
        name: impl AsRef<OsStr>,
        mode: u32,
        owner: Owner,
        device: (u32, u32),
    ) -> Result<(), LayerError> {
        self.plain(name.as_ref(), b"", b'4', mode, owner, device)
    }

    /// Adds a regular file of exactly `size` bytes; another number of bytes in `data` is [`LayerError::Changed`].
    pub fn file(
        &mut self,
        name: impl AsRef<OsStr>,
        mode: u32,
        owner: Owner,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let name = name.as_ref();
        self.file_from(name, mode, owner, size, data, || PathBuf::from(name))
    }

    /// Like [`Self::file`]; errors name the path that `origin` gives, where the bytes really are.
    pub(crate) fn file_from(
        &mut self,
        name: &OsStr,
        mode: u32,
        owner: Owner,
        size: u64,
        data: &mut dyn Read,
        origin: impl Fn() -> PathBuf,
    ) -> Result<(), LayerError> {
        let name = name.as_bytes();
        self.header(&Header { name, link: b"", kind: b'0', mode, owner, size, device: (0, 0) })?;
        self.copy_exactly(size, data, &origin)?;
        self.pad(size)
    }

    /// What surrounds the bytes of a file in the archive, without them.
    pub(crate) fn hollow_file(
        &mut self,
        name: &OsStr,
        mode: u32,
        owner: Owner,
        size: u64,
    ) -> Result<(), LayerError> {
        let name = name.as_bytes();
        self.header(&Header { name, link: b"", kind: b'0', mode, owner, size, device: (0, 0) })?;
        self.pad(size)
    }

    /// Ends the archive with two zero blocks and gives the output back, not flushed.
    pub fn finish(mut self) -> Result<W, LayerError> {
        self.raw(&ZEROS)?;
        Ok(self.out)
    }

    fn plain(
        &mut self,
        name: &OsStr,
        link: &[u8],
        kind: u8,
        mode: u32,
        owner: Owner,
        device: (u32, u32),
    ) -> Result<(), LayerError> {
        self.header(&Header { name: name.as_bytes(), link, kind, mode, owner, size: 0, device })
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), LayerError> {
        header.check()?;
        let records = header.pax_records();
        let fits = records.iter().all(|(key, _)| *key == "path") && header.name_fits_ustar();
        if fits {
            let (prefix, name) = split_ustar(header.name).unwrap_or((b"", header.name));
            return self.raw(&header.block(prefix, name, header.link));
        }
        let mut body = Vec::new();
        for (key, value) in &records {
            append_record(&mut body, key, value);
        }
        self.raw(&pax_block(header.name, body.len()))?;
        self.raw(&body)?;
        self.pad(body.len() as u64)?;
        self.raw(&header.block(b"", &ascii(header.name), &ascii(header.link)))
    }

    fn copy_exactly(
        &mut self,
        size: u64,
        data: &mut dyn Read,
        origin: &dyn Fn() -> PathBuf,
    ) -> Result<(), LayerError> {
        let room = usize::try_from(size.saturating_add(1)).map_or(COPY, |all| all.min(COPY));
        self.buffer.resize(room.max(self.buffer.len()), 0);
        let mut left = size;
        // One byte more than expected is asked for, so that a grown file shows without another read.
        let mut asked_beyond = false;
        while left > 0 || !asked_beyond {
            let want = usize::try_from(left.saturating_add(1)).map_or(room, |more| more.min(room));
            asked_beyond = want as u64 > left;
            let got = match data.read(&mut self.buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(LayerError::io("read", origin()))?,
            };
            if got == 0 && left == 0 {
                break;
            }
            if got == 0 || got as u64 > left {
                return Err(LayerError::Changed { path: origin(), expected: size, longer: got > 0 });
            }
            self.out.write_all(&self.buffer[..got]).map_err(LayerError::write)?;
            left -= got as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 { self.raw(&ZEROS[..BLOCK - over]) } else { Ok(()) }
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.out.write_all(bytes).map_err(LayerError::write)
    }
}

impl Header<'_> {
    fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.name))
    }

    /// Refuses what Go refuses, and what only its GNU fallback could hold.
    fn check(&self) -> Result<(), LayerError> {
        let number = |field, value| Err(LayerError::Number { path: self.path(), field, value });
        if self.name.contains(&0) || self.link.contains(&0) {
            return Err(LayerError::Name { path: self.path(), reason: "it contains a NUL byte" });
        }
        if self.name.ends_with(b"/") && self.kind != b'5' && self.kind != b'2' {
            return Err(LayerError::Name { path: self.path(), reason: "it ends with a slash" });
        }
        if !fits_octal(8, u64::from(self.mode)) {
            return number("mode", u64::from(self.mode));
        }
        for device in [self.device.0, self.device.1] {
            if !fits_octal(8, u64::from(device)) {
                return number("device number", u64::from(device));
            }
        }
        Ok(())
    }

    /// What does not fit its plain field, sorted by key.
    fn pax_records(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut records = Vec::new();
        let mut number = |key, width, value: u64| {
            if !fits_octal(width, value) {
                records.push((key, value.to_string().into_bytes()));
            }
        };
        number("gid", 8, self.owner.gid);
        let linkpath = records.len();
        let mut tail = Vec::new();
        for (key, value) in [("linkpath", self.link), ("path", self.name)] {
            if value.len() > NAME || !value.is_ascii() {
                tail.push((key, value.to_vec()));
            }
        }
        records.splice(linkpath.., tail);
        for (key, width, value) in [("size", 12, self.size), ("uid", 8, self.owner.uid)] {
            if !fits_octal(width, value) {
                records.push((key, value.to_string().into_bytes()));
            }
        }
        records
    }

    fn name_fits_ustar(&self) -> bool {
        self.name.is_ascii() && (self.name.len() <= NAME || split_ustar(self.name).is_some())
    }

    fn block(&self, prefix: &[u8], name: &[u8], link: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put_string(&mut block[0..100], name);
        put_octal(&mut block[100..108], u64::from(self.mode));
        put_octal(&mut block[108..116], self.owner.uid);
        put_octal(&mut block[116..124], self.owner.gid);
        put_octal(&mut block[124..136], self.size);
        put_octal(&mut block[136..148], MTIME);
        block[156] = self.kind;
        put_string(&mut block[157..257], link);
        put_octal(&mut block[329..337], u64::from(self.device.0));
        put_octal(&mut block[337..345], u64::from(self.device.1));
        put_string(&mut block[345..500], prefix);
        seal(&mut block);
        block
    }
}

/// The header of the PAX records of `name`: named beside it, everything else zero.
fn pax_block(name: &[u8], size: usize) -> [u8; BLOCK] {
    let base = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let mut beside = name[..base].to_vec();
    beside.extend_from_slice(b"PaxHeaders.0/");
    beside.extend_from_slice(&name[base..]);
    let mut shown = ascii(&clean_bytes(&beside));
    shown.truncate(NAME);
    while shown.last() == Some(&b'/') {
        shown.pop();
    }
    let mut block = [0; BLOCK];
    put_string(&mut block[0..100], &shown);
    put_octal(&mut block[100..108], 0);
    put_octal(&mut block[108..116], 0);
    put_octal(&mut block[116..124], 0);
    put_octal(&mut block[124..136], size as u64);
    put_octal(&mut block[136..148], 0);
    block[156] = b'x';
    seal(&mut block);
    block
}

/// Sets magic, version and checksum.
fn seal(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    put_octal(&mut block[148..155], sum);
}

fn put_octal(field: &mut [u8], value: u64) {
    let value = if fits_octal(field.len(), value) { value } else { 0 };
    let width = field.len() - 1;
    field[..width].copy_from_slice(format!("{value:0width$o}").as_bytes());
    field[width] = 0;
}

fn put_string(field: &mut [u8], text: &[u8]) {
    let width = field.len();
    let kept = text.len().min(width);
    field[..kept].copy_from_slice(&text[..kept]);
    // Some readers take a regular file whose cut name ends with a slash for a directory.
    if text.len() > width && field[width - 1] == b'/' {
        let end = text[..width - 1].iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

fn fits_octal(width: usize, value: u64) -> bool {
    value < 1 << ((width - 1) * 3)
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Splits a long name at the last slash that leaves a prefix of at most 155 bytes, if the rest fits too.
fn split_ustar(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME || !name.is_ascii() {
        return None;
    }
    let searched = if name.len() > PREFIX + 1 {
        PREFIX + 1
    } else if name.ends_with(b"/") {
        name.len() - 1
    } else {
        name.len()
    };
    let slash = name[..searched].iter().rposition(|&byte| byte == b'/')?;
    let rest = &name[slash + 1..];
    (slash > 0 && slash <= PREFIX && !rest.is_empty() && rest.len() <= NAME).then(|| (&name[..slash], rest))
}

/// Appends `"<length> key=value\n"`, where the length counts its own digits.
fn append_record(body: &mut Vec<u8>, key: &str, value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + bare.to_string().len();
    length = bare + length.to_string().len();
    body.extend_from_slice(format!("{length} {key}=").as_bytes());
    body.extend_from_slice(value);
    body.push(b'\n');
}
