//! Typed reading of `config.json`; null counts as absent. An error names the key and what was found.

use quarry_formats::FormatError;
use serde_json::Value;

use crate::families::FamilyError;

/// An object of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Config<'a>(pub &'a Value);

/// A value as a message shows it.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| value.to_string().chars().take(60).collect())
}

impl<'a> Config<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// The value as `read` takes it, `None` where it is absent.
    fn read<T>(
        &self,
        key: &str,
        why: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FamilyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let bad = || FamilyError::Metadata { key: key.to_owned(), found: shown(Some(value)), why };
        read(value).map(Some).ok_or_else(bad)
    }

    /// A number of things.
    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>, FamilyError> {
        self.read(key, "must be an integer of 0 or more", |v| usize::try_from(v.as_u64()?).ok())
    }

    /// A number of things that must be there.
    pub(super) fn size(&self, key: &str) -> Result<usize, FamilyError> {
        let missing = || FormatError::MissingKey { key: key.to_owned() };
        Ok(self.optional_size(key)?.ok_or_else(missing)?)
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, FamilyError> {
        self.read(key, "must be a number", Value::as_f64)
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, FamilyError> {
        self.read(key, "must be true or false", Value::as_bool)
    }

    /// Text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, FamilyError> {
        self.read(key, "must be text", Value::as_str)
    }

    /// An object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Config<'a>>, FamilyError> {
        self.read(key, "must be an object", |v| v.is_object().then_some(Config(v)))
    }

    /// Whether every entry of a list is this text; a list that is absent has no other.
    pub(super) fn all_are(&self, key: &str, text: &str) -> bool {
        self.get(key)
            .is_none_or(|list| list.as_array().is_some_and(|list| list.iter().all(|entry| entry == text)))
    }

    /// An error that shows the key's value, where `bad`.
    pub(super) fn refuse(&self, bad: bool, key: &str, why: &'static str) -> Result<(), FamilyError> {
        if bad {
            let found = shown(self.get(key));
            return Err(FamilyError::Metadata { key: key.to_owned(), found, why });
        }
        Ok(())
    }
}
