//! Decimal texts as scaled integers, exactly. Knows no currency and no table.

use anyhow::{Context, Result, ensure};

/// Reads a decimal as an integer of its `10^-decimals`: `scaled("-2.55", 3)` is -2550. Nothing is rounded.
///
/// # Errors
///
/// When the text is not a plain decimal, has more decimals than that, or does not fit.
pub fn scaled(text: &str, decimals: usize) -> Result<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = !whole.is_empty() && !digits.ends_with('.') && fraction.len() <= decimals;
    let is_number = plain && whole.chars().chain(fraction.chars()).all(|it| it.is_ascii_digit());
    ensure!(is_number, "not a decimal of at most {decimals} places: {text:?}");
    format!("{sign}{whole}{fraction:0<decimals$}")
        .parse()
        .with_context(|| format!("decimal {text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn reads_exactly() {
        for (text, decimals, expected) in [
            ("2.55", 3, 2550),
            ("0.001", 3, 1),
            ("-11062.06", 3, -11_062_060),
            ("18", 2, 1800),
            ("-0.5", 2, -50),
        ] {
            assert_eq!(scaled(text, decimals).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_plain_decimal() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "+1",
            "--1",
            "1e3",
            "1.2.3",
            "0.0001",
            " 1",
            "99999999999999999999",
        ] {
            assert!(scaled(text, 3).is_err(), "{text}");
        }
    }
}
