//! What a page declares as JSON: JSON-LD, scripts that hold or assign JSON, attributes that hold it.
//!
//! Of JSON-LD all counts but the postings of other jobs. Of a page's state, which holds filters, translations and whole
//! boards, only the object that bears the job's title counts, with the plain values beside and above it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;
use scraper::Selector;
use serde_json::{Map, Value};

use super::part::Part;
use super::visible::addresses;
use crate::document::{Document, collapse, unescape};
use crate::eval::compare::title_words;

/// Bytes under which a script or an attribute holds no state.
const STATE_BYTES_MIN: usize = 60;
/// Objects of one page that are looked at.
const OBJECTS_MAX: usize = 300_000;
/// JSON within strings within JSON.
const STRING_DEPTH_MAX: usize = 2;
/// Characters of a title.
const TITLE_CHARS_MAX: usize = 250;
/// Objects that may bear one title.
const BEARERS_MAX: usize = 20;

/// An object, flattened: its plain values and its place among the others.
#[derive(Default)]
struct Object {
    parent: Option<usize>,
    /// It stands in an array.
    is_item: bool,
    is_posting: bool,
    is_json_ld: bool,
    titles: Vec<String>,
    /// Values of its own, then those of its arrays.
    lines: Vec<String>,
    items: Vec<String>,
    links: Vec<String>,
    children: Vec<usize>,
}

/// All objects of a page.
pub struct Declared {
    objects: Vec<Object>,
    by_title: HashMap<String, Vec<usize>>,
    postings: Vec<usize>,
}

impl Declared {
    pub fn read(document: &Document) -> Self {
        let mut reader = Reader { document, objects: Vec::new() };
        reader.scripts();
        reader.attributes();
        let mut by_title: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, object) in reader.objects.iter().enumerate() {
            for title in &object.titles {
                by_title.entry(title.clone()).or_default().push(at);
            }
        }
        let postings = (0..reader.objects.len()).filter(|at| reader.objects[*at].is_posting).collect();
        Self { objects: reader.objects, by_title, postings }
    }

    /// What is declared for the job with this title.
    pub fn of_job(&self, title: Option<&str>) -> Part {
        let words = title_words(title.unwrap_or("")).join(" ");
        let bearers = self.bearers(&words);
        let mut taken = HashSet::new();
        for bearer in bearers.iter().take(BEARERS_MAX) {
            self.take_whole(*bearer, &mut taken);
        }
        let mut beside = HashSet::new();
        for bearer in bearers.iter().take(BEARERS_MAX) {
            let mut up = self.objects[*bearer].parent;
            while let Some(at) = up {
                self.take_beside(at, &taken, &mut beside);
                up = self.objects[at].parent;
            }
        }
        self.take_common_json_ld(&mut taken);
        let (mut text, mut links) = (String::new(), HashSet::new());
        let mut add = |object: &Object, with_items: bool| {
            let items = if with_items { object.items.as_slice() } else { &[] };
            for line in object.lines.iter().chain(items) {
                text.push_str(line);
                text.push('\n');
            }
            links.extend(object.links.iter().cloned());
        };
        taken.iter().for_each(|at| add(&self.objects[*at], true));
        beside.difference(&taken).for_each(|at| add(&self.objects[*at], false));
        Part::new(text, links)
    }

    /// Objects whose title this is; else, where the whole is longer or shorter, postings that hold it.
    fn bearers(&self, words: &str) -> Vec<usize> {
        if let [only] = self.postings.as_slice() {
            let mut all = self.by_title.get(words).cloned().unwrap_or_default();
            all.push(*only);
            return all;
        }
        if words.is_empty() {
            return Vec::new();
        }
        if let Some(found) = self.by_title.get(words) {
            return found.clone();
        }
        let alike = |title: &String| title.contains(words) || words.contains(title.as_str());
        let postings = self.postings.iter().copied();
        postings.filter(|at| self.objects[*at].titles.iter().any(alike)).collect()
    }

    fn take_whole(&self, from: usize, taken: &mut HashSet<usize>) {
        let mut stack = vec![from];
        while let Some(at) = stack.pop() {
            if taken.insert(at) {
                stack.extend(&self.objects[at].children);
            }
        }
    }

    /// Plain values of an object above, and of what it holds otherwise than in arrays.
    fn take_beside(&self, at: usize, taken: &HashSet<usize>, beside: &mut HashSet<usize>) {
        beside.insert(at);
        for child in &self.objects[at].children {
            let object = &self.objects[*child];
            if !object.is_item && !object.is_posting && !taken.contains(child) {
                beside.insert(*child);
                beside.extend(object.children.iter().filter(|inner| !self.objects[**inner].is_item));
            }
        }
    }

    fn take_common_json_ld(&self, taken: &mut HashSet<usize>) {
        let roots = (0..self.objects.len())
            .filter(|at| self.objects[*at].is_json_ld && self.objects[*at].parent.is_none());
        let mut stack: Vec<usize> = roots.collect();
        while let Some(at) = stack.pop() {
            if !self.objects[at].is_posting && taken.insert(at) {
                stack.extend(&self.objects[at].children);
            }
        }
    }
}

struct Reader<'a> {
    document: &'a Document,
    objects: Vec<Object>,
}

