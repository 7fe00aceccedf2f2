//! Users.

use crate::samples::registered;
use UserCommand::{Deactivate, SignIn, SignOut};
use annals_commerce::{User, UserCommand, UserEvent};
use annals_core::Personal;
use annals_testkit::{given, on};

const SIGNED_IN: UserEvent = UserEvent::UserSignedIn { already_online: false };
const DEACTIVATED: UserEvent = UserEvent::UserDeactivated { was_online: false };

fn register(email: &str, name: &str) -> UserCommand {
    UserCommand::Register {
        email: email.to_owned().into(),
        name: name.to_owned().into(),
        city: Some("Bern".into()),
        state: None,
    }
}

fn change_email(email: &str) -> UserCommand {
    UserCommand::ChangeEmail {
        email: email.to_owned().into(),
    }
}

#[test]
fn a_user_registers_signs_in_and_signs_out() {
    given::<User>([])
        .when(register("ann@example.org", "Ann"))
        .then([registered()])
        .when(SignIn)
        .then([SIGNED_IN])
        .when(SignIn)
        .then([UserEvent::UserSignedIn { already_online: true }])
        .when(SignOut)
        .then([UserEvent::UserSignedOut])
        .when(SignOut)
        .then_nothing();
}

#[test]
fn an_unknown_user_cannot_do_anything() {
    for command in [SignIn, SignOut, Deactivate, change_email("bob@example.org")] {
        given::<User>([]).when(command).then_rejected("user-unknown");
    }
}

#[test]
fn a_user_is_registered_once() {
    given::<User>([registered()])
        .when(register("ann@example.org", "Ann"))
        .then_nothing()
        .when(register("bob@example.org", "Ann"))
        .then_rejected("user-already-registered");
}

#[test]
fn a_deactivated_user_is_offline_and_stays_out() {
    given::<User>([registered(), SIGNED_IN])
        .when(Deactivate)
        .then([UserEvent::UserDeactivated { was_online: true }])
        .when(SignIn)
        .then_rejected("user-deactivated");
    given::<User>([registered(), DEACTIVATED])
        .when(Deactivate)
        .then_nothing();
    given::<User>([registered(), DEACTIVATED]).when(SignOut).then_nothing();
    for command in [register("ann@example.org", "Ann"), change_email("bob@example.org")] {
        given::<User>([registered(), DEACTIVATED])
            .when(command)
            .then_rejected("user-deactivated");
    }
}

#[test]
fn an_address_is_changed_to_another_one() {
    given::<User>([registered()])
        .when(change_email("bob@example.org"))
        .then([UserEvent::UserEmailChanged {
            email: "bob@example.org".to_owned().into(),
            previous: "ann@example.org".to_owned().into(),
        }])
        .when(change_email("bob@example.org"))
        .then_nothing();
}

fn registered_as(email: &str) -> UserEvent {
    UserEvent::UserRegistered {
        email: email.to_owned().into(),
        name: "Bob".to_owned().into(),
        city: None,
        state: None,
    }
}

fn changed(email: &str, previous: &str) -> UserEvent {
    UserEvent::UserEmailChanged {
        email: email.to_owned().into(),
        previous: previous.to_owned().into(),
    }
}

#[test]
fn an_address_belongs_to_one_user() {
    let bob = || on("users/bob", registered_as("Ann@Example.org"));
    given::<User>([])
        .beside([bob()])
        .when(register("ann@example.org", "Ann"))
        .then_rejected("email-taken");
    given::<User>([registered()])
        .beside([on("users/bob", registered_as("bob@example.org"))])
        .when(change_email("BOB@example.org"))
        .then_rejected("email-taken");
    given::<User>([])
        .beside([on("users/bob", registered_as("bob@example.org"))])
        .when(register("ann@example.org", "Ann"))
        .then([registered()]);
}

#[test]
fn who_leaves_an_address_sets_it_free_and_who_is_deactivated_keeps_it() {
    let bob = |event| on("users/bob", event);
    given::<User>([])
        .beside([
            bob(registered_as("ann@example.org")),
            bob(changed("bob@example.org", "ann@example.org")),
        ])
        .when(register("ann@example.org", "Ann"))
        .then([registered()]);
    given::<User>([])
        .beside([
            bob(registered_as("ann@example.org")),
            bob(changed("bob@example.org", "ann@example.org")),
            bob(changed("ann@example.org", "bob@example.org")),
        ])
        .when(register("ann@example.org", "Ann"))
        .then_rejected("email-taken");
    given::<User>([])
        .beside([bob(registered_as("ann@example.org")), bob(DEACTIVATED)])
        .when(register("ann@example.org", "Ann"))
        .then_rejected("email-taken");
}

#[test]
fn ones_own_address_may_be_written_otherwise() {
    given::<User>([registered()])
        .when(change_email("Ann@Example.org"))
        .then([changed("Ann@Example.org", "ann@example.org")])
        .when(change_email("ann@example.org"))
        .then([changed("ann@example.org", "Ann@Example.org")]);
}

#[test]
fn an_address_has_the_form_of_one() {
    for email in ["", "ann", "@example.org", "ann@", "ann @example.org", "[erased]"] {
        given::<User>([])
            .when(register(email, "Ann"))
            .then_rejected("email-invalid");
        given::<User>([registered()])
            .when(change_email(email))
            .then_rejected("email-invalid");
    }
    let erased = UserCommand::ChangeEmail {
        email: Personal::erased(),
    };
    given::<User>([registered()])
        .when(erased)
        .then_rejected("email-invalid");
}

#[test]
fn texts_are_there_and_bounded() {
    let long = "a".repeat(300);
    given::<User>([])
        .when(register("ann@example.org", " "))
        .then_rejected("text-missing");
    given::<User>([])
        .when(register("ann@example.org", &long))
        .then_rejected("text-too-long");
    given::<User>([])
        .when(register(&format!("ann@{long}"), "Ann"))
        .then_rejected("text-too-long");
}
