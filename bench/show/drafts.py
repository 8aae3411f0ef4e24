"""The extract job with forced tokens and drafts on and off: the same text four times, and how fast each is."""

import statistics
import sys
from contextlib import ExitStack

import machine
import servers
from engine import Engine
from verdict import Row

WAYS = {
    "forced tokens and drafts": (True, True),
    "forced tokens alone": (True, False),
    "drafts alone": (False, True),
    "neither": (False, False),
}


def drafts(repeats):
    """Four servers, fresh in every round, so that none finds the pages in its cache; pages in turns."""
    binary = machine.quarry()
    job = machine.extract_job()
    files, complete = machine.models(binary, ["0.5b"])
    name, file = next(iter(files.items()))
    machine.head("drafts", binary)
    row = Row("drafts", "seconds/page", higher_is_better=False)
    seconds, speeds = {way: [] for way in WAYS}, {way: [] for way in WAYS}
    texts, counted = {}, {}
    for turn in range(repeats):
        with ExitStack() as stack:
            started = {}
            for way, (forced, drafted) in WAYS.items():
                settings = {"forced_tokens": forced, "drafts": drafted}
                started[way] = stack.enter_context(Engine(binary, {"primary": file}, settings))
            found = servers.extract(binary, job, [engine.url for engine in started.values()], 1)
            for way, one in zip(WAYS, found):
                seconds[way].append(one["seconds_per_page"])
                whole = one["seconds_per_page"] * one["pages"]
                speeds[way].append(one["completion_tokens"] * one["pages"] / whole)
                texts[way] = {page["file"]: page["content"] for page in one["each"]}
                metrics = started[way].metrics()
                counted[way] = [
                    metrics.total(family)
                    for family in ("quarry_forced_tokens_total", "vllm:spec_decode_num_accepted_tokens_total")
                ]
        said = ", ".join(f"{way} {values[-1]:.2f}" for way, values in seconds.items())
        print(f"  turn {turn + 1}: {said} s a page", file=sys.stderr)
    expected = texts["neither"]
    for way, pages in texts.items():
        equal = sum(content == expected[page] for page, content in pages.items())
        row.add(f"{way}: equal texts", equal, {}, None, f"= {len(expected)}", equal == len(expected))
        for page, content in pages.items():
            if content != expected[page]:
                row.note(f"{way}, {page}:\n  neither {expected[page]!r}\n  found   {content!r}")
    median = {way: statistics.median(values) for way, values in seconds.items()}
    for way, (forced, drafted) in WAYS.items():
        row.note(f"{way + ',':<25} {median[way]:.3f} s a page, {statistics.median(speeds[way]):.1f} tokens/s with prefill, "
                 f"{counted[way][0]:.0f} tokens forced, {counted[way][1]:.0f} drafted ones right")
        # A way that was not taken shows nothing.
        for is_on, what, count in zip((forced, drafted), ("forced tokens", "right drafts"), counted[way]):
            if is_on != (count > 0):
                row.add(f"{way}: {what}", count, {}, None, "> 0" if is_on else "= 0", False)
    first, *others = WAYS
    rivals = {way: median[way] for way in others}
    ratio = min(rivals.values()) / median[first]
    row.add(f"{name}: both on", median[first], rivals, ratio, "the fastest", ratio >= 1.0)
    row.note(f"pages      {len(expected)}, one at a time, median of {repeats} rounds")
    row.note(f"command    {started[first].said()}; quarry bench extract {job.name} --concurrency 1, the others with "
             "forced_tokens and drafts as named")
    return row.finish(complete and not machine.env("QUARRY_SHOW_PAGES"))
