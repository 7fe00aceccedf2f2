//! A tool for the suites: makes the rows of a stopped view lie, with checksums that hold. The product does not use it; it
//! stands here because it must know every byte.

use crate::store::{Scan, Stores};
use crate::views::ViewsDir;
use crate::{ProjectionSettings, RebuildError};
use std::path::Path;
use std::sync::Arc;

/// Told a row's key and its MessagePack, says what stands there afterwards.
type AlterRow<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Option<Vec<u8>>;

/// Puts something else in the place of the first row, in the order of keys, for which `alter` gives it. Returns whether
/// there was one.
///
/// # Errors
///
/// When there is no store of such a view, or it cannot be read or written.
#[doc(hidden)]
pub fn alter_row(views_dir: &Path, view: &str, alter: AlterRow<'_>) -> Result<bool, RebuildError> {
    let failed = |detail: String| RebuildError::Store {
        view: view.to_owned(),
        detail,
    };
    let stores = Arc::new(Stores::new(&ProjectionSettings::new(views_dir, views_dir)));
    let directory = ViewsDir::open(views_dir, stores).map_err(|error| failed(error.to_string()))?;
    let serving = directory
        .serving(view)
        .ok_or_else(|| RebuildError::NotBuilt(view.to_owned()))?;
    let store = directory
        .open_serving(&serving)
        .map_err(|error| failed(error.to_string()))?;
    let mut altered = None;
    let read = store.rows().reader().each_row(&mut |key, mut row| {
        let Some(new) = alter(key, &row.row) else {
            return Ok(Scan::Go);
        };
        row.row = new;
        altered = Some((key.to_owned(), row));
        Ok(Scan::Stop)
    });
    read.map_err(|error| failed(error.to_string()))?;
    let Some((key, row)) = altered else {
        return Ok(false);
    };
    let written = store.rows().put_unchecked(&key, &row);
    written.map_err(|error| failed(error.to_string()))?;
    Ok(true)
}
