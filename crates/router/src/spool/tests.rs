use std::io::Read;

use proptest::prelude::*;

use super::*;

fn contents(gathered: Gathered) -> Vec<u8> {
    match gathered {
        Gathered::Memory(bytes) => bytes,
        Gathered::File(file, len) => {
            let mut bytes = Vec::new();
            // From where it stands: at its beginning.
            File::from(file).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, len);
            bytes
        }
    }
}

#[test]
fn a_small_body_stays_in_memory() {
    let mut spool = Spool::default();
    spool.push(b"one ", 100, None).unwrap();
    spool.push(b"two", 100, None).unwrap();
    assert_eq!(spool.len(), 7);
    assert!(matches!(spool.finish(7).unwrap(), Gathered::Memory(bytes) if bytes == b"one two"));
}

#[test]
fn a_body_beyond_the_ring_is_a_file_in_memory() {
    let mut spool = Spool::default();
    spool.push(b"12345678", 100, Some("/nonexistent/remuda")).unwrap();
    let gathered = spool.finish(7).unwrap();
    assert!(matches!(gathered, Gathered::File(_, 8)));
    assert_eq!(contents(gathered), b"12345678");
}

#[test]
fn a_body_beyond_the_bound_goes_to_a_file_with_what_came_before() {
    let mut spool = Spool::default();
    spool.push(b"12345", 8, None).unwrap();
    assert!(spool.file.is_none());
    spool.push(b"6789", 8, None).unwrap();
    assert!(spool.file.is_some() && spool.memory.capacity() == 0);
    spool.push(b"0", 8, None).unwrap();
    assert_eq!(contents(spool.finish(100).unwrap()), b"1234567890");
}

#[test]
fn a_bound_of_zero_keeps_nothing_in_memory() {
    let mut spool = Spool::default();
    spool.push(b"", 0, Some("/nonexistent/remuda")).unwrap();
    spool.push(b"x", 0, None).unwrap();
    assert_eq!(contents(spool.finish(100).unwrap()), b"x");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let mut spool = Spool::default();
    let error = spool.push(b"xx", 1, Some("/nonexistent/remuda")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(ResponseSpool::new(Some("/nonexistent/remuda")).is_err());
}

#[test]
fn a_temporary_file_has_no_name() {
    let directory = std::env::temp_dir().join(format!("remuda-spool-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    let plain = temporary_file(Some(path)).unwrap();
    let older = linked_then_unlinked(&directory).unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    for mut file in [plain, older] {
        file.write_all(b"kept").unwrap();
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
        let mut spool = Spool::default();
        for piece in &pieces {
            spool.push(piece, bound, None).unwrap();
        }
        let whole = pieces.concat();
        prop_assert_eq!(spool.len(), whole.len() as u64);
        let gathered = spool.finish(inline).unwrap();
        if let Gathered::Memory(bytes) = &gathered {
            prop_assert!(bytes.len() <= bound && bytes.len() <= inline);
        }
        prop_assert!(contents(gathered) == whole);
    }
}
