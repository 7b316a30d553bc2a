//! As much of SQLite as it takes to read the blobs of one table (<https://www.sqlite.org/fileformat2.html>).

use std::collections::BTreeSet;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Of the start of the file, which the first page begins with.
const HEADER: usize = 100;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

struct File<'a> {
    bytes: &'a [u8],
    page: usize,
    /// Of a page, what is not set aside at its end.
    usable: usize,
}

/// A value of a row; of others than these, nothing is needed.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The last column of each row of a table.
pub(super) fn blobs(bytes: &[u8], table: &str) -> Result<Vec<Vec<u8>>, String> {
    let damaged = || "it is damaged".to_owned();
    let file = File::open(bytes).ok_or_else(|| "it is no database of SQLite".to_owned())?;
    let schema = file.rows(1).ok_or_else(damaged)?;
    let root = schema.iter().filter_map(|row| columns(row)).find_map(|row| match row.as_slice() {
        [Value::Bytes(b"table"), Value::Bytes(name), _, Value::Number(root), ..]
            if *name == table.as_bytes() =>
        {
            Some(*root)
        }
        _ => None,
    });
    let root = root.ok_or_else(|| format!("it has no table {table}"))?;
    let rows = usize::try_from(root).ok().and_then(|root| file.rows(root)).ok_or_else(damaged)?;
    rows.iter()
        .map(|row| match columns(row)?.pop()? {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            Value::Number(_) => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(damaged)
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) || bytes.len() < HEADER {
            return None;
        }
        let page = match be16(bytes, 16)? {
            1 => 65_536,
            size if size.is_power_of_two() && size >= 512 => size,
            _ => return None,
        };
        let usable = page.checked_sub(usize::from(*bytes.get(20)?))?;
        (usable >= 480).then_some(Self { bytes, page, usable })
    }

    /// A page by its number, from 1.
    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let start = number.checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(start..start.checked_add(self.page)?)
    }

    /// The rows of the table whose tree starts at a page. No page is visited twice, and all rows together are no larger
    /// than the file: a damaged one could say the same bytes again and again.
    fn rows(&self, root: usize) -> Option<Vec<Vec<u8>>> {
        let (mut rows, mut waiting, mut seen) = (Vec::new(), vec![root], BTreeSet::new());
        let mut left = self.bytes.len();
        while let Some(number) = waiting.pop() {
            if !seen.insert(number) {
                return None;
            }
            let page = self.page(number)?;
            let start = if number == 1 { HEADER } else { 0 };
            let (kind, count) = (*page.get(start)?, be16(page, start + 3)?);
            if !matches!(kind, INTERIOR | LEAF) {
                return None;
            }
            let cells = start + if kind == INTERIOR { 12 } else { 8 };
            for cell in 0..count {
                let at = be16(page, cells + 2 * cell)?;
                if kind == INTERIOR {
                    waiting.push(super::be32(page, at)?);
                } else {
                    let row = self.row(page, at, &mut seen)?;
                    // An empty one costs something, too.
                    left = left.checked_sub(row.len().max(size_of::<Vec<u8>>()))?;
                    rows.push(row);
                }
            }
            if kind == INTERIOR {
                waiting.push(super::be32(page, start + 8)?);
            }
        }
        Some(rows)
    }

    /// The bytes of a row, which may go on in pages of their own.
    fn row(&self, page: &[u8], at: usize, seen: &mut BTreeSet<usize>) -> Option<Vec<u8>> {
        let (size, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let size = usize::try_from(size).ok().filter(|size| *size <= self.bytes.len())?;
        let local = self.local(size);
        let mut row = page.get(at..at.checked_add(local)?)?.to_vec();
        let mut next = if local < size { super::be32(page, at + local)? } else { 0 };
        while row.len() < size {
            if !seen.insert(next) {
                return None;
            }
            let page = self.page(next)?;
            let part = (size - row.len()).min(self.usable - 4);
            row.extend_from_slice(page.get(4..4 + part)?);
            next = super::be32(page, 0)?;
        }
        Some(row)
    }

    /// How much of a row of this size is in the page itself.
    fn local(&self, size: usize) -> usize {
        let most = self.usable - 35;
        if size <= most {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (size - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

/// The values of a row: first the types of all, then all.
fn columns(row: &[u8]) -> Option<Vec<Value<'_>>> {
    let (end, mut at) = varint(row, 0)?;
    let end = usize::try_from(end).ok()?;
    let (mut body, mut values) = (end, Vec::new());
    while at < end {
        let (kind, next) = varint(row, at)?;
        at = next;
        let (size, is_bytes) = match kind {
            0 | 8 | 9 => (0, false),
            1..=4 => (kind, false),
            5 => (6, false),
            6 | 7 => (8, false),
            kind => (kind.checked_sub(12)? / 2, true),
        };
        let stop = body.checked_add(usize::try_from(size).ok()?)?;
        let bytes = row.get(body..stop)?;
        body = stop;
        let number =
            || bytes.iter().fold(u64::from(kind == 9), |number, byte| number << 8 | u64::from(*byte));
        values.push(if is_bytes { Value::Bytes(bytes) } else { Value::Number(number()) });
    }
    Some(values)
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_be_bytes(two.try_into().ok()?)))
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0u64;
    for i in 0..9 {
        let byte = *bytes.get(at.checked_add(i)?)?;
        if i == 8 {
            return Some((number << 8 | u64::from(byte), at + 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number, at + i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_to_nine_bytes() {
        for (bytes, expected) in [
            (&[0x7f][..], Some((127, 1))),
            (&[0x81, 0x00], Some((128, 2))),
            (&[0xff; 9], Some((u64::MAX, 9))),
            (&[0x80], None),
        ] {
            assert_eq!(varint(bytes, 0), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_told() {
        assert!(blobs(b"SQLite", "t").unwrap_err().contains("no database"));
        let mut empty = MAGIC.to_vec();
        empty.resize(512, 0);
        empty[16] = 2;
        assert!(blobs(&empty, "t").unwrap_err().contains("damaged"));
        // The one page of the schema leads to itself.
        empty[HEADER] = INTERIOR;
        empty[HEADER + 11] = 1;
        assert!(blobs(&empty, "t").unwrap_err().contains("damaged"));
        empty[HEADER] = LEAF;
        assert!(blobs(&empty, "t").unwrap_err().contains("no table t"));
        // Every cell is the same.
        empty[HEADER + 4] = 100;
        let row = [100, 1];
        empty[400..402].copy_from_slice(&row);
        for cell in 0..100 {
            empty[HEADER + 8 + 2 * cell..HEADER + 10 + 2 * cell].copy_from_slice(&400u16.to_be_bytes());
        }
        assert!(blobs(&empty, "t").unwrap_err().contains("damaged"));
    }
}
