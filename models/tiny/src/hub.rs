//! The model as a folder of the model hub: `config.json`, safetensors in one or several files, the tokenizer's files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use quarry_formats::awq;
use quarry_formats::quant::{self, TensorType};
use quarry_formats::safetensors::{self, Piece, StoredType};
use serde_json::{Value, json};

use crate::shape::{Family, TinyModel};
use crate::vocabulary;
use crate::weights::TinyTensor;

/// How a folder's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubWeights {
    /// All as F32, F16 or BF16.
    Plain(StoredType),
    /// The layers' matrices as AWQ, 4 bits; the rest as F16.
    Awq,
}

/// The hub's names of a layer's parts, by those of GGUF files.
const PARTS: [(&str, &str); 11] = [
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl TinyModel {
    /// Writes the folder, which is made; the weights lie in `shards` files, the chat template in a file of its own where
    /// there is more than one.
    ///
    /// # Errors
    /// Those of the files.
    pub fn write_hub(&self, folder: &Path, weights: HubWeights, shards: usize) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let pieces: Vec<Piece> = self.tensors().into_iter().flat_map(|t| pieces(t, weights)).collect();
        if shards == 1 {
            write_shard(&folder.join("model.safetensors"), &pieces)?;
        } else {
            write_sharded(folder, &pieces, shards)?;
        }
        let save = |name: &str, value: Value| fs::write(folder.join(name), format!("{value:#}\n"));
        save("config.json", self.config(weights))?;
        save("tokenizer.json", self.tokenizer())?;
        let mut tokenizer_config = json!({
            "add_bos_token": false, "bos_token": null, "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer",
        });
        if shards == 1 {
            tokenizer_config["chat_template"] = vocabulary::CHAT_TEMPLATE.into();
        } else {
            fs::write(folder.join("chat_template.jinja"), vocabulary::CHAT_TEMPLATE)?;
        }
        save("tokenizer_config.json", tokenizer_config)?;
        let ends = [vocabulary::IM_END, vocabulary::ENDOFTEXT];
        save("generation_config.json", json!({"eos_token_id": ends, "pad_token_id": vocabulary::ENDOFTEXT}))
    }

    fn config(&self, weights: HubWeights) -> Value {
        let dtype = match weights {
            HubWeights::Plain(StoredType::F32) => "float32",
            HubWeights::Plain(StoredType::BF16) => "bfloat16",
            HubWeights::Plain(_) | HubWeights::Awq => "float16",
        };
        let mut config = json!({
            "attention_bias": false,
            "eos_token_id": vocabulary::IM_END,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp_hidden,
            "max_position_embeddings": self.context,
            "model_type": self.family.name(),
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": f64::from(self.norm_epsilon),
            "rope_scaling": null,
            "rope_theta": f64::from(self.theta),
            "tie_word_embeddings": self.tied,
            "torch_dtype": dtype,
            "use_sliding_window": false,
            "vocab_size": self.vocab(),
        });
        if weights == HubWeights::Awq {
            config["quantization_config"] = json!({
                "bits": 4, "group_size": awq::GROUP, "modules_to_not_convert": null, "quant_method": "awq",
                "version": "gemm", "zero_point": true,
            });
        }
        config
    }

    fn tokenizer(&self) -> Value {
        let plain = vocabulary::ENDOFTEXT as usize;
        let tokens = vocabulary::tokens();
        let vocab: serde_json::Map<String, Value> =
            tokens[..plain].iter().enumerate().map(|(id, text)| (text.clone(), id.into())).collect();
        let added = |(id, text): (usize, &String)| json!({"id": id, "content": text, "special": true});
        let added: Vec<Value> = tokens.iter().enumerate().skip(plain).map(added).collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": self.family == Family::Llama});
        let split = json!({"type": "Split", "pattern": {"Regex": vocabulary::QWEN2_SPLIT}, "behavior": "Isolated", "invert": false});
        let (normalizer, first) = match self.family {
            Family::Llama => (Value::Null, json!({"type": "Digits", "individual_digits": true})),
            Family::Qwen3 | Family::Qwen2 => (json!({"type": "NFC"}), split),
        };
        json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [first, bytes]},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocab, "merges": vocabulary::merges()},
        })
    }
}

fn hub_name(name: &str) -> String {
    match name {
        "token_embd.weight" => "model.embed_tokens.weight".into(),
        "output_norm.weight" => "model.norm.weight".into(),
        "output.weight" => "lm_head.weight".into(),
        _ => {
            let rest = name.strip_prefix("blk.").expect("a layer's tensor");
            let (part, hub) =
                PARTS.iter().find(|(part, _)| rest.contains(&format!(".{part}."))).expect("a known part");
            format!("model.layers.{}", rest.replace(part, hub))
        }
    }
}

/// A tensor as the file has it: itself, or AWQ's three.
fn pieces(tensor: TinyTensor, weights: HubWeights) -> Vec<Piece> {
    let TinyTensor { name, shape, data } = tensor;
    let hub = hub_name(&name);
    let plain = |kind: StoredType| {
        let data = quant::encode(kind.weights().expect("weights are numbers"), &data);
        vec![Piece { name: hub.clone(), kind, shape: shape.clone(), data }]
    };
    match weights {
        HubWeights::Plain(kind) => plain(kind),
        HubWeights::Awq if shape.len() == 1 || !name.starts_with("blk.") => plain(StoredType::F16),
        HubWeights::Awq => {
            let (rows, columns) = (shape[0], shape[1]);
            let blocks = quant::encode(TensorType::AWQ4, &data);
            let packed = awq::scatter(quant::blocks(&blocks), rows);
            let base = hub.strip_suffix(".weight").expect("a matrix");
            let (groups, words) = (columns / awq::GROUP, rows / awq::WORD);
            let piece = |part: &str, kind, shape: [usize; 2], data| Piece {
                name: format!("{base}.{part}"),
                kind,
                shape: shape.into(),
                data,
            };
            vec![
                piece("qweight", StoredType::I32, [columns, words], packed.qweight),
                piece("qzeros", StoredType::I32, [groups, words], packed.qzeros),
                piece("scales", StoredType::F16, [groups, rows], packed.scales),
            ]
        }
    }
}

fn write_shard(path: &Path, pieces: &[Piece]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    safetensors::write(&mut out, pieces)?;
    out.flush()
}

fn write_sharded(folder: &Path, pieces: &[Piece], shards: usize) -> io::Result<()> {
    let mut map = serde_json::Map::new();
    let each = pieces.len().div_ceil(shards);
    for (index, pieces) in pieces.chunks(each).enumerate() {
        let name = format!("model-{:05}-of-{shards:05}.safetensors", index + 1);
        map.extend(pieces.iter().map(|piece| (piece.name.clone(), name.clone().into())));
        write_shard(&folder.join(&name), pieces)?;
    }
    let bytes: usize = pieces.iter().map(|piece| piece.data.len()).sum();
    let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
    fs::write(folder.join("model.safetensors.index.json"), format!("{index:#}\n"))
}
