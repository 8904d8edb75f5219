//! A machine that lacks something: what a supervisor asks its kernel for is refused (seccomp(2)), before it is started.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call by number and two of its arguments; what matches is answered by an error.
pub struct Refused {
    call: i64,
    second: u32,
    third: Third,
    error: i32,
}

enum Third {
    Is(u32),
    /// Any of these bits.
    Has(u32),
}

const TUNSETOFFLOAD: u32 = 0x4004_54d0;

fn option(level: i32, name: i32, error: i32) -> Refused {
    Refused { call: libc::SYS_setsockopt, second: level as u32, third: Third::Is(name as u32), error }
}

/// No UDP_SEGMENT: before Linux 4.18.
pub fn segment() -> Refused {
    option(libc::SOL_UDP, libc::UDP_SEGMENT, libc::ENOPROTOOPT)
}

/// No UDP_GRO: before Linux 5.0.
pub fn gro() -> Refused {
    option(libc::SOL_UDP, libc::UDP_GRO, libc::ENOPROTOOPT)
}

/// No more buffer than `net.core.rmem_max` and `wmem_max`.
pub fn buffers() -> [Refused; 2] {
    [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE].map(|name| option(libc::SOL_SOCKET, name, libc::EPERM))
}

/// No UDP super packets by TUN: before Linux 6.2.
pub fn uso() -> Refused {
    offload(0x60)
}

/// No super packets by TUN at all.
pub fn tso() -> Refused {
    offload(0x7f)
}

fn offload(bits: u32) -> Refused {
    Refused { call: libc::SYS_ioctl, second: TUNSETOFFLOAD, third: Third::Has(bits), error: libc::EINVAL }
}

/// For the program that `command` starts, and all that it starts.
pub fn refuse(command: &mut Command, refused: &[Refused]) {
    if refused.is_empty() {
        return;
    }
    let mut program = filter(refused);
    // SAFETY: between fork and exec a system call is made, nothing else.
    unsafe { command.pre_exec(move || install(&mut program)) };
}

fn filter(refused: &[Refused]) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    // offsets in struct seccomp_data, of arguments their low half
    const NUMBER: u32 = 0;
    const SECOND: u32 = 24;
    const THIRD: u32 = 32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for one in refused {
        let (code, value) = match one.third {
            Third::Is(value) => (EQUAL, value),
            Third::Has(bits) => (SET, bits),
        };
        program.extend([
            step(LOAD, 0, 0, NUMBER),
            step(EQUAL, 0, 5, one.call as u32),
            step(LOAD, 0, 0, SECOND),
            step(EQUAL, 0, 3, one.second),
            step(LOAD, 0, 0, THIRD),
            step(code, 0, 1, value),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | one.error as u32),
        ]);
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

fn install(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` describes `program`, which the kernel copies.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
