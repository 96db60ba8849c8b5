//! What is encoded is what is decoded, and whatever else is decoded is refused without a panic.

use channel::message::{
    Body, Cancel, Credit, FieldsWriter, FileBody, Head, Payload, Ready, Reason, Request, RequestLine,
    Section, TooLong,
};
use proptest::prelude::*;

type OwnedFields = Vec<(Vec<u8>, Vec<u8>)>;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn fields() -> impl Strategy<Value = OwnedFields> {
    proptest::collection::vec((bytes(20), bytes(40)), 0..12)
}

fn put_fields(out: &mut Vec<u8>, fields: &OwnedFields) {
    let mut writer = FieldsWriter::new(out);
    for (name, value) in fields {
        writer.push(name, value).unwrap();
    }
    writer.finish().unwrap();
}

fn owned(fields: &channel::message::Fields<'_>) -> OwnedFields {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

#[derive(Debug, Clone)]
struct Line {
    numbers: (u8, bool, u16, u16, Option<u64>),
    texts: [Vec<u8>; 7],
}

impl Line {
    fn borrow(&self) -> RequestLine<'_> {
        let (version, https, peer_port, server_port, content_length) = self.numbers;
        let [method, target, path, query, script_name, peer, server] = &self.texts;
        RequestLine {
            version,
            https,
            method,
            target,
            path,
            query,
            script_name,
            peer,
            peer_port,
            server,
            server_port,
            content_length,
        }
    }

    fn own(line: &RequestLine<'_>) -> Self {
        Self {
            numbers: (line.version, line.https, line.peer_port, line.server_port, line.content_length),
            texts: [
                line.method,
                line.target,
                line.path,
                line.query,
                line.script_name,
                line.peer,
                line.server,
            ]
            .map(<[u8]>::to_vec),
        }
    }
}

fn line() -> impl Strategy<Value = Line> {
    let length = prop_oneof![Just(None), any::<u64>().prop_map(Some), Just(Some(u64::MAX)), Just(Some(0))];
    let numbers = (any::<u8>(), any::<bool>(), any::<u16>(), any::<u16>(), length);
    let texts = std::array::from_fn::<_, 7, _>(|_| bytes(30));
    // As a rule path and query are parts of the target.
    (numbers, texts, any::<bool>()).prop_map(|(numbers, mut texts, whole)| {
        if whole {
            texts[1] = [&texts[2][..], b"?", &texts[3]].concat();
        }
        Line { numbers, texts }
    })
}

#[derive(Debug, Clone)]
enum OwnedPayload {
    Inline(Vec<u8>),
    Descriptor(u64),
    Stream,
}

fn payload() -> impl Strategy<Value = OwnedPayload> {
    prop_oneof![
        bytes(60).prop_map(OwnedPayload::Inline),
        any::<u64>().prop_map(OwnedPayload::Descriptor),
        Just(OwnedPayload::Stream),
    ]
}

fn encode_request(id: u64, line: &Line, fields: &OwnedFields, payload: &OwnedPayload) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    Request::start(&mut out, &line.borrow()).unwrap();
    put_fields(&mut out, fields);
    Request::set_id(&mut out, id);
    match payload {
        OwnedPayload::Inline(body) => {
            Request::set_payload(&mut out, &Payload::Inline(&[]));
            out.extend_from_slice(body);
        }
        OwnedPayload::Descriptor(len) => Request::set_payload(&mut out, &Payload::Descriptor(*len)),
        OwnedPayload::Stream => Request::set_payload(&mut out, &Payload::Stream),
    }
    out
}

fn encode_head(
    id: u64,
    status: u16,
    reason: &[u8],
    fields: &OwnedFields,
    flags: u16,
    elapsed: u32,
) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    Head::start(&mut out, id, status, reason).unwrap();
    put_fields(&mut out, fields);
    Head::set_flags(&mut out, flags, elapsed);
    out
}

/// Decode as everything there is; walk through what comes out.
fn decode_as_all(message: &[u8]) {
    if let Ok(request) = Request::decode(message) {
        assert_eq!(request.fields.iter().count(), request.fields.len());
    }
    if let Ok(head) = Head::decode(message) {
        assert_eq!(head.fields.iter().count(), head.fields.len());
    }
    if let Ok(section) = Section::decode(message) {
        assert_eq!(section.fields.iter().count(), section.fields.len());
    }
    let _ = (Body::decode(message), FileBody::decode(message), Ready::decode(message));
    let _ = (Credit::decode(message), Cancel::decode(message));
}

