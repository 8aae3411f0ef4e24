"""Rows that run whole programs: extraction through HTTP, and the demo."""

import json
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import contest
import machine
from verdict import Row

EXTRACTION_GOALS = {"AVX-512": 4.0, "AVX2": 3.0}
DEMO_SECONDS = 25.0
DEMO_AVX2_FIRST_SECONDS, DEMO_AVX2_SECONDS = 20.0, 150.0
# To load a model, or to end.
PATIENCE = 300
# Positions that the rival keeps for each page asked for at a time.
RIVAL_CONTEXT = 8192


def column(binary, file):
    """The column of this machine's instruction set, by the shortest run that says it."""
    ours = contest.Quarry(binary)
    ours.measure(file, contest.Test(prompt=[1]))
    return ours.column(), ours.version()


class Server:
    """A started program that answers /health; ended with the block."""

    def __init__(self, command, environment=None):
        self.command, self.environment, self.process = command, environment, None

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )
        return self

    def wait(self, url):
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            if self.process.poll() is not None:
                self.log.seek(0)
                said = self.log.read()[-2000:].decode(errors="replace")
                machine.give_up(f"{shlex.join(self.command)} ended:\n{said}")
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        machine.give_up(f"{shlex.join(self.command)} is not ready after {PATIENCE} s")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Nothing:
    """In place of a server that somebody else runs."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def extraction(repeats):
    """Both servers fresh in every round, so that none finds the pages in its cache; pages in turns."""
    binary = machine.quarry()
    program, url = machine.rival_program("LLAMA_SERVER"), machine.env("LLAMA_SERVER_URL")
    if not program and not url:
        machine.give_up("neither LLAMA_SERVER nor LLAMA_SERVER_URL is set")
    job = machine.extract_job()
    files, complete = machine.models(binary, ["0.5b"])
    name, file = next(iter(files.items()))
    machine.head("extraction", binary)
    which, isa = column(binary, file)
    if url:
        repeats = 1  # its cache would know the pages
    row = Row("extraction", "seconds/page", higher_is_better=False)
    ours_command = rival_command = None
    for at_once in map(int, machine.env("QUARRY_SHOW_AT_ONCE", "1,4").split(",")):
        seconds = {"Quarry": [], "llama-server": []}
        for turn in range(repeats):
            ours_port, rival_port = free_port(), free_port()
            ours_command = [binary, "serve", "--model", file, "--port", str(ours_port)]
            rival_command = [program, "-m", file, "-t", str(machine.threads()), "-np", str(at_once)]
            rival_command += ["-c", str(RIVAL_CONTEXT * at_once), "--port", str(rival_port)]
            rival_command += shlex.split(machine.env("RIVAL_SERVER_FLAGS"))
            with Server(ours_command, machine.quarry_environment()) as ours, (
                Nothing() if url else Server(rival_command)
            ) as rival:
                ours_url, rival_url = f"http://127.0.0.1:{ours_port}", url or f"http://127.0.0.1:{rival_port}"
                ours.wait(f"{ours_url}/ready")
                if not url:
                    rival.wait(f"{rival_url}/health")
                measured = extract(binary, job, [ours_url, rival_url], at_once)
            for one, into in zip(measured, seconds.values()):
                into.append(one["wall_seconds_per_page"])
                if one["valid"] < one["pages"]:
                    row.note(f"           {one['valid']} of {one['pages']} answers of {one['url']} are valid")
            said = [f"{one['wall_seconds_per_page']:.2f}" for one in measured]
            print(f"  {at_once} at a time, turn {turn + 1}: {' and '.join(said)} s a page", file=sys.stderr)
        found = {who: statistics.median(values) for who, values in seconds.items()}
        row.compare(f"{name}, {at_once} at a time", found, EXTRACTION_GOALS[which], "llama-server")
    row.note(f"column     {which} ({isa}), {measured[0]['pages']} pages, median of {repeats} rounds")
    row.note(f"command    {shlex.join(ours_command)}; quarry bench extract {job.name} --concurrency 1 and 4")
    version = contest.version_of(program) if not url else build_of(url)
    row.note(f"rival      {version}: {shlex.join(rival_command) if not url else url}")
    complete = complete and machine.env("QUARRY_SHOW_AT_ONCE", "1,4") == "1,4" and not machine.env("QUARRY_SHOW_PAGES")
    return row.finish(complete)


def build_of(url):
    """What a llama-server that somebody else started says of itself."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/').removesuffix('/v1')}/props", timeout=10) as answer:
            return json.load(answer).get("build_info", "version unknown")
    except (urllib.error.URLError, OSError, ValueError):
        return "version unknown"


def extract(binary, job, urls, at_once):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [binary, "bench", "extract", str(job), "--concurrency", str(at_once), "--out", str(out)]
        command += [part for url in urls for part in ("--url", url)]
        if machine.env("QUARRY_SHOW_PAGES"):
            command += ["--pages", machine.env("QUARRY_SHOW_PAGES")]
        contest.run(command)
        return json.loads(out.read_text())


def demo(repeats):
    """The model is pulled before, so that it is there and in the page cache; the sample site is the binary's."""
    binary = machine.quarry()
    files, complete = machine.models(binary, ["0.5b"])
    file = next(iter(files.values()))
    machine.head("demo", binary)
    which, isa = column(binary, file)
    runs = [demo_once(binary, file) for _ in range(repeats)]
    for run in runs:
        print(f"  first model page {run[0]:.1f} s, all {run[1]:.1f} s, {run[2]} pages", file=sys.stderr)
    first, whole = (statistics.median(run[part] for run in runs) for part in (0, 1))
    row = Row("demo", "seconds", higher_is_better=False)
    limit = DEMO_SECONDS if which == "AVX-512" else DEMO_AVX2_SECONDS
    if which == "AVX2":
        goal = DEMO_AVX2_FIRST_SECONDS
        row.add("first model page", first, {}, None, f"<= {goal:g} s", first <= goal)
    else:
        row.note(f"           first model page after {first:.1f} s")
    row.add("demo --once", whole, {}, None, f"<= {limit:g} s", whole <= limit)
    row.note(f"column     {which} ({isa}), median of {repeats} runs, {runs[0][2]} pages")
    row.note(f"command    {binary} demo --once --model {file}")
    return row.finish(complete)


def demo_once(binary, file):
    """Seconds to the first page that a model's answer had a part in, seconds to the end, pages."""
    command = [binary, "demo", "--once", "--model", file]
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=machine.quarry_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    answered, first, pages, last = False, None, 0, ""
    watchdog = threading.Timer(contest.SECONDS_MAX, process.kill)
    watchdog.start()
    for line in process.stderr:
        last = line
        # The server logs each answer; a page's own line comes after the last answer that it needed.
        answered = answered or '"request ended"' in line
        if " postings, " in line:
            pages += 1
            if answered and first is None:
                first = time.monotonic() - begun
    code = process.wait()
    watchdog.cancel()
    seconds = time.monotonic() - begun
    if code != 0 or first is None:
        machine.give_up(f"{shlex.join(command)} ended with {code} after {pages} pages: {last}")
    return first, seconds, pages
