"""Many clients whose contexts need several times the device's KV: with swap, with recomputation alone, and with room.

The clients begin together, each with a prompt of its own. Afterwards short prompts are asked one by one while long ones
are prefilled, each of one token, so that a request's time is that to its first token.
"""

import concurrent.futures
import statistics
import sys
import threading
import time

import machine
from engine import MIB, Engine, Watch, words
from verdict import Row

CLIENTS, WORDS, TOKENS, SHORT = 32, 370, 256, 100
LONG_WORDS = 1300
PRESSURE = 4.0
# Bytes of keys and values of a position: layers · key heads · dimensions · 2 · 2 bytes.
POSITION_BYTES = {"smollm2-135m": 30 * 3 * 64 * 2 * 2, "0.5b": 24 * 2 * 64 * 2 * 2}
SMALL_CACHE = "128MiB"
WAYS = {
    "room": {"kv_cache": "1GiB"},
    "swap": {"kv_cache": SMALL_CACHE, "swap_space": "4GiB"},
    "recompute": {"kv_cache": SMALL_CACHE, "swap_space": "0"},
}


def crowd(engine, model, clients, count, tokens):
    """Answers of all clients at once, and the seconds of all together."""
    asked = [f"{n}: {words(count, begin=n * 29)} Tell this in your own words." for n in range(1, clients + 1)]
    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        one = lambda text: engine.ask(model, [{"role": "user", "content": text}], max_tokens=tokens, ignore_eos=True)
        found = list(pool.map(one, asked))
    return found, time.perf_counter() - begun


def first_tokens(engine, model, count, long_words):
    """Milliseconds to the first token of short prompts beside one long prefill after another; how many long ones."""
    ended, long_ones = threading.Event(), []

    def prefill():
        while not ended.is_set():
            asked = f"Long {len(long_ones)}: {words(long_words, begin=len(long_ones) * 17)}"
            long_ones.append(engine.ask(model, [{"role": "user", "content": asked}], max_tokens=1))

    beside, short = threading.Thread(target=prefill, daemon=True), []
    beside.start()
    time.sleep(0.2)
    for n in range(count):
        short.append(engine.ask(model, [{"role": "user", "content": f"What is {n} + 1?"}], max_tokens=1))
        time.sleep(0.02)
    ended.set()
    beside.join()
    lost = [one.lost for one in short + long_ones if one.lost]
    return [one.seconds * 1000 for one in short], len(long_ones), lost


def kv_pressure():
    counts = {"CLIENTS": CLIENTS, "WORDS": WORDS, "TOKENS": TOKENS, "SHORT": SHORT}
    chosen = {name: int(machine.env(f"QUARRY_SHOW_{name}", str(count))) for name, count in counts.items()}
    clients, count, tokens, short = chosen.values()
    binary = machine.quarry()
    files, complete = machine.models(binary, ["smollm2-135m"])
    name, file = next(iter(files.items()))
    machine.head("kv-pressure", binary)
    row = Row("kv-pressure", "tokens/s")
    texts, speeds = {}, {}
    for way, settings in WAYS.items():
        with Engine(binary, {"primary": file}, settings) as engine, Watch(engine) as watch:
            model = engine.name_of("primary")
            found, seconds = crowd(engine, model, clients, count, tokens)
            metrics = engine.metrics()
            times, long_ones, lost = first_tokens(engine, model, short, LONG_WORDS)
        whole = [one for one in found if not one.lost and one.completion_tokens == tokens]
        row.add(f"{way}: answers whole", len(whole), {}, None, f"= {clients}", len(whole) == clients)
        for one in found:
            if one not in whole:
                row.note(f"{way:<10} {one.lost or f'{one.completion_tokens} tokens, {one.reason}'}")
        row.add(f"{way}: short and long answered", short + long_ones - len(lost), {}, None, f"= {short + long_ones}", not lost)
        texts[way] = [one.text for one in found]
        speeds[way] = sum(one.completion_tokens for one in found) / seconds
        moved = [metrics.total(f"quarry_swap_{to}_bytes_total") / MIB for to in ("out", "in")]
        preempted = metrics.total("vllm:num_preemptions_total")
        row.note(f"{way:<10} {seconds:.1f} s, {preempted:.0f} preemptions, {moved[0]:.0f} MiB swapped out, {moved[1]:.0f} in, "
                 f"host pool at most {watch.host_pool_bytes / MIB:.0f} of {watch.host_pool_bytes_max / MIB:.0f} MiB, "
                 f"resident {watch.resident / MIB:.0f} MiB")
        row.note(f"{way:<10} first token of {len(times)} short prompts beside {long_ones} long ones, one at a time: median "
                 f"{statistics.median(times):.0f} ms, 99 % within {sorted(times)[int(0.99 * (len(times) - 1))]:.0f} ms")
        row.note(f"command    {engine.said()}")
        # A way that was not taken shows nothing.
        if way != "room":
            row.add(f"{way}: sequences pushed off the device", preempted, {}, None, "> 0", preempted > 0)
        if way == "swap":
            row.add("swap: MiB swapped in", moved[1], {}, None, "> 0", moved[1] > 0)
        print(f"  {way}: {speeds[way]:.1f} tokens/s", file=sys.stderr)
        if way == "room":
            held = sum(one.prompt_tokens + one.completion_tokens for one in found)
            device = int(SMALL_CACHE.removesuffix("MiB")) * MIB
            pressure = held * POSITION_BYTES.get(name, 0) / device
            row.note(f"contexts   {held} positions of {clients} clients")
            row.add("contexts by device's KV", pressure, {}, None, f">= {PRESSURE:g}", pressure >= PRESSURE)
    for way in ("swap", "recompute"):
        equal = sum(one == other for one, other in zip(texts[way], texts["room"]))
        row.add(f"{way}: the same text as with room", equal, {}, None, f"= {clients}", equal == clients)
        for n, (one, other) in enumerate(zip(texts[way], texts["room"])):
            if one != other:
                row.note(f"{way}, client {n + 1}:\n  room  {other!r}\n  found {one!r}")
    rivals = {"recompute": speeds["recompute"], "room": speeds["room"]}
    ratio = speeds["swap"] / speeds["recompute"]
    row.add("swap: tokens/s", speeds["swap"], rivals, ratio, ">= recompute", ratio >= 1.0)
    return row.finish(complete and chosen == counts)
