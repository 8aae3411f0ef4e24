"""The same greedy text, whatever runs beside an answer and however it is made: a server for each way, over HTTP."""

import concurrent.futures
import json
import urllib.request

import machine
import servers
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


def total(counted, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted.splitlines() if line.startswith(f"{name}{{"))


def exactness():
    binary = machine.quarry()
    files, complete = machine.models(binary, ["0.5b"])
    file = next(iter(files.values()))
    machine.head("exactness", binary)
    expected, _ = answers(binary, file, {}, PLAIN, 1)
    row = Row("exactness", "equal answers")
    row.note(f"answers    {', '.join(f'{len(text)} characters, {reason}' for reason, text in expected)}")
    for way, (settings, fields, at_once) in WAYS.items():
        found, counted = answers(binary, file, settings, fields, at_once, rounds=2 if "again" in way else 1)
        equal = sum(one == other for one, other in zip(found, expected))
        row.add(way, equal, {}, None, f"= {len(ASKED)}", equal == len(ASKED))
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
        for one, other in zip(found, expected):
            if one != other:
                row.note(f"{way}:\n  expected {other!r}\n  found    {one!r}")
    return row.finish(complete)
