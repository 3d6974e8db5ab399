//! Changes to a pool that was whole, as a list that fuzzing makes up.
//!
//! Input: which image (1 byte), what is made right again afterwards (1 byte, see `REPAIR_*`), then edits of 12 bytes:
//! what to do, how many bytes, where (2 bytes: which of the image's places), a value (8 bytes).

use crate::format::{MARKS, PAGE, put, repair_heaps, repair_superblocks, word};
use crate::pools::{IMAGES, Image};

/// Both superblocks get the checksums that they should have.
pub const REPAIR_SUPERBLOCKS: u8 = 1;
/// So do the entries, and the two copies of the heap become equal.
pub const REPAIR_HEAPS: u8 = 2;

/// Where overflows and limits are: 64 gives 0.
const POWERS: [u32; 8] = [64, 63, 40, 32, 26, 16, 12, 4];
const EDIT_BYTES: usize = 12;
const MAX_EDITS: usize = 8;

/// What an input describes; `None`: it has no head.
pub struct Edits<'a> {
    image: &'static Image,
    repairs: u8,
    edits: &'a [u8],
}

impl<'a> Edits<'a> {
    /// Reads an input.
    pub fn read(input: &'a [u8]) -> Option<Self> {
        let (&[image, repairs], edits) = input.split_first_chunk()?;
        Some(Self { image: &IMAGES[usize::from(image) % IMAGES.len()], repairs, edits })
    }

    /// The file before.
    pub fn before(&self) -> &[u8] {
        &self.image.bytes
    }

    /// Changes it.
    pub fn apply(&self, file: &mut Vec<u8>) {
        for edit in self.edits.chunks_exact(EDIT_BYTES).take(MAX_EDITS) {
            apply(file, &self.image.places, edit);
        }
        if self.repairs & REPAIR_HEAPS != 0 {
            repair_heaps(file);
        }
        if self.repairs & REPAIR_SUPERBLOCKS != 0 {
            repair_superblocks(file);
        }
    }
}

fn apply(file: &mut Vec<u8>, places: &[usize], edit: &[u8]) {
    let place = |number: u64| places.get(number as usize % places.len().max(1)).copied().unwrap_or_default();
    let (what, len, at) = (edit[0], edit[1], place(word(edit, 2) & 0xffff));
    let value = word(edit, 4);
    let bytes = value.to_le_bytes();
    match what % 14 {
        // Some bytes of a word that means something.
        0..3 => put(file, at + usize::from(len >> 4) % 8, &bytes[..usize::from(len) % 8 + 1]),
        // A small step of one byte of such a word.
        3..5 => {
            let at = at + usize::from(bytes[0]) % 8;
            let stepped = (word(file, at) as u8).wrapping_add(len);
            put(file, at, &[stepped]);
        }
        // A block's header.
        5..7 => {
            put(file, at, &bytes);
            put(file, at + 8, &(MARKS[usize::from(len) % MARKS.len()] ^ value).to_le_bytes());
        }
        // Bytes anywhere.
        7 => {
            let at = value as usize % (file.len() + 1);
            put(file, at, &[len]);
        }
        // A copy of something to somewhere else.
        8..11 => {
            let from = place(value);
            let behind = file.get(from..).unwrap_or_default();
            let copied = behind[..behind.len().min(8 * (usize::from(len) % 16 + 1))].to_vec();
            put(file, at, &copied);
        }
        // A word next to a power of two, or to 0 from either side.
        11..13 => {
            let power = 1_u64.checked_shl(POWERS[usize::from(len) % POWERS.len()]).unwrap_or(0);
            let near = power.wrapping_add_signed(i64::from(bytes[0].cast_signed() / 16));
            put(file, at, &near.to_le_bytes());
        }
        // Another length of the file: rare, since it makes most others useless.
        _ => file.resize((value as usize % (file.len() + 4 * PAGE)).min(file.len() + 2 * PAGE), 0),
    }
}
