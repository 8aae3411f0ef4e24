//! Words of a page as values: dates, salaries, employment types, workplaces. Pure; what is ambiguous is `None`.

mod date;
mod salary;
mod words;

pub use date::{date, iso_date};
pub use salary::{is_benefit, names_currency, plausible_salary, salary, salary_period};
pub use words::{employment, language, workplace};
