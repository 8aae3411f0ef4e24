//! Wire types of the HTTP interface and the generated OpenAPI document.
