//! Words of a page as values: dates, salaries, employment types, workplaces, languages. Pure; what is ambiguous is
//! `None`.
//!
//! Which words mean what stands in the lists (`words/*.toml`); here is only how they stand to numbers and to each
//! other.

mod amounts;
mod date;
mod employment;
mod language;
mod place;
mod salary;

pub use date::{date, iso_date};
pub use employment::{employment, workplace};
pub use language::language;
pub use place::{Place, place};
pub use salary::{is_benefit, names_currency, plausible_salary, salary, salary_period};

/// Bytes of a text that are read for one fact: nobody states a pay, a date or a place at greater length, and each
/// number of it is compared with each word.
const STATEMENT_BYTES_MAX: usize = 4_096;

/// The part of a text that is read for one fact.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(STATEMENT_BYTES_MAX)]
}
