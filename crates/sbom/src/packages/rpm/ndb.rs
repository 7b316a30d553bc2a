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
    used.map(|slot| blob(bytes, slot).ok_or_else(damaged)).collect()
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
        header[36] = 0;
        assert_eq!(blobs(&header).unwrap(), Vec::<Vec<u8>>::new());
    }
}
