//! Each layer alone, in a thread of its own: both hold for one thread when it asks for nothing more.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::{process, thread};

use super::*;

/// What four attempts end with, in a thread that confines itself first.
fn attempts(confine: impl FnOnce() + Send) -> [io::Result<()>; 4] {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = SocketAddr::from_abstract_name(format!("plinius-{:?}", thread::current().id())).unwrap();
    let _listening = UnixListener::bind_addr(&address).unwrap();
    let to = tcp.local_addr().unwrap();
    let folder = std::env::temp_dir().join(format!("plinius-sandbox-{}-{:?}", process::id(), thread::current().id()));
    let _ = fs::remove_dir(&folder);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            confine();
            [
                File::open("/proc/self/status").map(drop),
                fs::create_dir(&folder),
                TcpStream::connect(to).map(drop),
                UnixStream::connect_addr(&address).map(drop),
            ]
        });
        let outcomes = thread.join().unwrap();
        let _ = fs::remove_dir(&folder);
        outcomes
    })
}

fn errors(outcomes: [io::Result<()>; 4]) -> [i32; 4] {
    outcomes.map(|outcome| outcome.err().and_then(|error| error.raw_os_error()).unwrap_or(0))
}

#[test]
fn outside_a_sandbox_the_attempts_are_not_refused() {
    assert_eq!(errors(attempts(|| ())), [0; 4]);
}

#[test]
fn landlock_alone_refuses_them() {
    let mut abi = 0;
    let found = errors(attempts(|| abi = landlock().unwrap()));
    // TCP since version 4, abstract sockets since 6.
    let expected = [
        if abi >= 1 { libc::EACCES } else { 0 },
        if abi >= 1 { libc::EACCES } else { 0 },
        if abi >= 4 { libc::EACCES } else { 0 },
        if abi >= 6 { libc::EPERM } else { 0 },
    ];
    assert_eq!(found, expected, "Landlock {abi}");
}

#[test]
fn seccomp_alone_refuses_them() {
    let found = errors(attempts(|| seccompiler::apply_filter(&calls::allowed().unwrap()).unwrap()));
    assert_eq!(found, [libc::EPERM; 4]);
}
