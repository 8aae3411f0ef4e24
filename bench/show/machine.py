"""What the show scripts share about this machine: processor, commit, our binary, model files, the environment."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A row that cannot be measured, or only in part, is neither met nor missed.
MET, MISSED, INCOMPLETE = 0, 1, 2
# A registry's name, or a shape that make-model fills with random weights.
MODELS = {
    "0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m",
    "smollm2-135m": "smollm2-135m-instruct-q4_1",
    "1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m",
    "qwen3-0.6b": "shape:qwen3-0.6b",
    "qwen3-4b": "shape:qwen3-4b",
    "qwen3-8b": "shape:qwen3-8b",
}


def env(name, default=""):
    return os.environ.get(name, "").strip() or default


def give_up(why):
    print(f"cannot be measured: {why}", file=sys.stderr)
    sys.exit(INCOMPLETE)


def output(command):
    """What a command says on stdout; empty where it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def processor():
    lines = output(["lscpu"]).splitlines()
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    model, family = facts.get("Model name", "unknown"), facts.get("CPU family", "?")
    return f"{model} (family {family}, model {facts.get('Model', '?')}), {threads()} cores here"


def commit():
    changed = " with changes" if output(["git", "status", "--porcelain", "--untracked-files=no"]) else ""
    return output(["git", "rev-parse", "--short=12", "HEAD"]) + changed


def threads():
    return int(env("QUARRY_SHOW_THREADS", str(len(os.sched_getaffinity(0)))))


def isa():
    """auto, or the name of a forced instruction set."""
    return env("QUARRY_SHOW_ISA", "auto")


def rival_program(name):
    """LLAMA_BENCH; with a forced avx2 its build without AVX-512, LLAMA_BENCH_AVX2."""
    return env(f"{name}_{isa().upper()}" if isa() != "auto" else name)


def quarry():
    """Our binary: QUARRY_BIN, else the release build of this tree, made if it is not there."""
    if env("QUARRY_BIN"):
        return env("QUARRY_BIN")
    build = subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "quarry"], cwd=ROOT)
    if build.returncode != 0:
        give_up("quarry does not build")
    return str(ROOT / env("CARGO_TARGET_DIR", "target") / "release" / "quarry")


def quarry_environment():
    """Settings of a server or demo of ours, over those of the caller."""
    settings = {"QUARRY__LOGGING__FORMAT": "json", "QUARRY__LOGGING__LEVEL": "info"}
    if isa() != "auto":
        settings["QUARRY__SERVER__ISA"] = isa()
    return {**os.environ, **settings, "QUARRY__SERVER__THREADS": str(threads())}


def cache():
    return Path(env("QUARRY_CACHE", str(Path.home() / ".cache" / "quarry")))


def model_file(binary, name):
    """A registry model's file, pulled if need be; or one of random weights, made if need be."""
    known = MODELS[name]
    if not known.startswith("shape:"):
        if subprocess.run([binary, "models", "pull", known], stdout=sys.stderr).returncode != 0:
            give_up(f"{known} cannot be pulled")
        return str(cache() / "models" / f"{known}.gguf")
    folder = Path(env("QUARRY_SHOW_DIR", str(cache() / "show")))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-random-q4_k_m.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        made = [binary, "bench", "make-model", "--shape", known.removeprefix("shape:"), str(part)]
        if subprocess.run(made).returncode != 0:
            give_up(f"{path.name} cannot be made")
        part.rename(path)
    return str(path)


def models(binary, wanted):
    """name -> file, and whether these are all that the row wants. QUARRY_SHOW_MODELS takes fewer (0.5b,1.5b), or
    other files for a trial (NAME=FILE)."""
    chosen = [part for part in env("QUARRY_SHOW_MODELS").split(",") if part] or list(wanted)
    files = {}
    for part in chosen:
        name, _, file = part.partition("=")
        if not file and name not in MODELS:
            give_up(f"no model {name}; there are {', '.join(MODELS)}")
        files[name] = file or model_file(binary, name)
    return files, chosen == list(wanted)


def head(row, binary):
    """The lines that every record begins with."""
    print(f"row        {row}")
    print(f"date       {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")
    print(f"processor  {processor()}")
    print(f"load       {' '.join(f'{load:.2f}' for load in os.getloadavg())} before")
    print(f"quarry     {output([binary, '--version'])}, commit {commit()}, isa {isa()}")


def extract_job():
    """The folder of the extract job, or the end."""
    job = Path(env("QUARRY_SHOW_JOB", str(ROOT.parent / "shared" / "corpus" / "extract-job")))
    if not (job / "job.json").exists():
        give_up("the extract job is not there; QUARRY_SHOW_JOB names its folder")
    return job
