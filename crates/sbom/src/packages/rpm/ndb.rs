//! `Packages.db`: pages of slots that say where packages are
//! (<https://github.com/rpm-software-management/rpm/blob/master/lib/backend/ndb/rpmpkg.c>).

use super::le32;

const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";
const PAGE: usize = 4096;
/// Of a slot, in bytes; also the unit in which it says where a package is.
const SLOT: usize = 16;
/// The slots whose place the start of the file takes.
const HEADER_SLOTS: usize = 2;

pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let damaged = || "it is damaged".to_owned();
    if !bytes.starts_with(MAGIC) || le32(bytes, 4) != Some(0) {
        return Err("it is of a version that is not known".to_owned());
    }
    let pages = le32(bytes, 12).ok_or_else(damaged)?;
    let slots = pages.checked_mul(PAGE).and_then(|end| bytes.get(..end)).ok_or_else(damaged)?;
    let used = slots.chunks_exact(SLOT).skip(HEADER_SLOTS);
    let used = used.filter(|slot| slot.starts_with(SLOT_MAGIC) && le32(slot, 4).is_some_and(|id| id != 0));
    let mut found = Vec::new();
    // No two slots have the same bytes.
    let mut left = bytes.len();
    for slot in used {
        let blob = blob(bytes, slot).ok_or_else(damaged)?;
        left = left.checked_sub(blob.len()).ok_or_else(damaged)?;
        found.push(blob);
    }
    Ok(found)
}

fn blob(bytes: &[u8], slot: &[u8]) -> Option<Vec<u8>> {
    let at = le32(slot, 8)?.checked_mul(SLOT)?;
    let blob = bytes.get(at..)?;
    if !blob.starts_with(BLOB_MAGIC) || le32(blob, 4) != le32(slot, 4) {
        return None;
    }
    Some(blob.get(SLOT..le32(blob, 12)?.checked_add(SLOT)?)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_told() {
        let mut header = [MAGIC, &[0; 8], &[1, 0, 0, 0], &[0; 16]].concat();
        assert!(blobs(b"").unwrap_err().contains("version"));
        assert!(blobs(&header).unwrap_err().contains("damaged"));
        header.extend([SLOT_MAGIC, &[1, 0, 0, 0], &[0xff; 8]].concat());
        header.resize(PAGE, 0);
        assert!(blobs(&header).unwrap_err().contains("damaged"));
        let blob = [BLOB_MAGIC, &[1, 0, 0, 0, 1, 0, 0, 0, 0xe0, 0x0f, 0, 0], &[7; 4064]].concat();
        header.extend(blob);
        for slot in 2..4 {
            let at = [SLOT_MAGIC, &[1, 0, 0, 0, 0, 1, 0, 0, 255, 0, 0, 0]].concat();
            header[slot * SLOT..(slot + 1) * SLOT].copy_from_slice(&at);
        }
        assert_eq!(blobs(&header).unwrap().len(), 2);
        header[4 * SLOT..5 * SLOT]
            .copy_from_slice(&[SLOT_MAGIC, &[1, 0, 0, 0, 0, 1, 0, 0, 255, 0, 0, 0]].concat());
        assert!(blobs(&header).unwrap_err().contains("damaged"), "more bytes than there are");
        header[4 * SLOT + 4] = 0;
        header[3 * SLOT + 4] = 0;
        header[36] = 0;
        assert_eq!(blobs(&header).unwrap(), Vec::<Vec<u8>>::new());
    }
}
