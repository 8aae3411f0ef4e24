//! Metadata values and their typed reading; an error names the key, what was wanted and what was found.

use super::GgufFile;
use crate::FormatError;

/// A metadata value. Arrays are homogeneous; integers and floats are widened.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    String(String),
    U64Array(Vec<u64>),
    I64Array(Vec<i64>),
    F64Array(Vec<f64>),
    BoolArray(Vec<bool>),
    StringArray(Vec<String>),
}

impl Value {
    /// Type and, for a scalar number, value: for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::U64(n) => format!("the integer {n}"),
            Value::I64(n) => format!("the integer {n}"),
            Value::F64(x) => format!("the float {x}"),
            Value::Bool(b) => format!("the bool {b}"),
            Value::String(s) => format!("a string of {} bytes", s.len()),
            Value::U64Array(a) => format!("an array of {} unsigned integers", a.len()),
            Value::I64Array(a) => format!("an array of {} integers", a.len()),
            Value::F64Array(a) => format!("an array of {} floats", a.len()),
            Value::BoolArray(a) => format!("an array of {} bools", a.len()),
            Value::StringArray(a) => format!("an array of {} strings", a.len()),
        }
    }
}

/// A Rust type that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// For messages: `a string`, `an integer ≥ 0` ….
    const EXPECTED: &'static str;
    /// `None` where the value has another type or range.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! from_value {
    ($type:ty, $expected:literal, $($pattern:pat => $result:expr),+) => {
        impl<'a> FromValue<'a> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $($pattern => $result,)+
                    _ => None,
                }
            }
        }
    };
}

from_value!(&'a str, "a string", Value::String(s) => Some(s));
from_value!(bool, "a bool", Value::Bool(b) => Some(*b));
from_value!(u64, "an integer ≥ 0", Value::U64(n) => Some(*n), Value::I64(n) => u64::try_from(*n).ok());
from_value!(usize, "an integer ≥ 0 that fits", Value::U64(n) => usize::try_from(*n).ok(),
    Value::I64(n) => usize::try_from(*n).ok());
from_value!(u32, "an integer from 0 to 4294967295", Value::U64(n) => u32::try_from(*n).ok(),
    Value::I64(n) => u32::try_from(*n).ok());
from_value!(i64, "an integer", Value::I64(n) => Some(*n), Value::U64(n) => i64::try_from(*n).ok());
from_value!(f32, "a float", Value::F64(x) => Some(*x as f32));
from_value!(f64, "a float", Value::F64(x) => Some(*x));
from_value!(&'a [String], "an array of strings", Value::StringArray(a) => Some(a));
from_value!(&'a [f64], "an array of floats", Value::F64Array(a) => Some(a));
from_value!(Vec<i64>, "an array of integers", Value::I64Array(a) => Some(a.clone()),
    Value::U64Array(a) => a.iter().map(|&n| i64::try_from(n).ok()).collect());

impl GgufFile {
    /// A metadata value as `T`, `None` where the key is absent.
    ///
    /// # Errors
    /// [`FormatError::ValueType`] where it is there with another type.
    pub fn metadata_opt<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, FormatError> {
        let Some(value) = self.metadata().get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(found) => Ok(Some(found)),
            None => Err(FormatError::ValueType {
                key: key.to_owned(),
                expected: T::EXPECTED,
                found: value.describe(),
            }),
        }
    }

    /// A metadata value as `T`.
    ///
    /// # Errors
    /// [`FormatError::MissingKey`], [`FormatError::ValueType`].
    pub fn metadata_as<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, FormatError> {
        self.metadata_opt(key)?.ok_or_else(|| FormatError::MissingKey { key: key.to_owned() })
    }

    /// A string.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_str(&self, key: &str) -> Result<&str, FormatError> {
        self.metadata_as(key)
    }

    /// An integer.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_u64(&self, key: &str) -> Result<u64, FormatError> {
        self.metadata_as(key)
    }

    /// An integer that fits `usize`.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_usize(&self, key: &str) -> Result<usize, FormatError> {
        self.metadata_as(key)
    }

    /// A float.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_f32(&self, key: &str) -> Result<f32, FormatError> {
        self.metadata_as(key)
    }

    /// A bool.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_bool(&self, key: &str) -> Result<bool, FormatError> {
        self.metadata_as(key)
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_as`].
    pub fn metadata_strings(&self, key: &str) -> Result<&[String], FormatError> {
        self.metadata_as(key)
    }
}
