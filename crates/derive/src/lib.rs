//! Derives for what a user of Annals writes: `Event`, `EventSet`, `Command`, `State`, `Row`.
//!
//! They only spell out what the traits of `annals-core` say; every rule lives there.

mod command;
mod event;
mod fields;
mod stored;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Event` for an enum: each variant is an event type, named like the variant.
///
/// On a variant: `#[event(name = "…")]`, `#[event(was = "OldName")]`, `#[event(version = 2, upcast = path)]`,
/// `#[event(tags(field, key = field, key = function(field)))]`.
#[proc_macro_derive(Event, attributes(event, serde))]
pub fn event(input: TokenStream) -> TokenStream {
    finish(event::event(&parse_macro_input!(input as DeriveInput)))
}

/// Implements `EventSet` for an enum whose variants each hold another set.
#[proc_macro_derive(EventSet)]
pub fn event_set(input: TokenStream) -> TokenStream {
    finish(event::event_set(&parse_macro_input!(input as DeriveInput)))
}

/// Implements `Command` for an enum: each variant is a command, named like the variant in kebab-case.
#[proc_macro_derive(Command, attributes(command, serde))]
pub fn command(input: TokenStream) -> TokenStream {
    finish(command::command(&parse_macro_input!(input as DeriveInput)))
}

/// Implements `State`, and serde's traits, for a struct or enum.
#[proc_macro_derive(State, attributes(serde))]
pub fn state(input: TokenStream) -> TokenStream {
    finish(stored::state(&parse_macro_input!(input as DeriveInput)))
}

/// Implements `Row`, and serde's traits, for a struct; `#[index]` on a field makes rows findable by it.
#[proc_macro_derive(Row, attributes(index, serde))]
pub fn row(input: TokenStream) -> TokenStream {
    finish(stored::row(&parse_macro_input!(input as DeriveInput)))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}
