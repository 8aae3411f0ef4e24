//! `rope_scaling`, or `rope_parameters` as newer versions of transformers write it (source: `modeling_rope_utils.py`).

use super::config::Config;
use crate::families::FamilyError;
use crate::spec::RopeScaling;

/// The base of the frequencies.
pub(super) fn theta(config: &Config<'_>) -> Result<Option<f32>, FamilyError> {
    let nested = match config.object("rope_parameters")? {
        Some(parameters) => parameters.number("rope_theta")?,
        None => None,
    };
    let theta = if nested.is_some() { nested } else { config.number("rope_theta")? };
    Ok(theta.map(|theta| theta as f32))
}

/// Context extension; `positions` is what the configuration says of the context.
pub(super) fn scaling(config: &Config<'_>, positions: usize) -> Result<RopeScaling, FamilyError> {
    let object = match config.object("rope_scaling")? {
        None => config.object("rope_parameters")?,
        some => some,
    };
    let Some(scaling) = object else { return Ok(RopeScaling::None) };
    let kind = match scaling.text("rope_type")? {
        None => scaling.text("type")?,
        some => some,
    };
    let number = |key: &str| scaling.number(key);
    let or = |key: &str, default: f32| Ok::<_, FamilyError>(number(key)?.map_or(default, |x| x as f32));
    let original = scaling.optional_size("original_max_position_embeddings")?.unwrap_or(positions);
    let factor = or("factor", 1.0)?;
    let found = match kind.unwrap_or("default") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor },
        "yarn" => {
            let whole = scaling.flag("truncate")?;
            scaling.refuse(
                whole == Some(false),
                "truncate",
                "bounds that are not whole numbers are not supported",
            )?;
            RopeScaling::Yarn {
                factor,
                original_context: original,
                beta_fast: or("beta_fast", 32.0)?,
                beta_slow: or("beta_slow", 1.0)?,
                attention_factor: attention_factor(&scaling, factor)?,
            }
        }
        "llama3" => RopeScaling::Llama3 {
            factor,
            original_context: original,
            low_frequency_factor: or("low_freq_factor", 1.0)?,
            high_frequency_factor: or("high_freq_factor", 4.0)?,
        },
        _ => {
            let why = "known are default, linear, yarn and llama3";
            let found = kind.unwrap_or_default().chars().take(40).collect();
            return Err(FamilyError::Metadata { key: "rope_scaling.rope_type".into(), found, why });
        }
    };
    match found.problem() {
        Some((key, found, why)) => {
            Err(FamilyError::Metadata { key: format!("rope_scaling.{key}"), found: found.to_string(), why })
        }
        None => Ok(found),
    }
}

/// The file's own, else that of the paper (section 3.4), scaled as some checkpoints ask.
fn attention_factor(scaling: &Config<'_>, factor: f32) -> Result<f32, FamilyError> {
    if let Some(own) = scaling.number("attention_factor")? {
        return Ok(own as f32);
    }
    let of = |scale: f64| if factor > 1.0 { 0.1 * scale * f64::from(factor).ln() + 1.0 } else { 1.0 };
    match (scaling.number("mscale")?, scaling.number("mscale_all_dim")?) {
        (Some(some), Some(all)) if some != 0.0 && all != 0.0 => Ok((of(some) / of(all)) as f32),
        _ => Ok(of(1.0) as f32),
    }
}
