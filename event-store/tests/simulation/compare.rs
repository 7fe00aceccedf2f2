//! Asks the log and the model the same, and expects the same. What only the log can know is its own: ids that it gave
//! and recorded times; these must stay what they were.

use crate::story;
use crate::world::World;
use annals_core::*;
use rand::RngExt;
use rand::rngs::StdRng;

/// Two answers to the same append.
pub fn answers(world: &World, found: &Result<Appended, AppendError>, expected: &Result<Appended, AppendError>) {
    let (found, expected) = match (found, expected) {
        (Ok(found), Ok(expected)) => (found, expected),
        (found, expected) => {
            let text = |answer: &Result<Appended, AppendError>| answer.as_ref().map_err(ToString::to_string).cloned();
            assert_eq!(text(found), text(expected));
            return;
        }
    };
    let places = |appended: &Appended| -> Vec<_> {
        let place = |event: &AppendedEvent| (event.position, event.event_type.clone());
        appended.events.iter().map(place).collect()
    };
    assert_eq!(
        (found.version, found.position, found.duplicate, places(found)),
        (
            expected.version,
            expected.position,
            expected.duplicate,
            places(expected)
        )
    );
    for event in &found.events {
        let at = event.position.get() as usize - 1;
        assert_eq!(
            world.ids.get(at).unwrap_or(&event.id),
            &event.id,
            "at {}",
            event.position
        );
    }
}

/// One question of a random kind.
pub fn one(world: &World, random: &mut StdRng) {
    let head = world.model.head().get();
    match random.random_range(0..7) {
        0 => {
            read(world, random.random_range(0..head + 3), random.random_range(0..200_000));
        }
        1 => at(world, random.random_range(0..head + 3)),
        2 => stream(world, &story::any_stream(random), random),
        3 => found(world, random),
        4 => heads(world),
        5 => matching(world, random),
        _ => moments(world, random),
    }
}

/// Every question there is.
pub fn everything(world: &World, random: &mut StdRng) {
    let head = world.model.head();
    assert_eq!(world.log().head(), head);
    let mut after = 0;
    while after < head.get() {
        after = read(world, after, 1 << 20);
    }
    for _ in 0..6 {
        stream(world, &story::any_stream(random), random);
        at(world, random.random_range(0..head.get() + 3));
        moments(world, random);
        matching(world, random);
    }
    heads(world);
    found(world, random);
}

/// What the log answers must be what the model holds, with the log's own ids and times.
fn same(world: &World, record: &RecordRef<'_>) {
    let at = record.position.get() as usize - 1;
    let model = world.model.read_one(record.position).unwrap().unwrap();
    let model = model.view().unwrap();
    let mut expected = model.header.clone();
    let first = record.position.get() - u64::from(expected.place.index - 1);
    let model_first = world.model.read_one(Position::new(first)).unwrap().unwrap();
    let (own_first, model_first) = (
        world.ids[first as usize - 1].to_string(),
        model_first.view().unwrap().header.id.to_string(),
    );
    if expected.correlation == Some(&model_first) {
        expected.correlation = Some(&own_first);
    }
    expected.id = EventIdRef::from(&world.ids[at]);
    expected.recorded = world.times[at];
    assert_eq!(record.header, expected, "at {}", record.position);
    assert!(
        record.payload == model.payload,
        "the payload at {} is another",
        record.position
    );
}

fn read(world: &World, after: u64, bytes_max: usize) -> u64 {
    let (head, mut last) = (world.model.head().get(), after);
    let blocks = world.log().read(Position::new(after), bytes_max).unwrap();
    for record in blocks.iter().flat_map(Block::iter) {
        let record = record.unwrap();
        last += 1;
        assert_eq!(record.position.get(), last);
        same(world, &record);
    }
    assert_eq!(last > after, head > after, "after {after} of {head}");
    last
}

