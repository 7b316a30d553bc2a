//! The codec: its bytes are fixed, since the digest of every compressed layer follows from them.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use strata_layer::{Compression, LayerError, Packer, VerifiedReader, open_layer, pack_with};
use strata_oci::Digest;

/// Half noise, half text of few letters.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 42_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (state >> 56) as u8;
        bytes.push(if bytes.len() / 4096 % 2 == 0 { noise } else { b'a' + noise % 5 });
    }
    bytes
}

fn gzip(bytes: &[u8], step: usize, threads: usize) -> Vec<u8> {
    packed(bytes, Compression::Gzip, step, threads)
}

fn packed(bytes: &[u8], compression: Compression, step: usize, threads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let fill = |tar: &mut dyn Write| {
        bytes
            .chunks(step)
            .try_for_each(|part| tar.write_all(part))
            .map_err(|source| LayerError::Write { source })
    };
    let packed = pack_with(fill, compression, threads, &mut out).unwrap();
    assert_eq!(packed.diff_id, Digest::of(bytes));
    assert_eq!(packed.digest, Digest::of(&out));
    assert_eq!((packed.size, packed.uncompressed_size), (out.len() as u64, bytes.len() as u64));
    out
}

#[test]
fn bytes_depend_on_nothing_but_the_input() {
    let bytes = sample(5 << 20);
    for (compression, digest) in GOLDEN {
        let compression = compression.parse().unwrap();
        let golden = packed(&bytes, compression, bytes.len(), 1);
        assert_eq!(Digest::of(&golden).to_string(), format!("sha256:{digest}"), "{compression}");
        for (step, threads) in [(512, 1), (70_001, 2), (1 << 20, 4), (5 << 20, 4), (999, 3)] {
            let again = packed(&bytes, compression, step, threads);
            assert!(again == golden, "{compression}, writes of {step} bytes, {threads} threads");
        }
    }
}

const GOLDEN: [(&str, &str); 5] = [
    ("gzip", "f1e0bd486127044d5b6a4752675e8e4da594de3201e364ff5bb856e42c069428"),
    ("gzip:2", "d971d5e4837d884f18de9ffbeb364029d03def950aba1bde4a4fed54929fe366"),
    ("gzip:9", "5f26e20ecf9abfe4f3f4d5b55a452937949471a2ed59603cfdba56ca48e6e8d2"),
    ("zstd:1", "f47d67d4c3e16e76c7f3f84a808af92b10552cace1768fc27f967c70ddc42ec2"),
    ("zstd", "2ac44eb103840595a659c3063a7262ab73fd2ef5ba07741fec0da057f1248746"),
];

/// What a program makes of bytes.
fn through(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(bytes));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        output
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn what_is_compressed_can_be_read_by_the_programs_that_everyone_has() {
    for (compression, program) in
        [("gzip", "gzip"), ("gzip:2", "gzip"), ("gzip:9", "gzip"), ("zstd:1", "zstd"), ("zstd:9", "zstd")]
    {
        for length in [0, 1, (1 << 18) - 1, 1 << 18, (1 << 20) + 1, 3 << 20] {
            let bytes = sample(length);
            let packed = packed(&bytes, compression.parse().unwrap(), 4096, 2);
            let mut back = Vec::new();
            open_layer(io::Cursor::new(packed.clone())).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{compression}, {length} bytes");
            assert!(through(program, &["-dc"], &packed) == bytes, "{compression}, {length} bytes");
        }
    }
}

/// Takes some bytes and then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("disk full"));
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failing_output_stops_every_thread_and_is_the_error() {
    let bytes = sample(20 << 20);
    for (room, threads) in [(0, 1), (0, 4), (2 << 20, 1), (2 << 20, 2), (4 << 20, 4)] {
        let fill = |tar: &mut dyn Write| tar.write_all(&bytes).map_err(|source| LayerError::Write { source });
        let error = pack_with(fill, Compression::Gzip, threads, &mut Full(room)).unwrap_err();
        let LayerError::Write { source } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "disk full", "{threads} threads");
    }
}

#[test]
fn failing_input_stops_every_thread_and_is_the_error() {
    let bytes = sample(9 << 20);
    for threads in [1, 2, 4] {
        let fill = |tar: &mut dyn Write| {
            tar.write_all(&bytes).map_err(|source| LayerError::Write { source })?;
            Err(LayerError::Changed { path: "/a".into(), expected: 1, longer: true })
        };
        let error = pack_with(fill, Compression::Gzip, threads, &mut io::sink()).unwrap_err();
        assert!(matches!(error, LayerError::Changed { .. }), "{error:?}");
    }
}

#[test]
fn uncompressed_layers_have_one_digest() {
    let fill = |tar: &mut dyn Write| tar.write_all(b"abc").map_err(|source| LayerError::Write { source });
    let mut out = Vec::new();
    let packed = pack_with(fill, Compression::None, 4, &mut out).unwrap();
    assert_eq!((out.as_slice(), packed.digest, packed.size), (b"abc".as_slice(), packed.diff_id, 3));
}

