"""Golden values of the tiny Qwen3 that golden.py does not make: a forward pass in numpy, in 64 bits, as the papers have it.

    python golden_numpy.py         (needs numpy)

Weights and prompts are golden.py's formula, written here once more so that neither torch nor transformers is needed. The
pass is first compared with golden/qwen3.json, which transformers made. Outputs, committed: golden/qwen3_yarn.json, logits
with YaRN (Peng et al. 2023, arXiv:2309.00071, sections 3.2 and 3.4); golden/qwen3_hidden.json, hidden states after the
output norm, which is what embedding models are asked for.
"""

import json
import math
from pathlib import Path

import numpy as np

VOCAB, SEED, LAYERS, HIDDEN, MLP, HEADS, KV_HEADS, HEAD_DIM = 330, 3, 2, 256, 512, 8, 2, 64
THETA, EPSILON = 1e6, 1e-6
# src/golden.rs has the same.
FACTOR, ORIGINAL = 4.0, 32
MASK = (1 << 64) - 1


def tops(name, count):
    """The top 24 bits of splitmix64 over the stream's key; see src/random.rs."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(key ^ SEED) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.int64)


def weight(name, *shape):
    raw = ((tops(name, math.prod(shape)) - (1 << 23)) / (1 << 23)).reshape(shape)
    if name.endswith("norm.weight"):
        return raw * 0.25 + 1
    return raw * (0.25 if name == "token_embd.weight" else 0.125 if shape[1] <= 256 else 0.0625)


def prompt(count):
    return (tops(f"prompt-{count}", count) % VOCAB).tolist()


def frequencies(yarn):
    """Angle per position of each pair, and the factor on cos and sin."""
    plain = THETA ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    if not yarn:
        return plain, 1.0
    index_of = lambda turns: HEAD_DIM / 2 * math.log(ORIGINAL / (2 * math.pi * turns), THETA)
    first = max(math.floor(index_of(32)), 0)
    last = min(math.ceil(index_of(1)), HEAD_DIM - 1)
    gamma = 1 - np.clip((np.arange(HEAD_DIM // 2) - first) / (last - first), 0, 1)
    return (1 - gamma) * plain / FACTOR + gamma * plain, 0.1 * math.log(FACTOR) + 1


def norm(x, by):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * by


def rotate(x, yarn):
    """x: tokens, heads, HEAD_DIM; pairs are (i, i + HEAD_DIM / 2)."""
    by, factor = frequencies(yarn)
    angle = np.arange(len(x))[:, None, None] * by
    cos, sin = np.cos(angle) * factor, np.sin(angle) * factor
    a, b = x[..., : HEAD_DIM // 2], x[..., HEAD_DIM // 2 :]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def hidden(tokens, yarn):
    """After the output norm: tokens, HIDDEN."""
    count = len(tokens)
    x = weight("token_embd.weight", VOCAB, HIDDEN)[tokens]
    mask = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(LAYERS):
        w = lambda part, *shape: weight(f"blk.{layer}.{part}.weight", *shape)
        h = norm(x, w("attn_norm", HIDDEN))
        heads = lambda part, n: (h @ w(part, n * HEAD_DIM, HIDDEN).T).reshape(count, n, HEAD_DIM)
        q = rotate(norm(heads("attn_q", HEADS), w("attn_q_norm", HEAD_DIM)), yarn)
        k = rotate(norm(heads("attn_k", KV_HEADS), w("attn_k_norm", HEAD_DIM)), yarn)
        k, v = (np.repeat(t, HEADS // KV_HEADS, axis=1) for t in (k, heads("attn_v", KV_HEADS)))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(HEAD_DIM) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", scores, v).reshape(count, -1)
        x = x + attended @ w("attn_output", HIDDEN, HEADS * HEAD_DIM).T
        h = norm(x, w("ffn_norm", HIDDEN))
        gate = h @ w("ffn_gate", MLP, HIDDEN).T
        gated = gate / (1 + np.exp(-gate)) * (h @ w("ffn_up", MLP, HIDDEN).T)
        x = x + gated @ w("ffn_down", HIDDEN, MLP).T
    return norm(x, weight("output_norm.weight", HIDDEN))


def logits(tokens, yarn):
    return hidden(tokens, yarn) @ weight("output.weight", VOCAB, HIDDEN).T


def save(folder, name, of):
    """`of(tokens)` has a row for each position; some of them are kept, under the key that the Rust side reads."""
    prompts = []
    for length in [1, 7, 40, 100]:
        tokens = prompt(length)
        positions = sorted({0, length // 2, length - 1})
        found = of(tokens)
        rows = [[float(f"{x:.7g}") for x in found[p]] for p in positions]
        prompts.append({"tokens": tokens, "positions": positions, "logits": rows})
    text = json.dumps({"model": "qwen3", "prompts": prompts}, separators=(",", ":"))
    (folder / f"{name}.json").write_text(text.replace("],[", "],\n[").replace(',"', ',\n"') + "\n")


def main():
    folder = Path(__file__).parent / "golden"
    for entry in json.loads((folder / "qwen3.json").read_text())["prompts"]:
        assert entry["tokens"] == prompt(len(entry["tokens"]))
        found, expected = logits(entry["tokens"], False)[entry["positions"]], np.array(entry["logits"])
        apart = abs(found - expected).max() / abs(expected).max()
        assert apart < 1e-5, apart
        print(f"without YaRN, {len(found)} positions: {apart:.1e} from transformers")
    save(folder, "qwen3_yarn", lambda tokens: logits(tokens, True))
    save(folder, "qwen3_hidden", lambda tokens: hidden(tokens, False))


if __name__ == "__main__":
    main()
