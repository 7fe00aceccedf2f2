//! Stories of a view: events in the order of the log, and the rows that come of them.

use crate::happened::{Happened, Recorder};
use crate::stored::stored;
use annals_core::{Key, Recorded, View};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A view that has read nothing yet.
pub fn view<V: View>(view: V) -> ViewStory<V> {
    ViewStory {
        view,
        recorder: Recorder::default(),
        rows: BTreeMap::new(),
    }
}

/// A view and its rows so far.
pub struct ViewStory<V: View> {
    view: V,
    recorder: Recorder,
    rows: BTreeMap<Key, V::Row>,
}

impl<V: View> ViewStory<V> {
    /// Folds these events, in this order. What the view does not read passes it by, as it does in the log.
    ///
    /// # Panics
    ///
    /// When an event or a row cannot be read back from its stored form.
    #[must_use]
    pub fn given<E: Into<Happened>>(mut self, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            let Self { view, recorder, rows } = &mut self;
            recorder.record(&event.into(), |record| {
                let event = Recorded::<V::Event>::decode(record).unwrap_or_else(|error| panic!("{error}"));
                if let Some(event) = event {
                    fold(view, rows, &event);
                }
            });
        }
        self
    }

    /// The row of this key.
    pub fn row(self, key: &str) -> RowOf<V> {
        RowOf {
            story: self,
            key: Key::from(key),
        }
    }

    /// All rows by key.
    pub fn rows(&self) -> &BTreeMap<Key, V::Row> {
        &self.rows
    }
}

fn fold<V: View>(view: &V, rows: &mut BTreeMap<Key, V::Row>, event: &Recorded<'_, V::Event>) {
    for key in view.route(event) {
        let row = rows.remove(&key);
        if let Some(row) = view.fold(&key, row, event) {
            rows.insert(key, stored(&row));
        }
    }
}

/// One row of a view, to be compared.
#[must_use]
pub struct RowOf<V: View> {
    story: ViewStory<V>,
    key: Key,
}

impl<V: View> RowOf<V>
where
    V::Row: PartialEq + Debug,
{
    /// The row is there and equals this one. Other rows may follow.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a story reads better without borrowing its parts"
    )]
    pub fn is(self, expected: V::Row) -> ViewStory<V> {
        let row = self.story.rows.get(&self.key);
        assert_eq!(row, Some(&expected), "row {} of view {}", self.key, V::NAME);
        self.story
    }

    /// There is no such row.
    ///
    /// # Panics
    ///
    /// When there is one.
    #[track_caller]
    pub fn is_missing(self) -> ViewStory<V> {
        let row = self.story.rows.get(&self.key);
        assert_eq!(row, None, "row {} of view {}", self.key, V::NAME);
        self.story
    }
}
