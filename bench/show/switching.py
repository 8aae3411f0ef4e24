"""Conversations with randomly chosen models that have no room beside each other: none is lost, none changes its text.

A conversation is a few turns with one model, each a greedy answer of a fixed length, so that every answer is determined
by the messages before it. Afterwards a sample is asked again, turn by turn and alone, of a fresh server with room for
all: the answers must be the same.
"""

import concurrent.futures
import random
import sys
import threading
import time
from pathlib import Path

import machine
from engine import MIB, Engine, Watch, words
from verdict import Row

SEED = 20
TURNS = 3
ASKED_LATER = ["Go on.", "What would the other brother have said to that?"]
# Beside what the budget counts: tables of tokenizers, code, buffers of requests, the allocator's gaps, and of a file
# that is being read one matrix at a time, at most the 500 MiB of an 8B's head.
ALLOWANCE_MIB = 768
SMALL = {"primary": "0.5b", "fast": "smollm2-135m", "maximum": "1.5b"}
LARGE = {"primary": "qwen3-4b", "maximum": "qwen3-8b"}
SWITCH_SECONDS_MAX = 60.0


class Plan:
    """How a row is run; times and counts may be others in a trial."""

    def __init__(self, seconds, clients, words, tokens, sample, settings):
        whole = {"SECONDS": seconds, "CLIENTS": clients, "WORDS": words, "TOKENS": tokens, "SAMPLE": sample}
        chosen = {name: int(machine.env(f"QUARRY_SHOW_{name}", str(count))) for name, count in whole.items()}
        self.seconds, self.clients, self.words, self.tokens, self.sample = chosen.values()
        self.is_whole = chosen == whole
        self.settings = settings | {"kv_cache": machine.env("QUARRY_SHOW_KV_CACHE", settings["kv_cache"])}


class Conversation:
    """`messages` and `answers` grow with each turn."""

    def __init__(self, number, part, plan):
        self.part, self.tokens, self.answers = part, plan.tokens, []
        # The number comes first, so that no conversation begins like another.
        asked = f"{number}: {words(plan.words, begin=number * 13)} What is this about?"
        self.messages = [{"role": "user", "content": asked}]

    def next_turn(self, engine):
        """Asks; what is answered becomes part of what is asked next. Whether there was an answer."""
        turn = len(self.answers)
        answer = engine.ask(engine.name_of(self.part), self.messages, max_tokens=self.tokens, ignore_eos=True)
        self.answers.append(answer)
        self.messages += [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": ASKED_LATER[turn % len(ASKED_LATER)]},
        ]
        return not answer.lost

    def wrong(self):
        """What is wrong with its answers."""
        for answer in self.answers:
            if answer.lost:
                yield f"{self.part}: {answer.lost}"
            elif answer.reason != "length" or answer.completion_tokens != self.tokens:
                yield f"{self.part}: {answer.completion_tokens} tokens, {answer.reason}"


def converse(engine, parts, plan):
    """All clients until the time is over; a conversation that has begun is brought to its end."""
    done, lock, numbers = [], threading.Lock(), iter(range(1, 1 << 30))
    until = time.monotonic() + plan.seconds

    def client(seed):
        choose = random.Random(seed)
        while time.monotonic() < until:
            with lock:
                number = next(numbers)
            one = Conversation(number, choose.choice(parts), plan)
            while len(one.answers) < TURNS and one.next_turn(engine):
                time.sleep(choose.uniform(0, 0.5))
            with lock:
                done.append(one)

    with concurrent.futures.ThreadPoolExecutor(plan.clients) as pool:
        for ended in [pool.submit(client, SEED * 1000 + n) for n in range(plan.clients)]:
            ended.result()
    return done


def asked_again(engine, conversations):
    """Each turn alone on a server that nothing disturbs; (part, turn, expected, found) of those that differ."""
    for count, one in enumerate(conversations):
        for turn, before in enumerate(one.answers):
            messages = one.messages[: 2 * turn + 1]
            fields = {"max_tokens": one.tokens, "ignore_eos": True}
            found = engine.ask(engine.name_of(one.part), messages, **fields)
            if found.lost or found.text != before.text:
                yield one.part, turn, found.lost or found.text, before.text
        print(f"  {count + 1} of {len(conversations)} asked again", file=sys.stderr)


