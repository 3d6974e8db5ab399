//! One write attempt: a fresh salt and key, buffers sealed into reserved extents, one commit.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};

use plinius_pm::{Entry, Extent, MappedFile, Pool, Region, Reserved};
use plinius_seal::{BulkKey, Fingerprints, JobKey, NONCE_BYTES, Nonce, SALT_BYTES, Salt, TAG_BYTES, Tag, random};

use crate::chunk::{
    BufferName, CHUNK_BYTES, Chunk, Context, SealedBuffer, Source, chunks, in_parallel, longest, useful_threads,
};
use crate::error::{Error, Result};
use crate::watching::{Watch, Watcher};

/// A write attempt. Dropped without `commit`, it leaves nothing behind: its extents are free again.
pub struct Writing<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    key: BulkKey,
    salt: Salt,
    context: Context,
    reserved: Option<Reserved<R>>,
}

impl<R: Region> Writing<R> {
    /// Begins an attempt with a salt of its own, so that a retry can never meet the same key and nonce.
    pub fn begin(pool: Arc<Pool<R>>, job_key: &JobKey, context: Context) -> Result<Self> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        Ok(Self { pool, key: job_key.derive(&salt)?, salt, context, reserved: None })
    }

    /// The salt of this attempt, public.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The commitment to this attempt's key, public.
    pub fn commitment(&self) -> &[u8; 32] {
        self.key.commitment()
    }

    /// Seals buffers into free extents.
    pub fn seal<N: Borrow<BufferName> + Sync, S: Source>(
        &mut self,
        buffers: &[(N, S)],
        threads: usize,
    ) -> Result<Vec<SealedBuffer>> {
        let context = self.context.clone();
        self.seal_as(&context, buffers, threads, None)
    }

    /// Seals buffers and watches them: returns what was sealed with its fingerprints.
    ///
    /// # Errors
    /// What was sealed of a buffer is not what was expected of it (`Error::Written`).
    pub fn seal_watched<N: Borrow<BufferName> + Sync, S: Source>(
        &mut self,
        buffers: &[(N, S)],
        watches: &[Watch],
        prints: &Fingerprints,
        threads: usize,
    ) -> Result<Vec<(SealedBuffer, Vec<u8>)>> {
        let context = self.context.clone();
        let watcher = Watcher::new(buffers, watches, prints);
        let sealed = self.seal_as(&context, buffers, threads, Some(&watcher))?;
        Ok(sealed.into_iter().zip(watcher.finish()).collect())
    }

    /// Seals the manifest, under a purpose of its own.
    pub fn seal_manifest<S: Source>(&mut self, manifest: S) -> Result<SealedBuffer> {
        let context = Context { purpose: "manifest", ..self.context.clone() };
        let sealed = self.seal_as(&context, &[(manifest_name(), manifest)], 1, None)?;
        sealed.into_iter().next().ok_or_else(|| Error::Misuse("there is no manifest".into()))
    }

    /// Commits: from now on the catalog names what was sealed, and what nobody names any more is free.
    pub fn commit(mut self, entry: &Entry) -> Result<()> {
        let reserved = self.reserved.take().ok_or_else(|| Error::Misuse("nothing was sealed".into()))?;
        Ok(self.pool.commit(entry, reserved)?)
    }

    fn seal_as<N: Borrow<BufferName> + Sync, S: Source>(
        &mut self,
        context: &Context,
        buffers: &[(N, S)],
        threads: usize,
        watcher: Option<&Watcher<'_>>,
    ) -> Result<Vec<SealedBuffer>> {
        let sizes: Vec<u64> = buffers.iter().map(|(_, source)| source.len() as u64).filter(|len| *len > 0).collect();
        let reserved = self.pool.reserve(&sizes)?;
        let sealed = self.seal_into(context, &reserved, buffers, threads, watcher)?;
        self.reserved = Some(match self.reserved.take() {
            Some(before) => before.join(reserved),
            None => reserved,
        });
        Ok(sealed)
    }

    fn seal_into<N: Borrow<BufferName> + Sync, S: Source>(
        &self,
        context: &Context,
        reserved: &Reserved<R>,
        buffers: &[(N, S)],
        threads: usize,
        watcher: Option<&Watcher<'_>>,
    ) -> Result<Vec<SealedBuffer>> {
        let work = chunks(buffers.iter().map(|(_, source)| source.len()));
        let slots = slots(buffers.iter().map(|(_, source)| source.len()));
        let results: Mutex<Vec<(Nonce, Tag)>> = Mutex::new(vec![([0; NONCE_BYTES], [0; TAG_BYTES]); work.len()]);
        in_parallel(
            work.len(),
            useful_threads(threads, work.iter().map(|chunk| chunk.len).sum()),
            longest(&work),
            |staging, item, next| {
                let chunk = work[item];
                let (name, source) = &buffers[chunk.buffer];
                let staging = &mut staging[..chunk.len];
                let sealed = self.seal_chunk(context, name.borrow(), source, chunk, staging, watcher)?;
                // Stores past the cache leave the memory time to fetch what this thread seals next.
                let upcoming = next().map(|item| (&buffers[work[item].buffer].1, work[item]));
                let fetch = |at: usize, len: usize| {
                    if let Some((source, chunk)) = &upcoming
                        && at < chunk.len
                    {
                        source.prefetch(chunk.at + at, len.min(chunk.len - at));
                    }
                };
                reserved.write_beside(slots[chunk.buffer].unwrap_or(usize::MAX), chunk.at as u64, staging, fetch)?;
                results.lock().unwrap_or_else(PoisonError::into_inner)[item] = sealed;
                Ok(())
            },
            || reserved.fence(),
        )?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let extents = reserved.extents();
        let mut sealed: Vec<SealedBuffer> = slots.iter().map(|slot| empty(slot.map(|slot| extents[slot]))).collect();
        for (chunk, (nonce, tag)) in work.iter().zip(results) {
            sealed[chunk.buffer].nonces.extend(nonce);
            sealed[chunk.buffer].tags.extend(tag);
        }
        Ok(sealed)
    }

    /// Seals a chunk into `staging`, which is as long.
    fn seal_chunk<S: Source>(
        &self,
        context: &Context,
        name: &BufferName,
        source: &S,
        chunk: Chunk,
        staging: &mut [u8],
        watcher: Option<&Watcher<'_>>,
    ) -> Result<(Nonce, Tag)> {
        let aad = name.aad(context, source.len().div_ceil(CHUNK_BYTES)).number(chunk.index as u64);
        let Some(watcher) = watcher.filter(|watcher| watcher.watches(chunk)) else {
            return Ok(source.look(chunk.at, chunk.len, |plaintext| self.key.seal_from(&aad, plaintext, staging))?);
        };
        source.copy_out(chunk.at, staging);
        // What is sealed is what was looked at: both are this private copy.
        watcher.see(&name.name, chunk, staging)?;
        Ok(self.key.seal(&aad, staging)?)
    }
}

/// The manifest is sealed like a buffer, with a name that no tensor can have because its purpose differs.
pub fn manifest_name() -> BufferName {
    BufferName { name: String::new(), dtype: String::new(), shape: Vec::new() }
}

/// Which reserved extent each buffer has; an empty one has none.
fn slots(lengths: impl Iterator<Item = usize>) -> Vec<Option<usize>> {
    let mut next = 0..;
    lengths.map(|len| if len > 0 { next.next() } else { None }).collect()
}

fn empty(extent: Option<Extent>) -> SealedBuffer {
    SealedBuffer { extent, nonces: Vec::new(), tags: Vec::new() }
}
