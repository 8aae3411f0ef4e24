//! Choosing among candidates. Pure: the same candidates give the same posting, and each choice says why.
//!
//! A field takes the candidate with most points. Points are what its source is worth for the field ([`worth`]), what
//! spoke for or against the find, and a little for each other source that says the same. Then a few fields look at each
//! other: two titles of which one holds the other, an employer among the places, a fixed term beside full time.

use super::{Candidate, Field, Source, Value};
use crate::normalize;
use crate::page::fold;
use crate::posting::{EmploymentType, Posting};

/// Points from which a value needs no model's confirmation.
pub const CERTAIN: i32 = 70;
/// Points under which a value is left out.
const LEAST: i32 = 25;
/// For each other source that says the same, and at most.
const AGREES: i32 = 5;
const AGREES_MAX: i32 = 10;
/// Of two titles of which one holds the other, the worse loses so much.
const NESTED: i32 = 20;
/// Characters of a heading that is a title as it stands.
const TITLE_CHARS: usize = 110;

/// What a find of a source is worth for a field: roughly how often of a hundred it is right.
pub fn worth(source: Source, field: Field) -> i32 {
    use Field as F;
    use Source as S;
    match (source, field) {
        (S::Api, _) => 100,
        // The state is what the page shows; JSON-LD's places and workplaces are often put together by a template.
        (S::State, F::Locations | F::Workplace | F::Remote) => 92,
        (S::State, _) => 88,
        (S::JsonLd, F::Locations | F::Workplace | F::Remote) => 86,
        (S::JsonLd, _) => 90,
        (S::Microdata, _) => 84,
        (S::Label, _) => 76,
        (S::Beside, F::Company) => 72,
        (S::Beside, _) => 62,
        (S::Heading, _) => 60,
        (S::Head, F::Title) => 50,
        (S::Head, _) => 58,
        (S::Model, F::Title) => 66,
        (S::Model, F::Salary) => 70,
        (S::Model, _) => 65,
        (S::Title, _) => 63,
        (S::Prose, _) => 55,
        (S::Page, F::Company) => 30,
        (S::Page, F::Description | F::Language) => 60,
        (S::Page, _) => 50,
    }
}

/// A field's value and why it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Of what.
    pub field: Field,
    /// By whom.
    pub source: Source,
    /// Its points.
    pub score: i32,
    /// For people: what spoke for it, and over what it was taken.
    pub why: String,
}

/// A posting with the reasons for its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The values, each with its evidence.
    pub posting: Posting,
    /// In the order of [`Field::ALL`].
    pub choices: Vec<Choice>,
}

impl Resolved {
    /// Points of a field's value; 0 where it has none.
    pub fn score(&self, field: Field) -> i32 {
        self.choices.iter().find(|choice| choice.field == field).map_or(0, |choice| choice.score)
    }

    /// Whether who, what and where are beyond doubt, and from what; else the fields that are not.
    ///
    /// # Errors
    /// The fields in doubt.
    pub fn certain(&self) -> Result<Vec<Source>, Vec<Field>> {
        let is_remote = self.posting.remote == Some(true) && self.score(Field::Remote) >= CERTAIN;
        let wanted = [Field::Title, Field::Company, Field::Locations];
        let doubtful =
            |field: &Field| self.score(*field) < CERTAIN && !(*field == Field::Locations && is_remote);
        let in_doubt: Vec<Field> = wanted.into_iter().filter(doubtful).collect();
        if !in_doubt.is_empty() {
            return Err(in_doubt);
        }
        let mut sources: Vec<Source> = Vec::new();
        for choice in self.choices.iter().filter(|choice| wanted.contains(&choice.field)) {
            if !sources.contains(&choice.source) {
                sources.push(choice.source);
            }
        }
        Ok(sources)
    }
}

/// The posting that the candidates make.
pub fn resolve(candidates: &[Candidate]) -> Resolved {
    let mut resolved = Resolved::default();
    for field in Field::ALL {
        let own = candidates.iter().filter(|candidate| candidate.field == field).cloned();
        let mut own: Vec<Candidate> = own.chain(derived(field, &resolved)).collect();
        match field {
            Field::Title => nested_titles(&mut own, candidates),
            Field::Locations => without_employer(&mut own, &resolved),
            _ => {}
        }
        let agreeing: Vec<i32> = (0..own.len()).map(|at| agreement(&own, at)).collect();
        let points = |at: usize| own[at].score + agreeing[at];
        // The earlier of two equals.
        let best = (0..own.len()).rev().max_by_key(|at| points(*at));
        let Some(best) = best.filter(|at| points(*at) >= LEAST) else { continue };
        let best = fixed_term(field, &own, best);
        let why = reason(&own, best, agreeing[best]);
        let score = points(best);
        let taken = &own[best];
        resolved.choices.push(Choice { field, source: taken.source, score, why });
        put(&mut resolved.posting, taken);
    }
    resolved
}

