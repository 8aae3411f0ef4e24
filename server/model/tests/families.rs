//! Small files of each family are described; a file that is not what it says is refused by name.

use quarry_formats::gguf::{GgufFile, Value, Writer};
use quarry_formats::quant::TensorType;
use quarry_model::backend::ModelFiles;
use quarry_model::families::{self, SUPPORTED, describe, tensors};
use quarry_model::spec::{DecoderSpec, RopePairing, RopeScaling, RopeSpec};

fn spec(architecture: &str) -> DecoderSpec {
    DecoderSpec {
        architecture: architecture.into(),
        layers: 2,
        hidden: 24,
        mlp_hidden: 40,
        heads: 4,
        kv_heads: 2,
        // Not hidden / heads, where the family may say so.
        head_dim: 8,
        vocab: 50,
        context_tokens_max: 128,
        norm_epsilon: 1e-6,
        rope: RopeSpec {
            theta: 1e6,
            dims: 8,
            pairing: if architecture == "llama" { RopePairing::Neighbours } else { RopePairing::Halves },
            scaling: RopeScaling::None,
        },
        qk_norm: architecture == "qwen3",
        qkv_bias: architecture == "qwen2",
        tied_head: architecture != "qwen2",
    }
}

/// A file as a list, to be changed before it is written.
#[derive(Clone)]
struct Draft {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Draft {
    fn of(spec: &DecoderSpec) -> Self {
        let a = &spec.architecture;
        let size = |name: &str, n: usize| (format!("{a}.{name}"), Value::U64(n as u64));
        let metadata = vec![
            ("general.architecture".into(), Value::String(a.clone())),
            size("block_count", spec.layers),
            size("embedding_length", spec.hidden),
            size("feed_forward_length", spec.mlp_hidden),
            size("attention.head_count", spec.heads),
            size("attention.head_count_kv", spec.kv_heads),
            size("attention.key_length", spec.head_dim),
            size("attention.value_length", spec.head_dim),
            size("context_length", spec.context_tokens_max),
            (format!("{a}.attention.layer_norm_rms_epsilon"), Value::F64(f64::from(spec.norm_epsilon))),
            (format!("{a}.rope.freq_base"), Value::F64(f64::from(spec.rope.theta))),
        ];
        Draft { metadata, tensors: tensors(spec).collect() }
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.into(), value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        let before = self.metadata.len() + self.tensors.len();
        self.metadata.retain(|(k, _)| k != name);
        self.tensors.retain(|(n, _)| n != name);
        assert_eq!(self.metadata.len() + self.tensors.len(), before - 1, "{name} was there");
        self
    }

    fn tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.retain(|(n, _)| n != name);
        self.tensors.push((name.into(), shape.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in &self.metadata {
            writer.metadata(key, value);
        }
        for (name, shape) in &self.tensors {
            let elements: usize = shape.iter().product();
            writer.tensor(name, TensorType::F32, shape, &vec![0; 4 * elements]);
        }
        writer.finish()
    }

    fn describe(&self) -> Result<DecoderSpec, families::FamilyError> {
        describe(&GgufFile::from_bytes(self.bytes()).expect("a valid file"))
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let message = self.describe().expect_err("refused").to_string();
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}

#[test]
fn each_family_is_described_as_it_was_written() {
    for architecture in SUPPORTED {
        let spec = spec(architecture);
        assert_eq!(Draft::of(&spec).describe().expect(architecture), spec);
    }
}

#[test]
fn a_file_on_disk_is_opened() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, Draft::of(&spec("qwen3")).bytes()).expect("write");
    let files = ModelFiles::open(&path).expect("a model");
    assert_eq!((*files.spec).clone(), spec("qwen3"));
    assert!(files.weights.tensor("blk.1.attn_q_norm.weight").is_some());
}

#[test]
fn keys_that_may_be_absent_have_their_meaning() {
    let mut spec = spec("llama");
    (spec.head_dim, spec.rope.dims, spec.kv_heads, spec.rope.theta) = (6, 6, 4, 10_000.0);
    let draft = Draft::of(&spec)
        .without("llama.attention.key_length")
        .without("llama.attention.value_length")
        .without("llama.attention.head_count_kv")
        .without("llama.rope.freq_base");
    assert_eq!(draft.describe().expect("llama"), spec);
}

#[test]
fn rope_scaling() {
    let scaling = |pairs: &[(&str, Value)]| {
        let set = |draft: Draft, (key, value): &(&str, Value)| {
            draft.set(&format!("qwen3.rope.{key}"), value.clone())
        };
        pairs.iter().fold(Draft::of(&spec("qwen3")), set)
    };
    let text = |s: &str| Value::String(s.into());
    let found = |pairs: &[(&str, Value)]| scaling(pairs).describe().expect("qwen3").rope.scaling;

    assert_eq!(found(&[("scaling.type", text("none"))]), RopeScaling::None);
    let linear = [("scaling.type", text("linear")), ("scaling.factor", Value::F64(4.0))];
    assert_eq!(found(&linear), RopeScaling::Linear { factor: 4.0 });
    assert_eq!(found(&[("scale_linear", Value::F64(2.0))]), RopeScaling::Linear { factor: 2.0 });
    let yarn = [
        ("scaling.type", text("yarn")),
        ("scaling.factor", Value::F64(4.0)),
        ("scaling.original_context_length", Value::U64(32_768)),
    ];
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 32_768,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: 0.1 * 4.0_f32.ln() + 1.0,
    };
    assert_eq!(found(&yarn), expected);

