//! What the list of system calls is for: a process under it that makes another one is ended by the kernel.

use pellicle_net::seccomp;

/// Runs `work` under the filter in a process of its own, and tells how that ended: its status (wait(2)).
fn under_the_filter(work: impl Fn()) -> i32 {
    // SAFETY: the child has one thread, allocates at most what the filter's program needs, and leaves by _exit.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "fork");
        if child == 0 {
            // neither a core dump of it nor a child that stays when the test is ended
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if seccomp::install().is_err() {
                libc::_exit(3);
            }
            work();
            libc::_exit(7);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}

#[test]
fn what_the_engine_needs_is_allowed() {
    let status = under_the_filter(|| {
        // SAFETY: plain calls; a read from no descriptor fails, which is as good as any answer.
        unsafe {
            libc::getpid();
            libc::read(-1, std::ptr::null_mut(), 0);
            libc::poll(std::ptr::null_mut(), 0, 0);
        }
    });
    assert!(libc::WIFEXITED(status), "it was ended by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

#[test]
fn a_forbidden_call_ends_the_process() {
    for (name, number) in [
        ("socket", libc::SYS_socket),
        ("connect", libc::SYS_connect),
        ("setsockopt", libc::SYS_setsockopt),
        ("openat", libc::SYS_openat),
        ("ioctl", libc::SYS_ioctl),
        ("clone3", libc::SYS_clone3),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("bpf", libc::SYS_bpf),
    ] {
        let status = under_the_filter(|| {
            // SAFETY: where it is let through, no address and no length make it an error or nothing.
            unsafe { libc::syscall(number, 0, 0, 0, 0, 0) };
        });
        assert!(libc::WIFSIGNALED(status), "{name} was let through: status {status:#x}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGSYS, "{name}");
    }
}
