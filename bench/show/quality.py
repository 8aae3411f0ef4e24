"""The row `quality`: `quarry eval` over the labelled corpus and the twelve invented sites, each goal with its figure."""

import json
import subprocess
import sys
from pathlib import Path

import machine
from verdict import Row

ROOT = Path(__file__).resolve().parents[2]
SITES = ROOT / "scraper-agent" / "unseen-sites"
# Right values over the open corpus before the resolver (bench/record/2026-11-30-unseen), by model. Other models have none.
BEFORE = {
    "0.5b": {"title": 26, "company": 22, "locations": 24, "employment_type": 23, "remote": 9, "salary": 10, "date_posted": 19},
    "1.5b": {"title": 26, "company": 25, "locations": 23, "employment_type": 23, "remote": 9, "salary": 10, "date_posted": 19},
}


def report(binary, folder, model, *options):
    out = machine.cache() / f"show-quality-{folder.name}-{model or 'gate'}.json"
    command = [binary, "eval", str(folder), "--out", str(out), *options]
    if model:
        command += ["--model", model]
    print(" ".join(["quarry", *command[1:2], folder.name, *options, *(["--model", model] if model else [])]), file=sys.stderr)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads(out.read_text())


def share(part, whole):
    return 100.0 * part / whole if whole else 100.0


def quality():
    binary = machine.quarry()
    corpus = Path(machine.env("QUARRY_SHOW_CORPUS", ""))
    if not (corpus / "index.tsv").is_file():
        sys.exit("QUARRY_SHOW_CORPUS has to name a labelled folder as `quarry eval` takes it")
    models = machine.env("QUARRY_SHOW_MODELS", "qwen2.5-coder-0.5b-instruct-q4_k_m,qwen2.5-coder-1.5b-instruct-q4_k_m")
    machine.head("quality", binary)
    row = Row("quality", "%")

    def goal(label, value, least):
        row.add(label, value, {}, value, f">= {least:g}", value >= least)

    def none(label, value):
        row.add(label, value, {}, value, "0", value == 0)

    for model in models.split(","):
        name = model.split("-")[2]
        found = report(binary, corpus, model)
        for field, before in BEFORE.get(name, {}).items():
            goal(f"{name} {field}, right (was {before})", found["fields"][field]["right"], before)
        gate, listings = found["gate"], found["listings"]
        goal(f"{name} gate", share(gate["right"], gate["total"]), 96)
        goal(f"{name} listings, recall", share(listings["matched"], listings["jobs"]), 95)
        goal(f"{name} listings, precision", share(listings["matched"], listings["found"]), 95)
        none(f"{name} jobs on pages without one", found["jobs_on_pages_without"])
        none(f"{name} invented values", found["invented"])
        routes = found["routes_of_jobs"]
        goal(f"{name} handled here", share(sum(routes.values()) - routes.get("cloud", 0), sum(routes.values())), 98)
        row.note(f"{name}: {found['prompt_tokens']} prompt and {found['completion_tokens']} answer tokens, "
                 f"{found['seconds']:.1f} s over {found['pages']} pages; zero-token {routes.get('zero-token', 0)} of "
                 f"{sum(routes.values())} postings and listings")
        sites = report(binary, SITES, model)
        none(f"{name} invented sites, jobs on pages without one", sites["jobs_on_pages_without"])
        right = {field: f"{score['right']}/{score['right'] + score['wrong'] + score['missing']}"
                 for field, score in sites["fields"].items()}
        row.note(f"{name} on the invented sites: gate {sites['gate']['right']}/{sites['gate']['total']}, {right}, "
                 f"listings {sites['listings']['matched']}/{sites['listings']['jobs']}, invented {sites['invented']}")
    ablated = report(binary, corpus, None, "--subset", "gate", "--ablate")
    for variation in ablated.get("ablations", []):
        gate = variation["report"]["gate"] if "report" in variation else variation["gate"]
        row.note(f"without a model, {variation.get('name') or variation.get('variation')}: gate {gate['right']}/{gate['total']}")
    return row.finish()