impl Reader<'_> {
    fn scripts(&mut self) {
        static SCRIPTS: LazyLock<Selector> =
            LazyLock::new(|| Selector::parse("script").expect("a constant selector parses"));
        let document = self.document;
        for script in document.html.select(&SCRIPTS) {
            let text: String = script.text().collect();
            let kind = script.value().attr("type").unwrap_or("");
            if kind.contains("ld+json") {
                if let Some(value) = lenient(&text) {
                    self.value(&value, true);
                }
            } else if text.len() >= STATE_BYTES_MIN {
                self.embedded(&text, 0);
            }
        }
    }

    fn attributes(&mut self) {
        let document = self.document;
        for node in document.html.tree.root().descendants() {
            let Some(element) = node.value().as_element() else { continue };
            for (_, text) in element.attrs() {
                if text.len() >= STATE_BYTES_MIN && text.trim_start().starts_with(['{', '[']) {
                    self.embedded(text, 0);
                }
            }
        }
    }

    /// Every JSON object or array in a text, the outermost ones.
    fn embedded(&mut self, text: &str, depth: usize) {
        let mut at = 0;
        while let Some(open) = text[at..].find(['{', '[']).map(|open| at + open) {
            let mut values = serde_json::Deserializer::from_str(&text[open..]).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) if value.is_object() || value.is_array() => {
                    at = open + values.byte_offset();
                    self.value(&value, false);
                    self.strings(&value, depth);
                }
                _ => at = open + 1,
            }
            if self.objects.len() >= OBJECTS_MAX {
                return;
            }
        }
    }

    /// JSON within strings: `JSON.parse("…")`, streamed state.
    fn strings(&mut self, value: &Value, depth: usize) {
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            match value {
                Value::Array(items) => stack.extend(items),
                Value::Object(fields) => stack.extend(fields.values()),
                Value::String(text)
                    if depth < STRING_DEPTH_MAX && text.len() >= STATE_BYTES_MIN && text.contains("\":") =>
                {
                    self.embedded(text, depth + 1);
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, root: &Value, is_json_ld: bool) {
        let mut stack = vec![(root, None, false)];
        while let Some((value, parent, is_item)) = stack.pop() {
            match value {
                Value::Array(items) => stack.extend(items.iter().map(|item| (item, parent, true))),
                Value::Object(fields) if self.objects.len() < OBJECTS_MAX => {
                    let at = self.objects.len();
                    let object = self.object(fields);
                    self.objects.push(Object { parent, is_item, is_json_ld, ..object });
                    if let Some(parent) = parent {
                        self.objects[parent].children.push(at);
                    }
                    stack.extend(fields.values().map(|value| (value, Some(at), false)));
                }
                _ => {}
            }
        }
    }

    fn object(&self, fields: &Map<String, Value>) -> Object {
        let mut object = Object::default();
        for (key, value) in fields {
            match value {
                Value::Array(items) => {
                    let plain = items.iter().filter_map(|item| line(key, item));
                    object.items.extend(plain.map(|line| readable(&line)));
                }
                Value::String(text) if key == "@type" => object.is_posting |= text.ends_with("JobPosting"),
                value => {
                    let Some(line) = line(key, value) else { continue };
                    let shown = readable(&line);
                    if value.is_string() && shown.chars().count() <= TITLE_CHARS_MAX {
                        object.titles.push(title_words(&shown).join(" "));
                        object.links.extend(addresses(&shown, self.document));
                    }
                    object.lines.push(shown);
                }
            }
        }
        if fields
            .get("@type")
            .and_then(Value::as_array)
            .is_some_and(|kinds| kinds.iter().any(|k| k == "JobPosting"))
        {
            object.is_posting = true;
        }
        object.titles.retain(|title| !title.is_empty());
        object
    }
}

/// A plain value as a line. Of a flag its name is what it says; a sum's name tells what it is per.
fn line(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some(name_words(key)),
        Value::Bool(false) => Some(format!("no {}", name_words(key))),
        Value::Number(number) => {
            let name = name_words(key);
            let cents =
                number.as_f64().filter(|_| name.contains("cents")).map(|cents| format!(" {}", cents / 100.0));
            let tells = ["salary", "pay", "wage", "annual", "year", "month", "hour", "compensation"];
            let name = if tells.iter().any(|word| name.contains(word)) { name } else { String::new() };
            Some(format!("{name} {number}{}", cents.unwrap_or_default()))
        }
        _ => None,
    }
}

/// `isRemote` as "is remote".
fn name_words(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_uppercase() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out.replace(['_', '-'], " ").trim().to_owned()
}

/// A string as it is shown: entities decoded, as often as they were escaped, and without tags.
fn readable(text: &str) -> String {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"</?[a-zA-Z][^<>]*>|<!--.*?-->").expect("a constant pattern compiles"));
    if !text.contains(['<', '&']) {
        return collapse(text);
    }
    let once = unescape(text);
    let plain = unescape(&once);
    let lines = TAG.replace_all(&plain, "\n");
    lines.lines().map(collapse).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// JSON-LD as pages write it: control characters in strings, commas too many, comments around it.
fn lenient(text: &str) -> Option<Value> {
    static COMMA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r",\s*([}\]])").expect("a constant pattern compiles"));
    let start = text.find(['{', '['])?;
    let end = text.rfind(['}', ']'])? + 1;
    let text = text.get(start..end)?;
    let parse = |text: &str| serde_json::from_str(text).ok();
    parse(text).or_else(|| {
        let spaced: String = text.chars().map(|c| if c < ' ' { ' ' } else { c }).collect();
        parse(&COMMA.replace_all(&spaced, "$1"))
    })
}
