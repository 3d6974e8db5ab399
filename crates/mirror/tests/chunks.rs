//! Sealing into a pool and opening from it: lengths around the chunk, and what must not open.

use std::sync::{Arc, Mutex};

use plinius_mirror::{
    BufferName, CHUNK_BYTES, Context, Error, Reading, RecordReader, RecordShape, SealedBuffer, Source, Target, Writing,
    are_apart, seal_records,
};
use plinius_pm::{Entry, Extent, Flush, Options, Pool, Region, Reserved};
use plinius_seal::{Cipher, JobKey, NONCE_BYTES, TAG_BYTES};

/// Memory of a test.
struct Bytes(Mutex<Vec<u8>>);

impl Bytes {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }

    fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Source for Bytes {
    fn len(&self) -> usize {
        self.get().len()
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.0.lock().unwrap()[at..at + out.len()]);
    }
}

impl Target for Bytes {
    fn len(&self) -> usize {
        self.get().len()
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.0.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn fill<T>(&self, at: usize, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        fill(&mut self.0.lock().unwrap()[at..at + len])
    }
}

struct Fixture {
    pool: Arc<Pool>,
    key: JobKey,
    folder: std::path::PathBuf,
}

impl Fixture {
    fn new(name: &str) -> Self {
        Self::with(name, None)
    }

