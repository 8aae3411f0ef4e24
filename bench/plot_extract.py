"""Draws what `quarry bench extract --out FILE` wrote: seconds a page, one bar an endpoint, pages by length.

Usage: python3 bench/plot_extract.py extract.json "ours" "llama-server" > extract.svg
Only the standard library, so that anybody can draw a record again.
"""

import json
import sys

WIDTH, ROW, LEFT, TOP = 760, 26, 150, 46
COLORS = ["#1f6f8b", "#c9a227", "#8a8a8a"]


def main() -> None:
    measured = json.load(open(sys.argv[1], encoding="utf-8"))
    names = sys.argv[2:] or [one["url"] for one in measured]
    pages = sorted(measured[0]["each"], key=lambda answer: answer["prompt_tokens"])
    seconds = [{answer["file"]: answer["seconds"] for answer in one["each"]} for one in measured]
    longest = max(max(times.values()) for times in seconds)
    scale = (WIDTH - LEFT - 70) / longest
    height = TOP + ROW * len(pages) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">']
    out.append(f'<rect width="{WIDTH}" height="{height}" fill="white"/>')
    for index, (name, one) in enumerate(zip(names, measured)):
        x = LEFT + 200 * index
        out.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLORS[index]}"/>')
        out.append(f'<text x="{x + 18}" y="24">{name}: {one["seconds_per_page"]:.2f} s a page</text>')
    for row, page in enumerate(pages):
        y = TOP + row * ROW
        out.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{page["prompt_tokens"]} prompt tokens</text>')
        bar = (ROW - 6) / len(measured)
        for index, times in enumerate(seconds):
            value = times[page["file"]]
            top = y + index * bar
            out.append(f'<rect x="{LEFT}" y="{top:.1f}" width="{value * scale:.1f}" height="{bar - 1:.1f}" fill="{COLORS[index]}"/>')
            out.append(f'<text x="{LEFT + value * scale + 4:.1f}" y="{top + bar - 2:.1f}" font-size="9">{value:.1f} s</text>')
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
