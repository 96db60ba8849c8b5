//! Keeping the memory of ended greenlets for the next ones.
//!
//! Since Python 3.11 the frames of each greenlet live in a chunk of memory of its own, which CPython
//! takes from its arena allocator: an mmap, the faults of its first pages and a munmap for each
//! greenlet, which together cost several times as much as all else that a short request costs.
//! Here those chunks are kept, so that the next greenlet gets one that is there.

use std::ffi::c_void;
use std::sync::{Mutex, OnceLock};

use pyo3::ffi;
use pyo3::prelude::*;

/// What CPython asks for, as long as frames are of ordinary size (DATA_STACK_CHUNK_SIZE).
const CHUNK: usize = 16 << 10;
/// How many chunks are kept at most: 4 MiB.
const KEPT: usize = 256;

/// What CPython had before.
struct Before(ffi::PyObjectArenaAllocator);

// SAFETY: function pointers and a context that CPython calls from any thread.
unsafe impl Send for Before {}
// SAFETY: as above; nothing is changed through a reference.
unsafe impl Sync for Before {}

static BEFORE: OnceLock<Before> = OnceLock::new();
/// The addresses of chunks that nobody uses. CPython allocates with the GIL held, so that the lock
/// is free; whoever finds it taken all the same goes on without.
static CHUNKS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Keep the memory of greenlets that have ended, for the rest of this process's life.
#[pyfunction]
pub fn keep_stacks(_py: Python<'_>) {
    if BEFORE.get().is_some() {
        return;
    }
    let mut before = ffi::PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: None, free: None };
    // SAFETY: the GIL is held, and the struct is ours to be filled.
    unsafe { ffi::PyObject_GetArenaAllocator(&raw mut before) };
    if before.alloc.is_none() || before.free.is_none() || BEFORE.set(Before(before)).is_err() {
        return;
    }
    if let Ok(mut chunks) = CHUNKS.lock() {
        // Never grown later: allocating must not allocate.
        chunks.reserve_exact(KEPT);
    }
    let mut ours =
        ffi::PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: Some(allocate), free: Some(release) };
    // SAFETY: the GIL is held. The functions give and take memory of the allocator before them, so
    // that what was allocated before may be freed by ours.
    unsafe { ffi::PyObject_SetArenaAllocator(&raw mut ours) };
}

extern "C" fn allocate(_ctx: *mut c_void, size: usize) -> *mut c_void {
    if size == CHUNK
        && let Ok(mut chunks) = CHUNKS.try_lock()
        && let Some(chunk) = chunks.pop()
    {
        return chunk as *mut c_void;
    }
    match BEFORE.get() {
        Some(Before(before)) => before.alloc.map_or(std::ptr::null_mut(), |alloc| alloc(before.ctx, size)),
        None => std::ptr::null_mut(),
    }
}

extern "C" fn release(_ctx: *mut c_void, chunk: *mut c_void, size: usize) {
    if size == CHUNK
        && let Ok(mut chunks) = CHUNKS.try_lock()
        && chunks.len() < KEPT
    {
        chunks.push(chunk as usize);
        return;
    }
    if let Some(Before(before)) = BEFORE.get()
        && let Some(free) = before.free
    {
        free(before.ctx, chunk, size);
    }
}
