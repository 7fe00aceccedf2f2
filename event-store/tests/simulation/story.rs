//! What happens next: a random step that depends on the seed and on what the model holds, and on nothing else.

use crate::support::{event, stream};
use annals_core::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const STREAMS: u32 = 6;
const KEYS: u32 = 12;
const IDS: u32 = 14;

/// One step.
pub enum Step {
    /// One append, answered.
    Append(Box<Append>),
    /// Appends that wait for the writer together, and are answered.
    Together(Vec<Append>),
    /// A question of a random kind.
    Look,
    /// Closed in order and opened again.
    Reopen,
    /// Killed while nothing is under way.
    Crash,
    /// Killed while appends are under way: nobody knows what became of those that were not answered.
    Kill,
    /// All closed volumes are sealed.
    Seal,
    /// Closed, and opened without its index.
    LoseIndex,
}

/// Tells the version of a stream.
pub type Versions<'a> = &'a dyn Fn(&StreamId) -> Version;

/// How many appends a life that is killed has.
pub const LIFE: usize = 60;

/// The appends of a life that is killed, in waves that wait for the writer together.
pub fn life(seed: u64, version: Versions<'_>) -> Vec<Vec<Append>> {
    let mut random = StdRng::seed_from_u64(seed);
    let appends: Vec<_> = (0..LIFE).map(|_| new_append(&mut random, version)).collect();
    appends
        .chunks(random.random_range(1..9))
        .map(<[Append]>::to_vec)
        .collect()
}

/// What was appended before, for appending it again.
#[derive(Default)]
pub struct Story {
    sent: Vec<Append>,
}

impl Story {
    /// The next step.
    pub fn next(&mut self, random: &mut StdRng, version: Versions<'_>) -> Step {
        match random.random_range(0..100) {
            0..45 => Step::Append(Box::new(self.append(random, version))),
            45..55 => Step::Together(self.appends(random, version)),
            55..84 => Step::Look,
            84..89 => Step::Reopen,
            89..92 => Step::Crash,
            92..96 => Step::Kill,
            96..98 => Step::Seal,
            _ => Step::LoseIndex,
        }
    }

    fn appends(&mut self, random: &mut StdRng, version: Versions<'_>) -> Vec<Append> {
        let count = random.random_range(2..20);
        (0..count).map(|_| self.append(random, version)).collect()
    }

    fn append(&mut self, random: &mut StdRng, version: Versions<'_>) -> Append {
        if !self.sent.is_empty() && random.random_bool(0.12) {
            let mut again = self.sent[random.random_range(0..self.sent.len())].clone();
            if random.random_bool(0.2) {
                again.stream = any_stream(random);
            }
            if let Some(command) = again.command.as_mut().filter(|_| random.random_bool(0.2)) {
                command.fingerprint = [0xff; 16];
            }
            return again;
        }
        let append = new_append(random, version);
        self.sent.push(append.clone());
        append
    }
}

/// One of the streams.
pub fn any_stream(random: &mut StdRng) -> StreamId {
    let number = random.random_range(0..STREAMS);
    stream(&format!("{}/{number}", ["a", "b-2"][number as usize % 2]))
}

/// All streams, and one that nobody appends to.
pub fn streams() -> impl Iterator<Item = StreamId> {
    let used = (0..STREAMS).map(|number| stream(&format!("{}/{number}", ["a", "b-2"][number as usize % 2])));
    used.chain([stream("a/nobody")])
}

/// All idempotency keys, and one that nobody uses.
pub fn keys() -> impl Iterator<Item = String> {
    (0..=KEYS).map(|number| format!("key {number}"))
}

/// All ids that events come with, and one that none has. Some of them look like ids of the log's own.
pub fn ids() -> impl Iterator<Item = EventId> {
    (0..=IDS).map(id)
}

fn id(number: u32) -> EventId {
    let text = match number % 3 {
        0 => format!("018f0000-0000-7000-8000-{number:012}"),
        1 => format!("018F0000-0000-7000-8000-{number:012}"),
        _ => format!("id-{number}"),
    };
    EventId::parse(&text).unwrap()
}

fn new_append(random: &mut StdRng, version: Versions<'_>) -> Append {
    let to = any_stream(random);
    let version = version(&to);
    let count = match random.random_range(0..100) {
        0..60 => 1,
        60..95 => random.random_range(2..7),
        95..98 => 40,
        98 => 0,
        _ => [APPEND_EVENTS_MAX, APPEND_EVENTS_MAX + 1][random.random_range(0..2)],
    };
    let mut append = Append::new(to, (0..count).map(|_| new_event(random, count)).collect());
    append.expected = match random.random_range(0..10) {
        0..5 => Expected::Any,
        5..8 if version == Version::ZERO => Expected::None,
        5..8 => Expected::Exact(version),
        8 => Expected::None,
        _ => Expected::Exact(Version::new(random.random_range(0..version.get() + 3))),
    };
    if random.random_bool(0.3) {
        append.command = Some(CommandKey {
            key: format!("key {}", random.random_range(0..KEYS)),
            fingerprint: [random.random_range(0..2); 16],
        });
    }
    let mut maybe = |text: &str| random.random_bool(0.3).then(|| text.to_owned());
    append.metadata = Metadata {
        actor: maybe("ann"),
        correlation_id: maybe("correlated"),
        causation_id: maybe("caused"),
        traceparent: maybe("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };
    append
}

fn new_event(random: &mut StdRng, siblings: usize) -> NewEvent {
    let mut new = event("");
    new.payload = payload(random, siblings);
    new.event_type = format!("Kind{}", random.random_range(0..5)).into();
    new.schema_version = random.random_range(1..4);
    if random.random_bool(0.5) {
        new.content_type = ["application/msgpack", "application/json"][random.random_range(0..2)].into();
    }
    if random.random_bool(0.25) {
        new.id = Some(id(random.random_range(0..IDS)));
        new.source =
            [None, Some("shop".to_owned()), Some("annals/annals".to_owned())][random.random_range(0..3)].clone();
    }
    if random.random_bool(0.2) {
        let second = random.random_range(-2_000_000_000..2_000_000_000);
        new.occurred_at = chrono::DateTime::from_timestamp(second, 7_000);
        new.dataschema = Some("urn:example:schema".into());
    }
    if random.random_bool(0.2) {
        let count = if random.random_bool(0.02) {
            33
        } else {
            random.random_range(1..5)
        };
        new.tags = (0..count)
            .map(|_| Tag::new("tag", random.random_range(0..4)).unwrap())
            .collect();
    }
    if random.random_bool(0.1) {
        let count = if random.random_bool(0.02) {
            65
        } else {
            random.random_range(1..4)
        };
        new.extensions = (0..count)
            .map(|number| (format!("extension{number}"), "\"x\"".into()))
            .collect();
    }
    new
}

/// Sizes around every bound: none, small, about a block, several blocks, more than an append may have.
fn payload(random: &mut StdRng, siblings: usize) -> Vec<u8> {
    let len = match random.random_range(0..200) {
        _ if siblings > 10 => random.random_range(0..100),
        0..5 => 0,
        5..180 => random.random_range(1..300),
        180..192 => random.random_range(55_000..65_000),
        192..199 => random.random_range(100_000..400_000),
        _ => 1 << 20,
    };
    let mut bytes = vec![random.random::<u8>(); len];
    if random.random_bool(0.3) {
        random.fill(&mut bytes[..]);
    }
    bytes
}
