//! `online-users`: how many users are signed in. One row, key `all`. The events say whether a user was online before,
//! so the count needs no user's own state.

use crate::domain::UserEvent;
use annals_core::{Key, Keys, Recorded, Row, View};

/// The one row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct OnlineUsersRow {
    /// Users who are signed in.
    pub online: u64,
}

/// The view `online-users`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnlineUsers;

impl View for OnlineUsers {
    const NAME: &'static str = "online-users";
    const VERSION: u32 = 1;
    type Event = UserEvent;
    type Row = OnlineUsersRow;

    fn route(&self, event: &Recorded<'_, UserEvent>) -> Keys {
        match event.data() {
            // A registration changes nothing, but with the first one there is a row that says 0.
            UserEvent::UserRegistered { .. }
            | UserEvent::UserSignedIn { already_online: false }
            | UserEvent::UserSignedOut
            | UserEvent::UserDeactivated { was_online: true } => Keys::one("all"),
            _ => Keys::none(),
        }
    }

    fn fold(&self, _key: &Key, row: Option<OnlineUsersRow>, event: &Recorded<'_, UserEvent>) -> Option<OnlineUsersRow> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            UserEvent::UserSignedIn { .. } => row.online = row.online.saturating_add(1),
            UserEvent::UserSignedOut | UserEvent::UserDeactivated { .. } => row.online = row.online.saturating_sub(1),
            UserEvent::UserRegistered { .. } | UserEvent::UserEmailChanged { .. } => {}
        }
        Some(row)
    }
}
