//! Writes `openapi/openapi.json` anew: `cargo run -p quarry-openapi --example write`.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    std::fs::write(path, quarry_openapi::document::openapi_json())
}
