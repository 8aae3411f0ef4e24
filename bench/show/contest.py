"""Ours and rivals in turns: each contestant is a program that measures labels (pp512, tg64 …) in tokens a second.

A rival with several modes (weights repacked or not) counts with the better one, label by label.
"""

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine

# Of one run; a rival that hangs should not hold the machine.
SECONDS_MAX = 3600


class Test:
    """Prefill of each of `prompt`, or `generate` steps of `streams` sequences behind `depth` tokens."""

    def __init__(self, prompt=(), generate=0, depth=0, streams=1):
        self.prompt, self.generate, self.depth, self.streams = list(prompt), generate, depth, streams

    def labels(self):
        if self.prompt:
            return [f"pp{count}" for count in self.prompt]
        name = f"tg{self.generate}" + (f" x{self.streams}" if self.streams > 1 else "")
        return [name + (f" @ d{self.depth}" if self.depth else "")]


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        machine.give_up(f"{shlex.join(command)}: {error}")
    if done.returncode != 0:
        machine.give_up(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done


class Quarry:
    """`quarry bench model`."""

    group, mode = "Quarry", ""

    def __init__(self, binary):
        self.binary, self.isa, self.command = binary, None, ""

    def measure(self, file, test):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.json"
            prompt = ",".join(map(str, test.prompt)) or "0"
            command = [self.binary, "bench", "model", "--model", file, "--threads", str(machine.threads())]
            command += ["--prompt", prompt, "--generate", str(test.generate), "--depth", str(test.depth)]
            command += ["--streams", str(test.streams), "--repeats", "1", "--out", str(out)]
            if machine.isa() != "auto":
                command += ["--isa", machine.isa()]
            run(command)
            report = json.loads(out.read_text())
        self.command, self.isa = shlex.join(command), report["isa"]
        return {one["name"]: one["tokens_per_second"]["median"] for one in report["tests"]}

    def column(self):
        """Which column of the table of goals holds."""
        return "AVX-512" if (self.isa or "").startswith("avx512") else "AVX2"

    def version(self):
        return f"isa {self.isa}"


class Rival:
    """llama-bench, or llama-batched-bench for several streams; `flags` are one mode."""

    def __init__(self, group, program, flags, help_text):
        self.group, self.program, self.mode = group, program, flags
        # ik_llama.cpp has no depth, but generation behind a prompt, which is the same.
        self.has_depth = "--n-depth" in help_text
        self.command, self.found = "", ""

    def measure(self, file, test):
        if test.streams > 1:
            return self.batched(file, test)
        command = [self.program, "-m", file, "-t", str(machine.threads()), "-r", "1", "-o", "json"]
        if test.prompt:
            command += ["-p", ",".join(map(str, test.prompt)), "-n", "0"]
        elif test.depth and not self.has_depth:
            command += ["-p", "0", "-n", "0", "-gp", f"{test.depth},{test.generate}"]
        else:
            command += ["-p", "0", "-n", str(test.generate)]
            command += ["-d", str(test.depth)] if test.depth else []
        command += shlex.split(self.mode)
        rows = json.loads(run(command).stdout)
        self.command = shlex.join(command)
        self.found = f"commit {rows[0].get('build_commit', '?')}, build {rows[0].get('build_number', '?')}"
        if test.prompt:
            return {f"pp{row['n_prompt']}": row["avg_ts"] for row in rows if row["n_gen"] == 0}
        return {test.labels()[0]: [row["avg_ts"] for row in rows if row["n_gen"] > 0][-1]}

    def batched(self, file, test):
        context = (test.depth + test.generate) * test.streams
        command = [self.program, "-m", file, "-t", str(machine.threads()), "-c", str(max(4096, context))]
        command += ["-npp", str(test.depth), "-ntg", str(test.generate), "-npl", str(test.streams)]
        command += ["--output-format", "jsonl", *shlex.split(self.mode)]
        lines = [line for line in run(command).stdout.splitlines() if line.startswith("{")]
        if not lines:
            machine.give_up(f"{shlex.join(command)} gave no figures")
        self.command = shlex.join(command)
        self.found = self.found or version_of(self.program)
        return {test.labels()[0]: json.loads(lines[-1])["speed_tg"]}

    def version(self):
        return f"{self.found}, flags {self.mode or '(none)'}"


def version_of(program):
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version")]
    return lines[0] if lines else "version unknown"


def rivals(variable, repack):
    """llama.cpp from `variable`, a second one from `variable`_2. RIVAL_FLAGS and RIVAL_FLAGS_2 are modes, `;` between
    them; without RIVAL_FLAGS the modes are `repack`, where the program knows them."""
    program = machine.rival_program(variable)
    if not program:
        forced = "" if machine.isa() == "auto" else f"_{machine.isa().upper()}"
        machine.give_up(f"{variable}{forced} names no program")
    flags, said = machine.env("RIVAL_FLAGS"), helped(program)
    modes = repack[0] if not flags and repack[1] in said else flags.split(";")
    found = [Rival("llama.cpp", program, mode.strip(), said) for mode in modes]
    second = machine.env(f"{variable}_2") if machine.isa() == "auto" else ""
    if second:
        said = helped(second)
        for mode in machine.env("RIVAL_FLAGS_2").split(";"):
            found.append(Rival(machine.env("RIVAL_NAME_2", "second"), second, mode.strip(), said))
    return found


def helped(program):
    try:
        done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        machine.give_up(f"{program}: {error}")


def turns(contestants, file, test, repeats):
    """Median of every label for every contestant; who begins turns as well."""
    speeds = {id(one): {label: [] for label in test.labels()} for one in contestants}
    for turn in range(repeats):
        first = turn % len(contestants)
        for one in contestants[first:] + contestants[:first]:
            measured = one.measure(file, test)
            for label in test.labels():
                if label not in measured:
                    machine.give_up(f"{one.group} did not measure {label}")
                speeds[id(one)][label].append(measured[label])
            said = ", ".join(f"{label} {measured[label]:.1f}" for label in test.labels())
            print(f"  turn {turn + 1}: {one.group} {one.mode}: {said}", file=sys.stderr)
    median = statistics.median
    return {key: {label: median(values) for label, values in own.items()} for key, own in speeds.items()}


def best(contestants, medians, label):
    """group -> the better of its modes."""
    found = {}
    for one in contestants:
        found[one.group] = max(found.get(one.group, 0.0), medians[id(one)][label])
    return found
