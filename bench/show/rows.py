"""The rows of the show, one function each; the shell scripts beside this name them."""

import signal
import subprocess
import sys

import contest
import machine
import servers
from cleaning import cleaning
from contest import Test
from cuda_bytes import cuda_bytes
from drafts import drafts
from exactness import exactness
from kv_pressure import kv_pressure
from overload import overload
from quality import quality
from router import router
from switching import switching, switching_large
from verdict import Row

# Modes of llama.cpp: weights repacked or as in the file; and the word by which a program's help shows that it has them.
REPACK = (["--repack 1", "--repack 0"], "--repack")
REPACK_BATCHED = (["", "--no-repack"], "--no-repack")
SMALL = ["0.5b", "1.5b", "qwen3-0.6b"]
ALL = SMALL + ["qwen3-4b"]
# Row -> column -> (ratio, beside whom).
GOALS = {
    "prefill": {"AVX-512": (1.7, "better"), "AVX2": (2.5, "llama.cpp")},
    "decode": {"AVX-512": (1.05, "better"), "AVX2": (2.0, "llama.cpp")},
    "decode-depth": {"AVX-512": (2.0, "better"), "AVX2": (3.0, "llama.cpp")},
    "streams": {"AVX-512": (4.0, "llama.cpp"), "AVX2": (3.0, "llama.cpp")},
}
BUSY_SHARE = 0.65


def repeats(default=3):
    return max(1, int(machine.env("QUARRY_SHOW_REPEATS", str(default))))


def model_row(name, wanted, tests, variable="LLAMA_BENCH", repack=REPACK):
    """Every model by every test, ours and rivals in turns; `tests` is model -> tests."""
    binary = machine.quarry()
    rivals = contest.rivals(variable, repack)
    files, complete = machine.models(binary, wanted)
    machine.head(name, binary)
    row = Row(name, "tokens/s")
    ours = contest.Quarry(binary)
    for model, file in files.items():
        for test in tests(model):
            print(f"{model}: {', '.join(test.labels())}", file=sys.stderr)
            medians = contest.turns([ours, *rivals], file, test, repeats())
            goal, beside = GOALS[name][ours.column()]
            for label in test.labels():
                row.compare(f"{model} {label}", contest.best([ours, *rivals], medians, label), goal, beside)
    row.note(f"column     {ours.column()} ({ours.version()}), median of {repeats()} turns, {machine.threads()} threads")
    row.note(f"command    {ours.command}")
    for rival in rivals:
        row.note(f"rival      {rival.group}: {rival.version()}\n           {rival.command}")
    return row.finish(complete)


def prefill():
    return model_row("prefill", ALL, lambda model: [Test(prompt=[256] if "4b" in model else [512, 2048, 4096])])


def decode():
    return model_row("decode", ALL, lambda model: [Test(generate=16 if "4b" in model else 64)])


def decode_depth():
    return model_row("decode-depth", SMALL, lambda _: [Test(generate=32, depth=4096)])


def streams():
    test = Test(generate=64, depth=16, streams=8)
    return model_row("streams", SMALL, lambda _: [test], "LLAMA_BATCHED_BENCH", REPACK_BATCHED)


def busy():
    binary = machine.quarry()
    files, complete = machine.models(binary, ["0.5b"])
    machine.head("busy", binary)
    contestants = [contest.Quarry(binary)]
    if machine.rival_program("LLAMA_BENCH"):
        contestants += contest.rivals("LLAMA_BENCH", REPACK)
    row = Row("busy", "tokens/s")
    for model, file in files.items():
        for test in [Test(prompt=[512]), Test(generate=32)]:
            speeds = {one: {False: [], True: []} for one in contestants}
            for turn in range(repeats()):
                for is_busy in (False, True):
                    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if is_busy else None
                    try:
                        for one in contestants:
                            speeds[one][is_busy].append(one.measure(file, test)[test.labels()[0]])
                    finally:
                        if other:
                            other.kill()
                            other.wait()
                print(f"  {test.labels()[0]} turn {turn + 1}", file=sys.stderr)
            label = f"{model} {test.labels()[0]}"
            median = contest.statistics.median
            for one in contestants:
                quiet, loaded = median(speeds[one][False]), median(speeds[one][True])
                if one is contestants[0]:
                    share, goal = loaded / quiet, f">= {BUSY_SHARE} of quiet"
                    row.add(label, loaded, {"quiet": quiet}, share, goal, share >= BUSY_SHARE)
                else:
                    row.note(f"rival      {label}: {one.version()}: {loaded:.1f} of {quiet:.1f}, {loaded / quiet:.2f}")
    row.note(f"column     {contestants[0].column()} ({contestants[0].version()}), median of {repeats()} turns")
    row.note(f"command    {contestants[0].command}")
    return row.finish(complete)


def extraction():
    return servers.extraction(repeats(2))


def demo():
    return servers.demo(repeats())


ROWS = {
    "prefill": prefill, "decode": decode, "decode-depth": decode_depth, "streams": streams,
    "extraction": extraction, "busy": busy, "demo": demo, "exactness": exactness,
    "overload": overload, "switching": switching, "switching-large": switching_large, "kv-pressure": kv_pressure,
    "switching-router": router, "cuda-bytes": cuda_bytes,
    "drafts": lambda: drafts(repeats(2)), "cleaning": lambda: cleaning(repeats(5)), "quality": quality,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ROWS:
        sys.exit(f"usage: rows.py {'|'.join(ROWS)}")
    # As an exception, so that started servers and busy processes end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(machine.INCOMPLETE))
    try:
        sys.exit(ROWS[sys.argv[1]]())
    except KeyboardInterrupt:
        sys.exit(machine.INCOMPLETE)
