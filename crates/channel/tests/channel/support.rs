//! What several of the tests need.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use channel::memory::{Layout, Memory};
use channel::ring::{Consumer, Producer, Which};

/// The smallest channel there is.
pub const SMALL: Layout = Layout { slots: 1, requests: 4096, responses: 4096 };

/// Where the words that both sides share lie in the memory file, as `memory` documents it.
pub const REQUESTS_TAIL: usize = 128;
/// See [`REQUESTS_TAIL`].
pub const REQUESTS_HEAD: usize = 192;
/// Where the requests ring of a [`SMALL`] channel begins.
pub const REQUESTS_RING: usize = 8192;

/// Both sides of the requests ring of a new [`SMALL`] channel.
pub fn ring() -> (Producer, Consumer) {
    let (producer, consumer, _) = ring_and_file();
    (producer, consumer)
}

/// As [`ring`], and the memory file.
pub fn ring_and_file() -> (Producer, Consumer, OwnedFd) {
    let file = Memory::create(SMALL).unwrap();
    let open = || Arc::new(Memory::open(file.as_fd()).unwrap());
    let producer = Producer::attach(open(), Which::Requests).unwrap();
    let consumer = Consumer::attach(open(), Which::Requests).unwrap();
    (producer, consumer, file)
}

/// Read the next frame and release it.
pub fn take(consumer: &mut Consumer) -> Option<(u16, Vec<u8>)> {
    let frame = consumer.peek().unwrap()?;
    let mut payload = Vec::new();
    consumer.read(&frame, &mut payload);
    consumer.release(&frame);
    Some((frame.kind, payload))
}

/// A peer that has the memory mapped and keeps to no protocol: it may write any word at any time.
#[derive(Debug)]
pub struct Scribbler {
    base: *mut u8,
    len: usize,
}

// SAFETY: the mapping stays until the drop, and is only touched through atomics.
unsafe impl Send for Scribbler {}
// SAFETY: as above.
unsafe impl Sync for Scribbler {}

impl Scribbler {
    pub fn new(file: &OwnedFd) -> Self {
        let len = std::fs::File::from(file.try_clone().unwrap()).metadata().unwrap().len() as usize;
        // SAFETY: a fresh shared mapping of the whole file, checked below.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: base.cast(), len }
    }

    /// The word at a multiple of 8 bytes.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: inside the mapping and aligned, by the line above.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    pub fn set(&self, offset: usize, word: u64) {
        self.word(offset).store(word, Ordering::SeqCst);
    }

    /// Write a frame's header: its length and kind.
    pub fn set_header(&self, offset: usize, len: u32, kind: u16) {
        let ([l0, l1, l2, l3], [k0, k1]) = (len.to_ne_bytes(), kind.to_ne_bytes());
        self.set(offset, u64::from_ne_bytes([l0, l1, l2, l3, k0, k1, 0, 0]));
    }
}

impl Drop for Scribbler {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, with its length.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

const INHERITED: &str = "REMUDA_CHANNEL_TEST_FDS";

/// Run the test that calls this once more in a process of its own, where `body` runs with the
/// descriptors. Gives the process to the test, and `None` to the test in that process, which
/// has nothing else to do there.
///
/// The process is this very test program, told to run one test: forking a program with threads
/// would leave the child with locks that nobody will ever unlock.
pub fn spawn<const N: usize, F: FnOnce([OwnedFd; N])>(fds: [OwnedFd; N], body: F) -> Option<Process> {
    if let Some(inherited) = std::env::var_os(INHERITED) {
        drop(fds);
        let inherited = inherited.into_string().unwrap();
        let mut numbers = inherited.split_terminator(',').map(|fd| fd.parse().unwrap());
        // SAFETY: the parent left these open for us, and nobody else here knows of them.
        body(std::array::from_fn(|_| unsafe { OwnedFd::from_raw_fd(numbers.next().unwrap()) }));
        return None;
    }
    // A closure's name is that of the test, with the crate in front and itself behind.
    let name = std::any::type_name::<F>();
    let (_, test) = name.split_once("::").unwrap();
    let test = test.strip_suffix("::{{closure}}").unwrap();
    let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let list: String = numbers.iter().map(|fd| format!("{fd},")).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INHERITED, list);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: only fcntl runs between fork and exec, which is safe to call there.
    unsafe {
        command.pre_exec(move || {
            for fd in &numbers {
                if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let process = Process(Some(command.spawn().unwrap()));
    drop(fds);
    Some(process)
}

/// A process of [`spawn`]: it does not outlive the test.
#[derive(Debug)]
pub struct Process(Option<Child>);

impl Process {
    /// Wait for it to end; its failure is the test's.
    pub fn succeed(mut self) {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success() && text(&output.stdout).contains("1 passed"),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL), "it ended by itself before");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = (child.kill(), child.wait());
        }
    }
}
