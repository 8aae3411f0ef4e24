//! What a model is asked. The shared part comes first, word for word the same for every page, so that the server's
//! prefix cache serves it; there are no examples, which small models copy.

use quarry_openapi::{ChatMessage, ChatRequest, JsonSchemaFormat, ResponseFormat};
use serde_json::{Map, Value, json};

use crate::extracted::posting_schema;
use crate::facts::Field;
use crate::gate;
use crate::reading::{LabelQuestion, Reading};

/// Shared by all postings.
const POSTING_SYSTEM: &str = "You extract one job posting from a web page. Answer with one JSON object. \
Copy each value word for word from the page. Use null where the page does not say it. \
The title is the name of the job, without company, place or pay. \
The company is the employer. \
Locations are the places of work. \
The salary is what this job pays, not the company's revenue or funding.";

/// Shared by all listings.
const LABEL_SYSTEM: &str = "A job listing repeats one kind of record. You see the numbered fields of one or two \
records. Say which field number holds the job title, the location, the company and the date; null where none does. \
Answer with one JSON object.";

/// Answer tokens for field numbers.
const LABEL_ANSWER_TOKENS: u32 = 80;
/// Answer tokens for one word.
const KIND_ANSWER_TOKENS: u32 = 24;

/// What a page is, from its digest. The question stands behind the digest: small models forget what stands before.
pub fn kind(model: &str, digest: &str) -> ChatRequest {
    let user = format!("{digest}\n{}", gate::QUESTION);
    request(model, gate::SYSTEM, user, "kind", gate::schema(), KIND_ANSWER_TOKENS)
}

/// The asked fields of one posting from a page's text, from its digest, or from one section of it.
pub fn posting(
    model: &str,
    page: &Reading,
    text: &str,
    fields: &[Field],
    answer_tokens_max: u32,
) -> ChatRequest {
    let mut user = String::new();
    for (name, value) in page.heads() {
        user.push_str(&format!("{name}: {value}\n"));
    }
    user.push('\n');
    user.push_str(text);
    request(model, POSTING_SYSTEM, user, "posting", posting_schema(fields), answer_tokens_max)
}

/// Which field of a record is what.
pub fn label(model: &str, question: &LabelQuestion) -> ChatRequest {
    let number = json!({ "type": ["integer", "null"], "enum": numbers(question.fields) });
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "location", "company", "date"],
        "properties": { "title": number, "location": number, "company": number, "date": number },
    });
    request(model, LABEL_SYSTEM, question.text.clone(), "labels", schema, LABEL_ANSWER_TOKENS)
}

fn numbers(fields: usize) -> Vec<Value> {
    (1..=fields).map(Value::from).chain([Value::Null]).collect()
}

/// A further try: what was answered, and what is wrong with it.
pub fn add_problems(request: &mut ChatRequest, answer: &str, problems: &[String]) {
    let list: String = problems.iter().map(|problem| format!("- {problem}\n")).collect();
    request.messages.push(ChatMessage::assistant(answer));
    request.messages.push(ChatMessage::user(format!(
        "This answer has problems:\n{list}Answer again with the whole JSON object. Copy from the page, or use null."
    )));
}

fn request(
    model: &str,
    system: &str,
    user: String,
    name: &str,
    schema: Value,
    answer_tokens_max: u32,
) -> ChatRequest {
    // Reasoning models would think aloud before a guided answer.
    let no_thinking = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
    ChatRequest {
        model: model.to_owned(),
        messages: vec![ChatMessage::system(system), ChatMessage::user(user)],
        temperature: Some(0.0),
        max_tokens: Some(answer_tokens_max),
        response_format: Some(ResponseFormat::JsonSchema {
            json_schema: JsonSchemaFormat {
                name: name.to_owned(),
                description: None,
                schema,
                strict: Some(true),
            },
        }),
        chat_template_kwargs: Some(no_thinking),
        ..ChatRequest::default()
    }
}
