//! `eval perplexity`: how far a back end's logits are from the reference's, on the same file and text.
//!
//! ```text
//! text → tokens → windows of `context`, each a fresh sequence
//! a window runs in steps of CHUNK positions, every position's logits wanted
//! position i is scored by -log softmax(logits i)[token i + 1]; perplexity = exp(mean)
//! beside the reference: | a - b | / max | b |, KL(reference ‖ subject), same largest logit
//! ```
//! Both back ends run the same step before the next, so that only CHUNK positions of logits are held.

use anyhow::{Context as _, bail};
use quarry_model::backend::{Backend, ModelFiles};
use quarry_model::ids::TokenId;
use serde::Serialize;

use crate::rig::{Part, Rig};

/// Positions of a step: enough for matrix products, little enough for their logits.
const CHUNK: usize = 32;

/// Read where no other text is given: written for this, in plain English with some figures and lists.
pub const TEXT: &str = include_str!("../text/orchard.txt");

/// What came out.
#[derive(Debug, Serialize)]
pub struct PerplexityReport {
    /// The file's name.
    pub model: String,
    /// The instruction set of the back end under test.
    pub isa: String,
    /// Positions scored.
    pub scored: usize,
    /// Tokens of a window.
    pub context: usize,
    /// Of the back end under test.
    pub perplexity: f64,
    /// Beside the reference, where there is one.
    pub reference: Option<Comparison>,
}

/// The back end under test beside the reference.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Of the reference.
    pub perplexity: f64,
    /// The back end's by the reference's.
    pub ratio: f64,
    /// Largest error of a logit, by the largest logit of its position.
    pub logit_error_worst: f64,
    /// Mean error of all logits, each by the largest logit of its position.
    pub logit_error_mean: f64,
    /// Mean divergence of the reference's distribution from the back end's, in nats.
    pub kl_mean: f64,
    /// Share of positions where both have the same likeliest token.
    pub top1_agreement: f64,
}

/// Sums over positions.
#[derive(Debug, Default)]
struct Sums {
    scored: usize,
    loss: f64,
    reference_loss: f64,
    error_worst: f64,
    error: f64,
    kl: f64,
    agreed: usize,
}

