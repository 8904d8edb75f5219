//! A process that is started again whenever it ends: at once, or after a pause that grows to 1 s when it ended within 5 s.

use super::signals::Signals;
use pellicle_net::privilege;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
pub struct Child {
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    started: u64,
    pause: u64,
    /// When to start it next; none: not now.
    pub due: Option<u64>,
}

impl Child {
    pub fn due_at(time: u64) -> Child {
        Child { due: Some(time), ..Child::default() }
    }

    /// Starts `command` so that it ends with us. `prepare` runs in the child, and may do only what is safe after fork.
    pub fn start(
        &mut self,
        mut command: Command,
        now: u64,
        prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<()> {
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                Signals::unblock();
                privilege::die_with_parent(libc::SIGKILL);
                prepare()
            });
        }
        self.due = None;
        self.started = now;
        self.pid = Some(command.spawn()?.id() as i32);
        Ok(())
    }

    /// It ended (or could not be started): it is due again.
    pub fn ended(&mut self, now: u64) {
        self.pid = None;
        self.restarts += 1;
        self.pause = if now.saturating_sub(self.started) >= 5 * SECOND {
            0
        } else {
            (self.pause * 2).clamp(SECOND / 64, SECOND)
        };
        // the first end in a while costs no pause
        let pause = if self.pause <= SECOND / 64 { 0 } else { self.pause };
        self.due = Some(now + pause);
    }

    pub fn signal(&self, signal: i32) {
        if let Some(pid) = self.pid {
            // SAFETY: plain numbers; the child is not reaped yet, so the number is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits until it is gone, at most `milliseconds`, then kills it.
    pub fn finish(&mut self, milliseconds: u32) {
        let Some(pid) = self.pid.take() else { return };
        self.due = None;
        for step in 0..=milliseconds {
            // SAFETY: no status is asked for.
            if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
                return;
            }
            if step == milliseconds {
                // SAFETY: as above, and the child is not reaped yet.
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, std::ptr::null_mut(), 0);
                }
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second() {
        let mut child = Child::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            child.started = 0;
            child.ended(0);
            pauses.push(child.due.unwrap_or(0) / 1_000_000);
        }
        assert_eq!(pauses, [0, 31, 62, 125, 250, 500, 1000, 1000, 1000, 1000]);
        child.ended(6 * SECOND);
        assert_eq!(child.due, Some(6 * SECOND));
    }
}
