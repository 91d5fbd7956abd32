//! SentencePiece's table of characters and what they become: a trie of bytes in a double array, whose leaves point into a
//! text of replacements. The reader in `tokenizers` follows whatever the array says, so it is walked through here first.

use tokenizers::normalizers::Precompiled;

/// Published tables have some 60,000 units.
const MOST_UNITS: usize = 1 << 20;

/// The table, if no text can lead out of it.
pub(super) fn checked(bytes: &[u8]) -> tokenizers::Result<Precompiled> {
    let wrong = |what: &str| format!("the table of characters (precompiled_charsmap) is damaged: {what}");
    let (size, rest) = bytes.split_first_chunk().ok_or_else(|| wrong("it has no size"))?;
    let size = u32::from_le_bytes(*size) as usize;
    let (trie, replacements) = rest.split_at_checked(size).ok_or_else(|| wrong("it is cut off"))?;
    let units: Vec<u32> = trie.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let replacements = std::str::from_utf8(replacements).map_err(|_| wrong("its replacements are not UTF-8"))?;
    if !size.is_multiple_of(4) || units.len() > MOST_UNITS || !is_closed(&units, replacements) {
        return Err(wrong("it leads out of itself").into());
    }
    Ok(Precompiled::from(bytes)?)
}

/// Whether every place that a text can lead to is in the array, and every replacement in the text.
fn is_closed(units: &[u32], replacements: &str) -> bool {
    let Some(root) = units.first() else { return false };
    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(*root)];
    while let Some(base) = open.pop() {
        // From here any byte leads to the place of these 256 that it differs to.
        if base | 0xFF >= units.len() {
            return false;
        }
        for byte in 1..=0xFF_usize {
            let place = base ^ byte;
            let unit = units[place];
            if unit & (1 << 31 | 0xFF) != byte as u32 || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            let next = place ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = units.get(next).map(|leaf| (leaf & !(1 << 31)) as usize);
                if value.is_none_or(|value| !replacements.is_char_boundary(value)) {
                    return false;
                }
            }
            open.push(next);
        }
    }
    true
}

/// How far a unit's children are from it.
fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that turns `A` into `b`: root, leaf and label in the first 256 units.
    fn table() -> Vec<u8> {
        let mut units = vec![0_u32; 512];
        units[0] = 256 << 10;
        let place = 256 ^ usize::from(b'A');
        // Its leaf is at the same place with offset 1.
        units[place] = 1 << 10 | 1 << 8 | u32::from(b'A');
        units[place ^ 1] = 1 << 31;
        bytes(&units, b"b\0")
    }

    fn bytes(units: &[u32], replacements: &[u8]) -> Vec<u8> {
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [&(trie.len() as u32).to_le_bytes(), trie.as_slice(), replacements].concat()
    }

    #[test]
    fn a_table_that_is_whole_replaces() {
        assert_eq!(checked(&table()).unwrap().normalize_string("xAy"), "xby");
    }

    #[test]
    fn tables_that_lead_out_of_themselves_are_refused() {
        for bytes in [vec![], vec![4, 0, 0], vec![0xFF; 8], bytes(&[], b""), bytes(&[256 << 10], b"")] {
            assert!(checked(&bytes).is_err(), "{bytes:?}");
        }
        let whole = table();
        for at in [4, 6, 4 + 4 * (256 + 0x40), 4 + 4 * (256 + 0x41)] {
            let mut changed = whole.clone();
            changed[at..at + 4].copy_from_slice(&0x7FFF_FF41_u32.to_le_bytes());
            let _ = checked(&changed).map(|table| table.normalize_string("xAy A"));
        }
        assert!(checked(&whole[..whole.len() - 3]).is_err());
    }
}
