//! Any bytes as each message of a channel: no panic, fields as many as were counted, and what was
//! decoded is what comes back when it is encoded again. The first byte says which message.
#![no_main]

use channel::message::{
    Body, Cancel, Credit, Fields, FieldsWriter, FileBody, Head, Payload, Ready, Request, Section,
};
use libfuzzer_sys::fuzz_target;

fn put_fields(out: &mut Vec<u8>, fields: &Fields<'_>) {
    assert_eq!(fields.iter().count(), fields.len());
    assert_eq!(fields.is_empty(), fields.len() == 0);
    let mut writer = FieldsWriter::new(out);
    for (name, value) in fields.iter() {
        writer.push(name, value).expect("it was in a message before");
    }
    writer.finish().expect("it was in a message before");
}

fn request(message: &[u8]) -> Option<Vec<u8>> {
    let request = Request::decode(message).ok()?;
    let mut out = Vec::new();
    Request::start(&mut out, &request.line).expect("it was in a message before");
    put_fields(&mut out, &request.fields);
    Request::set_id(&mut out, request.id);
    Request::set_payload(&mut out, &request.payload);
    if let Payload::Inline(body) = request.payload {
        out.extend_from_slice(body);
    }
    // Bits without a meaning are not kept: what comes back is compared decoded, field by field.
    let again = Request::decode(&out).expect("it was encoded just now");
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
    None
}

fn head(message: &[u8]) -> Option<Vec<u8>> {
    let head = Head::decode(message).ok()?;
    let mut out = Vec::new();
    Head::start(&mut out, head.id, head.status, head.reason).expect("it was in a message before");
    put_fields(&mut out, &head.fields);
    Head::set_flags(&mut out, head.flags, head.elapsed);
    out.extend_from_slice(head.data);
    let again = Head::decode(&out).expect("it was encoded just now");
    assert_eq!(format!("{again:?}"), format!("{head:?}"));
    None
}

fn section(message: &[u8]) -> Option<Vec<u8>> {
    let section = Section::decode(message).ok()?;
    let mut out = Vec::new();
    Section::start(&mut out, section.id, section.status);
    put_fields(&mut out, &section.fields);
    Some(out)
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, message)) = input.split_first() else { return };
    let again = match which % 8 {
        0 => request(message),
        1 => head(message),
        2 => section(message),
        3 => FileBody::decode(message).ok().map(|file| {
            assert_eq!(FileBody::decode(&file.encode()), Ok(file));
            let body = Body::decode(message).expect("a file's message begins as a body's");
            assert_eq!((body.id, body.flags, body.elapsed), (file.id, file.flags, file.elapsed));
            body.data.to_vec()
        }),
        4 => Ready::decode(message).ok().map(|ready| ready.encode().to_vec()),
        5 => Credit::decode(message).ok().map(|credit| credit.encode().to_vec()),
        6 => Cancel::decode(message).ok().map(|cancel| cancel.encode().to_vec()),
        _ => {
            if let Ok(body) = Body::decode(message) {
                assert_eq!(body.data.len(), message.len() - 16);
            }
            None
        }
    };
    if let Some(again) = again {
        assert!(message.ends_with(&again), "{message:?} became {again:?}");
    }
});
