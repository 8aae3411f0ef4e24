"""Writes rope.json: frequencies and attention factor of rotary scalings, from the papers' formulas, in 64 bits.

    python3 make_rope.py           (needs numpy)

YaRN (Peng et al. 2023, arXiv:2309.00071): section 3.2 in the terms of the paper. A dimension turns
r(d) = L / wavelength(d) times within the original context L; the ramp goes over the *index* of the dimension, between
the indices that turn alpha and beta times, rounded outwards, as the authors' own code and transformers have it.
llama 3.1 (transformers, `_compute_llama3_parameters`): by wavelength, in three branches as there.
"""

import json
import math
from pathlib import Path

import numpy as np

CASES = [
    dict(name="qwen3 plain", kind="none", theta=1e6, dims=128),
    dict(name="linear", kind="linear", theta=1e4, dims=64, factor=4.0),
    dict(name="qwen3 4x", kind="yarn", theta=1e6, dims=128, factor=4.0, original=32768, fast=32, slow=1),
    dict(name="qwen2.5 2x of 64", kind="yarn", theta=1e6, dims=64, factor=2.0, original=32768, fast=32, slow=1),
    dict(name="llama2 16x", kind="yarn", theta=1e4, dims=128, factor=16.0, original=4096, fast=32, slow=1),
    dict(name="other ramp", kind="yarn", theta=5e5, dims=96, factor=3.5, original=2000, fast=20, slow=3),
    dict(name="low outside", kind="yarn", theta=1e4, dims=32, factor=8.0, original=16, fast=64, slow=1),
    dict(name="llama 3.1", kind="llama3", theta=5e5, dims=128, factor=8.0, original=8192, low=1, high=4),
    dict(name="llama 3.2", kind="llama3", theta=5e5, dims=64, factor=32.0, original=8192, low=1, high=4),
]


def yarn(inverse, case):
    """Section 3.2, from wavelengths."""
    dims, theta, length = case["dims"], case["theta"], case["original"]

    def index_of(turns):
        # wavelength(i) = 2 pi theta^(2 i / dims) and turns = length / wavelength, solved for i.
        return dims / 2 * math.log(length / (2 * math.pi * turns), theta)

    first = max(math.floor(index_of(case["fast"])), 0)
    last = min(math.ceil(index_of(case["slow"])), dims - 1)
    last = last if last > first else first + 0.001
    gamma = 1 - np.clip((np.arange(dims // 2) - first) / (last - first), 0, 1)
    return (1 - gamma) * inverse / case["factor"] + gamma * inverse


def llama3(inverse, case):
    out = []
    for frequency in inverse:
        wavelength = 2 * math.pi / frequency
        if wavelength < case["original"] / case["high"]:
            out.append(frequency)
        elif wavelength > case["original"] / case["low"]:
            out.append(frequency / case["factor"])
        else:
            smooth = (case["original"] / wavelength - case["low"]) / (case["high"] - case["low"])
            out.append((1 - smooth) * frequency / case["factor"] + smooth * frequency)
    return np.array(out)


def main():
    for case in CASES:
        inverse = case["theta"] ** -(np.arange(0, case["dims"], 2) / case["dims"])
        scaled = {
            "none": lambda: inverse,
            "linear": lambda: inverse / case["factor"],
            "yarn": lambda: yarn(inverse, case),
            "llama3": lambda: llama3(inverse, case),
        }[case["kind"]]()
        case["frequencies"] = [float(f"{x:.12g}") for x in scaled]
        # Section 3.4: sqrt(1 / t) = 0.1 ln(s) + 1, on queries and on keys.
        case["attention_factor"] = 0.1 * math.log(case["factor"]) + 1 if case["kind"] == "yarn" else 1.0
    text = json.dumps(CASES, indent=None).replace("}, {", "},\n{")
    (Path(__file__).parent / "rope.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