/// What settled fields say of this one.
fn derived(field: Field, resolved: &Resolved) -> Option<Candidate> {
    let posting = &resolved.posting;
    match field {
        Field::Remote => {
            let remote = super::labelled::remote(posting.workplace?)?;
            let evidence = posting.evidence.get(Field::Workplace.name()).cloned().unwrap_or_default();
            let source = resolved.choices.iter().find(|choice| choice.field == Field::Workplace)?.source;
            Some(Candidate::new(field, Value::Remote(remote), source, evidence))
        }
        Field::EmploymentType => {
            // "Contract Manager" is no contract.
            let kind = normalize::employment(posting.title.as_deref()?)?;
            let evidence = posting.evidence.get(Field::Title.name()).cloned().unwrap_or_default();
            (kind != EmploymentType::Contract)
                .then(|| Candidate::new(field, Value::Employment(kind), Source::Title, evidence))
        }
        _ => None,
    }
}

/// A heading and a model's title of which one holds the other: the heading is right where the model added to it or cut
/// it short, unless what it cut off is the employer or the place.
fn nested_titles(titles: &mut [Candidate], all: &[Candidate]) {
    let names: Vec<String> = all
        .iter()
        .filter_map(|candidate| match (candidate.field, &candidate.value) {
            (Field::Company, Value::Text(name)) => Some(vec![fold(name)]),
            (Field::Locations, Value::Texts(places)) => {
                Some(places.iter().map(|place| fold(place)).collect())
            }
            _ => None,
        })
        .flatten()
        .filter(|name| !name.is_empty())
        .collect();
    let text = |candidate: &Candidate| match &candidate.value {
        Value::Text(text) => fold(text),
        _ => String::new(),
    };
    for heading in 0..titles.len() {
        for model in 0..titles.len() {
            if titles[heading].source != Source::Heading || titles[model].source != Source::Model {
                continue;
            }
            let (head, said) = (text(&titles[heading]), text(&titles[model]));
            if head == said || head.is_empty() || said.is_empty() {
                continue;
            }
            let rest = head.replacen(&said, "", 1);
            let cuts_a_name = names.iter().any(|name| rest.contains(name) || name.contains(&rest));
            let is_short = head.chars().count() <= TITLE_CHARS;
            let (loser, why) = if said.contains(&head) {
                (model, "it adds to the heading")
            } else if head.starts_with(&said) && is_short && !cuts_a_name {
                (model, "it cuts the heading short")
            } else if head.contains(&said) {
                (heading, "it holds more than the job's name")
            } else {
                continue;
            };
            titles[loser] = titles[loser].clone().adjusted(true, -NESTED, why);
        }
    }
}

/// Small models put the employer among the places.
fn without_employer(places: &mut Vec<Candidate>, resolved: &Resolved) {
    let Some(company) = resolved.posting.company.as_deref().map(fold) else { return };
    places.retain_mut(|candidate| {
        let Value::Texts(names) = &mut candidate.value else { return false };
        names.retain(|name| fold(name) != company);
        !names.is_empty()
    });
}

/// Full time says how many hours, a fixed term how long: of both, the term is the rarer and the one people ask for.
fn fixed_term(field: Field, own: &[Candidate], best: usize) -> usize {
    let is = |at: usize, kind| own[at].value == Value::Employment(kind);
    if field != Field::EmploymentType || !is(best, EmploymentType::FullTime) {
        return best;
    }
    let term = (0..own.len()).find(|at| is(*at, EmploymentType::Temporary) && own[*at].score >= LEAST);
    term.unwrap_or(best)
}

/// Points for other sources that say the same.
fn agreement(own: &[Candidate], at: usize) -> i32 {
    let mut sources: Vec<Source> = Vec::new();
    for other in
        own.iter().filter(|other| other.source != own[at].source && agrees(&own[at].value, &other.value))
    {
        if !sources.contains(&other.source) {
            sources.push(other.source);
        }
    }
    (sources.len() as i32 * AGREES).min(AGREES_MAX)
}

