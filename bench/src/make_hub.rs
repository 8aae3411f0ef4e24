//! `bench make-model --quant awq`: a hub folder of a real model's shapes with random AWQ weights, for speed where no weights
//! are. Needs no other file: the tokenizer knows bytes, Qwen3's special tokens, and fillers that nobody types.
//!
//! ```text
//! one file a layer   words of random bits, zero points 8, scales that give weights a deviation of 0.02
//! one file           embedding, output norm, head: random f16
//! ```
//! A layer at a time is in memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use quarry_formats::awq;
use quarry_formats::safetensors::{self, Piece, StoredType};
use serde_json::{Map, Value, json};

use crate::make_model::Shape;
use crate::random::Random;

/// Tokens of the Qwen3 models' heads, and the ids of the special ones.
const VOCAB: usize = 151_936;
const ENDOFTEXT: usize = 151_643;
const IM_START: usize = 151_644;
const IM_END: usize = 151_645;
/// f16 bits of 0.0043: times the deviation of integers from 0 to 15, 4.6, about 0.02.
const SCALE: u16 = 0x1c67;
/// f16 bits of 1.
const ONE: u16 = 0x3c00;
/// Eight zero points of 8.
const ZEROS: u8 = 0x88;
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content \
                             + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Writes the model into the folder `out`, which is made. Returns the bytes of its weights.
pub fn write(shape: &Shape, out: &Path) -> anyhow::Result<u64> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut random = Random::new(0x5eed);
    let (mut map, mut bytes) = (Map::new(), 0);
    let mut save = |name: String, pieces: &[Piece]| -> io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(out.join(&name))?);
        safetensors::write(&mut file, pieces)?;
        file.flush()?;
        map.extend(pieces.iter().map(|piece| (piece.name.clone(), Value::from(name.clone()))));
        bytes += pieces.iter().map(|piece| piece.data.len() as u64).sum::<u64>();
        Ok(())
    };
    for layer in 0..shape.layers {
        save(format!("layer-{layer}.safetensors"), &self::layer(shape, layer, &mut random))?;
    }
    save("ends.safetensors".into(), &ends(shape, &mut random))?;
    let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
    let json = |name: &str, value: &Value| fs::write(out.join(name), format!("{value:#}\n"));
    json("model.safetensors.index.json", &index)?;
    json("config.json", &config(shape))?;
    json("tokenizer.json", &tokenizer())?;
    json(
        "tokenizer_config.json",
        &json!({
            "add_bos_token": false, "bos_token": null, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "tokenizer_class": "Qwen2Tokenizer", "chat_template": CHAT_TEMPLATE,
        }),
    )?;
    json("generation_config.json", &json!({"eos_token_id": [IM_END, ENDOFTEXT], "pad_token_id": ENDOFTEXT}))?;
    Ok(bytes)
}

fn layer(shape: &Shape, layer: usize, random: &mut Random) -> Vec<Piece> {
    let Shape { hidden, mlp_hidden, heads, kv_heads, head_dim, .. } = *shape;
    let (query, kv) = (heads * head_dim, kv_heads * head_dim);
    let name = |part: &str| format!("model.layers.{layer}.{part}");
    let mut pieces = vec![
        norm(name("input_layernorm.weight"), hidden),
        norm(name("post_attention_layernorm.weight"), hidden),
        norm(name("self_attn.q_norm.weight"), head_dim),
        norm(name("self_attn.k_norm.weight"), head_dim),
    ];
    for (part, rows, columns) in [
        ("self_attn.q_proj", query, hidden),
        ("self_attn.k_proj", kv, hidden),
        ("self_attn.v_proj", kv, hidden),
        ("self_attn.o_proj", hidden, query),
        ("mlp.gate_proj", mlp_hidden, hidden),
        ("mlp.up_proj", mlp_hidden, hidden),
        ("mlp.down_proj", hidden, mlp_hidden),
    ] {
        pieces.extend(matrix(&name(part), rows, columns, random));
    }
    pieces
}

/// AWQ's three tensors of a matrix.
fn matrix(name: &str, rows: usize, columns: usize, random: &mut Random) -> [Piece; 3] {
    let (words, groups) = (rows / awq::WORD, columns / awq::GROUP);
    let piece = |part: &str, kind, shape: [usize; 2], data| Piece {
        name: format!("{name}.{part}"),
        kind,
        shape: shape.into(),
        data,
    };
    [
        piece("qweight", StoredType::I32, [columns, words], random_bytes(columns * words * 4, random)),
        piece("qzeros", StoredType::I32, [groups, words], vec![ZEROS; groups * words * 4]),
        piece("scales", StoredType::F16, [groups, rows], halves(SCALE, groups * rows)),
    ]
}

