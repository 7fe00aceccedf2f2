//! Progress bars: on stderr, and only when it is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` things that are named by `unit`; hidden unless stderr is a terminal.
pub(crate) fn bar(total: u64, unit: &str) -> ProgressBar {
    styled(
        Some(total),
        &format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}"),
    )
}

/// A bar over bytes of input.
pub(crate) fn bytes_bar(total: u64) -> ProgressBar {
    styled(Some(total), "{bar:30} {bytes}/{total_bytes}  {eta} left  {msg}")
}

/// For what has no known end.
pub(crate) fn spinner() -> ProgressBar {
    styled(None, "{spinner} {elapsed}  {msg}")
}

fn styled(total: Option<u64>, template: &str) -> ProgressBar {
    // indicatif draws nothing when stderr is not a terminal, and leaves colours out when NO_COLOR is set.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
