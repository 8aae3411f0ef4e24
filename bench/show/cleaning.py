"""The row `cleaning`: our cleaner beside trafilatura and Crawl4AI's pruning, each on one core, on the same pages."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
from verdict import Row

PAGES_PER_SECOND = 500
# Pinned, so that a record says what was measured. Crawl4AI brings a browser's driver along, and no browser.
# lxml_html_clean is what trafilatura needs and, beside Crawl4AI's older lxml, does not get by itself.
PACKAGES = ["trafilatura==2.3.1", "crawl4ai==0.9.5", "lxml_html_clean"]
RIVALS = ["trafilatura", "crawl4ai"]
CLEANER = Path(__file__).parent / "cleaning_rivals.py"


def environment():
    """A Python of the row's own in the cache folder, made once."""
    cache = machine.cache() / "show-cleaning"
    python = cache / "bin" / "python"
    stamp = cache / "packages.txt"
    wanted = "\n".join(PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {', '.join(PACKAGES)} into {cache}", file=sys.stderr)
        for command in [
            [sys.executable, "-m", "venv", "--clear", str(cache)],
            [str(python), "-m", "pip", "install", "--quiet", *PACKAGES],
        ]:
            if subprocess.run(command).returncode != 0:
                machine.give_up(f"{' '.join(command)} failed")
        stamp.write_text(wanted)
    return python


def cleaning(repeats):
    corpus = machine.env("QUARRY_SHOW_CORPUS")
    if not corpus or not (Path(corpus) / "index.tsv").is_file():
        machine.give_up("QUARRY_SHOW_CORPUS names no folder with index.tsv")
    binary, python = machine.quarry(), environment()
    machine.head("cleaning", binary)
    row = Row("cleaning", "pages/s")
    # One core for everybody, the last one: the first serves interrupts.
    core = str(max(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        beside = []
        for rival in RIVALS:
            texts = str(Path(folder) / f"{rival}.jsonl")
            command = ["taskset", "-c", core, str(python), str(CLEANER), rival, corpus, texts, str(repeats)]
            print(f"  {rival}", file=sys.stderr)
            # Crawl4AI keeps a folder in the home; the row leaves none.
            if subprocess.run(command, env={**os.environ, "CRAWL4_AI_BASE_DIRECTORY": folder}).returncode != 0:
                machine.give_up(f"{rival} failed")
            beside += ["--beside", f"{rival}={texts}"]
        out = Path(folder) / "clean.json"
        command = ["taskset", "-c", core, str(binary), "bench", "clean", corpus, "--repeats", str(repeats)]
        printed = subprocess.run([*command, *beside, "--out", str(out)], capture_output=True, text=True)
        if printed.returncode != 0:
            machine.give_up(printed.stderr)
        measured = {one["name"]: one for one in json.loads(out.read_text())}
    print(printed.stdout)
    speed = {name: one["pages"] / sorted(one["seconds"])[len(one["seconds"]) // 2] for name, one in measured.items()}
    kept = {name: share(one) for name, one in measured.items()}
    others = lambda of: {name: of[name] for name in RIVALS}
    ours, truth, best = speed["Quarry"], kept["Quarry"], max(others(kept).values())
    row.add("pages/s", ours, others(speed), ours / max(others(speed).values()), f">= {PAGES_PER_SECOND} pages/s",
            ours >= PAGES_PER_SECOND)
    row.add("truth kept, %", truth, others(kept), truth / best, ">= the better rival", truth >= best)
    row.note(f"command    taskset -c {core} quarry bench clean CORPUS --repeats {repeats}, medians")
    row.note(f"rivals     {', '.join(PACKAGES)}: {CLEANER.name} says how each is called")
    return row.finish()


def share(one):
    """Truth found in the text, in percent of all that was looked for."""
    counts = [one[name] for name in ("titles", "companies", "places", "salaries", "listed_titles")]
    return 100 * sum(count["found"] for count in counts) / sum(count["total"] for count in counts)
