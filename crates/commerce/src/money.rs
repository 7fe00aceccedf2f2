//! Money: whole minor units with a currency, and sums that keep currencies apart.
//!
//! Commands reckon with checked arithmetic and are rejected beyond the range; folds over what was recorded saturate,
//! since they have to accept every event.

use annals_core::Rejection;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A currency by its ISO 4217 code, three letters `A-Z`. Which codes are in use is not checked: that changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code, such as `BRL`.
    pub fn as_str(&self) -> &str {
        // Letters A-Z by construction, so it is never the default.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A text that is no currency code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCurrency;

impl fmt::Display for InvalidCurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a currency is an ISO 4217 code of three letters A-Z, such as \"BRL\"")
    }
}

impl std::error::Error for InvalidCurrency {}

impl FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(InvalidCurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;

        impl Visitor<'_> for Code {
            type Value = Currency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&InvalidCurrency, f)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Currency, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Code)
    }
}

/// An amount of money: `{"amount":12990,"currency":"BRL"}` are 129.90 reais.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Whole minor units (cents).
    pub amount: i64,
    /// Of which currency.
    pub currency: Currency,
}

impl Money {
    /// An amount in minor units.
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing of this currency.
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// Sums of money by currency, in minor units: `{"BRL":12990}`. A currency that never occurred is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerCurrency(BTreeMap<Currency, i64>);

impl PerCurrency {
    /// The sum in this currency; 0 if it never occurred.
    pub fn of(&self, currency: Currency) -> i64 {
        self.0.get(&currency).copied().unwrap_or_default()
    }

    /// Each currency with its sum.
    pub fn iter(&self) -> impl Iterator<Item = Money> + '_ {
        self.0.iter().map(|(&currency, &amount)| Money::new(amount, currency))
    }

    /// Adds an amount; stays at the limit of the range rather than beyond it.
    pub fn add(&mut self, money: Money) {
        let sum = self.0.entry(money.currency).or_default();
        *sum = sum.saturating_add(money.amount);
    }
}

impl FromIterator<Money> for PerCurrency {
    fn from_iter<I: IntoIterator<Item = Money>>(amounts: I) -> Self {
        let mut sums = Self::default();
        amounts.into_iter().for_each(|money| sums.add(money));
        sums
    }
}

/// The rejection of an amount below zero, `what` being its name in the command.
pub(crate) fn check_not_negative(what: &str, money: Money) -> Result<(), Rejection> {
    if money.amount >= 0 {
        return Ok(());
    }
    Err(Rejection {
        code: "amount-negative".into(),
        message: format!("{what} is {money}: give an amount of 0 or more, in minor units"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!("BRL".parse::<Currency>().unwrap().as_str(), "BRL");
        for text in ["", "BR", "BRLX", "brl", "B1L", "ÉU"] {
            assert_eq!(text.parse::<Currency>(), Err(InvalidCurrency), "{text}");
        }
    }

    #[test]
    fn money_is_read_from_json_and_a_bad_currency_names_the_rule() {
        let money: Money = serde_json::from_str(r#"{"amount":12990,"currency":"BRL"}"#).unwrap();
        assert_eq!(money.to_string(), "12990 BRL");
        let error = serde_json::from_str::<Money>(r#"{"amount":1,"currency":"real"}"#).unwrap_err();
        assert!(error.to_string().contains("ISO 4217"), "{error}");
        for text in [
            r#"{"amount":9223372036854775808,"currency":"BRL"}"#,
            r#"{"amount":1.5,"currency":"BRL"}"#,
            r#"{"amount":1,"currency":"BRL","cents":1}"#,
        ] {
            assert!(serde_json::from_str::<Money>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sums_keep_currencies_apart_and_stay_within_the_range() {
        let (brl, usd) = ("BRL".parse().unwrap(), "USD".parse().unwrap());
        let amounts = [Money::new(i64::MAX, brl), Money::new(5, usd), Money::new(1, brl)];
        let sums: PerCurrency = amounts.into_iter().collect();
        assert_eq!((sums.of(brl), sums.of(usd)), (i64::MAX, 5));
        assert_eq!(
            serde_json::to_string(&sums).unwrap(),
            r#"{"BRL":9223372036854775807,"USD":5}"#
        );
    }
}
