//! The house's rules that a compiler does not know: who may depend on whom, how long a file may be, what stands
//! where, and that the documents point at what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file at most.
const LINES_MAX: usize = 800;
/// Lines of a module's head at most.
const HEAD_LINES_MAX: usize = 15;

/// Which crates of ours a crate may use. The root, which is not here, may use all of them.
const ARROWS: &[(&str, &[&str])] = &[
    ("quarry-core", &[]),
    ("quarry-formats", &[]),
    ("quarry-model", &["quarry-core", "quarry-formats"]),
    ("quarry-text", &["quarry-core", "quarry-formats"]),
    ("quarry-cpu", &["quarry-model", "quarry-formats"]),
    ("quarry-cuda", &["quarry-cuda-layout", "quarry-model", "quarry-formats"]),
    ("quarry-cuda-layout", &["quarry-model", "quarry-formats"]),
    ("quarry-flash", &["quarry-cuda"]),
    ("quarry-reference", &["quarry-model", "quarry-formats"]),
    ("quarry-conformance", &["quarry-model", "quarry-tiny"]),
    ("quarry-simulation", &["quarry-core"]),
    (
        "quarry-runtime",
        &[
            "quarry-core",
            "quarry-model",
            "quarry-text",
            "quarry-formats",
            "quarry-cpu",
            "quarry-cuda",
            "quarry-flash",
        ],
    ),
    ("quarry-http", &["quarry-core", "quarry-runtime", "quarry-text", "quarry-openapi"]),
    ("quarry-openapi", &[]),
    ("quarry-client", &["quarry-openapi"]),
    ("quarry-agent", &["quarry-client", "quarry-openapi"]),
    ("quarry-models", &[]),
    ("quarry-tiny", &["quarry-formats"]),
    (
        "quarry-bench",
        &[
            "quarry-agent",
            "quarry-client",
            "quarry-cpu",
            "quarry-cuda",
            "quarry-cuda-layout",
            "quarry-formats",
            "quarry-model",
            "quarry-openapi",
            "quarry-simulation",
        ],
    ),
];

/// Which crates may use a package; nobody else may.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["quarry-http", "quarry-agent"]),
    ("candle-core", &["quarry-reference"]),
    ("candle-flash-attn", &["quarry-flash"]),
    ("cudarc", &["quarry-cuda"]),
    (
        "tokio",
        &["quarry-runtime", "quarry-http", "quarry-client", "quarry-models", "quarry-agent", "quarry-bench"],
    ),
    ("reqwest", &["quarry-client", "quarry-models", "quarry-agent"]),
    ("rusqlite", &["quarry-agent"]),
    ("scraper", &["quarry-agent"]),
    ("chardetng", &["quarry-agent"]),
    ("htmlize", &["quarry-agent"]),
    ("rusqlite_migration", &["quarry-agent"]),
    ("sled", &["quarry-agent"]),
];

/// Words that code may hold only in the places named. A place is a prefix of a path.
const ONLY_AT: &[(&str, &[&str])] = &[
    // `main` reads the environment; the models' test support finds the cache of whoever runs the tests.
    ("std::env::var", &["src/config/", "models/src/testing.rs", "tests/"]),
    // Nothing writes to a user's stdout but what a command was asked for.
    (
        "println!",
        &[
            "src/",
            "tests/",
            "server/cuda/build.rs",
            "scraper-agent/build.rs",
            "server/cuda/tests/",
            "server/simulation/tests/",
            "server/cpu/tests/",
            "scraper-agent/tests/",
        ],
    ),
    ("#[ignore", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project below the root with one of the endings, build output left out.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") && name != "quarry-data" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {endings:?} below {}", root().display());
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

/// Package name → names of its `[dependencies]` (tests may use more).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifests = files(&["Cargo.toml"]);
    let read =
        manifests.iter().map(|path| std::fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap());
    let package = |table: toml::Table| {
        let name = table["package"]["name"].as_str().unwrap().to_owned();
        let own = table.get("dependencies").and_then(|d| d.as_table());
        (name, own.map(|d| d.keys().cloned().collect()).unwrap_or_default())
    };
    read.map(package).collect()
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn crates_use_only_what_they_may() {
    let mut broken = Vec::new();
    for (name, used) in dependencies() {
        if name == "quarry" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(of, _)| *of == name) else {
            broken.push(format!("{name} is new: say in ARROWS what it may use"));
            continue;
        };
        let ours =
            used.iter().filter(|used| used.starts_with("quarry-") && !allowed.contains(&used.as_str()));
        broken.extend(ours.map(|used| format!("{name} may not use {used}")));
        for (package, only) in ONLY_IN {
            if used.contains(*package) && !only.contains(&name.as_str()) {
                broken.push(format!("{name} may not use {package}"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn every_rule_speaks_of_something() {
    let crates = dependencies();
    for (name, _) in ARROWS {
        assert!(crates.contains_key(*name), "ARROWS names {name}, which is gone");
    }
    for (package, only) in ONLY_IN {
        for name in *only {
            assert!(crates[*name].contains(*package), "ONLY_IN lets {name} use {package}, and it does not");
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut broken = Vec::new();
    for path in files(&[".rs", ".py", ".md"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = relative(&path);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{name} has {lines} lines, {LINES_MAX} at most"));
        }
        if name.ends_with(".rs") {
            let head = text.lines().take_while(|line| line.starts_with("//!")).count();
            if head == 0 || head > HEAD_LINES_MAX {
                broken.push(format!("{name} has a head of {head} lines, 1 to {HEAD_LINES_MAX} are right"));
            }
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "helpers", "common", "manager", "misc"].contains(&stem) {
            broken.push(format!("{name}: the name does not say what it holds"));
        }
    }
    assert_none(&broken);
}

#[test]
fn words_stand_only_where_they_may() {
    let mut broken = Vec::new();
    for path in files(&[".rs"]) {
        let name = relative(&path);
        if name == "tests/tidy.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (word, places) in ONLY_AT {
            if places.iter().any(|place| name.starts_with(place)) {
                continue;
            }
            let lines = text.lines().enumerate().filter(|(_, line)| contains_word(line, word));
            broken.extend(lines.map(|(at, _)| format!("{name}:{} has {word}", at + 1)));
        }
    }
    assert_none(&broken);
}

/// `eprintln!` is not `println!`.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn the_core_is_pure() {
    let forbidden =
        ["std::time", "std::thread", "std::fs", "std::net", "std::sync", "tokio", "tracing", "serde"];
    let mut broken = Vec::new();
    for path in files(&[".rs"]).iter().filter(|path| relative(path).starts_with("server/core/src/")) {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (line, word) in code.flat_map(|line| forbidden.iter().map(move |word| (line, word))) {
            if line.contains(word) {
                broken.push(format!("{}: {word} in {line:?}", relative(path)));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn documents_point_at_what_exists() {
    let mut broken = Vec::new();
    for path in files(&[".md"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{} points at {target}", relative(&path)));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn every_subcommand_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for path in files(&[".rs"]) {
        let name = relative(&path);
        let Some(name) = name.strip_prefix("src/commands/").and_then(|name| name.strip_suffix(".rs")) else {
            continue;
        };
        // `bench/make_model` is `quarry bench make-model`, and `bench/mod` is `quarry bench`.
        let words: Vec<_> =
            name.split('/').filter(|word| *word != "mod").map(|w| w.replace('_', "-")).collect();
        let command = format!("quarry {}", words.join(" "));
        assert!(readme.contains(command.trim_end()), "README.md does not name `{command}`");
    }
}
