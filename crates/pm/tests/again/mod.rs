//! Runs one ignored test of this program in a process of its own, where it may fork, die, or change signal handlers.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Tells the test in the other process where its files are.
const PLACE: &str = "PLINIUS_TEST_PLACE";

/// The command that runs the test `name` in `place`, which it finds with `place()`.
pub fn command(name: &str, place: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", name]).env(PLACE, place);
    command
}

/// Runs it and returns what it was told; it must end well.
#[allow(dead_code, reason = "each test crate uses its own part")]
pub fn run(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{command:?} ran no test: {said}");
    output
}

/// Where the files are; for the test in the other process.
pub fn place() -> std::path::PathBuf {
    std::env::var_os(PLACE).expect("this test runs in a process that another test starts").into()
}

/// Forks, runs something in the child, and returns its wait status; only in a process of one's own, which has one thread
/// that does anything.
#[allow(dead_code, reason = "each test crate uses its own part")]
pub fn in_child(run: impl FnOnce() -> bool) -> i32 {
    // SAFETY: no other thread holds a lock that the child needs; it ends without unwinding.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(false);
            libc::_exit(if good { 0 } else { 1 });
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    }
}
