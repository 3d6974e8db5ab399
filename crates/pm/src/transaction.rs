//! Transactions on a pool: one at a time, several stores, allocations and entries, all of them or none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{ArcMutexGuard, ArcRwLockWriteGuard, RawMutex, RawRwLock, RwLock};

use plinius_medium::{Error, MappedFile, Region, Result};

use crate::alloc::{self, Block, Kind};
use crate::catalog::{Entry, Located, no_block};
use crate::holes::Holes;
use crate::pool::{Pool, View, Writer};
use crate::romulus::Mutation;
use crate::twins::{Half, Heap, Twin};

const ZEROS: [u8; 4096] = [0; 4096];

/// A running transaction. Dropping it without `commit` rolls it back.
///
/// It may move to another thread, and holds up every other writer until it ends. Readers see the committed state.
pub struct Transaction<R: Region = MappedFile> {
    pool: Arc<Pool<R>>,
    writer: ArcMutexGuard<RawMutex, Writer>,
    /// While this is held nobody reads main. `None` once main is whole and durable.
    main: Option<ArcRwLockWriteGuard<RawRwLock, View>>,
    /// What this transaction put into the catalog, and what it removed.
    changes: HashMap<String, Option<Located>>,
    /// Users' blocks that it gave back, and those that it took and has still.
    freed: HashSet<u64>,
    taken: HashSet<u64>,
    /// Whether it took or gave back blocks: the index of free blocks is then true only if it commits.
    rearranged: bool,
}

impl<R: Region> Transaction<R> {
    /// `Pool::transaction` is how one begins.
    pub(crate) fn new(
        pool: Arc<Pool<R>>,
        writer: ArcMutexGuard<RawMutex, Writer>,
        main: ArcRwLockWriteGuard<RawRwLock, View>,
    ) -> Self {
        let (changes, freed, taken) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { pool, writer, main: Some(main), changes, freed, taken, rearranged: false }
    }