fn norm(name: String, width: usize) -> Piece {
    Piece { name, kind: StoredType::F16, shape: vec![width], data: halves(ONE, width) }
}

fn ends(shape: &Shape, random: &mut Random) -> Vec<Piece> {
    let mut table = |name: &str| Piece {
        name: name.into(),
        kind: StoredType::F16,
        shape: vec![VOCAB, shape.hidden],
        data: small_halves(VOCAB * shape.hidden, random),
    };
    let mut pieces = vec![table("model.embed_tokens.weight"), norm("model.norm.weight".into(), shape.hidden)];
    if !shape.is_tied {
        pieces.push(table("lm_head.weight"));
    }
    pieces
}

fn halves(bits: u16, count: usize) -> Vec<u8> {
    bits.to_le_bytes().repeat(count)
}

fn random_bytes(count: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect();
    bytes.truncate(count);
    bytes
}

/// f16 numbers of either sign between 1/64 and 1/32.
fn small_halves(count: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = random_bytes(2 * count, random);
    for half in bytes.as_chunks_mut::<2>().0 {
        half[1] = half[1] & 0x83 | 0x24;
    }
    bytes
}

fn config(shape: &Shape) -> Value {
    json!({
        "attention_bias": false,
        "eos_token_id": IM_END,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp_hidden,
        "max_position_embeddings": shape.context,
        "model_type": "qwen3",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "quantization_config": {
            "bits": 4, "group_size": awq::GROUP, "modules_to_not_convert": null, "quant_method": "awq",
            "version": "gemm", "zero_point": true,
        },
        "rms_norm_eps": 1e-6,
        "rope_scaling": null,
        "rope_theta": 1e6,
        "tie_word_embeddings": shape.is_tied,
        "torch_dtype": "float16",
        "use_sliding_window": false,
        "vocab_size": VOCAB,
    })
}

/// Bytes as byte-level BPE spells them, without merges.
fn tokenizer() -> Value {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|b| !printable(b)).count();
    let spelled = (0..=255u8).filter(printable).map(char::from);
    let spelled = spelled.chain((0..others).filter_map(|i| char::from_u32(0x100 + i as u32)));
    let mut vocab: Map<String, Value> =
        spelled.enumerate().map(|(id, c)| (c.to_string(), Value::from(id))).collect();
    vocab.extend((vocab.len()..ENDOFTEXT).map(|id| (format!("<filler {id}>"), Value::from(id))));
    let special = |id: usize, content: &str| json!({"id": id, "content": content, "special": true});
    json!({
        "version": "1.0",
        "added_tokens": [
            special(ENDOFTEXT, "<|endoftext|>"), special(IM_START, "<|im_start|>"), special(IM_END, "<|im_end|>"),
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

#[cfg(test)]
mod tests {
    use quarry_cpu::{CpuBackend, CpuOptions};
    use quarry_model::backend::ModelFiles;

    use super::*;

    #[test]
    fn a_made_folder_loads_and_its_logits_are_finite() {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape { layers: 1, ..Shape::named("qwen3-0.6b").unwrap() };
        let bytes = write(&shape, dir.path()).unwrap();
        let files = ModelFiles::open(dir.path()).unwrap();
        assert_eq!((files.spec.hidden, files.spec.layers, files.spec.vocab), (1024, 1, VOCAB));
        let lengths = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap());
        let weights =
            lengths.filter(|file| file.path().extension().is_some_and(|kind| kind == "safetensors"));
        let written: u64 = weights.map(|file| file.metadata().unwrap().len()).sum();
        // The files' heads come on top.
        assert!((bytes..bytes + 16_384).contains(&written), "{written} bytes for {bytes}");
        let tokens = Random::new(1).tokens(files.spec.vocab, 4);
        let mut cpu = CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap();
        let report = crate::perplexity::run(&files, &mut cpu, None, &tokens, None, 4, &mut |_, _| ());
        let found = report.unwrap().perplexity;
        assert!(found > 1.0 && found.is_finite(), "{found}");
    }
}
