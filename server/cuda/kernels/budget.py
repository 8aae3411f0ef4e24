#!/usr/bin/env python3
"""Compiles every kernel for every device generation and checks what came out, without a device.

  CUDA_HOME=... budget.py            compare with budget.txt; ends with 0 only if all is as it should be
  CUDA_HOME=... budget.py --write    write budget.txt as it is now (a diff shows what grew)
  CUDA_HOME=... budget.py --images D look at the cubins that images.py has put into D instead: local memory and stack

Checked: no warning; no spill, no stack, no local memory; registers and static shared memory at most as in budget.txt;
in the machine code (cuobjdump): weights are loaded 16 bytes at a time, those of a chunk before the first is used;
products use the tensor cores; what is copied asynchronously is copied 16 bytes at a time. Necessary for speed, not
sufficient.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent
BUDGET = HERE / "budget.txt"
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"]
FLAGS = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v"]
HEAD = """# What each kernel may use: bytes of static shared memory, and registers of a thread on each architecture.
# Spills, stack and local memory are never allowed. Checked and written by budget.py.
"""

# Loads of weights that must come one after another with no product in between: a chunk's. The compiler may use some of
# the 8 of int8 and the 16 of 16 bits early: what is left is still more than memory needs.
AHEAD = {"gemv_q4": 4, "gemv_awq": 4, "gemv_q8": 6, "gemv_bf16": 12, "gemv_f16": 12}

# Kernels by prefix of their name: instructions that their machine code must hold, and how often at least.
WEIGHTS = r"LDG\.E[.\w]*\.128"
COPY = r"LDGSTS\.E[.\w]*\.128"
EXPECTED = [
    ("gemv_awq", {WEIGHTS: 4, r"IMMA\.16832": 8}),
    ("gemv_q4", {WEIGHTS: 4, r"IMMA\.16832": 8}),
    ("gemv_q8", {WEIGHTS: 8, r"IMMA\.16832": 8}),
    ("gemv_", {WEIGHTS: 16, r"HMMA\.16816": 16}),
    ("gemm_awq", {WEIGHTS: 1, r"IMMA\.16832": 16, COPY: 1}),
    ("gemm_q", {WEIGHTS: 1, r"IMMA\.16832": 16, COPY: 1}),
    ("gemm_", {WEIGHTS: 4, r"HMMA\.16816": 32, COPY: 1}),
    ("probe_s8", {r"IMMA\.16832": 8}),
    ("probe_bf16", {r"HMMA\.16816": 8}),
    ("attend_merge", {}),
    ("attend_prefill_i8", {COPY: 4, r"HMMA\.16816": 64, r"LDSM\.16\.M88": 16, r"LDSM\.16\.MT": 16, r"LDS\.128": 4}),
    ("attend_prefill", {COPY: 4, r"HMMA\.16816": 64, r"LDSM\.16\.M88": 16, r"LDSM\.16\.MT": 16}),
    ("attend_i8", {COPY: 4, r"HMMA\.16816": 32, r"LDSM\.16\.MT": 4}),
    ("attend", {COPY: 4, r"HMMA\.16816": 32, r"LDSM\.16\.MT": 4}),
]


# Bytes of stack that an older compiler may use: attention takes all registers that there are, and 12.9 saves two of them.
IMAGE_STACK = {"attend_prefill": 8, "attend_prefill_i8": 8, "attend_i8": 8}


def tool(name):
    return str(pathlib.Path(os.environ["CUDA_HOME"]) / "bin" / name)


def run(command):
    environment = dict(os.environ, PATH=f"{pathlib.Path(os.environ['CUDA_HOME']) / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compiled(source, architecture, folder):
    """Kernel -> (registers, shared bytes, faults) of one source."""
    cubin = f"{folder}/{source.stem}.{architecture}.cubin"
    log = run([tool("nvcc"), *FLAGS, f"-arch={architecture}", "-cubin", "-o", cubin, str(source)])
    kernels = {}
    for part in log.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", part)[1]
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        faults = [
            f"{amount} bytes {what}"
            for amount, what in re.findall(r"(\d+) bytes (stack frame|spill stores|spill loads|lmem)", part)
            if amount != "0"
        ]
        kernels[name] = (registers, int(shared[1]) if shared else 0, faults)
    for part in run([tool("cuobjdump"), "-sass", cubin]).split("Function : ")[1:]:
        name = part.split(None, 1)[0]
        if re.search(r"\b(LDL|STL)\b", part):
            kernels[name][2].append("local memory in the machine code")
        wanted = next((wanted for prefix, wanted in EXPECTED if name.startswith(prefix)), {})
        for pattern, least in wanted.items():
            found = len(re.findall(pattern, part))
            if found < least:
                kernels[name][2].append(f"{found} of {pattern}, at least {least} expected")
        ahead = max(len(re.findall(WEIGHTS, stretch)) for stretch in re.split(r"[IH]MMA\.", part))
        if ahead < AHEAD.get(name, 0):
            kernels[name][2].append(f"{ahead} loads of weights under way at once, {AHEAD[name]} expected")
    return kernels


def measured():
    """(kernel, architecture) -> (registers, shared bytes, faults)."""
    sources = [HERE / "all.cu"]
    jobs = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        results = list(pool.map(lambda job: compiled(*job, folder), jobs))
    return {
        (name, architecture): kernel
        for (_, architecture), kernels in zip(jobs, results)
        for name, kernel in kernels.items()
    }


def written(kernels):
    names = sorted({name for name, _ in kernels})
    lines = [f"{'kernel':<18}{'shared':>8}" + "".join(f"{a:>8}" for a in ARCHITECTURES)]
    for name in names:
        shared = max(kernels[name, a][1] for a in ARCHITECTURES)
        lines.append(f"{name:<18}{shared:>8}" + "".join(f"{kernels[name, a][0]:>8}" for a in ARCHITECTURES))
    return HEAD + "\n".join(lines) + "\n"


def allowed():
    """(kernel, architecture) -> (registers, shared bytes)."""
    rows = [line.split() for line in BUDGET.read_text().splitlines() if line and not line.startswith("#")]
    architectures = rows[0][2:]
    return {
        (row[0], architecture): (int(registers), int(row[1]))
        for row in rows[1:]
        for architecture, registers in zip(architectures, row[2:])
    }


def check_images(folder):
    """What the cubins of a folder use of stack and local memory; ends the program."""
    failures, kernels = [], 0
    for architecture in ARCHITECTURES:
        usage = run([tool("cuobjdump"), "-res-usage", f"{folder}/{architecture}.cubin"])
        found = re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
        kernels += len(found)
        for name, stack, local in found:
            if int(stack) > IMAGE_STACK.get(name, 0) or int(local) > 0:
                failures.append(f"{name} {architecture}: {stack} bytes of stack, {local} of local memory")
    print("\n".join(failures) or f"{kernels} kernels of {len(ARCHITECTURES)} images are within bounds")
    sys.exit(bool(failures) or kernels == 0)


def main():
    if "CUDA_HOME" not in os.environ:
        sys.exit("CUDA_HOME: the folder of the CUDA toolkit")
    if "--images" in sys.argv[1:]:
        check_images(sys.argv[sys.argv.index("--images") + 1])
    kernels = measured()
    if "--write" in sys.argv[1:]:
        BUDGET.write_text(written(kernels))
    budget = allowed()
    gone = {name for name, _ in budget} - {name for name, _ in kernels}
    failures = [f"{name}: in budget.txt and not compiled" for name in sorted(gone)]
    for (name, architecture), (registers, shared, faults) in sorted(kernels.items()):
        failures += [f"{name} {architecture}: {fault}" for fault in faults]
        if (name, architecture) not in budget:
            failures.append(f"{name} {architecture}: not in budget.txt")
            continue
        registers_allowed, shared_allowed = budget[name, architecture]
        if registers > registers_allowed:
            failures.append(f"{name} {architecture}: {registers} registers, {registers_allowed} allowed")
        if shared > shared_allowed:
            failures.append(f"{name} {architecture}: {shared} bytes of shared memory, {shared_allowed} allowed")
    names = {name for name, _ in kernels}
    print("\n".join(failures) or f"{len(names)} kernels for {len(ARCHITECTURES)} architectures are within the budget")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