def part_of_row(row, label, binary, files, plan, memory, weights_in_turns):
    """One server under load; its conversations."""
    with Engine(binary, files, plan.settings | {"memory": f"{memory}B"}) as engine, Watch(engine) as watch:
        begun = time.monotonic()
        done = converse(engine, list(files), plan)
        seconds = time.monotonic() - begun
        metrics = engine.metrics()
    answers = [answer for one in done for answer in one.answers]
    wrong = [what for one in done for what in one.wrong()]
    row.add(f"{label}: lost or incomplete", len(wrong), {}, None, "= 0", not wrong)
    for what in wrong[:8]:
        row.note(f"{label:<10} {what}")
    whole = sum(len(one.answers) == TURNS for one in done)
    row.add(f"{label}: conversations to their end", whole, {}, None, f"= {len(done)}", 0 < whole == len(done))
    row.note(f"{label:<10} {len(done)} conversations, {len(answers)} turns in {seconds:.0f} s, "
             f"slowest answer {max(one.seconds for one in answers):.1f} s, "
             f"/metrics and state at most {watch.deaf_seconds:.2f} s")
    later = [answer for one in done for answer in one.answers[1:] if not answer.lost]
    reported = sum(answer.cached_tokens is not None for answer in later)
    row.add(f"{label}: follow-ups with cached_tokens", reported, {}, None, f"= {len(later)}", 0 < reported == len(later))
    cached = sum(bool(answer.cached_tokens) for answer in later)
    share = sum(answer.cached_tokens or 0 for answer in later) / max(1, sum(answer.prompt_tokens for answer in later))
    row.note(f"{label:<10} {cached} of {len(later)} follow-ups found cached tokens, {100 * share:.0f} % of their prompts")
    pool, bound = watch.host_pool_bytes / MIB, watch.host_pool_bytes_max / MIB
    row.add(f"{label}: host pool, MiB", pool, {}, None, f"<= {bound:.0f}", pool <= bound)
    allowance = int(machine.env("QUARRY_SHOW_ALLOWANCE_MIB", str(ALLOWANCE_MIB)))
    resident, most = watch.resident / MIB, memory / MIB + allowance
    goal = f"<= {memory / MIB:.0f} budget + {allowance} allowance"
    row.add(f"{label}: resident, MiB", resident, {}, None, goal, resident <= most)
    row.note(f"{label:<10} resident pages of no file at most {watch.anonymous / MIB:.0f} MiB; "
             f"weights at most {watch.weight_bytes / MIB:.0f} MiB of them")
    # A way that was not taken shows nothing.
    moved = sum(metrics.total(f"quarry_swap_{way}_bytes_total") for way in ("in", "out")) / MIB
    preempted = metrics.total("vllm:num_preemptions_total")
    row.add(f"{label}: sequences pushed off the device", preempted, {}, None, "> 0", preempted > 0)
    row.note(f"{label:<10} {preempted:.0f} preemptions, {moved:.0f} MiB swapped in and out")
    if weights_in_turns:
        row.add(f"{label}: switches", len(watch.switches), {}, None, "> 0", len(watch.switches) > 0)
    watch.note(row)
    row.note(f"command    {engine.said()}")
    return done, watch


def measured(binary, files, settings):
    """Bytes of the budget's fixed parts, and weights by model."""
    with Engine(binary, files, settings) as engine:
        memory = engine.state()["memory"]
        weights = [model["details"]["weight_bytes"] for model in engine.models.values()]
    return sum(memory[part] for part in ("kv_bytes_max", "host_pool_bytes_max", "scratch_bytes_max")), weights


def sample(row, label, engine, done, count):
    """Asks some of the conversations again."""
    chosen = random.Random(SEED).sample(done, min(count, len(done)))
    different = list(asked_again(engine, chosen))
    turns = sum(len(one.answers) for one in chosen)
    goal = f"= {turns} of {len(chosen)} conversations"
    row.add(f"{label}: the same undisturbed", turns - len(different), {}, None, goal, turns > 0 and not different)
    for part, turn, expected, found in different[:4]:
        row.note(f"{label}, {part}, turn {turn + 1}:\n  undisturbed {expected!r}\n  found       {found!r}")


def switching():
    """Three models; weights of all beside each other, then of one or two; KV of one."""
    plan = Plan(600, 8, 160, 48, 24, {"kv_cache": "64MiB", "swap_space": "1GiB", "switch_wait_ms": 1000})
    binary = machine.quarry()
    files = {part: machine.model_file(binary, name) for part, name in SMALL.items()}
    machine.head("switching", binary)
    row = Row("switching", "count")
    fixed, weights = measured(binary, files, plan.settings)
    memories = {"all": fixed + sum(weights), "in turns": fixed + max(weights) + min(weights) // 2}
    found = {}
    for label, memory in memories.items():
        print(f"weights {label}: {memory / MIB:.0f} MiB", file=sys.stderr)
        found[label], _ = part_of_row(row, label, binary, files, plan, memory, label != "all")
    with Engine(binary, files, {"kv_cache": "2GiB"}) as engine:
        for label, done in found.items():
            sample(row, label, engine, done, plan.sample)
    return row.finish(plan.is_whole)


def switching_large():
    """Random weights of 4B and 8B, memory for one of them."""
    settings = {"kv_cache": "64MiB", "swap_space": "1GiB", "switch_wait_ms": 5000, "step_tokens_max": 256}
    plan = Plan(120, 4, 40, 8, 6, settings)
    binary = machine.quarry()
    names = dict(zip(LARGE, machine.env("QUARRY_SHOW_MODELS", ",".join(LARGE.values())).split(",")))
    files = {part: machine.model_file(binary, name) for part, name in names.items()}
    machine.head("switching-large", binary)
    row = Row("switching-large", "count")
    # What both need is known to a server that has room for the first alone.
    first, second = (Path(file).stat().st_size for file in files.values())
    fixed, weights = measured(binary, files, plan.settings | {"memory": f"{first + second // 2 + (2 << 30)}B"})
    memory = fixed + max(weights)
    done, watch = part_of_row(row, "in turns", binary, files, plan, memory, True)
    seconds = [sum(phases.values()) for _, phases in watch.switches]
    row.add("slowest cold switch, seconds", max(seconds, default=0), {}, None, f"< {SWITCH_SECONDS_MAX:g}",
            bool(seconds) and max(seconds) < SWITCH_SECONDS_MAX)
    row.note(f"weights    {', '.join(f'{name} {count / 1e9:.2f} GB' for name, count in zip(names.values(), weights))}")
    with Engine(binary, files, {"kv_cache": "512MiB"}) as engine:
        sample(row, "in turns", engine, done, plan.sample)
    return row.finish(plan.is_whole and names == LARGE)
