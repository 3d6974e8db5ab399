//! Buffers, their chunks, and what each chunk is bound to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use plinius_medium::Extent;
use plinius_seal::{Aad, NONCE_BYTES, TAG_BYTES};
use zeroize::optimization_barrier;

use crate::error::{Error, Result};

/// A buffer is sealed in pieces of this size: two of them fit a core's L2 cache.
pub const CHUNK_BYTES: usize = 256 * 1024;
const FORMAT_VERSION: u64 = 1;

/// Which write attempt a buffer belongs to; bound to every chunk of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// What the bytes are for: `tensor` or `manifest`.
    pub purpose: &'static str,
    /// The job, random.
    pub job_id: [u8; 16],
    /// The mirror's name.
    pub mirror: String,
    /// The generation that wrote the bytes.
    pub generation: u64,
    /// The step that wrote the bytes.
    pub step: u64,
}

/// What a buffer is; bound to every chunk of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferName {
    /// Path of the value in the state.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Elements in each dimension.
    pub shape: Vec<u64>,
}

impl BufferName {
    /// What all chunks of a buffer are bound to.
    pub(crate) fn aad(&self, context: &Context, count: usize) -> Aad {
        let shape: Vec<u8> = self.shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        Aad::new(context.purpose)
            .number(FORMAT_VERSION)
            .field(&context.job_id)
            .field(context.mirror.as_bytes())
            .number(context.generation)
            .number(context.step)
            .field(self.name.as_bytes())
            .field(self.dtype.as_bytes())
            .field(&shape)
            .number(count as u64)
    }
}

/// Where a sealed buffer lies, and what opens it beside the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBuffer {
    /// The ciphertext; none for an empty buffer.
    pub extent: Option<Extent>,
    /// One nonce a chunk.
    pub nonces: Vec<u8>,
    /// One tag a chunk.
    pub tags: Vec<u8>,
}

impl SealedBuffer {
    /// Checks that a buffer of `len` bytes can be this one.
    pub(crate) fn check(&self, name: &str, len: usize) -> Result<usize> {
        let count = len.div_ceil(CHUNK_BYTES);
        let sealed_bytes = self.extent.map_or(0, |extent| extent.bytes);
        if sealed_bytes == len as u64
            && self.nonces.len() == count * NONCE_BYTES
            && self.tags.len() == count * TAG_BYTES
        {
            return Ok(count);
        }
        Err(Error::Refused(format!("{name} ({len} bytes)")))
    }
}

/// One piece of work: a range of one of the buffers.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    pub buffer: usize,
    pub index: usize,
    pub at: usize,
    pub len: usize,
}

/// All chunks of buffers of the given lengths, in order.
pub fn chunks(lengths: impl Iterator<Item = usize>) -> Vec<Chunk> {
    let chunks_of = |(buffer, length): (usize, usize)| {
        (0..length.div_ceil(CHUNK_BYTES)).map(move |index| {
            let at = index * CHUNK_BYTES;
            Chunk { buffer, index, at, len: CHUNK_BYTES.min(length - at) }
        })
    };
    lengths.enumerate().flat_map(chunks_of).collect()
}

/// The bytes of the longest of these chunks: more room takes time to make, and to wipe.
pub fn longest(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.len).max().unwrap_or(0)
}

/// Whether no two of these spans, each a start and a length, share a byte.
pub fn are_apart(spans: impl Iterator<Item = (usize, usize)>) -> bool {
    let mut spans: Vec<_> = spans.filter(|(_, len)| *len > 0).collect();
    spans.sort_unstable();
    spans.windows(2).all(|pair| pair[0].0.saturating_add(pair[0].1) <= pair[1].0)
}

/// Starting a thread costs more than sealing less than this.
const BYTES_PER_THREAD: usize = 2 * CHUNK_BYTES;

/// How many of `threads` are worth starting for this many bytes.
pub fn useful_threads(threads: usize, bytes: usize) -> usize {
    threads.min(bytes / BYTES_PER_THREAD).max(1)
}

/// Runs `work(worker's staging buffer, item, what claims the worker's next item)` for `0..items` on `threads` threads. The
/// first error stops all of them; `done` runs in each thread at its end, when its staging buffer has been wiped. That has
/// `staging_bytes`, whatever an item needs of it: to fill it up with zeros for each would cost as much as to copy into it.
/// `work` need not claim. Where it does, it does so late: another thread may be about to ask for the same item.
pub fn in_parallel(
    items: usize,
    threads: usize,
    staging_bytes: usize,
    work: impl Fn(&mut [u8], usize, &mut dyn FnMut() -> Option<usize>) -> Result<()> + Sync,
    done: impl Fn() + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let worker = || {
        let mut staging = vec![0; staging_bytes];
        let claim = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|item| *item < items);
        let mut claimed = claim();
        while let Some(item) = claimed {
            let mut ahead = None;
            let worked = work(&mut staging, item, &mut || *ahead.get_or_insert_with(claim));
            if let Err(error) = worked {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                next.store(items, Ordering::Relaxed);
                break;
            }
            claimed = ahead.unwrap_or_else(claim);
        }
        wipe(&mut staging);
        done();
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items) {
            scope.spawn(worker);
        }
        worker();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Zeroes plaintext that nobody reads again, and lets the compiler not leave that out. `Zeroize` writes byte by byte, which
/// takes as long as to seal as much.
fn wipe(staging: &mut [u8]) {
    staging.fill(0);
    optimization_barrier(staging);
}

/// The nth of equal parts: a nonce, a tag or a fingerprint of a chunk.
pub fn part<const N: usize>(all: &[u8], index: usize) -> Option<[u8; N]> {
    all.chunks_exact(N).nth(index)?.try_into().ok()
}