/// Scores `tokens` in windows of `context`; `first` begins each window where the model wants that.
pub fn run(
    files: &ModelFiles,
    subject: &mut dyn Backend,
    mut reference: Option<&mut dyn Backend>,
    tokens: &[TokenId],
    first: Option<TokenId>,
    context: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<PerplexityReport> {
    if context < 2 {
        bail!("a window has at least 2 tokens");
    }
    if tokens.len() < 2 {
        bail!("the text has {} tokens, 2 are the least", tokens.len());
    }
    let open = |backend: &mut dyn Backend| -> anyhow::Result<Rig> {
        let warm = backend.loader().warm(files, &mut |_| ())?;
        Rig::new(backend, files, &warm, &[context], CHUNK)
    };
    let mut subject = open(subject)?;
    let mut reference = reference.as_mut().map(|backend| open(&mut **backend)).transpose()?;

    let mut sums = Sums::default();
    let of_text = context - usize::from(first.is_some());
    for (index, piece) in tokens.chunks(of_text.max(1)).enumerate() {
        let window: Vec<TokenId> = first.into_iter().chain(piece.iter().copied()).collect();
        let mut at = 0;
        // The last token is only an answer.
        while at + 1 < window.len() {
            let end = (at + CHUNK).min(window.len() - 1);
            let wanted: Vec<usize> = (0..end - at).collect();
            let part = Part { sequence: 0, first: at, tokens: &window[at..end], wanted: &wanted };
            let other = match &mut reference {
                Some(rig) => Some(rig.logits(&part).context("the reference")?),
                None => None,
            };
            let own = subject.logits(&part)?;
            let vocab = files.spec.vocab;
            for (position, &next) in window[at + 1..=end].iter().enumerate() {
                let place = position * vocab..(position + 1) * vocab;
                sums.add(&own[place.clone()], other.map(|other| &other[place]), next as usize)?;
            }
            at = end;
            progress((index * of_text + at).min(tokens.len()), tokens.len());
        }
    }
    Ok(sums.report(files, &subject.caps().isa, context, reference.is_some()))
}

impl Sums {
    fn add(&mut self, own: &[f32], reference: Option<&[f32]>, next: usize) -> anyhow::Result<()> {
        let own_norm = log_sum_exp(own);
        if !own_norm.is_finite() || next >= own.len() {
            bail!("position {}: logits are not finite", self.scored);
        }
        self.scored += 1;
        self.loss += own_norm - f64::from(own[next]);
        let Some(reference) = reference else { return Ok(()) };
        let norm = log_sum_exp(reference);
        self.reference_loss += norm - f64::from(reference[next]);
        let largest = reference.iter().fold(0.0_f32, |most, x| most.max(x.abs())).max(f32::MIN_POSITIVE);
        let (mut worst, mut sum, mut kl) = (0.0_f32, 0.0_f64, 0.0_f64);
        for (&a, &b) in own.iter().zip(reference) {
            let error = (a - b).abs();
            worst = worst.max(error);
            sum += f64::from(error);
            let log_b = f64::from(b) - norm;
            kl += log_b.exp() * (log_b - (f64::from(a) - own_norm));
        }
        self.error_worst = self.error_worst.max(f64::from(worst / largest));
        self.error += sum / f64::from(largest) / own.len() as f64;
        self.kl += kl;
        self.agreed += usize::from(top(own) == top(reference));
        Ok(())
    }

    fn report(&self, files: &ModelFiles, isa: &str, context: usize, has_reference: bool) -> PerplexityReport {
        let count = self.scored.max(1) as f64;
        let perplexity = (self.loss / count).exp();
        let of_reference = (self.reference_loss / count).exp();
        let comparison = Comparison {
            perplexity: of_reference,
            ratio: perplexity / of_reference,
            logit_error_worst: self.error_worst,
            logit_error_mean: self.error / count,
            kl_mean: self.kl / count,
            top1_agreement: self.agreed as f64 / count,
        };
        PerplexityReport {
            model: files.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            isa: isa.to_owned(),
            scored: self.scored,
            context,
            perplexity,
            reference: has_reference.then_some(comparison),
        }
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>().ln()
}

/// The first of the largest.
fn top(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

/// What came out, for people.
pub fn text(report: &PerplexityReport) -> String {
    let head = format!(
        "{}, {} positions in windows of {}\nperplexity, cpu {:<12} {:>10.4}\n",
        report.model, report.scored, report.context, report.isa, report.perplexity
    );
    let Some(found) = &report.reference else { return head };
    format!(
        "{head}perplexity, reference f32    {:>10.4}\nratio                        {:>10.5}\n\
         logit error, worst           {:>10.5}\nlogit error, mean            {:>10.6}\n\
         KL divergence, mean          {:>10.6}\nsame likeliest token         {:>9.2}%\n",
        found.perplexity,
        found.ratio,
        found.logit_error_worst,
        found.logit_error_mean,
        found.kl_mean,
        found.top1_agreement * 100.0,
    )
}

#[cfg(test)]
mod tests {
    use quarry_cpu::{CpuBackend, CpuOptions};
    use quarry_reference::ReferenceBackend;
    use quarry_tiny::{TensorType, TinyModel};

    use super::*;
    use crate::random::Random;

    #[test]
    fn the_cpu_is_beside_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        TinyModel::llama().write(&path, TensorType::Q8_0).unwrap();
        let files = ModelFiles::open(&path).unwrap();
        let tokens = Random::new(5).tokens(files.spec.vocab, 101);
        let mut cpu = CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap();
        let alone = run(&files, &mut cpu, None, &tokens, Some(1), 40, &mut |_, _| ()).unwrap();
        // Windows of 39, 39 and 23 tokens of text, each behind a first token.
        assert_eq!((alone.scored, alone.context), (101, 40));
        assert!(alone.reference.is_none() && alone.perplexity.is_finite());

        let mut reference = ReferenceBackend;
        let both = run(&files, &mut cpu, Some(&mut reference), &tokens, Some(1), 40, &mut |_, _| ()).unwrap();
        assert_eq!(both.perplexity, alone.perplexity);
        let found = both.reference.as_ref().unwrap();
        assert!((found.ratio - 1.0).abs() < 0.05, "{found:?}");
        assert!(found.logit_error_mean <= found.logit_error_worst && found.logit_error_worst < 0.1);
        assert!(found.kl_mean >= -1e-9 && found.kl_mean < 0.01 && found.top1_agreement > 0.8, "{found:?}");
        assert!(text(&both).contains("ratio") && !text(&alone).contains("ratio"));
    }

    #[test]
    fn a_distribution_is_nowhere_from_itself() {
        let logits = [1.0, -2.0, 3.5, 0.0];
        let mut sums = Sums::default();
        sums.add(&logits, Some(&logits), 2).unwrap();
        assert_eq!((sums.error_worst, sums.error, sums.agreed), (0.0, 0.0, 1));
        assert!(sums.kl.abs() < 1e-12 && sums.loss == sums.reference_loss && sums.loss > 0.0);
        assert!(sums.add(&[f32::NAN; 4], None, 0).is_err());
        assert_eq!(top(&[1.0, 4.0, 4.0]), 1);
    }
}
