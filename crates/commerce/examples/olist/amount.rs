//! Decimal texts as integer minor units, exactly. Knows nothing of currencies: two decimals is what the tables have.

use anyhow::{Context, Result, ensure};

/// Reads `"99.9"`, `"541.0"` or `"12"` as minor units (9990, 54100, 1200). Refuses signs, exponents and a third
/// decimal rather than rounding: an amount that does not fit is a fact about the file that somebody must look at.
pub(crate) fn minor_units(text: &str) -> Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        is_digits(whole) && is_digits(fraction) && fraction.len() <= 2,
        "not an amount of two decimals: {text:?}"
    );
    let amount = || {
        let cents = fraction.parse::<i64>().ok()? * if fraction.len() == 1 { 10 } else { 1 };
        whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents)
    };
    amount().with_context(|| format!("amount too large: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::minor_units;

    #[test]
    fn reads_exactly() {
        for (text, expected) in [("99.9", 9990), ("541.0", 54100), ("0.05", 5), ("12", 1200), ("0.0", 0)] {
            assert_eq!(minor_units(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_it_would_have_to_guess() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1.0",
            "+1",
            "1e2",
            "1.234",
            "1,5",
            "99999999999999999999",
        ] {
            assert!(minor_units(text).is_err(), "{text}");
        }
    }
}
