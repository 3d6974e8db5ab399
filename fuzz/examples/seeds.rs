//! Writes the inputs that fuzzing starts from: `seeds FOLDER` fills one folder there for each target.

use std::io;
use std::path::Path;

use plinius_fuzz::edits::{REPAIR_HEAPS, REPAIR_SUPERBLOCKS};
use plinius_fuzz::pools::IMAGES;

/// Nothing changed; the count of superblock A one and two steps before its end, which was not refused once.
const EDITS: [&[u8]; 3] = [
    &[],
    &[0, 7, 5, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0, 7, 5, 0, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("seeds FOLDER"))?;
    let write = |target: &str, name: usize, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("seed-{name:02}")), bytes)
    };
    for (number, image) in IMAGES.iter().enumerate() {
        write("open", number, &image.bytes)?;
        write("status", number, &image.bytes)?;
        for (kind, edit) in EDITS.iter().enumerate() {
            let edits = [&[number as u8, REPAIR_HEAPS | REPAIR_SUPERBLOCKS], *edit].concat();
            write("edits", number * EDITS.len() + kind, &edits)?;
            write("tampering", number * EDITS.len() + kind, &edits)?;
        }
    }
    Ok(())
}
