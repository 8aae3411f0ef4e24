"""Writes the golden fixtures: random blocks of each format and what the `gguf` Python package decodes them to.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 numpy
    venv/bin/python make_golden.py

`<format>.bin` is: rows of encoded bytes, then the same rows decoded, as little-endian f32 (BLOCKS blocks).
`encode.bin` is: VALUES f32, then for each of ENCODED their encoding by `gguf.quants.quantize`.
Scales are drawn from random halves, but finite: what NaN payload comes out of arithmetic is the processor's choice.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

FOLDER = Path(__file__).parent
SEED = 20261123
ELEMENTS = 2048
FORMATS = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K]
# Drawn after all else, so that the fixtures above stay as they are.
FORMATS_ADDED = [T.Q5_1, T.Q2_K, T.Q3_K, T.IQ4_NL, T.IQ4_XS]
ENCODED = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q8_0, T.Q5_1]
# Byte offsets of the halves in a block.
HALVES = {
    T.Q4_0: [0],
    T.Q4_1: [0, 2],
    T.Q5_0: [0],
    T.Q5_1: [0, 2],
    T.Q8_0: [0],
    T.Q2_K: [80, 82],
    T.Q3_K: [108],
    T.Q4_K: [0, 2],
    T.Q5_K: [0, 2],
    T.Q6_K: [208],
    T.IQ4_NL: [0],
    T.IQ4_XS: [0],
}


def finite_halves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random finite halves; every eighth is subnormal or zero."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits = np.where((bits & 0x7C00) == 0x7C00, bits & 0xBFFF, bits)
    bits[::8] &= 0x83FF
    return bits


def write_decoded(rng: np.random.Generator, kind: T) -> None:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ELEMENTS // elements, size), dtype=np.uint8)
    for at in HALVES.get(kind, []):
        blocks[:, at : at + 2] = finite_halves(rng, len(blocks)).view(np.uint8).reshape(-1, 2)
    if kind in (T.F32, T.F16, T.BF16):
        blocks = blocks.reshape(1, -1)
        # Signalling NaNs may become quiet on the way; keep the exponent below all ones.
        blocks[0, size - 1 :: size] &= 0xBF
    decoded = gguf.quants.dequantize(blocks, kind).astype("<f4")
    assert decoded.size == ELEMENTS and not np.isnan(decoded).any()
    (FOLDER / f"{kind.name.lower()}.bin").write_bytes(blocks.tobytes() + decoded.tobytes())


def main() -> None:
    rng = np.random.default_rng(SEED)
    for kind in FORMATS:
        write_decoded(rng, kind)

    values = rng.standard_normal(ELEMENTS).astype("<f4")
    values[:32] = 0
    values[32:64] = values[32]
    values[64:96] *= 1e-6
    encoded = [gguf.quants.quantize(values, kind).tobytes() for kind in ENCODED]
    (FOLDER / "encode.bin").write_bytes(values.tobytes() + b"".join(encoded))

    for kind in FORMATS_ADDED:
        write_decoded(rng, kind)


if __name__ == "__main__":
    main()
