//! Whether a value stands in what a page shows or declares for the job it is told of.
//!
//! Independent of the verifier that it checks: from the page's bytes it takes the visible text (`visible.rs`) and what
//! the page declares as JSON, microdata and in its head (`declared.rs`), with its own rules for what belongs to which
//! job, its own dates (`dates.rs`), sums (`amounts.rs`) and word lists (`meanings.rs`). Comments, scripts' code, class
//! names and hidden elements do not count.

mod amounts;
mod dates;
mod declared;
mod meanings;
mod part;
#[cfg(test)]
mod tests;
mod visible;

use chrono::NaiveDate;
use url::Url;

use self::declared::Declared;
use self::part::Part;
use self::visible::Visible;
use crate::clean;
use crate::document::Document;
use crate::eval::compare::title_words;
use crate::fetch::FetchedPage;
use crate::posting::{PageKind, Posting, Salary, SalaryPeriod, Workplace};

/// What a page shows and declares.
pub struct PageContent {
    visible: Visible,
    declared: Declared,
    /// Where it is, by the request and by its own words.
    addresses: Vec<String>,
    base: Url,
    fetched: NaiveDate,
}

/// Values of one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many were looked for.
    pub values: u32,
    /// Field and value of those that stand nowhere.
    pub invented: Vec<(String, String)>,
}

impl PageContent {
    /// Reads a page's bytes.
    pub fn read(page: &FetchedPage) -> Self {
        let html = clean::decode(&page.bytes, page.content_type.as_deref());
        let document = Document::parse(&html, &page.url);
        let own = [
            Some(page.url.to_string()),
            document.attr("link[rel='canonical']", "href"),
            document.attr("meta[property='og:url']", "content"),
        ];
        let absolute = |address: String| visible::addresses(&address, &document);
        Self {
            visible: visible::read(&document),
            declared: Declared::read(&document),
            addresses: own.into_iter().flatten().flat_map(absolute).collect(),
            base: document.base.clone(),
            fetched: page.fetched_at.date_naive(),
        }
    }

    /// Looks for every value of the postings of a page that was taken for `kind`.
    pub fn check(&self, postings: &[Posting], kind: PageKind) -> Checked {
        let mut checked = Checked::default();
        for posting in postings {
            let scope = self.scope(posting, kind);
            for (field, value, is_there) in scope.values(posting) {
                checked.values += 1;
                if !is_there {
                    checked.invented.push((field.to_owned(), value));
                }
            }
        }
        checked
    }

