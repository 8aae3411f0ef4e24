//! The OpenAPI document: the wire types' schemas and the table of routes.
//!
//! The committed copy is `openapi/openapi.json`; after a change, write it anew with
//! `cargo run -p quarry-openapi --example write`.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{
    Components, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Required, schema,
};
use utoipa::{PartialSchema, ToSchema};

use crate::{chat, chunk, error, models, tokens};

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// With `{name}` for a part that varies.
    pub path: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// The schema of the body.
    pub request: Option<&'static str>,
    /// What a success answers.
    pub answer: Answer,
    /// Statuses of failures that a client may meet without the server being broken or the route wrong.
    pub failures: &'static [u16],
}

/// The body of a success.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of the first schema, or, when streamed, events of the second.
    JsonOrEvents(&'static str, &'static str),
    /// Prometheus text.
    Text,
    /// Any JSON.
    AnyJson,
}

/// Of everything that reads a body and asks a model.
const BODY: &[u16] = &[400, 404, 408, 413, 503];

/// Every endpoint of the server.
pub const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/v1/chat/completions",
        summary: "Answer a conversation, whole or as a stream of events",
        request: Some("ChatRequest"),
        answer: Answer::JsonOrEvents("ChatResponse", "ChatChunk"),
        failures: &[400, 404, 408, 413, 429, 503],
    },
    Route {
        method: "POST",
        path: "/v1/chat/completions/render",
        summary: "The exact prompt of a conversation, its tokens and their count, without running the model",
        request: Some("ChatRequest"),
        answer: Answer::Json("RenderResponse"),
        failures: BODY,
    },
    Route {
        method: "GET",
        path: "/v1/models",
        summary: "The models",
        request: None,
        answer: Answer::Json("ModelList"),
        failures: &[503],
    },
    Route {
        method: "GET",
        path: "/v1/models/{id}",
        summary: "One model",
        request: None,
        answer: Answer::Json("Model"),
        failures: &[404, 503],
    },
    Route {
        method: "POST",
        path: "/v1/models/{id}/load",
        summary: "Wants the model's weights loaded; answered at once, its state shows how far it is. Others may make room",
        request: None,
        answer: Answer::Json("Model"),
        failures: &[404, 409, 503],
    },
    Route {
        method: "POST",
        path: "/v1/models/{id}/unload",
        summary: "Wants the model's weights out of memory once its requests are answered; a later request loads it again",
        request: None,
        answer: Answer::Json("Model"),
        failures: &[404, 503],
    },
    Route {
        method: "GET",
        path: "/admin/state",
        summary: "Models, sequences, pools and the memory budget at this moment",
        request: None,
        answer: Answer::Json("AdminState"),
        failures: &[503],
    },
    Route {
        method: "POST",
        path: "/tokenize",
        summary: "A text's tokens",
        request: Some("TokenizeRequest"),
        answer: Answer::Json("TokenizeResponse"),
        failures: BODY,
    },
    Route {
        method: "POST",
        path: "/detokenize",
        summary: "Tokens' text",
        request: Some("DetokenizeRequest"),
        answer: Answer::Json("DetokenizeResponse"),
        failures: BODY,
    },
    Route {
        method: "GET",
        path: "/health",
        summary: "Whether the process is alive",
        request: None,
        answer: Answer::Json("Status"),
        failures: &[503],
    },
    Route {
        method: "GET",
        path: "/ready",
        summary: "Whether a request would be served now",
        request: None,
        answer: Answer::Json("Status"),
        failures: &[503],
    },
    Route {
        method: "GET",
        path: "/version",
        summary: "The server's version",
        request: None,
        answer: Answer::Json("Version"),
        failures: &[],
    },
    Route {
        method: "GET",
        path: "/metrics",
        summary: "Metrics for Prometheus",
        request: None,
        answer: Answer::Text,
        failures: &[],
    },
    Route {
        method: "GET",
        path: "/openapi.json",
        summary: "This document",
        request: None,
        answer: Answer::AnyJson,
        failures: &[],
    },
];

/// The whole document.
pub fn openapi() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        let method = if route.method == "POST" { HttpMethod::Post } else { HttpMethod::Get };
        paths = paths.path(route.path, PathItem::new(method, operation(route)));
    }
    let info = InfoBuilder::new()
        .title("Quarry")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("OpenAI-compatible inference server"))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

/// The document as committed and served: indented JSON with a newline at its end.
pub fn openapi_json() -> String {
    let mut text =
        openapi().to_pretty_json().expect("a tree of strings, numbers and lists always serializes");
    text.push('\n');
    text
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation =
        OperationBuilder::new().summary(Some(route.summary)).response("200", success(route.answer));
    if route.path.contains("{id}") {
        let id = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(String::schema()));
        operation = operation.parameter(id);
    }
    if let Some(request) = route.request {
        let body = RequestBodyBuilder::new()
            .content("application/json", ContentBuilder::new().schema(Some(reference(request))).build())
            .required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    for status in route.failures {
        operation = operation.response(status.to_string(), failure(*status));
    }
    operation
}

fn success(answer: Answer) -> utoipa::openapi::Response {
    let json = |schema: RefOr<schema::Schema>| ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description("success");
    match answer {
        Answer::Json(name) => response.content("application/json", json(reference(name))),
        Answer::JsonOrEvents(whole, event) => response
            .content("application/json", json(reference(whole)))
            .content("text/event-stream", json(reference(event))),
        Answer::Text => response.content("text/plain", json(String::schema())),
        Answer::AnyJson => response.content("application/json", json(serde_json::Value::schema())),
    }
    .build()
}

fn failure(status: u16) -> utoipa::openapi::Response {
    let description = match status {
        400 => "a parameter is wrong or not served; `param` names it",
        404 => "no such model",
        413 => "the body is too large",
        429 => "the queue is full; Retry-After says when to come back",
        _ => "not ready, or shutting down",
    };
    ResponseBuilder::new()
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(reference("ErrorBody"))).build())
        .build()
}

fn reference(name: &str) -> RefOr<schema::Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

fn components() -> Components {
    let mut components = Components::new();
    let mut add = |schemas: Vec<(String, RefOr<schema::Schema>)>| components.schemas.extend(schemas);
    add(schemas_of::<chat::ChatRequest>());
    add(schemas_of::<chat::ChatResponse>());
    add(schemas_of::<chunk::ChatChunk>());
    add(schemas_of::<error::ErrorBody>());
    add(schemas_of::<models::ModelList>());
    add(schemas_of::<models::AdminState>());
    add(schemas_of::<models::Status>());
    add(schemas_of::<models::Version>());
    add(schemas_of::<tokens::RenderResponse>());
    add(schemas_of::<tokens::TokenizeRequest>());
    add(schemas_of::<tokens::TokenizeResponse>());
    add(schemas_of::<tokens::DetokenizeRequest>());
    add(schemas_of::<tokens::DetokenizeResponse>());
    components
}

/// The type's own schema and all that it refers to.
fn schemas_of<T: ToSchema>() -> Vec<(String, RefOr<schema::Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas
}
