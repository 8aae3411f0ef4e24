//! Equality of logits: of bits, or within a bound.

/// How two sets of logits must agree.
#[derive(Clone, Copy, Debug)]
pub enum Agreement {
    /// Bit for bit.
    Bits,
    /// `max |a - b| <= bound * max |b|`, per position.
    Within(f32),
}

/// Compares `found` with `expected`, both `positions × vocab`.
pub fn logits(
    what: &str,
    found: &[f32],
    expected: &[f32],
    vocab: usize,
    how: Agreement,
) -> Result<(), String> {
    if found.len() != expected.len() {
        let (found, expected) = (found.len() / vocab, expected.len() / vocab);
        return Err(format!("{what}: {found} positions of logits, expected {expected}"));
    }
    for (index, (a, b)) in found.chunks(vocab).zip(expected.chunks(vocab)).enumerate() {
        if let Some(bad) = a.iter().position(|x| !x.is_finite()) {
            return Err(format!("{what}: logit {bad} of position {index} is {}", a[bad]));
        }
        match how {
            Agreement::Bits => {
                let unequal = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                if unequal > 0 {
                    let error = relative_error(a, b);
                    return Err(format!(
                        "{what}: {unequal} logits of position {index} differ in bits (by {error:e} of the largest)"
                    ));
                }
            }
            Agreement::Within(bound) => {
                let error = relative_error(a, b);
                if error > bound {
                    return Err(format!("{what}: error {error:e} at position {index}, bound {bound:e}"));
                }
            }
        }
    }
    Ok(())
}

/// `max |a - b| / max |b|`.
fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let apart = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    apart / largest.max(f32::MIN_POSITIVE)
}
