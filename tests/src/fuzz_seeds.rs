//! What fuzzing begins with: a few well-formed inputs of each target, made by the code that writes them.

#![allow(clippy::expect_used, reason = "the inputs are fixed")]

use annals_core::{Block, Epoch, EventIdRef, Header, PlaceInAppend, Position};
use annals_event_store::{FrameMeta, encode_frame};

/// A named input.
pub type Seed = (&'static str, Vec<u8>);

/// The inputs that a target begins with; none for a name that is no target.
pub fn seeds(target: &str) -> Vec<Seed> {
    match target {
        "frame" => frames(),
        "header" => headers(),
        "command" => texts(&COMMANDS),
        "cloud_event" => texts(&CLOUD_EVENTS),
        "index_block" => index_blocks(),
        _ => Vec::new(),
    }
}

fn texts(texts: &[(&'static str, &str)]) -> Vec<Seed> {
    texts
        .iter()
        .map(|(name, text)| (*name, text.as_bytes().to_vec()))
        .collect()
}

fn full() -> Header<'static> {
    let mut header = Header::new(
        "orders/ord-1",
        300,
        EventIdRef::Uuid([7; 16]),
        "OrderPlaced",
        1_700_000_000_000_000,
    );
    header.schema = 2;
    header.occurred = Some(-70_000);
    header.tags = vec!["order=ord-1", "email=a@b"];
    header.correlation = Some("a-correlation-id-that-is-longer-than-thirty-one-bytes");
    header.causation = Some("cause");
    header.actor = Some("ann");
    header.key = Some("k-1");
    header.fingerprint = Some([9; 16]);
    header.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    header.place = PlaceInAppend { index: 2, count: 200 };
    header.content_type = "application/json";
    header.source = Some("shop");
    header.dataschema = Some("urn:x");
    header.extensions = vec![("severity", "3"), ("region", "\"eu\"")];
    header
}

fn bytes(header: &Header<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    bytes
}

fn headers() -> Vec<Seed> {
    let plain = Header::new("a/b", 1, EventIdRef::Text("x"), "T", 0);
    let mut keyed = Header::new(
        "users/ann",
        u64::from(u32::MAX),
        EventIdRef::Text("id-1"),
        "UserRegistered",
        -3,
    );
    keyed.key = Some("key");
    keyed.fingerprint = Some([1; 16]);
    vec![
        ("plain", bytes(&plain)),
        ("full", bytes(&full())),
        ("keyed", bytes(&keyed)),
    ]
}

fn frames() -> Vec<Seed> {
    let meta = |part, parts| FrameMeta {
        epoch: Epoch::from_bytes([3; 16]),
        boot: 7,
        first: Position::new(41),
        count: 0,
        part,
        parts,
    };
    let mut records = Vec::new();
    let person = [&[0x81, 0xa4][..], b"name", &[0xc7, 5, 1, 0, 0xa3], b"ann"].concat();
    Block::push_record(&mut records, &bytes(&full()), br#"{"total":5}"#);
    Block::push_record(
        &mut records,
        &bytes(&Header::new("a/b", 1, EventIdRef::Text("x"), "T", 0)),
        &person,
    );
    let two = Block::new(Position::new(41), 2, records.clone().into());
    let mut repeated = Vec::new();
    (0..20).for_each(|_| Block::push_record(&mut repeated, &bytes(&full()), &[b'x'; 100]));
    let compressed = Block::new(Position::new(41), 20, repeated.into());
    let one_part = Block::new(Position::new(41), 1, vec![b'p'; 300].into());
    vec![
        ("two_records", encode_frame(&two, meta(0, 1))),
        ("compressed", encode_frame(&compressed, meta(0, 1))),
        ("part", encode_frame(&one_part, meta(1, 3))),
        ("records_alone", records),
    ]
}

/// Two versions of two streams that share a beginning, a tag, and a command, as `docs/format.md` lays them out.
fn index_blocks() -> Vec<Seed> {
    let streams = [&[0, b's', 3][..], b"a/1", &[2, 1, 10, 5], &[3, 1], b"2", &[1, 1, 11]].concat();
    let tag = [&[0, b't', 3][..], b"k=v", &[3, 200, 1, 1, 1]].concat();
    let command = [&[0, b'k'][..], &[7; 8], &[1, 42]].concat();
    vec![("streams", streams), ("tag", tag), ("command", command)]
}

const COMMANDS: [(&str, &str); 5] = [
    (
        "order",
        r#"{"aggregate":"orders","id":"ord-1","command":"place","data":{"customer_id":"ann","currency":"BRL","items":[{"product_id":"lamp","quantity":1,"unit_price":{"amount":12990,"currency":"BRL"},"freight":{"amount":1,"currency":"BRL"}}]},"key":"k-1"}
{"aggregate":"orders","id":"ord-1","command":"approve","key":"k-2","expected_version":1}
{"aggregate":"orders","id":"ord-1","command":"review","data":{"review_id":"r","score":5,"comment":"\u00e9"}}
{"aggregate":"orders","id":"ord-1","command":"cancel","data":{"reason":"none"},"occurred_at":"2017-10-02T10:56:33Z","actor":"ann"}"#,
    ),
    (
        "payment",
        r#"{"aggregate":"payments","id":"p-1","command":"authorize","data":{"order_id":"ord-1","method":"card","amount":{"amount":500,"currency":"BRL"},"installments":3}}
{"aggregate":"payments","id":"p-1","command":"capture"}
{"aggregate":"payments","id":"p-1","command":"refund","data":{"amount":{"amount":100,"currency":"BRL"},"reason":"x"},"key":"r"}"#,
    ),
    (
        "shipment",
        r#"{"aggregate":"shipments","id":"ord-1","command":"dispatch","data":{"order_id":"ord-1","carrier":"post"}}
{"aggregate":"shipments","id":"ord-1","command":"deliver","data":{}}"#,
    ),
    (
        "user",
        r#"{"aggregate":"users","id":"ann","command":"register","data":{"email":"ann@example.com","name":"Ann","city":"Bern"},"key":"\"k\""}
{"aggregate":"users","id":"ann","command":"sign-in"}
{"aggregate":"users","id":"ann","command":"change-email","data":{"email":"b@example.com"}}"#,
    ),
    (
        "unknown",
        r#"{"aggregate":"users","id":"..","command":"no","data":[1e9,null,{"a":[]}]}"#,
    ),
];

const CLOUD_EVENTS: [(&str, &str); 5] = [
    (
        "single",
        r#"{"specversion":"1.0","id":"1","source":"/shop","type":"Said","subject":"shop/1","time":"2017-10-02T10:56:33.123456Z","dataschema":"urn:x","tags":"order=ord-1,user=ann","region":"eu","level":3,"data":{"a":[1,-2,3.5,"x\n",null,true,{}]}}"#,
    ),
    (
        "batch",
        r#"[{"specversion":"1.0","id":"1","source":"/shop","type":"Said","data":1},{"specversion":"1.0","id":"2","source":"/shop","type":"Said","datacontenttype":"text/plain","data":"text"}]"#,
    ),
    (
        "messagepack",
        r#"{"specversion":"1.0","id":"018f0000-0000-7000-8000-000000000001","source":"/shop","type":"Said","datacontenttype":"application/msgpack","data_base64":"gaRuYW1lxwUBAKNhbm4="}"#,
    ),
    (
        "base64",
        r#"{"specversion":"1.0","id":"b","source":"/shop","type":"Said","datacontenttype":"application/vnd.x+json","data_base64":"eyJhIjoxfQ=="}"#,
    ),
    (
        "nothing",
        r#"{"specversion":"1.0","id":"n","source":"/shop","type":"Said","data":null,"subject":null}"#,
    ),
];
