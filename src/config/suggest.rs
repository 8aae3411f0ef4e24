//! "Did you mean": the nearest of the keys that a deserialization error lists.

/// Adds the nearest valid key to a message of the form "unknown field `x`, expected one of `a`, `b`".
pub fn nearest(message: &str) -> String {
    let Some((unknown, expected)) = unknown_key(message) else { return message.to_owned() };
    let best = expected.iter().map(|key| (distance(unknown, key), *key)).min();
    match best {
        Some((far, key)) if far <= unknown.len().max(3) / 2 + 1 => {
            format!("{message}\ndid you mean `{key}`?")
        }
        _ => message.to_owned(),
    }
}

/// The key that is not known, and those that are; parsers quote the latter or not.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let (_, after) = message.split_once("unknown field `")?;
    let (unknown, after) = after.split_once('`')?;
    let list = after.lines().next()?.split_once("expected ")?.1;
    let list = list.strip_prefix("one of ").unwrap_or(list);
    let keys = list.split(',').flat_map(|part| part.split(" or ")).map(|key| key.trim().trim_matches('`'));
    Some((unknown, keys.filter(|key| !key.is_empty()).collect()))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_key_is_named() {
        for message in [
            "line 2: unknown field `prot`, expected one of `host`, `port`, `threads`",
            "line 2: unknown field `prot`, expected one of host, port, threads\n  | prot: 1\n  | ^ unknown field `prot`",
            "unknown field `prot`, expected `host` or `port`",
        ] {
            assert!(nearest(message).ends_with("did you mean `port`?"), "{}", nearest(message));
        }
        assert_eq!(nearest("line 1: not YAML"), "line 1: not YAML");
        let far = "unknown field `zzzzzz`, expected one of `host`, `port`";
        assert_eq!(nearest(far), far);
    }
}
