//! A generation that the sealing threads of `plinius-mirror` write.

use std::sync::Barrier;
use std::thread;

use plinius_mirror::{BufferName, CHUNK_BYTES, Context, Source, Writing};
use plinius_pm::{Entry, Error};
use plinius_seal::{Cipher, JobKey};

use super::{Done, Shape, Stage, nothing};

/// As little as two threads share.
const CHUNKS: usize = 4;

/// A tensor whose first two chunks are read at the same time, so that each thread has one.
struct Tensor(Barrier);

impl Source for Tensor {
    fn len(&self) -> usize {
        CHUNKS * CHUNK_BYTES
    }

    fn copy_out(&self, at: usize, out: &mut [u8]) {
        if at < 2 * CHUNK_BYTES {
            self.0.wait();
        }
        out.fill(5);
    }
}

/// Seals in a thread that does not commit: its own fence counts too.
fn seal_and_commit(stage: &Stage) -> Done {
    let pool = stage.open()?;
    drop(pool.reserve(&[(CHUNKS * CHUNK_BYTES) as u64])?);
    stage.report(&pool)?;
    let context = Context { purpose: "tensor", job_id: [2; 16], mirror: "m".into(), generation: 1, step: 1 };
    let name = BufferName { name: "weight".into(), dtype: "uint8".into(), shape: Vec::new() };
    let reserved = pool.reserve(&[(CHUNKS * CHUNK_BYTES) as u64])?;
    let extents = reserved.extents();
    let seal = || {
        let key = JobKey::generate(Cipher::Aes128Gcm)?;
        Writing::begin(&key, context)?.seal(pool.region(), &extents, &[(name, Tensor(Barrier::new(2)))], 2)
    };
    thread::scope(|scope| scope.spawn(seal).join()).expect("no panic").map_err(told)?;
    pool.commit(&Entry { name: "m".into(), meta: Vec::new(), block: 0, extents }, reserved)?;
    stage.report(&pool)
}

fn told(error: impl std::fmt::Display) -> Error {
    Error::Misuse(error.to_string())
}

pub const SHAPES: &[Shape] = &[Shape {
    name: "flip what two sealing threads wrote (1 MiB)",
    before: Some(nothing),
    program: seal_and_commit,
    is_large: true,
}];