fn agrees(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => fold(a) == fold(b),
        (Value::Texts(a), Value::Texts(b)) => a.iter().any(|a| b.iter().any(|b| fold(a) == fold(b))),
        (Value::Salary(a), Value::Salary(b)) => (a.min, a.max) == (b.min, b.max),
        (a, b) => a == b,
    }
}

fn reason(own: &[Candidate], best: usize, agreement: i32) -> String {
    let taken = &own[best];
    let mut why = taken.source.name().to_owned();
    for note in &taken.notes {
        why.push_str(&format!(", {note}"));
    }
    if agreement > 0 {
        why.push_str(", and others say the same");
    }
    let mut rivals: Vec<&Candidate> =
        own.iter().filter(|other| !agrees(&other.value, &taken.value)).collect();
    rivals.sort_by_key(|other| std::cmp::Reverse(other.score));
    if let Some(rival) = rivals.first() {
        why.push_str(&format!("; not {} ({} points)", rival.source.name(), rival.score));
    }
    why
}

fn put(posting: &mut Posting, taken: &Candidate) {
    match (taken.field, &taken.value) {
        (Field::Title, Value::Text(text)) => posting.title = Some(text.clone()),
        (Field::Company, Value::Text(text)) => posting.company = Some(text.clone()),
        (Field::Seniority, Value::Text(text)) => posting.seniority = Some(text.clone()),
        (Field::DatePosted, Value::Text(text)) => posting.date_posted = Some(text.clone()),
        (Field::ValidThrough, Value::Text(text)) => posting.valid_through = Some(text.clone()),
        (Field::ApplyUrl, Value::Text(text)) => posting.apply_url = Some(text.clone()),
        (Field::Url, Value::Text(text)) => posting.url = Some(text.clone()),
        (Field::Description, Value::Text(text)) => posting.description = Some(text.clone()),
        (Field::Language, Value::Text(text)) => posting.language = Some(text.clone()),
        (Field::Locations, Value::Texts(texts)) => posting.locations.clone_from(texts),
        (Field::Skills, Value::Texts(texts)) => posting.skills.clone_from(texts),
        (_, Value::Workplace(kind)) => posting.workplace = Some(*kind),
        (_, Value::Employment(kind)) => posting.employment_type = Some(*kind),
        (_, Value::Salary(salary)) => posting.salary = Some(salary.as_ref().clone()),
        (_, Value::Remote(remote)) => posting.remote = Some(*remote),
        // A value of another shape than its field's cannot be made by any source.
        _ => return,
    }
    if !taken.evidence.is_empty() {
        posting.evidence.insert(taken.field.name().to_owned(), taken.evidence.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::{Evidence, EvidenceSource, Salary, Workplace};

    fn text(field: Field, source: Source, value: &str) -> Candidate {
        Candidate::new(field, Value::Text(value.into()), source, Vec::new())
    }

    fn places(source: Source, values: &[&str]) -> Candidate {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Candidate::new(Field::Locations, Value::Texts(values), source, Vec::new())
    }

    fn kind(source: Source, kind: EmploymentType) -> Candidate {
        Candidate::new(Field::EmploymentType, Value::Employment(kind), source, Vec::new())
    }

    #[test]
    fn titles_by_table() {
        use Source as S;
        let named = |source, value: &str| text(Field::Title, source, value).adjusted(true, 20, "named");
        for (why, candidates, expected) in [
            ("data before all", vec![text(Field::Title, S::JsonLd, "A"), named(S::Heading, "B")], "A"),
            (
                "a doubted declaration after a named heading",
                vec![
                    text(Field::Title, S::JsonLd, "A").adjusted(true, -25, "absent"),
                    named(S::Heading, "B"),
                ],
                "B",
            ),
            (
                "a model that adds to the heading",
                vec![named(S::Model, "B, Acme, Bonn"), named(S::Heading, "B")],
                "B",
            ),
            (
                "a model that cuts it short",
                vec![named(S::Model, "Senior"), named(S::Heading, "Senior Diver")],
                "Senior Diver",
            ),
            (
                "a model that cuts off the employer",
                vec![
                    named(S::Model, "Diver"),
                    named(S::Heading, "Diver, Acme"),
                    text(Field::Company, S::Label, "Acme"),
                ],
                "Diver",
            ),
            (
                "the earlier of two equals",
                vec![text(Field::Title, S::Head, "A"), text(Field::Title, S::Head, "B")],
                "A",
            ),
        ] {
            let resolved = resolve(&candidates);
            assert_eq!(resolved.posting.title.as_deref(), Some(expected), "{why}");
        }
    }

    #[test]
    fn other_fields_by_table() {
        use EmploymentType as E;
        use Source as S;
        let company = |candidates: &[Candidate]| resolve(candidates).posting.company;
        let label = text(Field::Company, S::Label, "Acme");
        let model = text(Field::Company, S::Model, "Grabbit");
        assert_eq!(
            company(&[model.clone(), label.clone()]).as_deref(),
            Some("Acme"),
            "a label before a model"
        );
        let hosted = model.adjusted(true, -60, "it is where the page is");
        assert_eq!(company(&[hosted]), None, "what is hardly worth anything is left out");
        let resolved = resolve(&[label, places(S::Model, &["Acme", "Bonn"]), places(S::Beside, &["acme"])]);
        assert_eq!(resolved.posting.locations, ["Bonn"], "an employer is no place");
        let of = |candidates: &[Candidate]| resolve(candidates).posting.employment_type;
        assert_eq!(of(&[kind(S::Label, E::FullTime), kind(S::Prose, E::Temporary)]), Some(E::Temporary));
        assert_eq!(of(&[kind(S::Label, E::PartTime), kind(S::Prose, E::Temporary)]), Some(E::PartTime));
        assert_eq!(of(&[text(Field::Title, S::Heading, "Working student in sales")]), Some(E::Internship));
        assert_eq!(of(&[text(Field::Title, S::Heading, "Contract manager")]), None, "that is no contract");
        let remote =
            Candidate::new(Field::Workplace, Value::Workplace(Workplace::Remote), S::Label, Vec::new());
        assert_eq!(resolve(&[remote]).posting.remote, Some(true));
    }

    #[test]
    fn sources_that_agree_outweigh_one_that_does_not_and_the_choice_says_why() {
        let pay = |source, min: f64| {
            let salary = Salary { min: Some(min), ..Salary::default() };
            Candidate::new(Field::Salary, Value::Salary(Box::new(salary)), source, Vec::new())
        };
        let agreeing = [
            pay(Source::Beside, 40.0),
            pay(Source::Model, 50.0),
            pay(Source::Prose, 40.0),
            pay(Source::Title, 40.0),
        ];
        let resolved = resolve(&agreeing);
        assert_eq!(resolved.posting.salary.unwrap().min, Some(40.0));
        let why = &resolved.choices[0].why;
        assert!(why.contains("others say the same") && why.contains("not the model (70 points)"), "{why}");
    }

    #[test]
    fn certain_is_who_what_and_where() {
        use Source as S;
        let title = text(Field::Title, S::JsonLd, "Diver");
        let company = text(Field::Company, S::JsonLd, "Acme");
        let remote = Candidate::new(Field::Remote, Value::Remote(true), S::JsonLd, Vec::new());
        assert_eq!(resolve(&[title.clone(), company.clone()]).certain(), Err(vec![Field::Locations]));
        assert!(resolve(&[title.clone(), company.clone(), remote]).certain().is_ok(), "remote is a where");
        let guessed = text(Field::Company, S::Model, "Acme");
        let doubtful = resolve(&[title.clone(), guessed, places(S::Label, &["Kiel"])]);
        assert_eq!(doubtful.certain(), Err(vec![Field::Company]));
        assert_eq!(
            resolve(&[title, company, places(S::Label, &["Kiel"])]).certain(),
            Ok(vec![S::JsonLd, S::Label])
        );
    }

    #[test]
    fn evidence_comes_with_the_value_that_was_taken() {
        let at = |start| Evidence {
            source: EvidenceSource::Text,
            pointer: None,
            start: Some(start),
            end: Some(start + 4),
        };
        let of = |source, value: &str, start| {
            Candidate::new(Field::Company, Value::Text(value.into()), source, vec![at(start)])
        };
        let posting = resolve(&[of(Source::Model, "Grab", 1), of(Source::Label, "Acme", 9)]).posting;
        assert_eq!(posting.evidence["company"], [at(9)]);
    }
}
