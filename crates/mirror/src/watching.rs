//! Fingerprints of buffers, by which a later save knows that one is unchanged, and a save in the background that nobody
//! wrote into what it sealed.

use std::sync::{Mutex, PoisonError};

use plinius_medium::Source;
use plinius_seal::{FINGERPRINT_BYTES, Fingerprint, Fingerprints};

use crate::chunk::{CHUNK_BYTES, Chunk, chunks, in_parallel, part, useful_threads};
use crate::error::{Error, Result};

/// What is done about a buffer's fingerprints while it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Not,
    /// They are noted.
    Note,
    /// They must be these, sixteen bytes a chunk.
    Expect(Vec<u8>),
}

/// Looks at buffers as they are sealed, in several threads.
pub struct Watcher<'a> {
    watches: &'a [Watch],
    prints: &'a Fingerprints,
    notes: Notes,
}

impl<'a> Watcher<'a> {
    pub fn new<N, S: Source>(buffers: &[(N, S)], watches: &'a [Watch], prints: &'a Fingerprints) -> Self {
        Self { watches, prints, notes: Notes::new(buffers, watches) }
    }

    /// Whether anything is to be done about a chunk.
    pub fn watches(&self, chunk: Chunk) -> bool {
        self.watches[chunk.buffer] != Watch::Not
    }

    /// Looks at the bytes of a chunk.
    ///
    /// # Errors
    /// They are not what was expected (`Error::Written`).
    pub fn see(&self, name: &str, chunk: Chunk, bytes: &[u8]) -> Result<()> {
        match &self.watches[chunk.buffer] {
            Watch::Not => Ok(()),
            Watch::Note => {
                self.notes.put(chunk, self.prints.of(bytes)?);
                Ok(())
            }
            Watch::Expect(expected) if part(expected, chunk.index) == Some(self.prints.of(bytes)?) => Ok(()),
            Watch::Expect(_) => Err(Error::Written(name.to_owned())),
        }
    }

    /// The fingerprints that were noted, by buffer.
    pub fn finish(self) -> Vec<Vec<u8>> {
        self.notes.finish()
    }
}

/// The fingerprints of buffers as they are now, sixteen bytes a chunk.
pub fn fingerprints<S: Source>(prints: &Fingerprints, sources: &[S], threads: usize) -> Result<Vec<Vec<u8>>> {
    let work = chunks(sources.iter().map(Source::len));
    let notes = Notes(sources.iter().map(|source| room(source.len())).collect());
    let threads = useful_threads(threads, work.iter().map(|chunk| chunk.len).sum());
    let look = |_: &mut [u8], item: usize, _: &mut dyn FnMut() -> Option<usize>| {
        let chunk = work[item];
        notes.put(chunk, sources[chunk.buffer].look(chunk.at, chunk.len, |bytes| prints.of(bytes))?);
        Ok(())
    };
    in_parallel(work.len(), threads, 0, look, || {})?;
    Ok(notes.finish())
}

/// Fingerprints as they come from several threads.
struct Notes(Vec<Mutex<Vec<u8>>>);

impl Notes {
    /// Room for those of the buffers that are watched for it.
    fn new<N, S: Source>(buffers: &[(N, S)], watches: &[Watch]) -> Self {
        let noted = buffers.iter().zip(watches);
        Self(noted.map(|((_, source), watch)| room(if *watch == Watch::Note { source.len() } else { 0 })).collect())
    }

    /// Keeps the fingerprint of a chunk.
    fn put(&self, chunk: Chunk, print: Fingerprint) {
        let at = chunk.index * FINGERPRINT_BYTES;
        let mut prints = self.0[chunk.buffer].lock().unwrap_or_else(PoisonError::into_inner);
        prints[at..at + FINGERPRINT_BYTES].copy_from_slice(&print);
    }

    /// All that were kept, by buffer.
    fn finish(self) -> Vec<Vec<u8>> {
        self.0.into_iter().map(|prints| prints.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

fn room(bytes: usize) -> Mutex<Vec<u8>> {
    Mutex::new(vec![0; bytes.div_ceil(CHUNK_BYTES) * FINGERPRINT_BYTES])
}
