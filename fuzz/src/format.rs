//! As much of the pool's format as it takes to aim at its words and to make its checksums right again. Nothing here is
//! strict: the files are damaged on purpose. `docs/design.md` has the format.

/// The unit of the file.
pub const PAGE: usize = 4096;
/// Where the state word lies.
pub const STATE: usize = 2 * PAGE;
/// The state word while main is being changed.
pub const MUTATING: u64 = 0x3a7a_3a7a_3a7a_3a7a;
/// What the mark of a block may be: free, an entry, data.
pub const MARKS: [u64; 3] = [0xf2ee_f2ee_f2ee_f2ee, ENTRY, 0x0cc0_0cc0_0cc0_0cc0];
const ENTRY: u64 = 0xca7a_ca7a_ca7a_ca7a;

const SEQUENCE: usize = 32;
const SEGMENTS: usize = 48;
const MAX_SEGMENTS: usize = 40;
const HEAP_HEADER: usize = 64;
const BLOCK_HEADER: usize = 16;
const ENTRY_FIXED: usize = 32;
const EXTENT: usize = 16;
/// A heap whose segments overlap may be longer than the file.
const MAX_HEAP: usize = 1 << 20;

/// The word at a place, and 0 where the file has none.
pub fn word(file: &[u8], at: usize) -> u64 {
    file.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Puts bytes at a place, as far as the file reaches.
pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    let room = file.get_mut(at..).unwrap_or_default();
    let len = room.len().min(bytes.len());
    room[..len].copy_from_slice(&bytes[..len]);
}

/// A block of the heap, as its header describes it.
struct Block {
    payload: usize,
    bytes: usize,
    mark: u64,
}

/// The blocks of a heap up to the first that is damaged.
fn blocks(heap: &[u8]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut payload = HEAP_HEADER + BLOCK_HEADER;
    while payload <= heap.len() {
        let size = word(heap, payload - BLOCK_HEADER);
        let mark = word(heap, payload - 8) ^ size;
        if !MARKS.contains(&mark) || size > (heap.len() - payload) as u64 {
            break;
        }
        let bytes = size as usize;
        found.push(Block { payload, bytes, mark });
        payload += bytes + BLOCK_HEADER;
    }
    found
}

/// Where each byte run of a heap's copy lies in the file, as the newer superblock has it.
fn runs(file: &[u8], back: bool) -> Option<Vec<(usize, usize)>> {
    let page = if word(file, PAGE + SEQUENCE) > word(file, SEQUENCE) { PAGE } else { 0 };
    let count = (word(file, page + 8) >> 32) as usize;
    let mut runs = Vec::new();
    let mut total = 0;
    for segment in 0..count.min(MAX_SEGMENTS) {
        let at = page + SEGMENTS + segment * 16;
        let bytes = usize::try_from(word(file, at + 8)).ok()?;
        let start = usize::try_from(word(file, at)).ok()?.checked_add(if back { bytes } else { 0 })?;
        total = bytes.checked_add(total)?;
        if total > MAX_HEAP || start.checked_add(bytes)? > file.len() {
            return None;
        }
        runs.push((start, bytes));
    }
    Some(runs)
}

/// The places of the words that mean something, in both copies of everything: what is worth changing.
pub fn places(file: &[u8]) -> Vec<usize> {
    let mut places = vec![STATE];
    for page in [0, PAGE] {
        let words_end = SEGMENTS + 16 * ((word(file, page + 8) >> 32) as usize + 1);
        places.extend((page..page + words_end.min(PAGE)).step_by(8));
    }
    for back in [false, true] {
        let runs = runs(file, back).unwrap_or_default();
        let heap: Vec<u8> = runs.iter().flat_map(|(start, bytes)| &file[*start..start + bytes]).copied().collect();
        let in_file: Vec<usize> = runs.iter().flat_map(|(start, bytes)| *start..start + bytes).collect();
        let blocks = blocks(&heap);
        let words = blocks.iter().flat_map(|block| {
            let inside = if block.mark == ENTRY { block.bytes } else { block.bytes.min(16) };
            block.payload - BLOCK_HEADER..block.payload + inside
        });
        let end = blocks.last().map_or(HEAP_HEADER, |last| last.payload + last.bytes);
        let words = (0..HEAP_HEADER).chain(words).chain(end..end + BLOCK_HEADER).filter(|at| at.is_multiple_of(8));
        places.extend(words.filter_map(|at| in_file.get(at)));
    }
    places.retain(|at| at + 8 <= file.len());
    places
}

/// Makes both superblocks' checksums right.
pub fn repair_superblocks(file: &mut [u8]) {
    for page in file.chunks_exact_mut(PAGE).take(2) {
        let check = crc32fast::hash(&page[..PAGE - 4]);
        page[PAGE - 4..].copy_from_slice(&check.to_le_bytes());
    }
}

/// In the copy of the heap that counts, makes the checksums of all entries right, and the word that repeats how much is in
/// use; then makes the other copy equal to it.
pub fn repair_heaps(file: &mut [u8]) {
    let (Some(main), Some(back)) = (runs(file, false), runs(file, true)) else { return };
    let (source, target) = if word(file, STATE) == MUTATING { (back, main) } else { (main, back) };
    let mut heap: Vec<u8> = source.iter().flat_map(|(start, bytes)| &file[*start..start + bytes]).copied().collect();
    let used = word(&heap, 0);
    put(&mut heap, 8, &(!used).to_le_bytes());
    for block in blocks(&heap).iter().filter(|block| block.mark == ENTRY) {
        repair_entry(&mut heap[block.payload..block.payload + block.bytes]);
    }
    for runs in [target, source] {
        let mut rest = &heap[..];
        for (start, bytes) in runs {
            let (here, behind) = rest.split_at(bytes);
            put(file, start, here);
            rest = behind;
        }
    }
}

fn repair_entry(entry: &mut [u8]) {
    let (name, meta, extents) = (word(entry, 0) >> 32, word(entry, 8), word(entry, 16));
    let parts = [name, meta, extents.saturating_mul(EXTENT as u64)];
    let whole = parts.iter().fold(ENTRY_FIXED as u64, |whole, part| whole.saturating_add(*part));
    if let Some(checked) = entry.get(4..usize::try_from(whole).unwrap_or(usize::MAX)) {
        let check = crc32fast::hash(checked);
        put(entry, 0, &check.to_le_bytes());
    }
}
