//! The shapes of what a program does with a pool, each small enough to try every image that a crash may leave.

mod creation;
mod heap;
mod mirror;
mod space;
mod threads;

use plinius_pm::Transaction;

use crate::explorer::Recording;
use crate::medium::Kind;
use crate::plan::{Plan, Width};
use crate::pool::{Contents, Recorded};
use crate::record::{Fault, Recorder};
use crate::stage::{Done, Stage, pool_after, run};

/// Something that a program does.
pub struct Shape {
    /// What.
    pub name: &'static str,
    /// What there was before, which is not crashed; `None`: an empty file.
    before: Option<fn(&Recorded) -> Done>,
    /// The program.
    program: fn(&Stage) -> Done,
    /// It leaves too many images to try them all.
    pub is_large: bool,
}

impl Shape {
    /// How far it is explored.
    pub fn plan(&self, kind: Kind) -> Plan {
        let sampled = Width { all: 32, samples: 16 };
        let all = Plan::exhaustive(kind);
        if self.is_large { Plan { program: sampled, recovery: sampled, go_on_from: 1, ..all } } else { all }
    }

    /// Runs the program.
    pub fn record(&self, fault: Option<Fault>) -> Result<Recording<Contents>, String> {
        let start = self.before.map_or(Ok(Vec::new()), pool_after);
        run(start.map_err(|error| error.to_string())?, fault, self.program)
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Shape> {
    heap::SHAPES.iter().chain(space::SHAPES).chain(threads::SHAPES).chain(mirror::SHAPES).chain(creation::SHAPES)
}

fn nothing(_pool: &Recorded) -> Done {
    Ok(())
}

/// An entry that names a block of `bytes`, every byte of it `fill`.
fn put(pool: &Recorded, name: &str, bytes: usize, fill: u8) -> Done {
    let mut tx = pool.transaction()?;
    let block = tx.create(&vec![fill; bytes])?;
    tx.set(name, &[fill], block)?;
    tx.commit()
}

/// Two entries, each with a block.
fn a_and_b(pool: &Recorded) -> Done {
    put(pool, "a", 208, 1)?;
    put(pool, "b", 48, 2)
}

/// The block that an entry names.
fn block_of(pool: &Recorded, name: &str) -> u64 {
    pool.entry(name).map_or(0, |entry| entry.block)
}

/// Stores words into the block of an entry.
fn store(tx: &mut Transaction<Recorder>, block: u64, words: &[(u64, u64)]) -> Done {
    let block = tx.block(block)?;
    words.iter().try_for_each(|(at, word)| tx.store_word(block, *at, *word))
}

/// The same in one transaction.
fn update(pool: &Recorded, name: &str, words: &[(u64, u64)]) -> Done {
    let mut tx = pool.transaction()?;
    store(&mut tx, block_of(pool, name), words)?;
    tx.commit()
}
