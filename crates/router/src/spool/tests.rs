use std::future::poll_fn;
use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;

const NOWHERE: Option<&str> = Some("/nonexistent/remuda");

/// Wait for the thread that writes.
fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(poll_fn(poll))
}

/// Push a piece, as one who stores when it is time to.
fn push(spool: &mut Spool, data: &[u8]) -> io::Result<()> {
    spool.push(data);
    if spool.is_full() { wait(|cx| spool.poll_store(cx)) } else { Ok(()) }
}

fn finish(spool: &mut Spool, inline: usize) -> io::Result<Gathered> {
    wait(|cx| spool.poll_finish(cx, inline))
}

fn contents(gathered: Gathered) -> Vec<u8> {
    match gathered {
        Gathered::Memory(bytes) => bytes,
        Gathered::File(file, len) => {
            let mut bytes = Vec::new();
            // From where it stands: at its beginning.
            (&*file).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, len);
            bytes
        }
    }
}

#[test]
fn a_small_body_stays_in_memory() {
    let mut spool = Spool::new(100, NOWHERE);
    push(&mut spool, b"one ").unwrap();
    push(&mut spool, b"two").unwrap();
    assert_eq!(spool.len(), 7);
    assert!(matches!(finish(&mut spool, 7).unwrap(), Gathered::Memory(bytes) if bytes == b"one two"));
}

#[test]
fn a_body_beyond_the_ring_is_a_file_in_memory() {
    for size in [8, PIECE + 1] {
        let mut spool = Spool::new(2 * PIECE, NOWHERE);
        push(&mut spool, &vec![b'x'; size]).unwrap();
        let gathered = finish(&mut spool, 7).unwrap();
        assert!(matches!(gathered, Gathered::File(_, len) if len == size as u64));
        assert!(contents(gathered) == vec![b'x'; size]);
    }
}

#[test]
fn a_body_beyond_the_bound_goes_to_a_file_with_what_came_before() {
    let mut spool = Spool::new(8, None);
    push(&mut spool, b"12345").unwrap();
    assert_eq!(spool.stored, 0);
    push(&mut spool, b"6789").unwrap();
    assert!(spool.stored == 9 && spool.memory.is_empty());
    push(&mut spool, b"0").unwrap();
    assert_eq!(contents(finish(&mut spool, 100).unwrap()), b"1234567890");
}

#[test]
fn what_comes_in_small_pieces_is_written_in_large_ones() {
    let mut spool = Spool::new(0, None);
    let mut writes = 0;
    let total = 4 * PIECE;
    for _ in 0..total {
        spool.push(b"x");
        if spool.is_full() {
            wait(|cx| spool.poll_store(cx)).unwrap();
            writes += 1;
        }
    }
    // The first byte is beyond the bound of zero.
    assert!(writes <= 5, "{writes}");
    assert_eq!(contents(finish(&mut spool, 0).unwrap()).len(), total);
}

#[test]
fn a_bound_of_zero_keeps_nothing_in_memory() {
    let mut spool = Spool::new(0, None);
    push(&mut spool, b"").unwrap();
    push(&mut spool, b"x").unwrap();
    assert_eq!(contents(finish(&mut spool, 100).unwrap()), b"x");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let mut spool = Spool::new(1, NOWHERE);
    push(&mut spool, b"xx").unwrap();
    assert_eq!(finish(&mut spool, 0).unwrap_err().kind(), io::ErrorKind::NotFound);
    let mut spool = Spool::new(1, NOWHERE);
    push(&mut spool, b"xx").unwrap();
    assert_eq!(push(&mut spool, &vec![b'x'; PIECE]).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(ResponseSpool::new(NOWHERE).is_err());
}

#[test]
fn a_temporary_file_has_no_name() {
    let directory = std::env::temp_dir().join(format!("remuda-spool-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let plain = temporary_file(Some(&directory)).unwrap();
    let older = linked_then_unlinked(&directory).unwrap().into();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    for file in [plain, older] {
        (&*file).write_all(b"kept").unwrap();
        let mut back = [0; 4];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"kept");
    }
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn a_file_name_that_is_taken_is_not_touched() {
    let directory = std::env::temp_dir().join(format!("remuda-taken-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let taken = directory.join(format!(".remuda-{}-0", std::process::id()));
    std::fs::write(&taken, b"theirs").unwrap();
    linked_then_unlinked(&directory).unwrap().write_all(b"ours").unwrap();
    assert_eq!(std::fs::read(&taken).unwrap(), b"theirs");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_response_spool_says_where_each_piece_is() {
    let mut spool = ResponseSpool::new(None).unwrap();
    assert_eq!((spool.push(b"one").unwrap(), spool.push(b"two!").unwrap(), spool.len()), (0, 3, 7));
    let mut back = [0; 7];
    spool.file().read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"onetwo!");
}

proptest! {
    #[test]
    fn a_body_comes_out_as_it_went_in(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..12),
        bound in 0..1500_usize, inline in 0..1500_usize,
    ) {
        let mut spool = Spool::new(bound, None);
        for piece in &pieces {
            push(&mut spool, piece).unwrap();
        }
        let whole = pieces.concat();
        prop_assert_eq!(spool.len(), whole.len() as u64);
        let gathered = finish(&mut spool, inline).unwrap();
        if let Gathered::Memory(bytes) = &gathered {
            prop_assert!(bytes.len() <= bound && bytes.len() <= inline);
        }
        prop_assert!(contents(gathered) == whole);
    }
}
