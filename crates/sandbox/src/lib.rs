//! What a process that holds keys can still ask of the kernel: to use what it has, to compute, and to end. No file is
//! opened, no connection made, no program started.
//!
//! Two layers, each of which holds without the other. seccomp(2) allows a list of system calls (`calls`) and refuses all
//! others, in every thread. Landlock takes away all rights to files, TCP ports, abstract sockets and signals, so that a
//! call which slipped through the first layer, or was allowed by mistake, meets a kernel that refuses it for another reason.

#![forbid(unsafe_code)]

mod calls;

use landlock::{ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus, Scope};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

/// The newest Landlock whose rights are known here; a kernel that knows fewer enforces what it knows.
const NEWEST: ABI = ABI::V7;

/// What holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Version of Landlock's interface that the kernel has; 0: it has none, or it is switched off.
    pub landlock_abi: i32,
    /// The filter of system calls holds, in all threads.
    pub seccomp: bool,
}

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Landlock.
    #[error("Landlock failed: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter of system calls.
    #[error("seccomp failed: {0}")]
    Seccomp(#[from] seccompiler::Error),
}

impl From<seccompiler::BackendError> for Error {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Seccomp(error.into())
    }
}

/// Takes away for ever what this process does not need. Landlock holds for the calling thread and those that it starts
/// from now on; so call it while there is one thread. The filter holds for all.
///
/// # Errors
/// A layer that the kernel has failed. One that the kernel has not is told in the result: whether that will do is the
/// caller's to say.
pub fn enter() -> Result<Confinement, Error> {
    let landlock_abi = landlock()?;
    Ok(Confinement { landlock_abi, seccomp: seccomp()? })
}

/// Handles every right, grants none. It also forbids new privileges, without which the kernel takes no filter.
fn landlock() -> Result<i32, Error> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match (restricted.ruleset, restricted.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => kernel_abi.unwrap_or(effective_abi as i32),
        (_, _) => 0,
    })
}

fn seccomp() -> Result<bool, Error> {
    // Installed first, while `seccomp` itself is still allowed. Of two refusals the later filter's counts, and it lets
    // these calls pass.
    for filter in [calls::absent()?, calls::allowed()?] {
        match apply_filter_all_threads(&filter) {
            Err(seccompiler::Error::Seccomp(source)) if source.raw_os_error() == Some(libc::ENOSYS) => {
                return Ok(false);
            }
            outcome => outcome?,
        }
    }
    Ok(true)
}

fn compile(
    rules: impl IntoIterator<Item = (i64, Vec<seccompiler::SeccompRule>)>,
    matching: SeccompAction,
    other: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules.into_iter().collect(), other, matching, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests;
