//! The derives as a user meets them.

use annals_core::*;
use chrono::NaiveDate;

#[derive(Debug, PartialEq, Event)]
enum AccountEvent {
    #[event(tags(owner, initial = initial(holder_name), holder = holder_name))]
    Opened {
        owner: String,
        holder_name: Personal<String>,
    },
    #[event(version = 2, upcast = deposited_from_1, was = "PaidIn")]
    Deposited {
        amount: u64,
        currency: String,
    },
    Closed,
}

fn initial(name: &Personal<String>) -> char {
    name.get().and_then(|name| name.chars().next()).unwrap_or('?')
}

fn deposited_from_1(_: u32, mut data: serde_json::Value) -> Result<serde_json::Value, String> {
    data["currency"] = "BRL".into();
    Ok(data)
}

#[derive(Debug, PartialEq, Event)]
enum OtherEvent {
    Noted { text: Option<String> },
}

#[derive(Debug, PartialEq, EventSet)]
enum BankEvent {
    Account(AccountEvent),
    Other(OtherEvent),
}

#[derive(Debug, PartialEq, Command)]
enum AccountCommand {
    Open {
        owner: String,
        holder_name: Personal<String>,
        note: Option<String>,
    },
    SignIn,
}

#[derive(Debug, Default, PartialEq, Row)]
struct Balance {
    #[index]
    balance: u64,
    #[index]
    opened_on: Option<NaiveDate>,
    entries: u32,
}

#[derive(Debug, Default, PartialEq, State)]
struct Account {
    open: bool,
    owner: Personal<String>,
}

fn payload<'a>(bytes: &'a [u8], schema_version: u32) -> Payload<'a> {
    Payload {
        content_type: CONTENT_TYPE_MSGPACK,
        schema_version,
        bytes,
    }
}

#[test]
fn events_come_back_as_they_were_written() {
    let events = [
        AccountEvent::Opened {
            owner: "ann".into(),
            holder_name: "Ann".to_owned().into(),
        },
        AccountEvent::Deposited {
            amount: 5,
            currency: "BRL".into(),
        },
        AccountEvent::Closed,
    ];
    for event in events {
        let known = event.event_type();
        let bytes = event.encode().unwrap();
        assert_eq!(
            <AccountEvent as Event>::decode(known.name, payload(&bytes, known.version)).unwrap(),
            Some(event)
        );
    }
}

/// The tags as they would stand in a log whose keyed hash of a value is `<value>`.
fn written(event: &AccountEvent) -> Result<Vec<String>, InvalidTag> {
    let keyed = |key: &str, value: &str| Tag::new(key, format_args!("<{value}>"));
    let tags = event.tags();
    tags.iter().map(|tag| Ok(tag.to_tag(keyed)?.to_string())).collect()
}

#[test]
fn an_event_has_its_tags() {
    let opened = AccountEvent::Opened {
        owner: "ann".into(),
        holder_name: "Ann".to_owned().into(),
    };
    assert_eq!(written(&opened).unwrap(), ["owner=ann", "initial=A", "holder=<Ann>"]);
    assert!(!format!("{:?}", opened.tags()).contains("Ann"));
    let erased = AccountEvent::Opened {
        owner: "ann".into(),
        holder_name: Personal::erased(),
    };
    assert_eq!(written(&erased).unwrap(), ["owner=ann", "initial=?"]);
    let comma = AccountEvent::Opened {
        owner: "a,b".into(),
        holder_name: "Ann".to_owned().into(),
    };
    assert!(written(&comma).is_err());
}

#[test]
fn older_versions_and_names_are_upcast_and_newer_ones_refused() {
    let old = br#"{"amount":5}"#;
    let json = Payload {
        content_type: CONTENT_TYPE_JSON,
        schema_version: 1,
        bytes: old,
    };
    let expected = AccountEvent::Deposited {
        amount: 5,
        currency: "BRL".into(),
    };
    assert_eq!(<AccountEvent as Event>::decode("PaidIn", json).unwrap(), Some(expected));
    let error = <AccountEvent as Event>::decode("Deposited", payload(old, 3)).unwrap_err();
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn a_set_reads_what_it_names_and_nothing_else() {
    assert!(BankEvent::reads("Noted") && BankEvent::reads("Opened") && !BankEvent::reads("OrderPlaced"));
    let bytes = OtherEvent::Noted { text: None }.encode().unwrap();
    let read = <BankEvent as EventSet>::decode("Noted", payload(&bytes, 1)).unwrap();
    assert_eq!(read, Some(BankEvent::Other(OtherEvent::Noted { text: None })));
    assert_eq!(
        <BankEvent as EventSet>::decode("Elsewhere", payload(&bytes, 1)).unwrap(),
        None
    );
}

#[test]
fn commands_are_read_from_json_and_bad_ones_name_the_field() {
    assert_eq!(AccountCommand::NAMES, ["open", "sign-in"]);
    let open = AccountCommand::from_json("open", br#"{"owner":"ann","holder_name":"Ann"}"#).unwrap();
    assert_eq!(
        AccountCommand::from_msgpack("open", &open.to_msgpack().unwrap()).unwrap(),
        open
    );
    assert_eq!(
        AccountCommand::from_json("sign-in", b"").unwrap(),
        AccountCommand::SignIn
    );
    for (name, body, says) in [
        ("open", r#"{"owner":"ann"}"#, "holder_name"),
        ("open", r#"{"owner":5,"holder_name":"x"}"#, "invalid type"),
        ("open", r#"{"owner":"a","holder_name":"x","extra":1}"#, "extra"),
        ("sign-in", r#"[1]"#, "JSON object"),
        ("sign-in", r#"{"x":1}"#, "unknown field"),
        ("fly", "{}", "open, sign-in"),
    ] {
        let error = AccountCommand::from_json(name, body.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn rows_and_states_are_stored_and_indexed() {
    let row = Balance {
        balance: 7,
        opened_on: None,
        entries: 1,
    };
    let bytes = rmp_serde::to_vec_named(&row).unwrap();
    assert_eq!(rmp_serde::from_slice::<Balance>(&bytes).unwrap(), row);
    assert_eq!(
        Balance::INDEXES,
        [("balance", IndexKind::Number), ("opened_on", IndexKind::Date)]
    );
    assert_eq!(row.index_values(), [Some(IndexValue::Number(7)), None]);
    let account = Account {
        open: true,
        owner: "ann".to_owned().into(),
    };
    let bytes = rmp_serde::to_vec_named(&account).unwrap();
    assert_eq!(rmp_serde::from_slice::<Account>(&bytes).unwrap(), account);
    assert_eq!(Account::SCHEMA, "open:bool,owner:Personal<String>");
}