#[test]
fn verified_reader_tells_long_short_and_other_bytes() {
    let digest = Digest::of(b"abc");
    let read = |bytes: &'static [u8], size| VerifiedReader::new(bytes, digest, size).finish().map(|_| ());
    assert!(read(b"abc", 3).is_ok());
    for (bytes, size, text) in
        [(b"abcd".as_slice(), 3, "more than"), (b"ab", 3, "only 2"), (b"abd", 3, "have the")]
    {
        let error = read(bytes, size).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh9", "bzip2")] {
        let blob = io::Cursor::new([magic, b" rest"].concat());
        let Err(error) = open_layer(blob) else { panic!("{name} was taken") };
        let expected = format!("cannot read the layer: {name} compression is not supported");
        assert_eq!(error.to_string(), expected);
    }
}

/// Compressed by zstd's own program.
fn zstd(bytes: &[u8], args: &[&str]) -> Vec<u8> {
    let mut child = Command::new("zstd")
        .args(["--quiet", "--stdout"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs zstd: {error}"));
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
}

fn opened(blob: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut back = Vec::new();
    open_layer(io::Cursor::new(blob)).unwrap().read_to_end(&mut back).map(|_count| back)
}

/// A frame that says nothing (RFC 8878, section 3.1.2).
const SKIPPED: &[u8] = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";

#[test]
fn zstd_is_read_frame_by_frame() {
    for length in [0, 1, 100_000, 700_000] {
        let bytes = sample(length);
        for args in [&["-1"][..], &["-19", "--no-check"], &["-3", "--long=27"], &["-1", "-T2"]] {
            assert!(opened(zstd(&bytes, args)).unwrap() == bytes, "{length} bytes, {args:?}");
        }
        let (one, two) = bytes.split_at(length / 3);
        let frames = [&zstd(one, &[]), SKIPPED, &zstd(two, &[]), SKIPPED].concat();
        assert!(opened(frames).unwrap() == bytes, "{length} bytes");
    }
}

#[test]
fn damaged_zstd_is_refused() {
    let bytes = sample(30_000);
    let packed = [&zstd(&bytes, &["--check"]), SKIPPED].concat();
    let end = packed.len() - SKIPPED.len();
    for length in (4..end).step_by(37).chain(end - 5..end).chain(end + 1..packed.len()) {
        assert!(opened(packed[..length].to_vec()).is_err(), "{length} of {end}");
    }
    for at in (4..end).step_by(11) {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x10;
        // Some bits of the header mean nothing for these bytes; no other bytes come out.
        assert!(opened(damaged).map_or(true, |found| found == bytes), "{at}");
    }
    let mut wrong_sum = packed.clone();
    wrong_sum[end - 1] ^= 1;
    assert!(opened(wrong_sum).unwrap_err().to_string().contains("checksum"));
    assert!(opened([&packed[..end], b"more"].concat()).is_err());
    // A gigabyte of memory for ten bytes.
    let greedy = zstd(b"0123456789", &["--ultra", "--long=30"]);
    assert!(opened(greedy).unwrap_err().to_string().contains("window"));
}

#[test]
fn what_fails_below_zstd_is_the_error() {
    let packed = zstd(&sample(300_000), &[]);
    let (digest, size) = (Digest::of(b"other"), packed.len() as u64);
    let mut layer = open_layer(VerifiedReader::new(io::Cursor::new(packed), digest, size)).unwrap();
    let error = io::copy(&mut layer, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("have the digest"), "{error}");
}

#[test]
fn layers_are_no_larger_than_those_of_the_fastest_gzip() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut text = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            text.extend(std::fs::read(path).unwrap());
        }
    }
    for (what, bytes) in [("program", program), ("text", text), ("noise and letters", sample(3 << 20))] {
        let ours = gzip(&bytes, 1 << 16, 2);
        let theirs = through("gzip", &["-1"], &bytes).len();
        assert!(ours.len() <= theirs, "{what}: {} > {theirs}", ours.len());
    }
}

#[test]
fn layers_packed_at_the_same_time_are_what_they_are_alone() {
    let packer = Packer::new(2);
    let samples: Vec<Vec<u8>> = (1..9).map(|i| sample(i * 400_000)).collect();
    let together: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let packed = |bytes| {
            let mut out = Vec::new();
            let fill =
                |tar: &mut dyn Write| tar.write_all(bytes).map_err(|source| LayerError::Write { source });
            packer.pack_with(fill, Compression::Gzip, &mut out).unwrap();
            out
        };
        // One that fails in their midst takes nothing from them.
        let failing = scope.spawn(|| {
            let fill = |tar: &mut dyn Write| {
                tar.write_all(&samples[7]).map_err(|source| LayerError::Write { source })
            };
            packer.pack_with(fill, Compression::Gzip, &mut Full(300_000)).unwrap_err()
        });
        let running: Vec<_> = samples.iter().map(|bytes| scope.spawn(move || packed(bytes))).collect();
        assert!(matches!(failing.join().unwrap(), LayerError::Write { .. }));
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (bytes, packed) in samples.iter().zip(&together) {
        assert!(gzip(bytes, 1 << 16, 1) == *packed, "{} bytes", bytes.len());
    }
}
