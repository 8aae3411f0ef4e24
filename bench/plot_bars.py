"""Draws two or three results beside each other: bars, a group of them for each figure.

Usage: python3 bench/plot_bars.py ours.json [rival.json …] [--names "ours,llama.cpp"] > bars.svg
Takes what `quarry bench model --out`, `kernels --out` and `serve --out` wrote, llama-bench's `-o json`, and the records of
bench/show (QUARRY_SHOW_OUT), one of which holds ours and its rivals. Only the standard library.
"""

import json
import sys
from xml.sax.saxutils import escape

WIDTH, BAR, GAP, LEFT, TOP = 760, 15, 12, 230, 46
COLORS = ["#1f6f8b", "#c9a227", "#8a8a8a", "#8b3a1f", "#5b7d3a"]
FILES_MAX = 4


def of_file(path):
    """[(series name or None, {label: figure})] of a file, and the figures' unit."""
    found = json.load(open(path, encoding="utf-8"))
    if isinstance(found, list):
        return [(None, {llama_bench_label(one): one["avg_ts"] for one in found})], "tokens/s"
    if "tests" in found:
        return [(None, {one["name"]: one["tokens_per_second"]["median"] for one in found["tests"]})], "tokens/s"
    if "sets" in found:
        return [(one["isa"], kernel_figures(one)) for one in found["sets"]], ""
    if "servers" in found:
        return [(one["url"], server_figures(one)) for one in found["servers"]], ""
    names = list(dict.fromkeys(name for line in found["lines"] for name in line["rivals"]))
    series = [("Quarry", {line["label"]: line["ours"] for line in found["lines"]})]
    for name in names:
        series.append((name, {line["label"]: line["rivals"][name] for line in found["lines"] if name in line["rivals"]}))
    return series, found["unit"]


def llama_bench_label(one):
    """As our own tests are named."""
    name = f"pp{one['n_prompt']}" if one["n_prompt"] else f"tg{one['n_gen']}"
    depth = one.get("n_depth", 0)
    return f"{name} @ d{depth}" if depth else name


def kernel_figures(one):
    """Kernels that only move memory have no operations."""
    figures = {f"{f['name']} GOP/s": f["gops"]["median"] for f in one["figures"] if f["gops"]}
    return figures | {f"{f['name']} GB/s": f["gbs"]["median"] for f in one["figures"] if not f["gops"]}


def server_figures(one):
    return {
        "answer tokens/s": one["output_tokens_per_second"],
        "first token, s, p50": one["ttft"]["p50"],
        "first token, s, p99": one["ttft"]["p99"],
        "between tokens, ms, p50": one["inter_token"]["p50"] * 1000,
        "between tokens, ms, p99": one["inter_token"]["p99"] * 1000,
        "whole answer, s, p50": one["end_to_end"]["p50"],
        "whole answer, s, p99": one["end_to_end"]["p99"],
    }


def draw(series, unit):
    labels = list(dict.fromkeys(label for _, figures in series for label in figures))
    group = BAR * len(series) + GAP
    height = TOP + group * len(labels) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">']
    out.append(f'<rect width="{WIDTH}" height="{height}" fill="white"/>')
    for index, (name, _) in enumerate(series):
        x = 20 + 740 // max(4, len(series)) * index
        out.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLORS[index]}"/>')
        out.append(f'<text x="{x + 18}" y="24">{escape(name[:26])}</text>')
    for row, label in enumerate(labels):
        y = TOP + row * group
        # Each group has its own scale: a prefill and a decode have no unit length in common.
        longest = max((figures[label] for _, figures in series if label in figures), default=0) or 1
        title = f"{label} {unit}".strip()
        out.append(f'<text x="{LEFT - 8}" y="{y + BAR * len(series) / 2 + 4:.1f}" text-anchor="end">{escape(title)}</text>')
        for index, (_, figures) in enumerate(series):
            if label not in figures:
                continue
            width, top = figures[label] / longest * (WIDTH - LEFT - 80), y + index * BAR
            out.append(f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR - 2}" fill="{COLORS[index]}"/>')
            out.append(f'<text x="{LEFT + width + 4:.1f}" y="{top + BAR - 4}" font-size="10">{figures[label]:.4g}</text>')
    return "\n".join([*out, "</svg>"])


def main():
    arguments, names = sys.argv[1:], []
    if "--names" in arguments:
        at = arguments.index("--names")
        names = arguments[at + 1].split(",")
        del arguments[at : at + 2]
    if not 1 <= len(arguments) <= FILES_MAX:
        sys.exit(__doc__)
    series, units = [], set()
    for path in arguments:
        found, unit = of_file(path)
        series += [(name or path, figures) for name, figures in found]
        units.add(unit)
    if len(series) > len(COLORS):
        sys.exit(f"{len(series)} series, {len(COLORS)} at most")
    series = [(names[i] if i < len(names) else name, figures) for i, (name, figures) in enumerate(series)]
    print(draw(series, units.pop() if len(units) == 1 else ""))


if __name__ == "__main__":
    main()
