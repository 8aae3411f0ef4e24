#!/usr/bin/env python3
"""What PyTorch does on the same card: copies, and bf16 products of Qwen3-4B's shapes. Writes JSON to the file named."""

import json
import sys
import time

import torch

SHAPES = {"qkv": (6144, 2560), "output": (2560, 4096), "gate_up": (19456, 2560), "down": (2560, 9728)}
TOKENS = [1, 8, 64, 2048]
REPEATS = 20


def seconds(run):
    """The best of some runs after two that do not count."""
    best = float("inf")
    for repeat in range(REPEATS + 2):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if repeat >= 2:
            best = min(best, time.perf_counter() - begun)
    return best


def main():
    device = torch.device("cuda")
    report = {"torch": torch.__version__, "device": torch.cuda.get_device_name(), "products": []}
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    report["memory_gb"] = 2 * source.numel() / seconds(lambda: target.copy_(source)) / 1e9
    for name, (rows, columns) in SHAPES.items():
        weights = torch.randn(rows, columns, dtype=torch.bfloat16, device=device)
        for tokens in TOKENS:
            activations = torch.randn(tokens, columns, dtype=torch.bfloat16, device=device)
            took = seconds(lambda: activations @ weights.T)
            report["products"].append(
                {
                    "name": name,
                    "tokens": tokens,
                    "microseconds": took * 1e6,
                    "gb_per_second": weights.numel() * 2 / took / 1e9,
                    "tops": 2 * weights.numel() * tokens / took / 1e12,
                }
            )
    with open(sys.argv[1], "w") as out:
        json.dump(report, out, indent=1)


main()