    scaling(&yarn[..2]).refused(&["qwen3.rope.scaling.original_context_length", "missing"]);
    scaling(&[("scaling.type", text("longrope"))]).refused(&["scaling.type", "longrope", "yarn"]);
    let zero = [("scaling.type", text("linear")), ("scaling.factor", Value::F64(0.0))];
    scaling(&zero).refused(&["scaling.factor is 0"]);
    scaling(&[("scaling.type", Value::U64(1))]).refused(&["scaling.type", "a string"]);
}

#[test]
fn other_architectures_are_refused_by_name() {
    let draft = Draft::of(&spec("llama")).set("general.architecture", Value::String("mamba".into()));
    draft.refused(&["\"mamba\"", "qwen3, qwen2, llama"]);
    draft.without("general.architecture").refused(&["general.architecture is missing"]);
}

#[test]
fn tensors_are_exactly_the_decoders() {
    for architecture in SUPPORTED {
        let draft = Draft::of(&spec(architecture));
        for (name, shape) in &draft.tensors {
            if name == "output.weight" {
                // Without it the head is tied.
                assert!(draft.clone().without(name).describe().expect("tied").tied_head);
            } else {
                draft.clone().without(name).refused(&[name, "missing"]);
            }
            let mut wrong = shape.clone();
            *wrong.last_mut().expect("a dimension") += 1;
            draft.clone().tensor(name, &wrong).refused(&[name, &format!("{wrong:?}"), &format!("{shape:?}")]);
        }
    }
    let llama = || Draft::of(&spec("llama"));
    llama().tensor("blk.0.attn_q.bias", &[32]).refused(&["blk.0.attn_q.bias", "no place", "llama"]);
    llama().tensor("blk.2.attn_norm.weight", &[24]).refused(&["blk.2.attn_norm.weight"]);
    llama().tensor("rope_freqs.weight", &[4]).refused(&["rope_freqs.weight", "frequency"]);
}

#[test]
fn impossible_dimensions_are_refused() {
    let set = |name: &str, value| Draft::of(&spec("qwen3")).set(&format!("qwen3.{name}"), value);
    for name in [
        "block_count",
        "embedding_length",
        "attention.head_count",
        "attention.head_count_kv",
        "context_length",
    ] {
        set(name, Value::U64(0)).refused(&["qwen3.", "is 0"]);
    }
    set("block_count", Value::U64(1 << 40)).refused(&["qwen3.block_count", "1024"]);
    set("embedding_length", Value::U64(u64::MAX)).refused(&["qwen3.embedding_length"]);
    set("attention.head_count_kv", Value::U64(3)).refused(&["head_count_kv is 3", "divide"]);
    set("attention.key_length", Value::U64(7)).refused(&["qwen3.attention.value_length"]);
    set("rope.dimension_count", Value::U64(4)).refused(&["4 of 8"]);
    set("rope.freq_base", Value::F64(f64::INFINITY)).refused(&["rope.freq_base"]);
    set("rope.freq_base", Value::String("big".into())).refused(&["rope.freq_base", "a float"]);
    set("attention.layer_norm_rms_epsilon", Value::F64(0.0)).refused(&["layer_norm_rms_epsilon"]);
    set("attention.sliding_window", Value::U64(64)).refused(&["sliding_window is 64"]);
}
