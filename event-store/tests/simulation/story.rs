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
    /// Closed, and opened with an index that is damaged; its seed says where.
    DamageIndex(u64),
    /// Appends from threads of their own, most of them on the condition that no other came.
    Race(Vec<Append>),
    /// A backup, while these appends are made; kept if there are none.
    Backup(Vec<Append>),
    /// A backup is restored, and the restored log goes on in place of the other.
    Restore,
}

/// How many appends a life that is killed has.
pub const LIFE: usize = 60;

/// The appends of a life that is killed, in waves that wait for the writer together.
pub fn life(seed: u64, log: &dyn EventLog) -> Vec<Vec<Append>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut appends: Vec<_> = (0..LIFE).map(|_| new_append(&mut random, log)).collect();
    let together = random.random_range(1..9);
    if together > 1 {
        appends.iter_mut().for_each(unconditional);
    }
    appends.chunks(together).map(<[Append]>::to_vec).collect()
}

/// Appends that wait together are answered in the order in which they were begun only if none has to look something up.
fn unconditional(append: &mut Append) {
    append.condition = None;
}

/// The version of a stream.
pub fn version(log: &dyn EventLog, stream: &StreamId) -> Version {
    let head = log.stream_head(stream).unwrap();
    head.map_or(Version::ZERO, |head| head.version)
}

/// What was appended before, for appending it again.
#[derive(Default)]
pub struct Story {
    sent: Vec<Append>,
}

impl Story {
    /// The next step, for what the model holds.
    pub fn next(&mut self, random: &mut StdRng, model: &dyn EventLog) -> Step {
        match random.random_range(0..100) {
            0..40 => Step::Append(Box::new(self.append(random, model))),
            40..48 => Step::Together(self.appends(random, model)),
            48..54 => Step::Race(race(random, model)),
            54..78 => Step::Look,
            78..82 => Step::Reopen,
            82..85 => Step::Crash,
            85..89 => Step::Kill,
            89..91 => Step::Seal,
            91..92 => Step::LoseIndex,
            92..95 => Step::DamageIndex(random.random()),
            95..98 if random.random_bool(0.5) => Step::Backup(Vec::new()),
            95..98 => Step::Backup(self.appends(random, model)),
            _ => Step::Restore,
        }
    }

    fn appends(&mut self, random: &mut StdRng, model: &dyn EventLog) -> Vec<Append> {
        let count = random.random_range(2..20);
        let mut appends: Vec<_> = (0..count).map(|_| self.append(random, model)).collect();
        appends.iter_mut().for_each(unconditional);
        appends
    }

    fn append(&mut self, random: &mut StdRng, model: &dyn EventLog) -> Append {
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
        let append = new_append(random, model);
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

fn new_append(random: &mut StdRng, log: &dyn EventLog) -> Append {
    let to = any_stream(random);
    let version = version(log, &to);
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
    if random.random_bool(0.2) {
        append.condition = Some(condition(random, log));
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

/// Appends that nothing decides but their conditions, so that those that win can be put into an order afterwards.
fn race(random: &mut StdRng, model: &dyn EventLog) -> Vec<Append> {
    // What no racer has reached is for one append at a time: whether it is there yet would be a matter of time.
    let reached = |mut condition: AppendCondition| {
        condition.after = condition.after.min(model.head());
        condition
    };
    let depended = reached(condition(random, model));
    let count = random.random_range(2..9);
    let racer = |random: &mut StdRng| {
        let events = (0..random.random_range(1..4)).map(|_| {
            let mut event = new_event(random, 20);
            event.id = None;
            event.tags = depended.query.tags().to_vec();
            if let Some(kind) = depended.query.types().first().filter(|_| random.random_bool(0.7)) {
                event.event_type = kind.clone();
            }
            event
        });
        let events = events.collect();
        let append = Append::new(any_stream(random), events);
        match random.random_range(0..4) {
            0 => append,
            1 => append.on_condition(reached(condition(random, model))),
            _ => append.on_condition(depended.clone()),
        }
    };
    (0..count).map(|_| racer(random)).collect()
}

/// A question for events of some of the types and tags.
pub fn query(random: &mut StdRng) -> EventQuery {
    let types = (0..random.random_range(0..3)).map(|_| kind(random)).collect::<Vec<_>>();
    let tags = random.random_range(usize::from(types.is_empty())..3);
    let tags = (0..tags).map(|_| tag(random)).collect();
    EventQuery::new(types, tags).unwrap()
}

/// On the condition that nothing came: since now, since a while, ever, or since a position that is not there yet.
fn condition(random: &mut StdRng, log: &dyn EventLog) -> AppendCondition {
    let head = log.head().get();
    let after = match random.random_range(0..20) {
        0..10 => head,
        10..16 => head.saturating_sub(random.random_range(0..40)),
        16..18 => 0,
        18 => random.random_range(0..=head),
        _ => head + 1,
    };
    AppendCondition {
        query: query(random),
        after: Position::new(after),
    }
}

fn kind(random: &mut StdRng) -> std::borrow::Cow<'static, str> {
    format!("Kind{}", random.random_range(0..5)).into()
}

fn tag(random: &mut StdRng) -> Tag {
    Tag::new("tag", random.random_range(0..4)).unwrap()
}

fn new_event(random: &mut StdRng, siblings: usize) -> NewEvent {
    let mut new = event("");
    new.payload = payload(random, siblings);
    new.event_type = kind(random);
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
        new.tags = (0..count).map(|_| tag(random)).collect();
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