    /// What counts for one job.
    fn scope(&self, posting: &Posting, kind: PageKind) -> Scope<'_> {
        let title = title_words(posting.title.as_deref().unwrap_or("")).join(" ");
        let visible = &self.visible;
        let stands_alone = kind == PageKind::Posting && visible.common_titles.contains(&title);
        let mut parts = vec![&visible.common];
        if !stands_alone && !title.is_empty() {
            let chosen = self.records_of(posting, &title);
            parts.extend(chosen.into_iter().map(|at| &visible.records[at].part));
        }
        Scope { parts, declared: self.declared.of_job(posting.title.as_deref()), page: self }
    }

    /// The records that bear a title, and those around them.
    fn records_of(&self, posting: &Posting, title: &str) -> Vec<usize> {
        let records = &self.visible.records;
        let with =
            |bears: &dyn Fn(usize) -> bool| (0..records.len()).filter(|at| bears(*at)).collect::<Vec<_>>();
        let mut bearers = with(&|at| records[at].titles.iter().any(|own| own == title));
        if bearers.is_empty() {
            bearers = with(&|at| records[at].part.holds_title(title));
        }
        if bearers.is_empty() {
            bearers = with(&|at| title.split(' ').all(|word| records[at].part.says(word)));
        }
        // Of jobs with one title, the one whose address this is.
        let addresses = [&posting.url, &posting.apply_url];
        let has_link = |at: &usize| {
            let part = &records[*at].part;
            addresses.into_iter().flatten().any(|address| part.has_link(address))
        };
        if bearers.iter().any(has_link) {
            bearers.retain(has_link);
        } else {
            bearers.extend(with(&|at| has_link(&at) && records[at].part.holds_title(title)));
        }
        let mut all = bearers.clone();
        for bearer in bearers {
            let mut up = records[bearer].parent;
            while let Some(at) = up {
                all.push(at);
                up = records[at].parent;
            }
            // A record may hold its details in records of their own.
            all.extend(with(&|at| at != bearer && records[bearer].encloses(&records[at])));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

struct Scope<'a> {
    parts: Vec<&'a Part>,
    declared: Part,
    page: &'a PageContent,
}

impl Scope<'_> {
    fn any(&self, test: impl Fn(&Part) -> bool) -> bool {
        self.parts.iter().any(|part| test(part)) || test(&self.declared)
    }

    /// Field, value, and whether it is there.
    fn values(&self, posting: &Posting) -> Vec<(&'static str, String, bool)> {
        let mut out = Vec::new();
        let mut add = |field, value: &str, is_there| out.push((field, value.to_owned(), is_there));
        if let Some(title) = &posting.title {
            add("title", title, self.any(|part| part.holds_title(title)));
        }
        for (field, value) in [("company", &posting.company), ("seniority", &posting.seniority)] {
            if let Some(value) = value {
                add(field, value, self.holds(value));
            }
        }
        for (field, values) in [("locations", &posting.locations), ("skills", &posting.skills)] {
            for value in values {
                add(field, value, self.holds(value));
            }
        }
        for (field, date) in
            [("date_posted", &posting.date_posted), ("valid_through", &posting.valid_through)]
        {
            if let Some(date) = date {
                add(field, date, self.has_day(date));
            }
        }
        for (field, address) in [("apply_url", &posting.apply_url), ("url", &posting.url)] {
            if let Some(address) = address {
                add(field, address, self.has_address(address));
            }
        }
        let says = |entries: &[&str]| self.any(|part| entries.iter().any(|entry| part.says(entry)));
        if let Some(kind) = posting.employment_type {
            add("employment_type", &format!("{kind:?}"), says(meanings::employment(kind)));
        }
        if let Some(place) = posting.workplace {
            add("workplace", &format!("{place:?}"), says(meanings::workplace(place)));
        }
        if let Some(remote) = posting.remote {
            let place = if remote { Workplace::Remote } else { Workplace::OnSite };
            let is_there = says(meanings::workplace(place)) || says(meanings::workplace(Workplace::Hybrid));
            add("remote", &remote.to_string(), is_there);
        }
        if let Some(salary) = &posting.salary {
            self.add_salary(salary, &mut out);
        }
        out
    }

    fn add_salary(&self, salary: &Salary, out: &mut Vec<(&'static str, String, bool)>) {
        for bound in [salary.min, salary.max].into_iter().flatten() {
            let is_there = self.any(|part| amounts::derivable(bound, part.amounts()));
            out.push(("salary", bound.to_string(), is_there));
        }
        if let Some(code) = &salary.currency {
            let is_there = self.any(|part| meanings::names_currency(part, code));
            out.push(("salary currency", code.clone(), is_there));
        }
        if let Some(period) = salary.period {
            out.push(("salary period", format!("{period:?}"), self.has_period(period)));
        }
        if let Some(text) = &salary.text {
            out.push(("salary text", text.clone(), self.holds(text)));
        }
    }

    fn has_period(&self, period: SalaryPeriod) -> bool {
        self.any(|part| meanings::period(period).iter().any(|entry| part.says(entry)))
    }

    /// The value in one piece, or the pieces it was put together from.
    fn holds(&self, value: &str) -> bool {
        let pieces = || value.split([',', ';', '|', '/', '(', ')', '–', '·', '•', '\n']);
        self.any(|part| part.holds(value))
            || pieces()
                .filter(|piece| piece.chars().any(char::is_alphanumeric))
                .all(|piece| self.any(|part| part.holds(piece)))
                && pieces().count() > 1
    }

    fn has_day(&self, date: &str) -> bool {
        let Ok(day) = date.parse::<NaiveDate>() else { return false };
        self.any(|part| dates::derivable(day, self.page.fetched, part.text()))
    }

    fn has_address(&self, address: &str) -> bool {
        let absolute = self.page.base.join(address).map(String::from).unwrap_or_default();
        let is_one = |own: &String| own == address || *own == absolute;
        self.page.addresses.iter().any(is_one)
            || self.any(|part| part.has_link(address) || part.has_link(&absolute))
    }
}
