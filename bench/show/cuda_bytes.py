"""The row about the CUDA back end that needs no card: bytes and launches of a decode step, counted where its kernels run on
the processor, and the bounds that cards' bandwidths make of them."""

import os
import re
import subprocess
import sys

import machine

# Name of the goal, what shows it, and the lines of its output that belong into a record.
CHECKS = [
    ("bytes within 5 % of the model", ["cargo", "test", "--locked", "-p", "quarry-cuda", "--test", "bytes", "--",
                                       "--nocapture"], r"rows? of .* by the model"),
    ("launches within the budget", ["cargo", "test", "--locked", "-p", "quarry-cuda", "--test", "driver", "--",
                                    "--nocapture", "a_decode_step_launches"], r"launches of"),
    ("kernels within the budget", [sys.executable, "server/cuda/kernels/budget.py"], r"."),
]


def run(command, environment):
    print(f"  {' '.join(command)}", file=sys.stderr)
    return subprocess.run(command, cwd=machine.ROOT, env=environment, capture_output=True, text=True)


def cuda_bytes():
    home = machine.output(["server/cuda/toolkit.sh"])
    if not home:
        machine.give_up("the CUDA compiler cannot be had")
    environment = {**os.environ, "CUDA_HOME": home}
    binary = machine.quarry()
    machine.head("cuda-bytes", binary)
    missed = []
    for goal, command, lines in CHECKS:
        done = run(command, environment)
        shown = [line for line in done.stdout.splitlines() if re.search(lines, line)]
        # What says nothing has shown nothing.
        is_met = done.returncode == 0 and bool(shown)
        if not is_met:
            missed.append(goal)
            print(done.stdout + done.stderr, file=sys.stderr)
        words = " ".join("python3" if word == sys.executable else word for word in command)
        print(f"\n{goal}: {'met' if is_met else 'MISSED'}\n$ {words}")
        print("\n".join(shown))
    print("\nbudget of each kernel (server/cuda/kernels/budget.txt)\n")
    print((machine.ROOT / "server/cuda/kernels/budget.txt").read_text())
    for load in (["--streams", "1", "--context", "1024"], ["--streams", "8", "--context", "2048"]):
        command = [binary, "models", "fit", "--vram", "16GiB", *load]
        said = run(command, environment)
        if said.returncode != 0:
            machine.give_up(said.stderr.strip())
        table = said.stdout if load[1] == "1" else said.stdout.split("\n\n")[-1]
        print(f"$ quarry {' '.join(command[1:])}\n{table}")
    return machine.MISSED if missed else machine.MET
