//! Opening what a write attempt sealed.

use plinius_pm::{Extent, Pool};
use plinius_seal::{BulkKey, JobKey, NONCE_BYTES, Salt, TAG_BYTES};

use crate::chunk::{
    BufferName, CHUNK_BYTES, Chunk, Context, SealedBuffer, Target, chunks, in_parallel, longest, part, useful_threads,
};
use crate::error::{Error, Result};
use crate::writing::manifest_name;

/// What one write attempt sealed, to be opened with its own key. It is given the pool each time, so that whoever still
/// holds it does not keep the pool open.
pub struct Reading {
    key: BulkKey,
    context: Context,
}

impl Reading {
    /// Derives the attempt's key again and compares its commitment.
    pub fn begin(job_key: &JobKey, context: Context, salt: &Salt, commitment: &[u8]) -> Result<Self> {
        let key = job_key.derive(salt)?.expect_commitment(commitment);
        let refused = |_| Error::Refused(format!("the mirror {:?}", context.mirror));
        Ok(Self { key: key.map_err(refused)?, context })
    }

    /// Opens buffers into their targets. Each chunk is verified in private memory before it reaches its target; after
    /// an error the targets hold a mixture, and the caller wipes them.
    pub fn open<T: Target>(
        &self,
        pool: &Pool,
        buffers: &[(BufferName, SealedBuffer, T)],
        threads: usize,
    ) -> Result<()> {
        for (name, sealed, target) in buffers {
            sealed.check(&name.name, target.len())?;
        }
        let work = chunks(buffers.iter().map(|(_, _, target)| target.len()));
        in_parallel(
            work.len(),
            useful_threads(threads, work.iter().map(|chunk| chunk.len).sum()),
            longest(&work) + TAG_BYTES,
            |staging, item, _| {
                let (name, sealed, target) = &buffers[work[item].buffer];
                let opened = self.open_chunk(pool, &self.context, name, sealed, work[item], staging)?;
                target.copy_in(work[item].at, opened);
                Ok(())
            },
            || {},
        )
    }

    /// Opens the manifest into private memory.
    pub fn open_manifest(&self, pool: &Pool, sealed: &SealedBuffer) -> Result<Vec<u8>> {
        let context = Context { purpose: "manifest", ..self.context.clone() };
        let extent = sealed.extent.ok_or_else(|| Error::Refused("the manifest".into()))?;
        // The length comes from the pool: it is held against the pool's own size first.
        let len = checked_length(pool, extent)?;
        sealed.check("the manifest", len)?;
        // It grows by what was verified: the length is a claim, and so may not take memory.
        let mut manifest = Vec::new();
        let mut staging = vec![0; CHUNK_BYTES.min(len) + TAG_BYTES];
        for chunk in chunks(std::iter::once(len)) {
            manifest.extend(self.open_chunk(pool, &context, &manifest_name(), sealed, chunk, &mut staging)?);
        }
        Ok(manifest)
    }

    /// Returns the verified plaintext of a chunk, at the start of `staging`.
    fn open_chunk<'a>(
        &self,
        pool: &Pool,
        context: &Context,
        name: &BufferName,
        sealed: &SealedBuffer,
        chunk: Chunk,
        staging: &'a mut [u8],
    ) -> Result<&'a [u8]> {
        let refused = || Error::Refused(if name.name.is_empty() { "the manifest".into() } else { name.name.clone() });
        let nonce = part::<NONCE_BYTES>(&sealed.nonces, chunk.index).ok_or_else(refused)?;
        let tag = part::<TAG_BYTES>(&sealed.tags, chunk.index).ok_or_else(refused)?;
        let extent = sealed.extent.ok_or_else(refused)?;
        let staging = &mut staging[..chunk.len + TAG_BYTES];
        let (ciphertext, place) = staging.split_at_mut(chunk.len);
        pool.read(extent, chunk.at as u64, ciphertext)?;
        place.copy_from_slice(&tag);
        let count = sealed.tags.len() / TAG_BYTES;
        let aad = name.aad(context, count).number(chunk.index as u64);
        let opened = self.key.open(&nonce, &aad, staging).map_err(|_| refused())?;
        Ok(opened)
    }
}

fn checked_length(pool: &Pool, extent: Extent) -> Result<usize> {
    let (pool_bytes, _) = pool.bytes();
    let refused = || Error::Refused("the manifest".into());
    let len = usize::try_from(extent.bytes).map_err(|_| refused())?;
    if extent.bytes <= pool_bytes { Ok(len) } else { Err(refused()) }
}