fn at(world: &World, position: u64) {
    let position = Position::new(position);
    let found = world.log().read_one(position).unwrap();
    assert_eq!(
        found.is_some(),
        world.model.read_one(position).unwrap().is_some(),
        "at {position}"
    );
    if let Some(record) = found {
        assert_eq!(record.position(), position);
        same(world, &record.view().unwrap());
    }
}

fn stream(world: &World, id: &StreamId, random: &mut StdRng) {
    let version = world.version(id).get();
    let from = match random.random_range(0..4) {
        0 => 0,
        1 => u64::MAX,
        _ => random.random_range(0..version + 3),
    };
    let direction = [Direction::Forward, Direction::Backward][random.random_range(0..2)];
    let limit = [0, 1, 7, 100, 5_000][random.random_range(0..5)];
    let ask = |log: &dyn EventLog| log.read_stream(id, Version::new(from), direction, limit).unwrap();
    let (found, expected) = (ask(world.log()), ask(&world.model));
    let positions = |records: &[Record]| records.iter().map(Record::position).collect::<Vec<_>>();
    assert_eq!(
        positions(&found),
        positions(&expected),
        "{id} from {from} {direction:?} {limit}"
    );
    for record in &found {
        same(world, &record.view().unwrap());
    }
}

fn heads(world: &World) {
    for id in story::streams() {
        let ask = |log: &dyn EventLog| log.stream_head(&id).unwrap();
        assert_eq!(ask(world.log()), ask(&world.model), "{id}");
    }
}

/// Commands by key and events by id: those that events came with, and those that the log gave.
fn found(world: &World, random: &mut StdRng) {
    for (id, key) in story::streams().flat_map(|id| story::keys().map(move |key| (id.clone(), key))) {
        let ask = |log: &dyn EventLog| log.find_command(&id, &key).unwrap();
        assert_eq!(ask(world.log()), ask(&world.model), "{key} in {id}");
    }
    for id in story::ids() {
        let ask = |log: &dyn EventLog| log.find_event(&id).unwrap();
        assert_eq!(ask(world.log()), ask(&world.model), "{id}");
    }
    for _ in 0..world.ids.len().min(5) {
        let id = &world.ids[random.random_range(0..world.ids.len())];
        let first = world.ids.iter().position(|other| other == id).unwrap() as u64 + 1;
        assert_eq!(world.log().find_event(id).unwrap(), Some(Position::new(first)), "{id}");
    }
}

/// Events by types and tags.
fn matching(world: &World, random: &mut StdRng) {
    let query = story::query(random);
    let after = Position::new(random.random_range(0..world.model.head().get() + 3));
    let limit = [1, 3, 1_000][random.random_range(0..3)];
    let ask = |log: &dyn EventLog| log.read_matching(&query, after, limit).unwrap();
    let (found, expected) = (ask(world.log()), ask(&world.model));
    let positions = |matching: &Matching| matching.records.iter().map(Record::position).collect::<Vec<_>>();
    assert_eq!(
        positions(&found),
        positions(&expected),
        "{query:?} after {after}, {limit}"
    );
    for record in &found.records {
        same(world, &record.view().unwrap());
    }
}

/// Another log tells the events that this one tells up to its own head.
pub fn tells(world: &World, other: &dyn EventLog) {
    let mut after = Position::ZERO;
    while after < other.head() {
        for record in other.read(after, 1 << 20).unwrap().iter().flat_map(Block::iter) {
            let record = record.unwrap();
            assert_eq!(record.position, after.next());
            same(world, &record);
            after = record.position;
        }
    }
}

/// Positions by time, around the times of the log.
fn moments(world: &World, random: &mut StdRng) {
    assert!(world.times.is_sorted(), "recorded times run backwards");
    let Some(pick) = world.times.len().checked_sub(1) else {
        return;
    };
    let time = world.times[random.random_range(0..=pick)] + random.random_range(-1..2);
    let expected = world.times.partition_point(|recorded| *recorded <= time) as u64;
    let time = chrono::DateTime::from_timestamp_micros(time).unwrap();
    assert_eq!(world.log().position_at(time).unwrap().get(), expected, "{time}");
}
