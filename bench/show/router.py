"""Conversations with two models that take turns in memory: ours, and beside it llama-server's router with one model at a
time. What each answers, how long it takes, and how much of a follow-up's prompt it still knew."""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import machine
import servers
from engine import Engine
from switching import TURNS, Plan, converse, measured
from verdict import Row

MODELS = {"primary": "0.5b", "maximum": "1.5b"}
# Positions that the router keeps for each client.
CONTEXT = 2048


class Router(Engine):
    """llama-server as a router over a folder of the same files."""

    def __init__(self, binary, files, clients):
        super().__init__(binary, files, {})
        self.files, self.clients = files, clients
        self.port = self.configuration["server"]["port"]

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        for file in self.files.values():
            os.symlink(file, Path(self.folder.name) / Path(file).name)
        limits = ["-np", str(self.clients), "-c", str(self.clients * CONTEXT), "-t", str(machine.threads())]
        self.command = [self.binary, "--models-dir", self.folder.name, "--models-max", "1", "--port", str(self.port), *limits]
        self.server = servers.Server(self.command)
        self.server.__enter__()
        self.server.wait(f"{self.url}/health")
        return self

    def said(self):
        return " ".join(["llama-server", *self.command[1:]])

    def name_of(self, part):
        return Path(self.files[part]).stem


def router():
    plan = Plan(180, 4, 160, 48, 1, {"kv_cache": "64MiB", "swap_space": "1GiB", "switch_wait_ms": 1000})
    binary, rival = machine.quarry(), machine.rival_program("LLAMA_SERVER")
    if not rival:
        machine.give_up("LLAMA_SERVER is not set: this row compares with it")
    files = {part: machine.model_file(binary, name) for part, name in MODELS.items()}
    machine.head("switching-router", binary)
    row = Row("switching-router", "turns/minute")
    fixed, weights = measured(binary, files, plan.settings)
    memory = fixed + max(weights) + min(weights) // 2
    ways = {
        "Quarry": lambda: Engine(binary, files, plan.settings | {"memory": f"{memory}B"}),
        "llama-server": lambda: Router(rival, files, plan.clients),
    }
    rates = {}
    for way, make in ways.items():
        with make() as engine:
            done = converse(engine, list(files), plan)
            command = engine.said()
        answers = [answer for one in done for answer in one.answers]
        whole = [answer for answer in answers if not answer.lost]
        later = [answer for one in done for answer in one.answers[1:] if not answer.lost]
        known = sum(answer.cached_tokens or 0 for answer in later) / max(1, sum(answer.prompt_tokens for answer in later))
        seconds = [answer.seconds for answer in whole]
        rates[way] = 60 * len(whole) / plan.seconds
        row.note(f"{way:<12} {len(whole)} of {len(answers)} turns answered, {sum(len(one.answers) == TURNS for one in done)} of "
                 f"{len(done)} conversations to their end, answers after {statistics.median(seconds or [0]):.1f} s (median), "
                 f"{max(seconds, default=0):.1f} s (most), {100 * known:.0f} % of follow-ups' prompts known")
        for answer in [answer for answer in answers if answer.lost][:3]:
            row.note(f"{way:<12} {answer.lost}")
        row.note(f"command      {command}")
        print(f"  {way}: {rates[way]:.1f} turns a minute", file=sys.stderr)
        if way == "Quarry":
            row.add("ours: lost", len(answers) - len(whole), {}, None, "= 0", len(whole) == len(answers) > 0)
    ours, theirs = rates["Quarry"], rates["llama-server"]
    ratio = ours / theirs if theirs else float("inf")
    row.add("turns answered", ours, {"router": theirs}, ratio, "> the router's", ratio > 1.0)
    return row.finish(plan.is_whole)
