//! Hub folders are described as the GGUF files of the same models; one that is not what it says is refused by name.

use std::fs;

use quarry_formats::quant::{TensorType, decode, encode};
use quarry_formats::safetensors::{Piece, SafetensorsFile, StoredTensor, write};
use quarry_model::backend::ModelFiles;
use quarry_model::families::FamilyError;
use quarry_model::spec::{DecoderSpec, RopePairing, RopeScaling};
use quarry_tiny::{HubWeights, StoredType, TinyModel};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder(model: TinyModel, weights: HubWeights) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    model.write_hub(dir.path(), weights, 1).expect("written");
    dir
}

fn open(dir: &TempDir) -> Result<ModelFiles, FamilyError> {
    ModelFiles::open(dir.path())
}

/// Sets a key of `config.json`; null takes it away.
fn set(dir: &TempDir, key: &str, value: Value) {
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    config[key] = value;
    fs::write(path, config.to_string()).expect("written");
}

#[track_caller]
fn refused(dir: &TempDir, parts: &[&str]) {
    let message = open(dir).map(|_| ()).expect_err("refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn a_folder_is_the_decoder_of_the_gguf_file() {
    for model in TinyModel::all() {
        let dir = folder(model, HubWeights::Plain(StoredType::F32));
        let file = dir.path().join("tiny.gguf");
        model.write(&file, TensorType::F32).expect("written");
        let expected = ModelFiles::open(&file).expect("a file");
        let found = open(&dir).expect("a folder");
        // Rows are in the original order, which rotates halves.
        let mut spec: DecoderSpec = (*expected.spec).clone();
        spec.rope.pairing = RopePairing::Halves;
        assert_eq!(*found.spec, spec, "{}", model.name);
        assert_eq!(found.weights.tensors().len(), expected.weights.tensors().len());
        for info in expected.weights.tensors() {
            let (named, bytes) = found.weights.tensor(&info.name).expect("is there");
            assert_eq!((named, bytes.len()), (info, info.bytes), "{}", model.name);
            let is_permuted =
                model.name == "llama" && (info.name.contains("attn_q.") || info.name.contains("attn_k."));
            if !is_permuted {
                assert_eq!(bytes, expected.weights.tensor(&info.name).expect("is there").1, "{}", info.name);
            }
        }
    }
}

#[test]
fn awq_matrices_are_rows_of_blocks() {
    let dir = folder(TinyModel::qwen3(), HubWeights::Awq);
    let files = open(&dir).expect("a folder");
    let (info, bytes) = files.weights.tensor("blk.1.ffn_down.weight").expect("is there");
    assert_eq!((info.kind, &info.shape[..], info.bytes), (TensorType::AWQ4, &[256, 512][..], bytes.len()));
    let mut found = vec![0.0; 256 * 512];
    decode(info.kind, &bytes, &mut found);
    let plain = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F32));
    let plain = open(&plain).expect("a folder");
    let mut expected = vec![0.0; 256 * 512];
    decode(
        TensorType::F32,
        &plain.weights.tensor("blk.1.ffn_down.weight").expect("is there").1,
        &mut expected,
    );
    // Weights up to 1/16 in 15 steps.
    let apart = found.iter().zip(&expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart > 0.0 && apart < 0.125 / 15.0, "{apart}");
    let norm = files.weights.tensor("blk.0.attn_norm.weight").expect("is there").0;
    assert_eq!(norm.kind, TensorType::F16);
}

#[test]
fn awq_scales_may_be_bf16() {
    let dir = folder(TinyModel::qwen3(), HubWeights::Awq);
    let matrix = |dir: &TempDir| {
        let files = open(dir).expect("a folder");
        let (info, bytes) = files.weights.tensor("blk.0.attn_q.weight").expect("is there");
        let mut values = vec![0.0; info.shape.iter().product()];
        decode(info.kind, &bytes, &mut values);
        values
    };
    let before = matrix(&dir);
    rewrite(&dir, |piece| {
        if !piece.name.ends_with(".scales") {
            return Some(piece);
        }
        let mut values = vec![0.0; piece.data.len() / 2];
        decode(TensorType::F16, &piece.data, &mut values);
        Some(Piece { kind: StoredType::BF16, data: encode(TensorType::BF16, &values), ..piece })
    });
    let after = matrix(&dir);
    let largest = before.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let apart = before.iter().zip(&after).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart > 0.0 && apart <= largest / 256.0, "{apart} of {largest}");
}

