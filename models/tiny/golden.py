"""Golden logits of the tiny models: transformers' own implementations in f32, eager attention.

    python golden.py            (needs numpy, torch, transformers; any CPU)

Weights come from the same formula as src/random.rs, under the same (GGUF) tensor names, so nothing is read from
the Rust side. Output: golden/NAME.json, committed.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers

PROMPT_LENGTHS = [1, 7, 40, 100]
VOCAB = 330
MASK = (1 << 64) - 1

BASE = dict(layers=2, hidden=256, mlp=512, heads=8, kv_heads=2, head_dim=64, tied=False, theta=1e6, eps=1e-6)
MODELS = {
    "qwen3": dict(BASE, family="qwen3", seed=3),
    "qwen3_tied": dict(BASE, family="qwen3", seed=33, heads=4, kv_heads=1, head_dim=128, tied=True),
    "qwen2": dict(BASE, family="qwen2", seed=2, heads=4),
    "llama": dict(BASE, family="llama", seed=1, kv_heads=4, head_dim=32, tied=True, theta=1e5, eps=1e-5),
}


def tops(seed, name, count):
    """The top 24 bits of splitmix64 over the stream's key; see src/random.rs."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        index = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(key ^ seed) + index * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z >> np.uint64(40)


def values(seed, name, shape):
    tops_ = tops(seed, name, int(np.prod(shape))).astype(np.int64)
    return ((tops_ - (1 << 23)).astype(np.float32) / np.float32(1 << 23)).reshape(shape)


def prompt(seed, count):
    return (tops(seed, f"prompt-{count}", count) % np.uint64(VOCAB)).astype(int).tolist()


def weight(seed, name, shape):
    raw = values(seed, name, shape)
    if name.endswith("norm.weight"):
        return raw * np.float32(0.25) + np.float32(1)
    if name == "token_embd.weight" or name.endswith(".bias"):
        return raw * np.float32(0.25)
    return raw * np.float32(0.125 if shape[1] <= 256 else 0.0625)


# Names in transformers → names in GGUF files. Rows are in transformers' order; the Rust side permutes llama's.
PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.split(".", 3)
    part, kind = part.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def build(model):
    config, lm = {
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    }[model["family"]]
    net = lm(config(
        vocab_size=VOCAB, hidden_size=model["hidden"], intermediate_size=model["mlp"],
        num_hidden_layers=model["layers"], num_attention_heads=model["heads"],
        num_key_value_heads=model["kv_heads"], head_dim=model["head_dim"], rms_norm_eps=model["eps"],
        rope_theta=model["theta"], rope_parameters={"rope_type": "default", "rope_theta": model["theta"]},
        max_position_embeddings=4096, tie_word_embeddings=model["tied"], attention_bias=False,
        use_sliding_window=False, pad_token_id=None, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager",
    )).float().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            new = weight(model["seed"], gguf_name(name), tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(new))
    return net


def main():
    out = Path(__file__).parent / "golden"
    out.mkdir(exist_ok=True)
    for name, model in MODELS.items():
        net = build(model)
        prompts = []
        for length in PROMPT_LENGTHS:
            tokens = prompt(model["seed"], length)
            with torch.no_grad():
                logits = net(torch.tensor([tokens]), use_cache=False).logits[0].numpy()
            positions = sorted({0, length // 2, length - 1})
            rows = [[float(f"{x:.7g}") for x in logits[p]] for p in positions]
            prompts.append({"tokens": tokens, "positions": positions, "logits": rows})
        text = json.dumps({"model": name, "prompts": prompts}, separators=(",", ":"))
        (out / f"{name}.json").write_text(text.replace("],[", "],\n[").replace(',"', ',\n"') + "\n")


if __name__ == "__main__":
    main()
