//! What a save and a restore are held against: the same bytes, where each byte is only sealed, only opened or only copied.
//!
//! For `plinius bench mirror`; nothing else uses it. Chunks and threads are those of a save. What counts is the time
//! inside the one operation, of the thread that spent most on it: starting threads, page faults and preparation are not
//! in it, so that the bounds err to the side of being too low.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plinius_medium::{Extent, Region};
use plinius_seal::{Aad, BulkKey, JobKey, SALT_BYTES, TAG_BYTES, random};

use crate::chunk::{BufferName, CHUNK_BYTES, Chunk, Context, chunks, useful_threads};
use crate::error::Result;

/// Seconds to seal buffers of these lengths in private memory that stays in a core's cache.
///
/// # Errors
/// The library failed.
pub fn seal_in_cache(job_key: &JobKey, lengths: &[usize], threads: usize) -> Result<f64> {
    let (key, aad) = (fresh(job_key)?, aad());
    let seal = |staging: &mut Vec<u8>, _, chunk: Chunk| {
        staging.resize(chunk.len, 1);
        let begun = Instant::now();
        key.seal(&aad, staging)?;
        Ok(begun.elapsed())
    };
    spent_s(lengths, threads, seal, || {})
}

/// Seconds to open buffers of these lengths in private memory that stays in a core's cache.
///
/// # Errors
/// The library failed.
pub fn open_in_cache(job_key: &JobKey, lengths: &[usize], threads: usize) -> Result<f64> {
    let (key, aad) = (fresh(job_key)?, aad());
    let open = |staging: &mut Vec<u8>, _, chunk: Chunk| {
        staging.resize(chunk.len, 1);
        let (nonce, tag) = key.seal(&aad, staging)?;
        staging.extend(tag);
        let begun = Instant::now();
        key.open(&nonce, &aad, staging)?;
        Ok(begun.elapsed())
    };
    spent_s(lengths, threads, open, || {})
}

/// Seconds to copy as many bytes as extents have from private memory into them, past the cache, and to fence.
///
/// # Errors
/// They are not inside the pool.
pub fn copy_in<R: Region>(region: &R, extents: &[Extent], threads: usize) -> Result<f64> {
    let sources = touched(extents);
    let write = |_: &mut Vec<u8>, _, chunk: Chunk| {
        let bytes = &sources[chunk.buffer][chunk.at..][..chunk.len];
        let begun = Instant::now();
        extents[chunk.buffer].stream(region, chunk.at as u64, bytes)?;
        Ok(begun.elapsed())
    };
    spent_s(&lengths(extents), threads, write, || region.thread_fence())
}

/// Seconds to copy the bytes of extents, which are written first, into private memory.
///
/// # Errors
/// They are not inside the pool.
pub fn copy_out<R: Region>(region: &R, extents: &[Extent], threads: usize) -> Result<f64> {
    let mut targets = touched(extents);
    for (extent, bytes) in extents.iter().zip(&targets) {
        extent.stream(region, 0, bytes)?;
    }
    region.thread_fence();
    // One for each chunk, in the order in which `chunks` counts them.
    let places: Vec<_> = targets.iter_mut().flat_map(|target| target.chunks_mut(CHUNK_BYTES)).map(Mutex::new).collect();
    let read = |_: &mut Vec<u8>, item: usize, chunk: Chunk| {
        let mut place = places[item].lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        extents[chunk.buffer].load(region, chunk.at as u64, &mut place)?;
        Ok(begun.elapsed())
    };
    spent_s(&lengths(extents), threads, read, || {})
}

/// Runs `work(staging buffer, number of the chunk, chunk)` for all chunks, and `done` in each thread at its end; what the
/// slowest thread spent, as far as `work` says.
fn spent_s(
    lengths: &[usize],
    threads: usize,
    work: impl Fn(&mut Vec<u8>, usize, Chunk) -> Result<Duration> + Sync,
    done: impl Fn() + Sync,
) -> Result<f64> {
    let chunks = chunks(lengths.iter().copied());
    let threads = useful_threads(threads, lengths.iter().sum()).min(chunks.len().max(1));
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(threads));
    let worker = || {
        let mut staging = vec![1; CHUNK_BYTES + TAG_BYTES];
        let mut spent = Duration::ZERO;
        ready.wait();
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(item) else { break };
            spent += work(&mut staging, item, *chunk)?;
        }
        let begun = Instant::now();
        done();
        Ok(spent + begun.elapsed())
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ended = started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect::<Result<Vec<Duration>>>()
    })
    .map(|spent| spent.into_iter().max().unwrap_or_default().as_secs_f64())
}

fn fresh(job_key: &JobKey) -> Result<BulkKey> {
    let mut salt = [0; SALT_BYTES];
    random(&mut salt)?;
    Ok(job_key.derive(&salt)?)
}

/// As long as that of a chunk of a tensor.
fn aad() -> Aad {
    let context = Context { purpose: "tensor", job_id: [0; 16], mirror: "bench".into(), generation: 1, step: 1 };
    let name = BufferName { name: "tensors/block.0.attention.weight".into(), dtype: "<f4".into(), shape: vec![1, 1] };
    name.aad(&context, 1).number(0)
}

fn lengths(extents: &[Extent]) -> Vec<usize> {
    extents.iter().map(|extent| extent.bytes as usize).collect()
}

/// Private memory that has its pages, and was written just before, as tensors are by an optimizer.
fn touched(extents: &[Extent]) -> Vec<Vec<u8>> {
    extents.iter().map(|extent| vec![1; extent.bytes as usize]).collect()
}