    /// The entry of a name, with this transaction's own changes.
    pub fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.located(name).map(|located| located.entry.clone())
    }

    fn located(&self, name: &str) -> Option<&Located> {
        match self.changes.get(name) {
            Some(changed) => changed.as_ref(),
            None => self.main.as_ref()?.index.get(name),
        }
    }

    /// All names, in no particular order.
    pub fn names(&self) -> Vec<String> {
        let committed = self.main.iter().flat_map(|view| view.index.iter()).map(|located| &located.entry.name);
        let committed = committed.filter(|name| !self.changes.contains_key(*name));
        let changed = self.changes.iter().filter(|(_, located)| located.is_some()).map(|(name, _)| name);
        committed.chain(changed).cloned().collect()
    }

    /// Puts an entry without extents, in the place of the one of its name. Freeing the block that the old one named is
    /// the caller's business.
    ///
    /// # Errors
    /// `block` is neither 0 nor a block of a user; or the old entry owns extents (`Error::Misuse`).
    pub fn set(&mut self, name: &str, meta: &[u8], block: u64) -> Result<()> {
        self.refuse_extents(name)?;
        if block != 0 {
            self.block(block)?;
        }
        self.put(Entry { name: name.into(), meta: meta.to_vec(), block, extents: Vec::new() })
    }

    /// Removes the entry of a name and returns it. Freeing the block that it named is the caller's business.
    ///
    /// # Errors
    /// The entry owns extents (`Error::Misuse`).
    pub fn remove(&mut self, name: &str) -> Result<Option<Arc<Entry>>> {
        self.refuse_extents(name)?;
        let Some(Located { holder, entry }) = self.located(name).cloned() else { return Ok(None) };
        self.check_unchanged(holder, &entry)?;
        self.free_block(holder)?;
        self.changes.insert(name.into(), None);
        Ok(Some(entry))
    }

    fn refuse_extents(&self, name: &str) -> Result<()> {
        match self.located(name) {
            Some(located) if !located.entry.extents.is_empty() => {
                Err(Error::Misuse(format!("the entry {name:?} owns extents: it is not changed like this")))
            }
            _ => Ok(()),
        }
    }

    /// Puts any entry; the caller knows that its extents are its own.
    pub(crate) fn put(&mut self, entry: Entry) -> Result<()> {
        let body = entry.encode()?;
        let old = self.located(&entry.name).cloned();
        if let Some(Located { holder, entry }) = &old {
            self.check_unchanged(*holder, entry)?;
        }
        // Before the old one is freed: where there is no room, nothing has happened.
        let holder = self.allocate_block(body.len() as u64, Kind::Entry)?;
        self.fill(holder, &body)?;
        if let Some(Located { holder, .. }) = old {
            self.free_block(holder)?;
        }
        self.changes.insert(entry.name.clone(), Some(Located { holder, entry: Arc::new(entry) }));
        Ok(())
    }

    /// Finds that somebody put another pool, or another state of this one, under us: it must not be made worse.
    fn check_unchanged(&self, holder: Block, entry: &Entry) -> Result<()> {
        let mut found = vec![0; holder.bytes as usize];
        self.heap().load(holder.at, &mut found);
        let same = Entry::parse(&found).is_ok_and(|found| found == *entry);
        if same && alloc::block_at(&self.heap(), holder.at, Kind::Entry).is_ok_and(|block| block == holder) {
            return Ok(());
        }
        self.pool.note(Err(Error::corrupt("its catalog was changed while it was open")))
    }

    /// Takes a block of the heap, all of it zero, and returns where its payload lies.
    ///
    /// # Errors
    /// There is no room, and the pool may not grow (`Error::Full`).
    pub fn allocate(&mut self, bytes: u64) -> Result<u64> {
        let block = self.allocate_block(bytes, Kind::Data)?;
        self.zero(block, 0)?;
        Ok(block.at)
    }

    /// Takes a block of the heap that holds these bytes, and returns where its payload lies.
    ///
    /// # Errors
    /// As `allocate`.
    pub fn create(&mut self, bytes: &[u8]) -> Result<u64> {
        let block = self.allocate_block(bytes.len() as u64, Kind::Data)?;
        self.fill(block, bytes)?;
        Ok(block.at)
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// There is no such block of a user.
    pub fn free(&mut self, block: u64) -> Result<()> {
        let block = self.block(block)?;
        self.free_block(block)?;
        if !self.taken.remove(&block.at) {
            self.freed.insert(block.at);
        }
        Ok(())
    }

    fn allocate_block(&mut self, bytes: u64, kind: Kind) -> Result<Block> {
        let (tx, holes) = self.parts()?;
        let missing = alloc::missing(&tx, holes, bytes);
        let missing = self.pool.note(missing)?;
        if missing > 0 {
            self.writer.heap = self.pool.grow_heap(missing)?;
            let heap_bytes = self.writer.heap.bytes();
            self.writer.log.lines.cover(heap_bytes);
        }
        let (mut tx, holes) = self.parts()?;
        let allocated = alloc::allocate(&mut tx, holes, bytes, kind);
        let block = self.pool.note(allocated)?;
        if kind == Kind::Data {
            self.taken.insert(block.at);
        }
        Ok(block)
    }

    fn free_block(&mut self, block: Block) -> Result<()> {
        let (mut tx, holes) = self.parts()?;
        let freed = alloc::free(&mut tx, holes, block);
        self.pool.note(freed)
    }

    /// What the allocator works on.
    fn parts(&mut self) -> Result<(Mutation<'_, R>, &mut Holes)> {
        self.pool.check_owner()?;
        if self.writer.holes.is_none() {
            self.writer.holes = Some(alloc::scan(&self.heap())?.holes);
        }
        self.rearranged = true;
        let Writer { heap, log, holes, .. } = &mut *self.writer;
        Ok((Mutation { region: &self.pool.region, map: heap, log }, holes.get_or_insert_default()))
    }

    fn fill(&mut self, block: Block, bytes: &[u8]) -> Result<()> {
        self.store(block, 0, bytes)?;
        self.zero(block, bytes.len() as u64)
    }

    /// Zeros a block from `at` on: what lay there before is nobody's business.
    fn zero(&mut self, block: Block, at: u64) -> Result<()> {
        let mut at = at;
        while at < block.bytes {
            let part = (block.bytes - at).min(ZEROS.len() as u64);
            self.store(block, at, &ZEROS[..part as usize])?;
            at += part;
        }
        Ok(())
    }

    /// The block of a user whose payload begins at `at`, for `load` and `store` until it is freed.
    ///
    /// # Errors
    /// There is no such block (`Error::Corrupt`: its place comes from the pool).
    pub fn block(&self, at: u64) -> Result<Block> {
        let found = self.check_block(at).and_then(|()| alloc::block_at(&self.heap(), at, Kind::Data));
        self.pool.note(found)
    }

    fn check_block(&self, at: u64) -> Result<()> {
        match &self.main {
            _ if self.taken.contains(&at) => Ok(()),
            Some(main) if !self.freed.contains(&at) => main.index.check_block(at),
            _ => Err(no_block(at)),
        }
    }

    /// Copies bytes of a block, starting `at` bytes into it, with this transaction's own changes.
    ///
    /// # Errors
    /// The range is not inside the block (`Error::Misuse`).
    #[inline]
    pub fn load(&self, block: Block, at: u64, out: &mut [u8]) -> Result<()> {
        let place = block.place(at, out.len(), self.writer.heap.bytes())?;
        self.heap().load(place, out);
        self.pool.region.check_whole()
    }

    /// Stores bytes into a block, interposed, starting `at` bytes into it.
    ///
    /// # Errors
    /// The range is not inside the block (`Error::Misuse`); the medium failed (`Error::Io`).
    #[inline]
    pub fn store(&mut self, block: Block, at: u64, bytes: &[u8]) -> Result<()> {
        self.pool.check_owner()?;
        let place = block.place(at, bytes.len(), self.writer.heap.bytes())?;
        let stored = self.mutation().store(place, bytes);
        self.pool.note(stored)
    }

    /// Reads one little-endian word of a block.
    ///
    /// # Errors
    /// As `load`.
    #[inline]
    pub fn load_word(&self, block: Block, at: u64) -> Result<u64> {
        let word = self.heap().word(block.place(at, 8, self.writer.heap.bytes())?);
        self.pool.region.check_whole().map(|()| word)
    }

    /// Stores one little-endian word into a block.
    ///
    /// # Errors
    /// As `store`.
    #[inline]
    pub fn store_word(&mut self, block: Block, at: u64, word: u64) -> Result<()> {
        self.store(block, at, &word.to_le_bytes())
    }

    /// Makes everything that was stored durable, and visible to readers.
    ///
    /// # Errors
    /// The medium failed: nobody knows what is durable, and the pool must be closed and opened again. Or what would be
    /// committed is no whole catalog (`Error::Misuse`), and is rolled back.
    pub fn commit(mut self) -> Result<()> {
        self.pool.check_usable()?;
        self.check_names()?;
        if !self.writer.log.has_begun() {
            return Ok(());
        }
        self.pool.sealed_off(self.pool.check_session())?;
        let durable = self.mutation().make_durable();
        self.pool.sealed_off(durable)?;
        self.writer.commits = self.writer.commits.wrapping_add(1);
        if let Some(mut main) = self.main.take() {
            self.publish(&mut main);
        }
        // From here on new readers read main, and this waits for those that still read back.
        let mut back = RwLock::write_arc(&self.pool.back);
        let copied = self.mutation().copy_to_back();
        self.pool.sealed_off(copied)?;
        self.publish(&mut back);
        self.rearranged = false;
        Ok(())
    }

    /// Every entry names a block of its own, or none.
    fn check_names(&self) -> Result<()> {
        let Some(main) = &self.main else { return Ok(()) };
        let unchanged_owner = |block| main.index.owner(block).filter(|owner| !self.changes.contains_key(*owner));
        let mut named = HashSet::new();
        for located in self.changes.values().flatten().filter(|located| located.entry.block != 0) {
            let (name, block) = (&located.entry.name, located.entry.block);
            if self.block(block).is_err() {
                return Err(Error::Misuse(format!("the entry {name:?} names a block that was freed")));
            }
            if !named.insert(block) || unchanged_owner(block).is_some() {
                return Err(Error::Misuse(format!("the entry {name:?} names a block that another one names")));
            }
        }
        match self.freed.iter().find_map(|block| unchanged_owner(*block)) {
            None => Ok(()),
            Some(owner) => Err(Error::Misuse(format!("the block that the entry {owner:?} names was freed"))),
        }
    }

    /// Lets the readers of a copy see what was committed.
    fn publish(&self, view: &mut View) {
        if !Arc::ptr_eq(&view.heap, &self.writer.heap) {
            view.heap = self.writer.heap.clone();
        }
        for (name, located) in &self.changes {
            match located {
                Some(located) => view.index.insert(located.clone()),
                None => view.index.remove(name),
            }
        }
        view.index.change_blocks(&self.freed, &self.taken);
    }

    #[inline]
    fn mutation(&mut self) -> Mutation<'_, R> {
        let Writer { heap, log, .. } = &mut *self.writer;
        Mutation { region: &self.pool.region, map: heap, log }
    }

    #[inline]
    fn heap(&self) -> Half<'_, R> {
        Half { region: &self.pool.region, map: &self.writer.heap, twin: Twin::Main }
    }
}

impl<R: Region> Drop for Transaction<R> {
    fn drop(&mut self) {
        // A forked child inherits a copy of this: what it stands for is the parent's.
        if self.pool.check_owner().is_ok() && self.writer.log.has_begun() {
            // If somebody else has opened the pool, its recovery has undone this, and what is there now is not ours. A
            // medium that fails here leaves `Mutating`, from which the next open recovers.
            let rolled_back = self.pool.check_session().and_then(|()| self.mutation().roll_back());
            let _ = self.pool.sealed_off(rolled_back);
        }
        if self.rearranged {
            self.writer.holes = None;
        }
        self.pool.writing_thread.store(0, Ordering::Relaxed);
    }
}
