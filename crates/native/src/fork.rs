//! Is this the process that an object was made in, or one that was forked from it?
//!
//! A fork copies the memory, and with it every object that acts on the channel of a worker. Each such
//! object keeps how many forks lay behind the process that made it. The C library counts them in
//! each child, before anything else runs there, whoever called fork(2); so the question costs one
//! load. Programs that are started by vfork or posix_spawn get memory of their own, and count nothing.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie behind this process, since counting began.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In the child of a fork, where only what is safe in a signal handler may be done.
extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that an object was made in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(u32);

impl Home {
    /// This process.
    ///
    /// # Errors
    /// The operating system's, when there is no memory to have forks counted.
    pub(crate) fn here() -> io::Result<Self> {
        static COUNTING: OnceLock<i32> = OnceLock::new();
        // SAFETY: the handler touches one atomic, and stays loaded as long as the process lives: an
        // extension module is never unloaded.
        match COUNTING.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(count)) }) {
            0 => Ok(Self(FORKS.load(Ordering::Relaxed))),
            code => Err(io::Error::from_raw_os_error(*code)),
        }
    }

    /// Is this another process, forked from it?
    pub(crate) fn is_left(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Home;

    /// The exit code of a forked child that does this and nothing else.
    fn in_child(code: impl FnOnce() -> i32) -> i32 {
        let mut status = 0;
        // SAFETY: the child calls what is safe after a fork of many threads, and exits.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(code()),
                pid => assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid),
            }
        }
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_fork_leaves_home_for_the_child_alone() {
        let home = Home::here().unwrap();
        assert_eq!(in_child(|| i32::from(home.is_left())), 1);
        assert!(!home.is_left());
    }

    #[test]
    fn what_a_child_makes_is_at_home_there() {
        Home::here().unwrap();
        let both = || match Home::here() {
            Ok(home) => i32::from(!home.is_left()) + 2 * in_child(|| i32::from(home.is_left())),
            Err(_) => 0,
        };
        assert_eq!(in_child(both), 3);
    }
}