#[test]
fn what_is_absent_has_its_meaning() {
    let dir = folder(TinyModel::qwen2(), HubWeights::Plain(StoredType::F32));
    for key in ["head_dim", "hidden_act", "rope_scaling", "use_sliding_window", "rms_norm_eps"] {
        set(&dir, key, Value::Null);
    }
    // Newer configurations keep the base of the frequencies among the parameters of RoPE.
    set(&dir, "rope_theta", Value::Null);
    set(&dir, "rope_parameters", json!({"rope_type": "default", "rope_theta": 5e5}));
    let spec = open(&dir).expect("a folder").spec;
    assert_eq!((spec.head_dim, spec.rope.theta, spec.norm_epsilon), (64, 5e5, 1e-6));
    assert_eq!(spec.rope.scaling, RopeScaling::None);

    // A tied head may be stored once more; it is the embedding all the same.
    let dir = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F32));
    assert!(!open(&dir).expect("a folder").spec.tied_head);
    set(&dir, "tie_word_embeddings", json!(true));
    let files = open(&dir).expect("a folder");
    assert!(files.spec.tied_head && files.weights.tensor("output.weight").is_none());
}

#[test]
fn rope_scaling_is_read_or_refused_by_name() {
    let dir = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F32));
    let scaling = |value: Value| {
        set(&dir, "rope_scaling", value);
        open(&dir).map(|files| (files.spec.rope.scaling.clone(), files.spec.context_tokens_max))
    };
    assert_eq!(scaling(json!({"rope_type": "default"})).expect("read"), (RopeScaling::None, 4096));
    let linear = (RopeScaling::Linear { factor: 4.0 }, 4096);
    assert_eq!(scaling(json!({"type": "linear", "factor": 4.0})).expect("read"), linear);
    let yarn = scaling(json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}));
    assert_eq!(yarn.expect("read"), (RopeScaling::yarn(4.0, 2048), 8192));
    let yarn =
        json!({"rope_type": "yarn", "factor": 2, "beta_fast": 16, "beta_slow": 2, "attention_factor": 1.5});
    let expected = RopeScaling::Yarn {
        factor: 2.0,
        original_context: 4096,
        beta_fast: 16.0,
        beta_slow: 2.0,
        attention_factor: 1.5,
    };
    assert_eq!(scaling(yarn).expect("read"), (expected, 8192));
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512});
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        original_context: 512,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
    };
    assert_eq!(scaling(llama3).expect("read"), (expected, 4096));
    for (bad, parts) in [
        (json!({"rope_type": "dynamic", "factor": 2.0}), ["rope_type is dynamic", "yarn and llama3"]),
        (json!({"rope_type": "longrope"}), ["longrope", "known are"]),
        (json!({"rope_type": "yarn", "factor": 0.5}), ["rope_scaling.factor is 0.5", "1 or more"]),
        (json!({"rope_type": "yarn", "factor": 1e30}), ["max_position_embeddings", "must be from 1"]),
        (json!({"rope_type": "yarn", "factor": "4"}), ["factor is \"4\"", "a number"]),
        (json!({"rope_type": "yarn", "factor": 2, "beta_fast": 1}), ["rope_scaling.beta_fast is 1", "above"]),
        (
            json!({"rope_type": "yarn", "factor": 2, "truncate": false}),
            ["truncate is false", "not supported"],
        ),
        (
            json!({"rope_type": "yarn", "factor": 2, "attention_factor": 0}),
            ["attention_factor is 0", "above 0"],
        ),
        (
            json!({"rope_type": "yarn", "original_max_position_embeddings": 0}),
            ["original_context is 0", "above 0"],
        ),
        (json!([1]), ["rope_scaling is [1]", "an object"]),
    ] {
        let message = scaling(bad).expect_err("refused").to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks one of {parts:?}");
    }
}