    fn with(name: &str, flush: Option<Flush>) -> Self {
        let folder = std::env::temp_dir().join(format!("plinius-mirror-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let options = Options { max_bytes: None, heap_bytes: 1 << 20, pool_id: [1; 16], flush, require: None };
        let pool = Pool::open(&folder.join("pool"), options).unwrap();
        Self { pool, key: JobKey::generate(Cipher::Aes128Gcm).unwrap(), folder }
    }

    fn seal(&self, lengths: &[usize]) -> Sealed {
        let writing = Writing::begin(&self.key, context()).unwrap();
        let contents: Vec<Vec<u8>> = lengths.iter().map(|&length| pattern(length)).collect();
        let buffers: Vec<_> = contents.iter().map(|bytes| (name(bytes.len()), Bytes::of(bytes.clone()))).collect();
        let reserved = self.reserve(lengths);
        let sealed = writing.seal(self.pool.region(), &reserved.extents(), &buffers, 3).unwrap();
        let (salt, commitment) = (*writing.salt(), *writing.commitment());
        let extents = sealed.iter().filter_map(|buffer| buffer.extent).collect();
        let entry = Entry { name: "mirror".into(), meta: vec![], block: 0, extents };
        self.pool.commit(&entry, reserved).unwrap();
        Sealed {
            pool: self.pool.clone(),
            contents,
            sealed,
            reading: self.reading(context(), &salt, &commitment),
            salt,
            commitment,
        }
    }

    /// An extent for each length that is not zero.
    fn reserve(&self, lengths: &[usize]) -> Reserved {
        let lengths: Vec<u64> = lengths.iter().map(|&length| length as u64).filter(|&length| length > 0).collect();
        self.pool.reserve(&lengths).unwrap()
    }

    fn reading(&self, context: Context, salt: &[u8; 32], commitment: &[u8; 32]) -> Reading {
        Reading::begin(&self.key, context, salt, commitment).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Sealed {
    pool: Arc<Pool>,
    contents: Vec<Vec<u8>>,
    sealed: Vec<SealedBuffer>,
    reading: Reading,
    salt: [u8; 32],
    commitment: [u8; 32],
}

impl Sealed {
    fn open(&self, reading: &Reading, index: usize, name: BufferName, sealed: SealedBuffer) -> Result<Vec<u8>, Error> {
        let buffers = [(name, sealed, Bytes::of(vec![0xee; self.contents[index].len()]))];
        reading.open(self.pool.region(), &buffers, 2).map(|()| buffers[0].2.get())
    }
}

fn context() -> Context {
    Context { purpose: "tensor", job_id: [2; 16], mirror: "m".into(), generation: 3, step: 40 }
}

fn name(length: usize) -> BufferName {
    BufferName { name: format!("tensor of {length}"), dtype: "uint8".into(), shape: vec![length as u64] }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / CHUNK_BYTES * 31) as u8).collect()
}

#[test]
fn spans_that_share_a_byte_are_told() {
    for (spans, apart) in [
        (vec![], true),
        (vec![(16, 16), (0, 16), (32, 1)], true),
        (vec![(16, 17), (0, 16), (32, 1)], false),
        (vec![(0, 64), (8, 8)], false),
        (vec![(0, 16), (0, 16)], false),
        (vec![(0, 16), (4, 0)], true),
    ] {
        assert_eq!(are_apart(spans.iter().copied()), apart, "{spans:?}");
    }
}

#[test]
fn buffers_of_all_lengths_come_back() {
    let fixture = Fixture::new("lengths");
    let lengths = [0, 1, 15, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 77];
    let written = fixture.seal(&lengths);
    for (index, length) in lengths.into_iter().enumerate() {
        let opened = written.open(&written.reading, index, name(length), written.sealed[index].clone()).unwrap();
        assert!(opened == written.contents[index], "{length} bytes");
        assert_eq!(written.sealed[index].tags.len(), length.div_ceil(CHUNK_BYTES) * TAG_BYTES);
    }
}

/// Memory of a test, and what was asked to be in the cache soon: offset and length.
struct Asked(Bytes, Mutex<Vec<(usize, usize)>>);

impl Source for Asked {
    fn len(&self) -> usize {
        Source::len(&self.0)
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.0.copy_out(at, out);
    }

    fn prefetch(&self, at: usize, len: usize) {
        self.1.lock().unwrap().push((at, len));
    }
}

/// Seals a buffer with one thread, into a pool with this flush; what was asked for, in order and joined.
fn asked_for(flush: Option<Flush>, length: usize) -> Vec<(usize, usize)> {
    let fixture = Fixture::with(&format!("asked-{length}-{}", flush.is_some()), flush);
    let buffers = [(name(length), Asked(Bytes::of(pattern(length)), Mutex::new(vec![])))];
    let reserved = fixture.reserve(&[length]);
    let writing = Writing::begin(&fixture.key, context()).unwrap();
    writing.seal(fixture.pool.region(), &reserved.extents(), &buffers, 1).unwrap();
    let mut joined: Vec<(usize, usize)> = vec![];
    for (at, len) in buffers[0].1.1.lock().unwrap().iter().copied() {
        assert!(len > 0 && at + len <= length, "{len} bytes at {at}");
        match joined.last_mut() {
            Some((begin, whole)) if *begin + *whole == at => *whole += len,
            _ => joined.push((at, len)),
        }
    }
    joined
}

#[test]
fn what_is_sealed_next_is_fetched_while_stores_past_the_cache_wait() {
    let flush = Some(Flush::best_instruction());
    assert_eq!(asked_for(flush, CHUNK_BYTES), []);
    assert_eq!(asked_for(flush, 3 * CHUNK_BYTES), [(CHUNK_BYTES, 2 * CHUNK_BYTES)]);
    assert_eq!(asked_for(flush, CHUNK_BYTES + 77), [(CHUNK_BYTES, 77)]);
    // To an ordinary file there are no such stores.
    assert_eq!(asked_for(Some(Flush::Fdatasync), 3 * CHUNK_BYTES), []);
}

/// Whoever has the pool says where extents lie, and need not be trusted.
#[test]
fn nothing_is_sealed_into_extents_that_are_not_the_buffers_own() {
    let fixture = Fixture::new("places");
    let (region, lengths) = (fixture.pool.region(), [100, 0, 200]);
    let reserved = fixture.reserve(&lengths);
    let [one, other] = reserved.extents()[..] else { panic!("two buffers are not empty") };
    let buffers: Vec<_> = lengths.iter().map(|&length| (name(length), Bytes::of(pattern(length)))).collect();
    let writing = Writing::begin(&fixture.key, context()).unwrap();
    let before = region.len();
    for wrong in [
        vec![one],
        vec![one, other, other],
        vec![other, one],
        vec![one, Extent { bytes: 201, ..other }],
        vec![one, Extent { offset: one.offset + 99, ..other }],
        vec![one, Extent { offset: before - 100, ..other }],
        vec![one, Extent { offset: u64::MAX - 100, ..other }],
    ] {
        let refused = writing.seal(region, &wrong, &buffers, 2);
        assert!(matches!(refused, Err(Error::Pool(_))), "{wrong:?}");
    }
    writing.seal(region, &[one, other], &buffers, 2).unwrap();
}

/// What was lost on its way must not be committed: whoever commits need not have seen it.
#[test]
fn what_is_stored_into_a_file_that_was_cut_is_not_sealed() {
    for flush in [Flush::best_instruction(), Flush::Fdatasync] {
        let fixture = Fixture::with(&format!("cut-{}", flush.name()), Some(flush));
        let reserved = fixture.reserve(&[4 * CHUNK_BYTES]);
        let extents = reserved.extents();
        let file = std::fs::File::from(fixture.pool.file().try_clone_to_owned().unwrap());
        file.set_len(extents[0].offset + CHUNK_BYTES as u64).unwrap();
        let buffers = [(name(4 * CHUNK_BYTES), Bytes::of(pattern(4 * CHUNK_BYTES)))];
        let writing = Writing::begin(&fixture.key, context()).unwrap();
        let sealed = writing.seal(fixture.pool.region(), &extents, &buffers, 2);
        assert!(matches!(sealed, Err(Error::Pool(_))), "{flush:?}");
    }
}

#[test]
fn the_ciphertext_is_not_the_plaintext() {
    let fixture = Fixture::new("ciphertext");
    let written = fixture.seal(&[CHUNK_BYTES]);
    let mut found = vec![0; CHUNK_BYTES];
    fixture.pool.read(written.sealed[0].extent.unwrap(), 0, &mut found).unwrap();
    let equal = found.iter().zip(&written.contents[0]).filter(|(one, other)| one == other).count();
    assert!(equal < CHUNK_BYTES / 64, "{equal} bytes of {CHUNK_BYTES} are equal");
}

#[test]
fn no_two_attempts_share_a_key_and_no_two_chunks_a_nonce() {
    let fixture = Fixture::new("attempts");
    let (one, other) = (fixture.seal(&[4 * CHUNK_BYTES]), fixture.seal(&[4 * CHUNK_BYTES]));
    assert!(one.salt != other.salt && one.commitment != other.commitment);
    let mut nonces: Vec<&[u8]> = one.sealed[0].nonces.chunks(NONCE_BYTES).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
}

#[test]
fn chunks_in_another_order_do_not_open() {
    let fixture = Fixture::new("order");
    let length = 3 * CHUNK_BYTES;
    let written = fixture.seal(&[length]);
    let whole = &written.sealed[0];
    let mut swapped = whole.clone();
    swapped.nonces.rotate_left(NONCE_BYTES);
    swapped.tags.rotate_left(TAG_BYTES);
    let mut fewer = whole.clone();
    fewer.tags.truncate(2 * TAG_BYTES);
    let mut shorter = whole.clone();
    shorter.extent = whole.extent.map(|extent| Extent { bytes: extent.bytes - 1, ..extent });
    let mut moved = whole.clone();
    moved.extent = whole.extent.map(|extent| Extent { offset: extent.offset + CHUNK_BYTES as u64, ..extent });
    let nowhere = SealedBuffer { extent: None, ..whole.clone() };
    for wrong in [swapped, fewer, shorter, moved, nowhere] {
        let opened = written.open(&written.reading, 0, name(length), wrong);
        assert!(matches!(opened, Err(Error::Refused(_) | Error::Pool(_))));
    }
}

/// Every field that a chunk is bound to.
#[test]
fn a_chunk_opens_only_as_what_it_was_sealed() {
    let fixture = Fixture::new("bound");
    let written = fixture.seal(&[100]);
    let open = |context: Context, name: BufferName| {
        let reading = fixture.reading(context, &written.salt, &written.commitment);
        written.open(&reading, 0, name, written.sealed[0].clone())
    };
    assert!(open(context(), name(100)).is_ok());
    let names = [
        BufferName { name: "another".into(), ..name(100) },
        BufferName { dtype: "int8".into(), ..name(100) },
        BufferName { shape: vec![10, 10], ..name(100) },
    ];
    for other in names {
        assert!(matches!(open(context(), other.clone()), Err(Error::Refused(_))), "{other:?}");
    }
    let contexts = [
        Context { purpose: "manifest", ..context() },
        Context { job_id: [3; 16], ..context() },
        Context { mirror: "n".into(), ..context() },
        Context { generation: 4, ..context() },
        Context { step: 41, ..context() },
    ];
    for other in contexts {
        assert!(matches!(open(other.clone(), name(100)), Err(Error::Refused(_))), "{other:?}");
    }
}

#[test]
fn another_key_or_salt_is_told_by_the_commitment() {
    let fixture = Fixture::new("commitment");
    let written = fixture.seal(&[100]);
    let begin =
        |key: &JobKey, salt: &[u8; 32], commitment: &[u8]| Reading::begin(key, context(), salt, commitment).is_ok();
    let other = JobKey::generate(Cipher::Aes128Gcm).unwrap();
    assert!(begin(&fixture.key, &written.salt, &written.commitment));
    assert!(!begin(&other, &written.salt, &written.commitment));
    assert!(!begin(&fixture.key, &[0; 32], &written.commitment));
    assert!(!begin(&fixture.key, &written.salt, &written.commitment[..31]));
}

/// A pool may claim any length: what is not there yet must not cost memory.
#[test]
fn a_manifest_of_claimed_length_takes_no_memory_before_its_first_chunk_opened() {
    let fixture = Fixture::new("manifest");
    let writing = Writing::begin(&fixture.key, context()).unwrap();
    let manifest = pattern(CHUNK_BYTES + 5);
    let reserved = fixture.reserve(&[manifest.len()]);
    let (region, extent) = (fixture.pool.region(), reserved.extents()[0]);
    let sealed = writing.seal_manifest(region, extent, Bytes::of(manifest.clone())).unwrap();
    let reading = fixture.reading(context(), writing.salt(), writing.commitment());
    assert!(reading.open_manifest(region, &sealed).unwrap() == manifest);
    let claim = Extent { bytes: 1 << 60, ..sealed.extent.unwrap() };
    let longer = SealedBuffer { extent: Some(claim), ..sealed.clone() };
    assert!(matches!(reading.open_manifest(region, &longer), Err(Error::Refused(_))));
    let mut swapped = sealed;
    swapped.tags.rotate_left(TAG_BYTES);
    assert!(matches!(reading.open_manifest(region, &swapped), Err(Error::Refused(_))));
}

#[test]
fn records_open_in_any_order_and_only_at_their_own_index() {
    let fixture = Fixture::new("records");
    let shape = RecordShape { header: b"header".to_vec(), image_bytes: 8, label_bytes: 1 };
    let key = || fixture.key.derive(&[5; 32]).unwrap();
    let images: Vec<u8> = (0..80).collect();
    let sealed = seal_records(&key(), &shape, 0, &images, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    let reserved = fixture.pool.reserve(&[sealed.len() as u64]).unwrap();
    reserved.write(0, 0, &sealed).unwrap();
    let extent = reserved.extents()[0];
    let reader = |header: &[u8]| {
        let shape = RecordShape { header: header.to_vec(), ..shape.clone() };
        RecordReader::new(key(), shape, extent, 10).unwrap()
    };
    let (image, label) = (Bytes::of(vec![0; 24]), Bytes::of(vec![0; 3]));
    reader(b"header").open(fixture.pool.region(), &[9, 0, 4], &image, &label, false, 2).unwrap();
    assert_eq!(label.get(), [9, 0, 4]);
    assert_eq!(image.get(), [&images[72..80], &images[..8], &images[32..40]].concat());
    let refused = reader(b"another").open(fixture.pool.region(), &[9, 0, 4], &image, &label, false, 2);
    assert!(matches!(refused, Err(Error::Refused(_))));
    let outside = reader(b"header").open(fixture.pool.region(), &[9, 0, 10], &image, &label, false, 2);
    assert!(matches!(outside, Err(Error::Misuse(_))));
    assert!(RecordReader::new(key(), shape, extent, 9).is_err());
}
