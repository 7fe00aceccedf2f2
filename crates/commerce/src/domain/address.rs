//! One e-mail address belongs to one user: the model that `register` and `change-email` are decided by beside the user.
//!
//! Addresses are compared without regard to case. Whoever is deactivated keeps theirs, so that nobody else is taken for
//! them; whoever changes theirs sets the old one free.

use super::user::{User, UserCommand, UserEvent};
use annals_core::{Boundary, Decision, DecisionModel, EventTag, Personal, Recorded, reject};

/// The address as it is compared.
pub(super) fn one_address(email: &Personal<String>) -> Personal<String> {
    let text = email.get().map(|text| text.trim().to_lowercase());
    text.map_or_else(Personal::erased, Personal::new)
}

/// Who has an address.
pub(super) struct AddressOwner {
    address: Personal<String>,
    tag: EventTag,
    /// Who asks for it.
    user: String,
    owner: Option<String>,
}

impl AddressOwner {
    /// The owner of this address, asked for by a user; `None` for an address that was erased, which nobody has.
    pub(super) fn of(email: &Personal<String>, user: &str) -> Option<Self> {
        let address = one_address(email);
        Some(Self {
            tag: EventTag::personal("email", &address)?,
            address,
            user: user.to_owned(),
            owner: None,
        })
    }
}

impl DecisionModel for AddressOwner {
    type Aggregate = User;
    type Event = UserEvent;

    fn boundary(&self) -> Boundary {
        Boundary::tagged(self.tag.clone()).of_types(["UserRegistered", "UserEmailChanged"])
    }

    fn evolve(&mut self, event: &Recorded<'_, UserEvent>) {
        let (taken, freed) = match event.data() {
            UserEvent::UserRegistered { email, .. } => (email, None),
            UserEvent::UserEmailChanged { email, previous } => (email, Some(one_address(previous))),
            _ => return,
        };
        if one_address(taken) == self.address {
            self.owner = Some(event.stream_id().to_owned());
        } else if freed.as_ref() == Some(&self.address) && self.owner.as_deref() == Some(event.stream_id()) {
            self.owner = None;
        }
    }

    fn decide(&self, user: &User, command: UserCommand) -> Decision<UserEvent> {
        use annals_core::Aggregate as _;
        let events = user.decide(command)?;
        match &self.owner {
            Some(owner) if *owner != self.user && !events.is_empty() => reject(
                "email-taken",
                "another user has this e-mail address: take another one, or sign in as that user",
            ),
            _ => Ok(events),
        }
    }
}