#[test]
fn yarn_can_be_switched_on() {
    let dir = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F32));
    let files = open(&dir).expect("a folder").with_yarn(4.0, Some(1024)).expect("switched on");
    assert_eq!(
        (files.spec.context_tokens_max, &files.spec.rope.scaling),
        (4096, &RopeScaling::yarn(4.0, 1024))
    );
    let whole = open(&dir).expect("a folder").with_yarn(2.0, None).expect("switched on");
    assert_eq!(whole.spec.context_tokens_max, 8192);
    let refused = |factor, original| {
        let files = open(&dir).expect("a folder").with_yarn(factor, original);
        files.map(|_| ()).expect_err("refused").to_string()
    };
    assert!(refused(0.5, None).contains("rope_scaling.factor is 0.5"));
    assert!(refused(f32::NAN, None).contains("rope_scaling.factor"));
    assert!(refused(2.0, Some(0)).contains("original_context is 0"));
    assert!(refused(1e6, None).contains("context_length"));
    let twice = files.with_yarn(2.0, None).map(|_| ()).expect_err("refused").to_string();
    assert!(twice.contains("rope_scaling is yarn"), "{twice}");
}

#[test]
fn other_folders_are_refused_by_name() {
    let plain = || folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F32));
    let with = |key: &str, value: Value| {
        let dir = plain();
        set(&dir, key, value);
        dir
    };
    refused(&with("model_type", json!("mamba")), &["\"mamba\"", "qwen3, qwen2, llama"]);
    refused(&with("model_type", Value::Null), &["architecture \"\""]);
    refused(&with("hidden_size", Value::Null), &["hidden_size is missing"]);
    refused(&with("hidden_size", json!("256")), &["hidden_size is \"256\"", "integer"]);
    refused(&with("hidden_size", json!(255)), &["[330, 256]", "[330, 255]"]);
    refused(&with("num_hidden_layers", json!(3)), &["model.layers.2.", "missing"]);
    refused(&with("num_hidden_layers", json!(1)), &["model.layers.1.", "no place"]);
    refused(&with("num_hidden_layers", json!(1_u64 << 40)), &["num_hidden_layers", "1024"]);
    refused(&with("num_attention_heads", json!(0)), &["num_attention_heads is 0"]);
    refused(&with("num_key_value_heads", json!(3)), &["num_key_value_heads is 3", "divide"]);
    refused(&with("hidden_act", json!("gelu")), &["hidden_act is \"gelu\"", "silu"]);
    refused(&with("attention_bias", json!(true)), &["attention_bias is true"]);
    refused(&with("use_sliding_window", json!(true)), &["use_sliding_window is true"]);
    refused(
        &with("layer_types", json!(["full_attention", "sliding_attention"])),
        &["layer_types", "full_attention"],
    );
    open(&with("layer_types", json!(["full_attention", "full_attention"])))
        .expect("what every layer is anyway");
    refused(&with("rope_theta", json!(0.5)), &["rope_theta is 0.5"]);
    refused(&with("rms_norm_eps", json!(0)), &["rms_norm_eps is 0"]);
    // Weights of another family.
    refused(&with("model_type", json!("qwen2")), &["q_proj.bias is missing"]);
    refused(&with("model_type", json!("llama")), &["q_norm.weight", "no place"]);
}

