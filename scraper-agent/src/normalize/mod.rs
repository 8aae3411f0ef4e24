//! Words of a page as values: dates, salaries, employment types, workplaces, languages. Pure; what is ambiguous is `None`.
//!
//! Which words mean what stands in the lists (`words/*.toml`); here is only how they stand to numbers and to each other.

mod amounts;
mod date;
mod employment;
mod language;
mod salary;

pub use date::{date, iso_date};
pub use employment::{employment, workplace};
pub use language::language;
pub use salary::{is_benefit, names_currency, plausible_salary, salary, salary_period};
