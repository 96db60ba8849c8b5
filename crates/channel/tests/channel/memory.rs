//! The memory file.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use channel::memory::{Layout, MAX_SLOTS, Memory, PAUSED};

use crate::support::SMALL;

#[test]
fn both_ends_see_the_same_words() {
    let file = Memory::create(Layout { slots: 3, ..SMALL }).unwrap();
    let (one, other) = (Memory::open(file.as_fd()).unwrap(), Memory::open(file.as_fd()).unwrap());
    assert_eq!((one.generation(), one.layout()), (0, Layout { slots: 3, ..SMALL }));
    one.set_generation(7);
    assert_eq!(other.generation(), 7);
    one.flow(2).unwrap().store(PAUSED, Ordering::SeqCst);
    assert_eq!(other.flow(2).unwrap().load(Ordering::SeqCst), PAUSED);
    assert_eq!(other.flow(1).unwrap().load(Ordering::SeqCst), 0);
    assert!(one.flow(3).is_none());
}

#[test]
fn every_slot_of_the_largest_channel_has_a_flow_word() {
    let file = Memory::create(Layout { slots: MAX_SLOTS, ..SMALL }).unwrap();
    let memory = Memory::open(file.as_fd()).unwrap();
    for slot in 0..MAX_SLOTS {
        memory.flow(slot).unwrap().store(slot as u32, Ordering::Relaxed);
    }
    assert_eq!(memory.flow(MAX_SLOTS - 1).unwrap().load(Ordering::Relaxed), MAX_SLOTS as u32 - 1);
}

#[test]
fn sizes_that_make_no_channel_are_refused() {
    for layout in [
        Layout { slots: 0, ..SMALL },
        Layout { slots: MAX_SLOTS + 1, ..SMALL },
        Layout { requests: 2048, ..SMALL },
        Layout { responses: 4096 + 16, ..SMALL },
        Layout { responses: 1 << 31, ..SMALL },
        Layout { requests: usize::MAX, ..SMALL },
    ] {
        assert!(Memory::create(layout).is_err(), "{layout:?}");
    }
}

#[test]
fn a_channels_file_neither_shrinks_nor_grows() {
    let file = File::from(Memory::create(SMALL).unwrap());
    assert!(file.set_len(0).is_err());
    assert!(file.set_len(1 << 20).is_err());
}

fn memfd() -> OwnedFd {
    // SAFETY: a fresh descriptor, checked.
    unsafe {
        let fd = libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn a_file_that_could_still_shrink_is_refused() {
    let file = File::from(memfd());
    let mut bytes = vec![0; 4096 * 2 + 8192];
    let original = File::from(Memory::create(SMALL).unwrap());
    original.read_exact_at(&mut bytes, 0).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    let error = Memory::open(file.as_fd()).unwrap_err();
    assert!(error.to_string().contains("not sealed"), "{error}");
}

#[test]
fn layout_words_that_were_written_over_are_refused() {
    for (offset, word) in [(0, 0_u64), (8, 0), (8, u64::MAX), (16, 8192), (24, 4095), (24, 1 << 40)] {
        let file = File::from(Memory::create(SMALL).unwrap());
        file.write_all_at(&word.to_ne_bytes(), offset).unwrap();
        assert!(Memory::open(file.as_fd()).is_err(), "{word} at {offset}");
    }
}
