//! Commands that depend on events of other streams: a nickname belongs to one member.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use annals_commands::{AggregateDefinition, CommandBody, CommandError, CommandOutcome, CommandRequest, Commands};
use annals_core::*;
use annals_event_store::MemoryLog;
use std::sync::Arc;
use tokio::sync::Barrier;

#[derive(Event)]
enum MemberEvent {
    #[event(tags(nick))]
    Joined {
        nick: Personal<String>,
    },
    Waved,
}

#[derive(Command)]
enum MemberCommand {
    Join { nick: Personal<String> },
    Wave,
}

#[derive(Default, State)]
struct Member {
    joined: bool,
}

impl Aggregate for Member {
    const CATEGORY: &'static str = "members";
    type Command = MemberCommand;
    type Event = MemberEvent;

    fn beside(_: &str, command: &MemberCommand) -> Option<Beside<Self>> {
        let MemberCommand::Join { nick } = command else {
            return None;
        };
        let tag = EventTag::personal("nick", nick)?;
        Some(Beside::new(Nick { tag, taken: false }))
    }

    fn decide(&self, command: MemberCommand) -> Decision<MemberEvent> {
        match command {
            MemberCommand::Join { .. } if self.joined => accept_nothing(),
            MemberCommand::Join { nick } => accept([MemberEvent::Joined { nick }]),
            MemberCommand::Wave => accept([MemberEvent::Waved]),
        }
    }

    fn evolve(&mut self, event: &MemberEvent) {
        self.joined |= matches!(event, MemberEvent::Joined { .. });
    }
}

struct Nick {
    tag: EventTag,
    taken: bool,
}

impl DecisionModel for Nick {
    type Aggregate = Member;
    type Event = MemberEvent;

    fn boundary(&self) -> Boundary {
        Boundary::tagged(self.tag.clone()).of_types(["Joined"])
    }

    fn evolve(&mut self, _: &Recorded<'_, MemberEvent>) {
        self.taken = true;
    }

    fn decide(&self, member: &Member, command: MemberCommand) -> Decision<MemberEvent> {
        if self.taken && !member.joined {
            return reject("nick-taken", "take another one");
        }
        member.decide(command)
    }
}

fn club() -> Commands {
    club_on(Arc::new(MemoryLog::new("club")))
}

fn club_on(log: Arc<dyn Appender>) -> Commands {
    Commands::new(log, vec![AggregateDefinition::of::<Member>()], Default::default()).unwrap()
}

fn request(id: &str, command: &str, body: String) -> CommandRequest {
    CommandRequest {
        category: "members".into(),
        id: id.into(),
        command: command.into(),
        body: CommandBody::Json(body.into()),
        key: None,
        expected: Expected::Any,
        occurred_at: None,
        metadata: Metadata::default(),
    }
}

async fn join(club: &Commands, id: &str, nick: &str) -> Result<CommandOutcome, CommandError> {
    club.execute(request(id, "join", format!("{{\"nick\":\"{nick}\"}}")))
        .await
}

#[track_caller]
fn is_taken(result: Result<CommandOutcome, CommandError>) {
    match result {
        Err(CommandError::Rejected(rejection)) => assert_eq!(rejection.code, "nick-taken"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_happened_in_another_stream_decides() {
    let club = club();
    join(&club, "ann", "star").await.unwrap();
    is_taken(join(&club, "bob", "star").await);
    join(&club, "bob", "moon").await.unwrap();
    assert!(join(&club, "ann", "star").await.unwrap().events.is_empty());
    assert_eq!(club.log().head().get(), 2);
}

#[tokio::test]
async fn a_personal_tag_stands_in_the_log_as_a_keyed_hash() {
    let (one, other) = (club(), club());
    let mut tags = Vec::new();
    for club in [&one, &other] {
        let joined = join(club, "ann", "star").await.unwrap();
        let record = club.log().read_one(joined.position).unwrap().unwrap();
        tags.push(record.view().unwrap().header.tags[0].to_owned());
    }
    assert!(
        tags.iter().all(|tag| tag.starts_with("nick=") && tag.len() == 5 + 32),
        "{tags:?}"
    );
    assert_ne!(tags[0], tags[1], "each log has a secret of its own");
    assert_eq!(one.log().personal_tag("nick", "star").unwrap().as_str(), tags[0]);
}

#[tokio::test]
async fn an_event_that_was_appended_elsewhere_under_that_name_takes_nothing() {
    let club = club();
    let log = club.log();
    let mut forged = NewEvent::new(
        "Joined",
        MemberEvent::Joined {
            nick: "star".to_owned().into(),
        }
        .encode()
        .unwrap(),
    );
    forged.tags = vec![log.personal_tag("nick", "star").unwrap()];
    let stream = StreamId::new("others", "x").unwrap();
    log.append(Append::new(stream, vec![forged])).await.unwrap();
    join(&club, "ann", "star").await.unwrap();
}

#[tokio::test]
async fn a_repeated_key_answers_as_the_first_time_though_the_name_is_taken_by_now() {
    let club = club();
    let keyed = || {
        let mut request = request("ann", "join", r#"{"nick":"star"}"#.into());
        request.key = Some("k".into());
        request
    };
    let first = club.execute(keyed()).await.unwrap();
    let again = club.execute(keyed()).await.unwrap();
    assert_eq!((again.duplicate, again.position), (true, first.position));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_members_that_join_at_once_under_one_name_one_gets_it() {
    // Two nodes over one log: nothing but the condition stands between them.
    let log: Arc<dyn Appender> = Arc::new(MemoryLog::new("club"));
    let nodes = [club_on(log.clone()), club_on(log)];
    for round in 0..8 {
        let barrier = Arc::new(Barrier::new(24));
        let tasks: Vec<_> = (0..24)
            .map(|i| {
                let (node, barrier) = (nodes[i % 2].clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    if i >= 16 {
                        return node
                            .execute(request(&format!("noise-{i}"), "wave", String::new()))
                            .await;
                    }
                    join(&node, &format!("m-{round}-{i}"), &format!("star-{round}")).await
                })
            })
            .collect();
        let (mut joined, mut refused) = (0, 0);
        for (i, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(_) if i >= 16 => {}
                Ok(_) => joined += 1,
                refusal => {
                    is_taken(refusal);
                    refused += 1;
                }
            }
        }
        assert_eq!((joined, refused), (1, 15), "round {round}");
    }
}
