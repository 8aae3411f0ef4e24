//! `quarry`: the inference server and the scraper agent in one binary.
fn main() {}
