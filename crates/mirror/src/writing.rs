//! One write attempt: a fresh salt and key, and buffers sealed into extents that were reserved for it.

use std::borrow::Borrow;
use std::sync::{Mutex, PoisonError};

use plinius_medium::{Error as MediumError, Extent, Region, Source};
use plinius_seal::{BulkKey, Fingerprints, JobKey, NONCE_BYTES, Nonce, SALT_BYTES, Salt, TAG_BYTES, Tag, random};

use crate::chunk::{
    BufferName, CHUNK_BYTES, Chunk, Context, SealedBuffer, are_apart, chunks, in_parallel, longest, useful_threads,
};
use crate::error::{Error, Result};
use crate::watching::{Watch, Watcher};

/// So much is stored past the cache at a time where something else is asked of the memory beside it.
const PIECE_BYTES: usize = 2048;

/// A write attempt. Who gives it extents commits them, or gives them back: it does not know whose they are.
pub struct Writing {
    key: BulkKey,
    salt: Salt,
    context: Context,
}

impl Writing {
    /// Begins an attempt with a salt of its own, so that a retry can never meet the same key and nonce.
    pub fn begin(job_key: &JobKey, context: Context) -> Result<Self> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        Ok(Self { key: job_key.derive(&salt)?, salt, context })
    }

    /// The salt of this attempt, public.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The commitment to this attempt's key, public.
    pub fn commitment(&self) -> &[u8; 32] {
        self.key.commitment()
    }

    /// Seals buffers into extents, one for each that is not empty.
    ///
    /// # Errors
    /// The extents are not as long as the buffers, or not apart, or not inside the pool; or the medium failed.
    pub fn seal<R: Region, N: Borrow<BufferName> + Sync, S: Source>(
        &self,
        region: &R,
        extents: &[Extent],
        buffers: &[(N, S)],
        threads: usize,
    ) -> Result<Vec<SealedBuffer>> {
        self.seal_as(&self.context, &Places::new(region, extents, buffers)?, buffers, threads, None)
    }

    /// Seals buffers and watches them: returns what was sealed with its fingerprints.
    ///
    /// # Errors
    /// What was sealed of a buffer is not what was expected of it (`Error::Written`), or as those of `seal`.
    pub fn seal_watched<R: Region, N: Borrow<BufferName> + Sync, S: Source>(
        &self,
        region: &R,
        extents: &[Extent],
        buffers: &[(N, S)],
        watched: (&[Watch], &Fingerprints),
        threads: usize,
    ) -> Result<Vec<(SealedBuffer, Vec<u8>)>> {
        let watcher = Watcher::new(buffers, watched.0, watched.1);
        let places = Places::new(region, extents, buffers)?;
        let sealed = self.seal_as(&self.context, &places, buffers, threads, Some(&watcher))?;
        Ok(sealed.into_iter().zip(watcher.finish()).collect())
    }

    /// Seals the manifest, under a purpose of its own, into an extent as long.
    ///
    /// # Errors
    /// As those of `seal`.
    pub fn seal_manifest<R: Region, S: Source>(&self, region: &R, extent: Extent, manifest: S) -> Result<SealedBuffer> {
        let context = Context { purpose: "manifest", ..self.context.clone() };
        let buffers = [(manifest_name(), manifest)];
        let sealed = self.seal_as(&context, &Places::new(region, &[extent], &buffers)?, &buffers, 1, None)?;
        sealed.into_iter().next().ok_or_else(|| Error::Misuse("there is no manifest".into()))
    }

    fn seal_as<R: Region, N: Borrow<BufferName> + Sync, S: Source>(
        &self,
        context: &Context,
        places: &Places<'_, R>,
        buffers: &[(N, S)],
        threads: usize,
        watcher: Option<&Watcher<'_>>,
    ) -> Result<Vec<SealedBuffer>> {
        let work = chunks(buffers.iter().map(|(_, source)| source.len()));
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
                places.store(chunk, staging, fetch)?;
                results.lock().unwrap_or_else(PoisonError::into_inner)[item] = sealed;
                Ok(())
            },
            // ORDER: what this thread streamed is durable before anybody can be asked to commit it.
            || places.region.thread_fence(),
        )?;
        places.region.settle()?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sealed: Vec<SealedBuffer> = places.of_buffers.iter().map(|extent| empty(*extent)).collect();
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

/// Where the buffers go.
struct Places<'a, R: Region> {
    region: &'a R,
    /// An empty one has none.
    of_buffers: Vec<Option<Extent>>,
}

impl<'a, R: Region> Places<'a, R> {
    /// The extents come from whoever has the pool, who need not be trusted: nothing but the pool may be written.
    fn new<N, S: Source>(region: &'a R, extents: &[Extent], buffers: &[(N, S)]) -> Result<Self> {
        let mut given = extents.iter().copied();
        let lengths = buffers.iter().map(|(_, source)| source.len() as u64);
        let of_buffers: Vec<_> = lengths.clone().map(|len| if len > 0 { given.next() } else { None }).collect();
        let fits = |(len, extent): (u64, &Option<Extent>)| match extent {
            None => len == 0,
            Some(extent) => {
                extent.bytes == len && extent.offset.checked_add(len).is_some_and(|end| end <= region.len())
            }
        };
        let apart = are_apart(extents.iter().map(|extent| (extent.offset as usize, extent.bytes as usize)));
        if given.next().is_none() && lengths.zip(&of_buffers).all(fits) && apart {
            return Ok(Self { region, of_buffers });
        }
        let what = "the extents are not those of the buffers, or not apart, or not inside the pool";
        Err(MediumError::Misuse(what.into()).into())
    }

    /// Stores the ciphertext of a chunk, and calls `beside(offset, length)` for each piece of it before it is stored, if it
    /// is stored past the cache: what that asks of the memory is done while the stores wait.
    fn store(&self, chunk: Chunk, ciphertext: &[u8], beside: impl Fn(usize, usize)) -> Result<()> {
        let Some(extent) = self.of_buffers[chunk.buffer] else { return Ok(()) };
        if !self.region.streams() {
            return Ok(extent.stream(self.region, chunk.at as u64, ciphertext)?);
        }
        for (number, piece) in ciphertext.chunks(PIECE_BYTES).enumerate() {
            let offset = number * PIECE_BYTES;
            beside(offset, piece.len());
            extent.stream(self.region, (chunk.at + offset) as u64, piece)?;
        }
        Ok(())
    }
}

fn empty(extent: Option<Extent>) -> SealedBuffer {
    SealedBuffer { extent, nonces: Vec::new(), tags: Vec::new() }
}
