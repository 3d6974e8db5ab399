//! Where programs run and are recorded.

use std::cell::RefCell;

use plinius_pm::{Error, Pool};

use crate::explorer::{Recording, Subject};
use crate::pool::{Contents, OPTIONS, PoolSubject, Recorded};
use crate::record::{Fault, Recorder};

/// What a step returns.
pub type Done = Result<(), Error>;

/// A region that records, and what the pool in it held each time that something was done.
pub struct Stage {
    region: Recorder,
    states: RefCell<Vec<Contents>>,
}

impl Stage {
    /// Opens the pool.
    pub fn open(&self) -> Result<Recorded, Error> {
        Pool::over(self.region.clone(), OPTIONS)
    }

    /// Reports that what was done until now is done. No transaction runs, and nothing is reserved: who opens the pool
    /// after a kill at this moment finds what its users see now.
    pub fn report(&self, pool: &Recorded) -> Done {
        let seen = PoolSubject.contents(pool).map_err(Error::Misuse)?;
        let left = contents_of(self.region.bytes()).map_err(Error::Misuse)?;
        if seen != left {
            return Err(Error::Misuse(format!("a killed process leaves {left:?}, and not {seen:?}")));
        }
        self.states.borrow_mut().push(left);
        self.region.mark();
        Ok(())
    }
}

/// Runs a program over a file and records it.
pub fn run(
    start: Vec<u8>,
    fault: Option<Fault>,
    program: impl FnOnce(&Stage) -> Done,
) -> Result<Recording<Contents>, String> {
    let states = RefCell::new(vec![contents_of(start.clone())?]);
    let stage = Stage { region: Recorder::holding(start.clone()).with_fault(fault), states };
    program(&stage).map_err(|error| error.to_string())?;
    Ok(Recording { start, states: stage.states.into_inner(), log: stage.region.take() })
}

/// The file of a new pool to which something was done.
pub fn pool_after(before: impl FnOnce(&Recorded) -> Done) -> Result<Vec<u8>, Error> {
    let region = Recorder::holding(Vec::new());
    before(&Pool::over(region.clone(), OPTIONS)?)?;
    Ok(region.bytes())
}

fn contents_of(file: Vec<u8>) -> Result<Contents, String> {
    let pool = PoolSubject.open(Recorder::holding(file))?;
    PoolSubject.contents(&pool)
}
