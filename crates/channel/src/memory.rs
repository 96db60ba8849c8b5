//! The memory file of a channel.
//!
//! ```text
//!   0      magic, slots, the capacities of the rings
//!   64     generation: which router this channel talks to
//!   128    control words of the requests ring
//!   384    control words of the responses ring
//!   4096   one flow word a slot
//!   ...    the requests ring, the responses ring
//! ```
//!
//! The file is sealed against growing and shrinking, so that neither side can turn the other's
//! next access into a SIGBUS. The layout words are read once and checked against the file's size;
//! like all words in the file they are in the machine's own byte order.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use crate::NotMade;
use crate::control::Control;
use crate::ring::{HEADER, Which};
use crate::sync::{AtomicU32, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"remuda01");
const PAGE: usize = 4096;
const GENERATION: usize = 64;
const REQUESTS: usize = 128;
const RESPONSES: usize = 384;

/// The response is buffered as far as may be: the worker waits before it sends more.
pub const PAUSED: u32 = 1;
/// Nobody wants the response any more: the worker stops sending.
pub const CANCELLED: u32 = 2;

/// The most slots that a channel may have.
pub const MAX_SLOTS: usize = 65_536;

/// The sizes of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Requests that the worker may hold at a time, begun or not.
    pub slots: usize,
    /// The capacity of the ring to the worker, in bytes: a power of two.
    pub requests: usize,
    /// The capacity of the ring to the router, in bytes: a power of two.
    pub responses: usize,
}

impl Layout {
    fn check(&self) -> io::Result<()> {
        let ring = |size: usize| size.is_power_of_two() && (PAGE..=1 << 30).contains(&size);
        if self.slots == 0 || self.slots > MAX_SLOTS || !ring(self.requests) || !ring(self.responses) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a channel's sizes are impossible"));
        }
        Ok(())
    }

    fn rings(&self) -> usize {
        PAGE + (self.slots * size_of::<AtomicU32>()).next_multiple_of(PAGE)
    }

    fn size(&self) -> usize {
        self.rings() + self.requests + self.responses
    }
}

/// A channel's memory, mapped.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the mapping is plain shared memory that stays where it is until `Memory` is dropped; all
// words in it that both sides write are atomics, and the rings' bytes are only touched by the side
// that owns them at the time.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself hands out only atomics and raw pointers.
unsafe impl Sync for Memory {}

impl Memory {
    /// Make the memory file of a new channel. Returns its descriptor; both ends map it.
    ///
    /// # Errors
    /// The operating system's, when there is no memory or no descriptor, or no file may be so large.
    pub fn create(layout: Layout) -> Result<OwnedFd, NotMade> {
        layout.check().map_err(NotMade::of("a memfd", 0))?;
        let size = layout.size();
        let file = memory_file().map_err(NotMade::of("memfd_create", size))?;
        // RLIMIT_FSIZE holds for memory files, too.
        file.set_len(size as u64).map_err(NotMade::of("ftruncate of a memfd", size))?;
        seal(&file).map_err(NotMade::of("sealing a memfd", size))?;
        let mapping = Self::map(file.as_fd(), layout).map_err(NotMade::of("mmap of a memfd", size))?;
        let words = [layout.slots as u64, layout.requests as u64, layout.responses as u64];
        for (index, word) in std::iter::once(&MAGIC).chain(&words).enumerate() {
            // SAFETY: the first page of the mapping; nobody else has the file yet.
            unsafe { mapping.base.as_ptr().cast::<u64>().add(index).write(*word) };
        }
        Ok(file.into())
    }

    /// Map the memory file of a channel.
    ///
    /// # Errors
    /// `InvalidData` when the file is not a channel's; the operating system's otherwise.
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        check_seals(fd)?;
        let file = File::from(fd.try_clone_to_owned()?);
        let size = file.metadata()?.len();
        let mut head = [0_u8; 32];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0)?;
        let mut words = head.chunks_exact(8).map(|word| {
            let mut bytes = [0_u8; 8];
            bytes.copy_from_slice(word);
            u64::from_ne_bytes(bytes)
        });
        let mut next = || words.next().and_then(|word| usize::try_from(word).ok()).unwrap_or(0);
        if next() as u64 != MAGIC {
            return Err(invalid("not a channel's memory file"));
        }
        let layout = Layout { slots: next(), requests: next(), responses: next() };
        layout.check()?;
        if layout.size() as u64 != size {
            return Err(invalid("a channel's memory file has the wrong size"));
        }
        Self::map(fd, layout)
    }

    fn map(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, layout })
    }

    /// The channel's sizes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Which router the channel talks to: a new router attaches with a new generation, and what
    /// was asked by an older one is nobody's any more.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.word(GENERATION).load(Ordering::Acquire)
    }

    /// Router: begin a new generation.
    pub fn set_generation(&self, generation: u32) {
        self.word(GENERATION).store(generation, Ordering::Release);
    }

    /// The flow word of a slot: [`PAUSED`] and [`CANCELLED`], set by the router.
    #[must_use]
    pub fn flow(&self, slot: usize) -> Option<&AtomicU32> {
        (slot < self.layout.slots).then(|| self.word(PAGE + slot * size_of::<AtomicU32>()))
    }

    pub(crate) fn capacity(&self, which: Which) -> usize {
        match which {
            Which::Requests => self.layout.requests,
            Which::Responses => self.layout.responses,
        }
    }

    pub(crate) fn control(&self, which: Which) -> &Control {
        let offset = match which {
            Which::Requests => REQUESTS,
            Which::Responses => RESPONSES,
        };
        // SAFETY: the control words lie in the first page, at a multiple of 64, which is their
        // alignment; zeroed memory is a valid `Control`; all of its fields are atomics.
        unsafe { &*self.base.as_ptr().add(offset).cast::<Control>() }
    }

    /// Where a ring's bytes begin. `capacity` bytes from there are mapped.
    pub(crate) fn ring(&self, which: Which) -> *mut u8 {
        let offset = match which {
            Which::Requests => self.layout.rings(),
            Which::Responses => self.layout.rings() + self.layout.requests,
        };
        // SAFETY: both rings lie inside the mapping, by the layout.
        unsafe { self.base.as_ptr().add(offset) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: callers pass multiples of 4 inside the first pages of the mapping.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU32>() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and no reference outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.size()) };
    }
}

const _: () = assert!(REQUESTS + size_of::<Control>() <= RESPONSES);
const _: () = assert!(RESPONSES + size_of::<Control>() <= PAGE && PAGE.is_multiple_of(HEADER));

#[cfg(target_os = "linux")]
fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a C string; the result is checked, and is ours alone.
    unsafe {
        let fd = libc::memfd_create(c"remuda-channel".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(fd))
    }
}

#[cfg(not(target_os = "linux"))]
fn memory_file() -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt;
    let mut template = std::env::temp_dir().join("remuda-channel-XXXXXX").as_os_str().as_bytes().to_vec();
    template.push(0);
    // SAFETY: the template is a writable C string; the result is checked, and is ours alone.
    unsafe {
        let fd = libc::mkstemp(template.as_mut_ptr().cast());
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::unlink(template.as_ptr().cast());
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok(File::from_raw_fd(fd))
    }
}

#[cfg(target_os = "linux")]
const SEALS: i32 = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;

#[cfg(target_os = "linux")]
fn seal(file: &File) -> io::Result<()> {
    // SAFETY: a plain fcntl on a descriptor that we own.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn check_seals(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain fcntl on a descriptor that is open.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 || seals & SEALS != SEALS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a channel's memory file is not sealed"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn seal(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_seals(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}
