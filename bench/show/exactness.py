"""The same greedy text, whatever runs beside an answer and however it is made: a server for each way, over HTTP."""

import concurrent.futures
import json
import threading
import urllib.request

import machine
import servers
from engine import Engine
from switching import measured
from verdict import Row

FERRIES = (
    "The ferry to Aberwen leaves at nine from pier four. The ferry to Porto leaves at ten from pier two. "
    "The ferry to Gloucester leaves at noon from pier one and is full."
)
SCHEMA = {
    "type": "object",
    "properties": {
        "ferries": {
            "type": "array",
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "to": {"type": "string", "maxLength": 40},
                    "is_full": {"type": "boolean"},
                    "evidence": {"type": "string", "maxLength": 120},
                },
                "required": ["to", "is_full", "evidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["ferries"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "ferries", "strict": True, "schema": SCHEMA}}
# Free text, text that repeats its prompt, and an answer under a schema that quotes it.
ASKED = [
    {"messages": [{"role": "user", "content": "Explain in a few sentences how a tide mill works."}]},
    {"messages": [{"role": "user", "content": f"Repeat this text twice, word for word: {FERRIES}"}]},
    {"messages": [{"role": "user", "content": f"List all ferries, each with its sentence. {FERRIES}"}], "response_format": FORM},
]
# Eight answers beside each other: five that grow out of a small KV cache, and those above, the first to make room.
CROWD = [
    {
        "messages": [{"role": "user", "content": f"Write {n} sentences about the number {n}. {FERRIES * 27}"}],
        "max_tokens": 480,
        "ignore_eos": True,
    }
    for n in range(2, 7)
] + ASKED
PLAIN = {"drafts": False, "forced_tokens": True}
# Way -> (settings of the server, fields of each request, requests at once).
WAYS = {
    "alone again, from the prefix cache": ({}, PLAIN, 1),
    "with seven others": ({}, PLAIN, 8),
    "chunked at 1": ({"STEP_TOKENS_MAX": "1", "STEP_ROWS_MAX": "1"}, PLAIN, 1),
    "chunked at 7": ({"STEP_TOKENS_MAX": "7", "STEP_ROWS_MAX": "7"}, PLAIN, 8),
    "chunked at 64": ({"STEP_TOKENS_MAX": "64"}, PLAIN, 8),
    "drafts": ({}, {"drafts": True}, 1),
    "drafts, with seven others": ({}, {"drafts": True}, 8),
    "drafts, chunked at 64": ({"STEP_TOKENS_MAX": "64"}, {"drafts": True}, 8),
    "without forced tokens": ({}, {"drafts": False, "forced_tokens": False}, 1),
    "drafts without forced tokens": ({}, {"drafts": True, "forced_tokens": False}, 1),
    # 64 MiB hold some 5,400 positions of the 0.5B; the crowd begins with 5,200 and ends with 7,800.
    "swapped out and in": ({"KV_CACHE": "64MiB", "CONTEXT_TOKENS_MAX": "4096"}, PLAIN, 8),
    "recomputed": ({"KV_CACHE": "64MiB", "CONTEXT_TOKENS_MAX": "4096", "SWAP_SPACE": "0"}, PLAIN, 8),
    "AVX2": ({"ISA": "avx2"}, {"drafts": True}, 8),
}
# A model that takes the weights' place and the KV's again and again: memory for one of both, and one slab.
OTHER = "smollm2-135m"
IN_TURNS = {"kv_cache": "64MiB", "swap_space": "1GiB", "switch_wait_ms": 300}


def ask(url, asked, fields):
    body = {"model": "x", "temperature": 0, "max_tokens": 160, **asked, **fields}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        choice = json.load(answer)["choices"][0]
    return choice["finish_reason"], choice["message"]["content"]


def answers(binary, file, settings, fields, at_once, rounds=1):
    """Texts of ASKED, and what the server counted."""
    port = servers.free_port()
    environment = machine.quarry_environment()
    environment.update({f"QUARRY__SERVER__{name}": value for name, value in settings.items()})
    command = [binary, "serve", "--model", file, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with servers.Server(command, environment) as server:
        server.wait(f"{url}/ready")
        with urllib.request.urlopen(f"{url}/v1/models") as listed:
            name = json.load(listed)["data"][0]["id"]
        asked = CROWD if at_once > 1 else ASKED
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for _ in range(rounds):
                texts = list(pool.map(lambda one: ask(url, one, {**fields, "model": name}), asked))
        with urllib.request.urlopen(f"{url}/metrics") as metrics:
            counted = metrics.read().decode()
    return texts[-len(ASKED) :], counted


def switched(binary, file):
    """Texts of ASKED, and what the server counted, while requests for another model come one after another."""
    files = {"primary": file, "fast": machine.model_file(binary, OTHER)}
    fixed, weights = measured(binary, files, IN_TURNS)
    ended, lost = threading.Event(), []
    with Engine(binary, files, IN_TURNS | {"memory": f"{fixed + max(weights)}B"}) as engine:
        own, other = engine.name_of("primary"), engine.name_of("fast")

        def disturb():
            while not ended.is_set():
                answer = engine.ask(other, ASKED[0]["messages"], max_tokens=64, ignore_eos=True)
                if answer.lost:
                    lost.append(answer.lost)

        beside = threading.Thread(target=disturb, daemon=True)
        beside.start()
        texts = [ask(engine.url, one, {**PLAIN, "model": own}) for one in ASKED]
        ended.set()
        beside.join()
        metrics, series = engine.metrics(), f'model_name="{own}"'
        back = metrics.total("quarry_model_switch_seconds_count", series, 'phase="load"')
        return texts, back, metrics.total("quarry_swap_in_bytes_total", series), lost, engine.said()


def total(counted, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted.splitlines() if line.startswith(f"{name}{{"))


def compare(row, way, found, expected):
    equal = sum(one == other for one, other in zip(found, expected))
    row.add(way, equal, {}, None, f"= {len(ASKED)}", equal == len(ASKED))
    for one, other in zip(found, expected):
        if one != other:
            row.note(f"{way}:\n  expected {other!r}\n  found    {one!r}")


def exactness():
    binary = machine.quarry()
    files, complete = machine.models(binary, ["0.5b"])
    file = next(iter(files.values()))
    machine.head("exactness", binary)
    expected, _ = answers(binary, file, {}, PLAIN, 1)
    row = Row("exactness", "equal answers")
    row.note(f"answers    {', '.join(f'{len(text)} characters, {reason}' for reason, text in expected)}")
    trial = machine.env("QUARRY_SHOW_WAYS")
    ways = {way: how for way, how in WAYS.items() if not trial or way in trial.split(";")}
    for way, (settings, fields, at_once) in ways.items():
        found, counted = answers(binary, file, settings, fields, at_once, rounds=2 if "again" in way else 1)
        compare(row, way, found, expected)
        # A way that was not taken shows nothing.
        for word, name in [
            ("drafts", "vllm:spec_decode_num_accepted_tokens_total"),
            ("prefix", "vllm:prefix_cache_hits_total"),
            ("swapped", "quarry_swap_in_bytes_total"),
            ("recomputed", "vllm:num_preemptions_total"),
        ]:
            if way.startswith(word) or (word == "prefix" and word in way):
                count = total(counted, name)
                row.add(f"{way}: {name}", count, {}, None, "> 0", count > 0)
    way = "model switched in between"
    found, back, swapped_in, lost, said = switched(binary, file)
    compare(row, way, found, expected)
    row.add(f"{way}: switches back", back, {}, None, "> 0", back > 0)
    row.add(f"{way}: bytes swapped in", swapped_in, {}, None, "> 0", swapped_in > 0)
    row.add(f"{way}: lost of the other model", len(lost), {}, None, "= 0", not lost)
    row.note(f"command    {said}")
    return row.finish(complete and not trial)
