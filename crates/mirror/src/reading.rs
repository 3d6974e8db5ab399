//! Opening what a write attempt sealed.

use plinius_medium::{Extent, Region, Target};
use plinius_seal::{BulkKey, JobKey, NONCE_BYTES, Salt, TAG_BYTES};

use crate::chunk::{
    BufferName, CHUNK_BYTES, Chunk, Context, SealedBuffer, chunks, in_parallel, longest, part, useful_threads,
};
use crate::error::{Error, Result};
use crate::writing::manifest_name;

/// What one write attempt sealed, to be opened with its own key. It is given the pool's region each time, so that whoever
/// still holds it does not keep the pool open.
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

    /// Opens buffers into their targets. A chunk is copied into private memory first, and opened from there; one that was
    /// changed leaves zeros. After an error the targets hold a mixture, and the caller wipes them.
    pub fn open<R: Region, T: Target>(
        &self,
        region: &R,
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
            longest(&work),
            |staging, item, _| {
                let chunk = work[item];
                let (name, sealed, target) = &buffers[chunk.buffer];
                let open = |out: &mut [u8]| self.open_chunk(region, &self.context, name, sealed, chunk, staging, out);
                target.fill(chunk.at, chunk.len, open)
            },
            || {},
        )
    }

    /// Opens the manifest into private memory.
    pub fn open_manifest<R: Region>(&self, region: &R, sealed: &SealedBuffer) -> Result<Vec<u8>> {
        let context = Context { purpose: "manifest", ..self.context.clone() };
        let extent = sealed.extent.ok_or_else(|| Error::Refused("the manifest".into()))?;
        // The length comes from the pool: it is held against the pool's own size first.
        let len = checked_length(region, extent)?;
        sealed.check("the manifest", len)?;
        // It grows by what was verified: the length is a claim, and so may not take memory.
        let mut manifest = Vec::new();
        let (mut staging, mut opened) = (vec![0; CHUNK_BYTES.min(len)], vec![0; CHUNK_BYTES.min(len)]);
        for chunk in chunks(std::iter::once(len)) {
            let opened = &mut opened[..chunk.len];
            self.open_chunk(region, &context, &manifest_name(), sealed, chunk, &mut staging, opened)?;
            manifest.extend_from_slice(opened);
        }
        Ok(manifest)
    }

    /// Opens a chunk into `out` by way of `staging`.
    #[expect(clippy::too_many_arguments, reason = "what a chunk is bound to, and from where to where it goes")]
    fn open_chunk<R: Region>(
        &self,
        region: &R,
        context: &Context,
        name: &BufferName,
        sealed: &SealedBuffer,
        chunk: Chunk,
        staging: &mut [u8],
        out: &mut [u8],
    ) -> Result<()> {
        let refused = || Error::Refused(if name.name.is_empty() { "the manifest".into() } else { name.name.clone() });
        let nonce = part::<NONCE_BYTES>(&sealed.nonces, chunk.index).ok_or_else(refused)?;
        let tag = part::<TAG_BYTES>(&sealed.tags, chunk.index).ok_or_else(refused)?;
        let extent = sealed.extent.ok_or_else(refused)?;
        let ciphertext = &mut staging[..chunk.len];
        extent.load(region, chunk.at as u64, ciphertext)?;
        let count = sealed.tags.len() / TAG_BYTES;
        let aad = name.aad(context, count).number(chunk.index as u64);
        self.key.open_into(&nonce, &aad, ciphertext, &tag, out).map_err(|_| refused())
    }
}

fn checked_length<R: Region>(region: &R, extent: Extent) -> Result<usize> {
    let refused = || Error::Refused("the manifest".into());
    let len = usize::try_from(extent.bytes).map_err(|_| refused())?;
    if extent.bytes <= region.len() { Ok(len) } else { Err(refused()) }
}