proptest! {
    #[test]
    fn a_request_comes_back_as_it_was(
        id in any::<u64>(), line in line(), fields in fields(), payload in payload(),
    ) {
        let message = encode_request(id, &line, &fields, &payload);
        let request = Request::decode(&message).unwrap();
        prop_assert_eq!(request.id, id);
        let back = Line::own(&request.line);
        prop_assert_eq!(back.numbers, line.numbers);
        prop_assert_eq!(back.texts, line.texts);
        prop_assert_eq!(owned(&request.fields), fields);
        match (request.payload, payload) {
            (Payload::Inline(back), OwnedPayload::Inline(body)) => prop_assert_eq!(back, body),
            (Payload::Descriptor(back), OwnedPayload::Descriptor(len)) => prop_assert_eq!(back, len),
            (Payload::Stream, OwnedPayload::Stream) => {}
            (back, payload) => prop_assert!(false, "{:?} became {:?}", payload, back),
        }
    }

    #[test]
    fn a_request_that_ends_too_early_is_a_violation(
        line in line(), fields in fields(), cut in any::<prop::sample::Index>(),
    ) {
        let message = encode_request(1, &line, &fields, &OwnedPayload::Stream);
        let cut = cut.index(message.len());
        prop_assert!(Request::decode(&message[..cut]).is_err());
        decode_as_all(&message[..cut]);
    }

    #[test]
    fn a_head_comes_back_as_it_was(
        id in any::<u64>(), status in any::<u16>(), reason in bytes(30), fields in fields(),
        flags in any::<u16>(), elapsed in any::<u32>(), data in bytes(60),
    ) {
        let mut message = encode_head(id, status, &reason, &fields, flags, elapsed);
        message.extend_from_slice(&data);
        let head = Head::decode(&message).unwrap();
        prop_assert_eq!((head.id, head.status, head.flags, head.elapsed), (id, status, flags, elapsed));
        prop_assert_eq!((head.reason, head.data), (&reason[..], &data[..]));
        prop_assert_eq!(owned(&head.fields), fields);
    }

    #[test]
    fn a_head_that_ends_too_early_is_a_violation(
        reason in bytes(30), fields in fields(), cut in any::<prop::sample::Index>(),
    ) {
        let message = encode_head(1, 200, &reason, &fields, 0, 0);
        let cut = cut.index(message.len());
        prop_assert!(Head::decode(&message[..cut]).is_err());
        decode_as_all(&message[..cut]);
    }

    #[test]
    fn a_section_comes_back_as_it_was_and_nothing_else(
        id in any::<u64>(), status in any::<u16>(), fields in fields(), cut in any::<prop::sample::Index>(),
    ) {
        let mut message = b"left over".to_vec();
        Section::start(&mut message, id, status);
        put_fields(&mut message, &fields);
        let section = Section::decode(&message).unwrap();
        prop_assert_eq!((section.id, section.status), (id, status));
        prop_assert_eq!(owned(&section.fields), fields);
        prop_assert!(Section::decode(&message[..cut.index(message.len())]).is_err());
        message.push(0);
        prop_assert!(Section::decode(&message).is_err());
    }

    #[test]
    fn a_body_comes_back_as_it_was(
        id in any::<u64>(), flags in any::<u16>(), elapsed in any::<u32>(), data in bytes(60),
    ) {
        let mut message = Body::prefix(id, flags, elapsed).to_vec();
        for cut in 0..message.len() {
            prop_assert!(Body::decode(&message[..cut]).is_err());
        }
        message.extend_from_slice(&data);
        prop_assert_eq!(Body::decode(&message).unwrap(), Body { id, flags, elapsed, data: &data });
    }

    #[test]
    fn messages_of_a_fixed_size_come_back_as_they_were_and_nothing_else(
        id in any::<u64>(), flags in any::<u16>(), elapsed in any::<u32>(), offset in any::<u64>(),
        len in any::<u64>(), generation in any::<u32>(), busy in any::<u32>(), timeout in any::<bool>(),
    ) {
        let file = FileBody { id, flags, elapsed, offset, len };
        let ready = Ready { generation, busy };
        let credit = Credit { id, bytes: len };
        let cancel = Cancel { id, reason: if timeout { Reason::Timeout } else { Reason::ClientLeft } };
        prop_assert_eq!(FileBody::decode(&file.encode()).unwrap(), file);
        prop_assert_eq!(Ready::decode(&ready.encode()).unwrap(), ready);
        prop_assert_eq!(Credit::decode(&credit.encode()).unwrap(), credit);
        prop_assert_eq!(Cancel::decode(&cancel.encode()).unwrap(), cancel);
        type Refuses = fn(&[u8]) -> bool;
        let all: [(Vec<u8>, Refuses); 4] = [
            (file.encode().to_vec(), |message| FileBody::decode(message).is_err()),
            (ready.encode().to_vec(), |message| Ready::decode(message).is_err()),
            (credit.encode().to_vec(), |message| Credit::decode(message).is_err()),
            (cancel.encode().to_vec(), |message| Cancel::decode(message).is_err()),
        ];
        for (mut message, refuses) in all {
            for cut in 0..message.len() {
                prop_assert!(refuses(&message[..cut]), "{:?} cut to {}", message, cut);
            }
            message.push(0);
            prop_assert!(refuses(&message), "{:?} is too long", message);
        }
    }

    #[test]
    fn whatever_the_bytes_decoding_never_panics(message in bytes(400)) {
        decode_as_all(&message);
    }

    #[test]
    fn a_valid_message_with_a_few_bytes_changed_never_panics(
        line in line(), fields in fields(), payload in payload(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut request = encode_request(1, &line, &fields, &payload);
        let mut head = encode_head(1, 200, b"OK", &fields, 0, 0);
        for (place, byte) in changes {
            for message in [&mut request, &mut head] {
                let place = place.index(message.len());
                message[place] = byte;
            }
        }
        decode_as_all(&request);
        decode_as_all(&head);
    }
}

#[test]
fn a_name_in_lower_case_leaves_the_value_alone() {
    let mut message = Vec::new();
    Section::start(&mut message, 1, 0);
    let mut writer = FieldsWriter::new(&mut message);
    writer.push_lowercase(b"X-Name", b"VaLuE").unwrap();
    writer.finish().unwrap();
    let section = Section::decode(&message).unwrap();
    assert_eq!(section.fields.iter().collect::<Vec<_>>(), [(&b"x-name"[..], &b"VaLuE"[..])]);
    assert!(!section.fields.is_empty());
}

#[test]
fn what_does_not_fit_is_refused_when_it_is_written() {
    let long = vec![b'a'; 65_536];
    let mut message = Vec::new();
    assert_eq!(Head::start(&mut message, 1, 200, &long), Err(TooLong));
    let line = Line { numbers: (11, false, 0, 0, None), texts: std::array::from_fn(|_| Vec::new()) };
    assert_eq!(Request::start(&mut message, &RequestLine { method: &long, ..line.borrow() }), Err(TooLong));
    Request::start(&mut message, &RequestLine { target: &long, ..line.borrow() }).unwrap();
    let mut writer = FieldsWriter::new(&mut message);
    assert_eq!(writer.push(&long, b""), Err(TooLong));
    for _ in 0..65_535 {
        writer.push(b"", b"").unwrap();
    }
    assert_eq!(writer.push(b"", b""), Err(TooLong));
    writer.finish().unwrap();
    let request = Request::decode(&message).unwrap();
    assert_eq!((request.fields.len(), request.line.target.len()), (65_535, 65_536));
}

#[test]
fn a_long_target_takes_its_room_once_and_its_parts_cannot_leave_it() {
    let (path, query) = (vec![b'p'; 30_000], vec![b'q'; 30_000]);
    let target = [&path[..], b"?", &query].concat();
    let line = Line { numbers: (11, false, 0, 0, None), texts: std::array::from_fn(|_| Vec::new()) };
    let line = RequestLine { target: &target, path: &path, query: &query, ..line.borrow() };
    let mut message = Vec::new();
    Request::start(&mut message, &line).unwrap();
    put_fields(&mut message, &Vec::new());
    assert!(message.len() < target.len() + 100);
    let back = Request::decode(&message).unwrap().line;
    assert!(back.target == target && back.path == path && back.query == query);
    // The lengths of the two, behind the target.
    let end = message.windows(2).rposition(|pair| pair[1] == b'q').unwrap() + 2;
    for place in [end, end + 4] {
        let mut wrong = message.clone();
        wrong[place..place + 4].copy_from_slice(&(target.len() as u32 + 1).to_le_bytes());
        assert!(Request::decode(&wrong).is_err());
    }
}

#[test]
fn fields_beyond_their_count_are_a_violation() {
    let mut message = Vec::new();
    Section::start(&mut message, 1, 0);
    put_fields(&mut message, &vec![(b"a".to_vec(), b"b".to_vec())]);
    message[10] = 0;
    assert!(Section::decode(&message).is_err());
}

#[test]
fn a_length_that_is_known_late_is_put_in_its_place() {
    let line = Line { numbers: (11, true, 0, 0, None), texts: std::array::from_fn(|_| Vec::new()) };
    let mut message = encode_request(1, &line, &Vec::new(), &OwnedPayload::Inline(b"body".to_vec()));
    assert_eq!(Request::decode(&message).unwrap().line.content_length, None);
    Request::set_content_length(&mut message, 4);
    let request = Request::decode(&message).unwrap();
    assert_eq!((request.line.content_length, request.line.https), (Some(4), true));
}
