"""Cleans a labelled folder's pages as somebody else does; texts and seconds go to a file, one JSON a line.

Pages are in memory and decoded first, so a repeat is parsing and cleaning alone: that is less than ours does.
trafilatura: `extract` with its favour of recall, tables and links as it has them by default, as markdown.
crawl4ai: what its markdown generator does for `fit_markdown` with PruningContentFilter's defaults (its lxml form, ten
times as quick), without the raw markdown that it makes beside.
"""

import csv
import json
import sys
import time
import warnings
from pathlib import Path


def trafilatura():
    from trafilatura import extract

    return lambda html: extract(html, output_format="markdown", favor_recall=True) or ""


def crawl4ai():
    from crawl4ai.content_filter_strategy import PruningContentFilterLXML
    from crawl4ai.html2text import CustomHTML2Text

    def clean(html):
        converter = CustomHTML2Text()
        converter.update_params(
            body_width=0, ignore_emphasis=False, ignore_links=False, ignore_images=False, protect_links=False,
            single_line_break=True, mark_code=True, escape_snob=False,
        )
        kept = PruningContentFilterLXML().filter_content(html)
        return converter.handle("\n".join(f"<div>{part}</div>" for part in kept))

    return clean


def main():
    name, corpus, out, repeats = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    warnings.simplefilter("ignore")
    clean = {"trafilatura": trafilatura, "crawl4ai": crawl4ai}[name]()
    with open(corpus / "index.tsv", newline="") as index:
        files = [row["file"] for row in csv.DictReader(index, delimiter="\t") if row["file"].endswith(".html")]
    pages = [(file, decoded((corpus / file).read_bytes())) for file in files]
    with open(out, "w") as lines:
        # Once for the texts, and so that no repeat pays for what is made once.
        for file, html in pages:
            lines.write(json.dumps({"file": file, "text": clean(html)}) + "\n")
        for _ in range(repeats):
            started = time.perf_counter()
            for _, html in pages:
                clean(html)
            lines.write(json.dumps({"seconds": time.perf_counter() - started}) + "\n")


def decoded(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        return str(from_bytes(data).best())


if __name__ == "__main__":
    main()
