//! Any bytes as a chunked body, in any pieces: no panic, progress at each step, and the same data,
//! trailers and verdict as for the whole. The first byte of the input says how the rest is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{BodyReader, Framing, Limits, Reject};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The data, then the trailers and where the body ends, if it does, or why it is refused.
fn read(bytes: &[u8], stride: usize) -> (Vec<u8>, Result<Option<(Pairs, usize)>, Reject>) {
    // Small enough to be reached.
    let limits =
        Limits { field_size: 50, chunk_extension: 20, trailers: 100, trailer_fields: 4, ..Limits::default() };
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut at, mut end, mut data) = (0, 0, Vec::new());
    loop {
        if at == end {
            if end == bytes.len() {
                return (data, Ok(None));
            }
            end = end.saturating_add(stride).min(bytes.len());
        }
        let input = &bytes[at..end];
        let step = match reader.read(input, &limits) {
            Ok(step) => step,
            Err(reject) => return (data, Err(reject)),
        };
        assert!(step.consumed > 0 && step.consumed <= input.len());
        assert!(step.data.end <= step.consumed);
        data.extend_from_slice(&input[step.data]);
        at += step.consumed;
        if step.done {
            let trailers = reader.trailers().into_iter().flatten();
            let trailers = trailers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            return (data, Ok(Some((trailers, at))));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&stride, bytes)) = input.split_first() else {
        return;
    };
    let whole = read(bytes, usize::MAX);
    let pieces = read(bytes, usize::from(stride % 16) + 1);
    assert_eq!(pieces, whole);
});
