"""Writes awq.bin: a random AWQ matrix as checkpoints have it, and its weights by AutoAWQ's way of unpacking.

    python3 make_awq.py            (needs numpy)

The way of `awq/utils/packing_utils.py`: all nibbles of a word lowest first, then the columns in the order of
AWQ_REVERSE_ORDER. The Rust side goes from nibble to column instead. Layout: qweight, qzeros, scales, then the weights
as [outputs, inputs] in f32.
"""

from pathlib import Path

import numpy as np

INPUTS, OUTPUTS, GROUP = 384, 24, 128
AWQ_REVERSE_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]


def unpack(words):
    nibbles = (words.view(np.uint32)[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
    plain = nibbles.reshape(words.shape[0], -1)
    order = np.arange(plain.shape[1]).reshape(-1, 8)[:, AWQ_REVERSE_ORDER].reshape(-1)
    return plain[:, order].astype(np.int32)


def main():
    random = np.random.default_rng(20261125)
    word = lambda rows: random.integers(-(2**31), 2**31, (rows, OUTPUTS // 8)).astype(np.int32)
    qweight, qzeros = word(INPUTS), word(INPUTS // GROUP)
    scales = (random.standard_normal((INPUTS // GROUP, OUTPUTS)) * 0.02).astype(np.float16)
    by_input = lambda of_group: np.repeat(of_group, GROUP, axis=0)
    weights = (unpack(qweight) - by_input(unpack(qzeros))).astype(np.float32) * by_input(scales.astype(np.float32))
    parts = [qweight, qzeros, scales, np.ascontiguousarray(weights.T)]
    (Path(__file__).parent / "awq.bin").write_bytes(b"".join(part.tobytes() for part in parts))


if __name__ == "__main__":
    main()
