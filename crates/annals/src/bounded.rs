//! Numbers of `annals.toml` within their bounds: what is out of them is refused at the start, with what goes.

use anyhow::{Result, ensure};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The section of the settings that are being looked at.
pub(crate) struct Section(pub(crate) &'static str);

impl Section {
    /// Sets what is said; an error if that is out of bounds.
    pub(crate) fn set<T: PartialOrd + Copy + Display>(
        &self,
        key: &str,
        said: Option<T>,
        bounds: RangeInclusive<T>,
        setting: &mut T,
    ) -> Result<()> {
        let Some(said) = said else { return Ok(()) };
        ensure!(
            bounds.contains(&said),
            "[{}] {key} = {said} is out of bounds: set it to {} at least and {} at most, or leave it out",
            self.0,
            bounds.start(),
            bounds.end()
        );
        *setting = said;
        Ok(())
    }
}
