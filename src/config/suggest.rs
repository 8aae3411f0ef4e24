//! "Did you mean": the nearest of the keys that a deserialization error lists.

/// Adds the nearest valid key to a message of the form "unknown field `x`, expected one of `a`, `b`".
pub fn nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, valid)) = quoted.split_first().filter(|_| message.contains("unknown")) else {
        return message.to_owned();
    };
    let best = valid.iter().map(|key| (distance(unknown, key), *key)).min();
    match best {
        Some((far, key)) if far <= unknown.len().max(3) / 2 + 1 => {
            format!("{message}; did you mean `{key}`?")
        }
        _ => message.to_owned(),
    }
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
