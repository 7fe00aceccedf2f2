//! Users: who buys, and who is online. A user is registered once; whoever is deactivated stays so.

use super::address::{AddressOwner, one_address};
use super::check::{NAME_LEN_MAX, check_filled, check_length, rejection};
use annals_core::{
    Aggregate, Beside, Command, Decision, Event, Personal, Rejection, State, accept, accept_nothing, reject,
};

/// Longest e-mail address in characters (RFC 5321).
const EMAIL_LEN_MAX: usize = 254;

/// Commands of `users/{id}`.
#[derive(Debug, Clone, PartialEq, Command)]
pub enum UserCommand {
    /// Registers a user. The same again is accepted without an event.
    Register {
        /// E-mail address.
        email: Personal<String>,
        /// Name.
        name: Personal<String>,
        /// City.
        city: Option<String>,
        /// State or region.
        state: Option<String>,
    },
    /// Signs a user in, also one who is online already: each sign-in is an event.
    SignIn,
    /// Signs a user out.
    SignOut,
    /// Changes the e-mail address.
    ChangeEmail {
        /// The new one.
        email: Personal<String>,
    },
    /// Deactivates a user, who then is offline and cannot sign in.
    Deactivate,
}

/// Events of a user.
#[derive(Debug, Clone, PartialEq, Event)]
pub enum UserEvent {
    /// A user was registered.
    #[event(tags(email = one_address(email)))]
    UserRegistered {
        /// E-mail address.
        email: Personal<String>,
        /// Name.
        name: Personal<String>,
        /// City.
        city: Option<String>,
        /// State or region.
        state: Option<String>,
    },
    /// A user signed in.
    UserSignedIn {
        /// Whether they were online before, so that whoever counts users need not know each of them.
        already_online: bool,
    },
    /// A user who was online signed out.
    UserSignedOut,
    /// A user has another e-mail address.
    #[event(tags(email = one_address(email), email = one_address(previous)))]
    UserEmailChanged {
        /// The new one.
        email: Personal<String>,
        /// The one before, which is free again.
        #[serde(default)]
        previous: Personal<String>,
    },
    /// A user was deactivated.
    UserDeactivated {
        /// Whether they were online before.
        was_online: bool,
    },
}

/// What is so of a user.
#[derive(Debug, Clone, Default, PartialEq, State)]
pub struct User {
    registered: bool,
    deactivated: bool,
    online: bool,
    email: Personal<String>,
    name: Personal<String>,
    city: Option<String>,
    state: Option<String>,
}

impl Aggregate for User {
    const CATEGORY: &'static str = "users";
    type Command = UserCommand;
    type Event = UserEvent;

    fn beside(id: &str, command: &UserCommand) -> Option<Beside<Self>> {
        match command {
            UserCommand::Register { email, .. } | UserCommand::ChangeEmail { email } => {
                AddressOwner::of(email, id).map(Beside::new)
            }
            _ => None,
        }
    }

    fn decide(&self, command: UserCommand) -> Decision<UserEvent> {
        match command {
            UserCommand::Register {
                email,
                name,
                city,
                state,
            } => self.register(email, name, city, state),
            _ if !self.registered => reject("user-unknown", "there is no such user: register them first"),
            UserCommand::SignOut if !self.online => accept_nothing(),
            UserCommand::SignOut => accept([UserEvent::UserSignedOut]),
            UserCommand::Deactivate if self.deactivated => accept_nothing(),
            UserCommand::Deactivate => accept([UserEvent::UserDeactivated {
                was_online: self.online,
            }]),
            _ if self.deactivated => reject("user-deactivated", "the user was deactivated: register a new one"),
            UserCommand::SignIn => accept([UserEvent::UserSignedIn {
                already_online: self.online,
            }]),
            UserCommand::ChangeEmail { email } if email == self.email => accept_nothing(),
            UserCommand::ChangeEmail { email } => {
                check_email(&email)?;
                let previous = self.email.clone();
                accept([UserEvent::UserEmailChanged { email, previous }])
            }
        }
    }

    fn evolve(&mut self, event: &UserEvent) {
        match event {
            UserEvent::UserRegistered {
                email,
                name,
                city,
                state,
            } => {
                self.registered = true;
                self.email = email.clone();
                self.name = name.clone();
                self.city = city.clone();
                self.state = state.clone();
            }
            UserEvent::UserSignedIn { .. } => self.online = true,
            UserEvent::UserSignedOut => self.online = false,
            UserEvent::UserEmailChanged { email, .. } => self.email = email.clone(),
            UserEvent::UserDeactivated { .. } => {
                self.deactivated = true;
                self.online = false;
            }
        }
    }
}

impl User {
    fn register(
        &self,
        email: Personal<String>,
        name: Personal<String>,
        city: Option<String>,
        state: Option<String>,
    ) -> Decision<UserEvent> {
        if self.deactivated {
            return reject("user-deactivated", "the user was deactivated: register under a new id");
        }
        if self.registered {
            let same = email == self.email && name == self.name && city == self.city && state == self.state;
            return if same {
                accept_nothing()
            } else {
                reject(
                    "user-already-registered",
                    "a user of this id is registered with other data: change their e-mail address, or take another id",
                )
            };
        }
        check_email(&email)?;
        let shown = name.get().map_or("", String::as_str);
        check_filled("name", shown, NAME_LEN_MAX)?;
        for (field, text) in [("city", &city), ("state", &state)] {
            check_length(field, text.as_deref().unwrap_or_default(), NAME_LEN_MAX)?;
        }
        accept([UserEvent::UserRegistered {
            email,
            name,
            city,
            state,
        }])
    }
}

/// Only what every address has; whether it can be reached, mail alone can tell.
fn check_email(email: &Personal<String>) -> Result<(), Rejection> {
    let text = email.get().map_or("", String::as_str);
    check_length("email", text, EMAIL_LEN_MAX)?;
    match text.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !text.contains(char::is_whitespace) => {
            Ok(())
        }
        _ => Err(rejection("email-invalid", "email is no address: write it name@domain")),
    }
}