#[test]
fn quantizations_but_awq_are_refused_by_name() {
    let good =
        json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"});
    for (key, value, parts) in [
        ("quant_method", json!("gptq"), ["quant_method is \"gptq\"", "awq"]),
        ("bits", json!(8), ["bits is 8", "4 bits"]),
        ("group_size", json!(64), ["group_size is 64", "128"]),
        ("zero_point", json!(false), ["zero_point is false", "true"]),
        ("version", json!("gemv"), ["version is \"gemv\"", "gemm"]),
    ] {
        let dir = folder(TinyModel::qwen3(), HubWeights::Awq);
        set(&dir, "quantization_config", good.clone());
        open(&dir).expect("the base case");
        let mut bad = good.clone();
        bad[key] = value;
        set(&dir, "quantization_config", bad);
        refused(&dir, &parts);
    }
    // Packed words where numbers are expected, and the other way round.
    let dir = folder(TinyModel::qwen3(), HubWeights::Awq);
    set(&dir, "quantization_config", Value::Null);
    refused(&dir, &["self_attn.q_proj.weight is missing"]);
    let dir = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::F16));
    set(&dir, "quantization_config", good);
    open(&dir).expect("matrices that are not converted stay as they are");
}

/// Writes the folder's weights anew, each tensor as `change` gives it; `None` leaves it out.
fn rewrite(dir: &TempDir, change: impl Fn(Piece) -> Option<Piece>) {
    let path = dir.path().join("model.safetensors");
    let file = SafetensorsFile::open(&path).expect("opens");
    let as_piece = |t: &StoredTensor| {
        let data = file.tensor(&t.name).expect("is there").1.to_vec();
        Piece { name: t.name.clone(), kind: t.kind, shape: t.shape.clone(), data }
    };
    let pieces: Vec<Piece> = file.tensors().iter().map(as_piece).filter_map(change).collect();
    let mut bytes = Vec::new();
    write(&mut bytes, &pieces).expect("written");
    drop(file);
    fs::write(&path, bytes).expect("written");
}

#[test]
fn decoders_without_a_head_are_opened() {
    // As the embedding models are stored: no head, and names that begin where those of others have `model.`.
    let dir = folder(TinyModel::qwen3(), HubWeights::Plain(StoredType::BF16));
    let whole = open(&dir).expect("a folder");
    let whole = whole.weights.tensor("blk.1.ffn_up.weight").expect("is there").1.into_owned();
    rewrite(&dir, |piece| {
        let name = piece.name.strip_prefix("model.")?.to_owned();
        Some(Piece { name, ..piece })
    });
    let files = open(&dir).expect("a folder without a head");
    assert!(files.spec.tied_head && files.weights.tensor("output.weight").is_none());
    assert_eq!(files.weights.tensor("blk.1.ffn_up.weight").expect("is there").1, whole);
    rewrite(&dir, |piece| (piece.name != "layers.1.mlp.up_proj.weight").then_some(piece));
    refused(&dir, &["tensor layers.1.mlp.up_proj.weight is missing"]);
}

#[test]
fn no_value_of_the_configuration_is_a_panic() {
    let dir = folder(TinyModel::qwen3(), HubWeights::Awq);
    let path = dir.path().join("config.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let hostile = [
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(u64::MAX),
        json!(4_194_304),
        json!(1e308),
        json!(1e-308),
        json!(""),
        json!([]),
        json!({"rope_type": "yarn", "factor": 1e30, "original_max_position_embeddings": u64::MAX}),
        json!({"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4}),
    ];
    let (mut opened, mut refused) = (0, 0);
    for key in good.as_object().expect("an object").keys() {
        for value in &hostile {
            let mut config = good.clone();
            config[key] = value.clone();
            fs::write(&path, config.to_string()).expect("written");
            match open(&dir) {
                Ok(files) => {
                    opened += 1;
                    let (frequencies, factor) = quarry_model::rope::frequencies(&files.spec.rope);
                    assert!(
                        factor.is_finite() && frequencies.iter().all(|f| f.is_finite()),
                        "{key}: {value}"
                    );
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().len() < 500, "{error}");
                }
            }
        }
    }
    assert!(opened > 20 && refused > 100, "{opened} opened, {refused} refused");
}
