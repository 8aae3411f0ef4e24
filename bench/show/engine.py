"""A server of ours with a configuration of its own, requests to it, and what it says of itself while it runs."""

import dataclasses
import http.client
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import machine
import servers

# Seconds after which a request counts as lost.
PATIENCE = float(machine.env("QUARRY_SHOW_PATIENCE", "600"))
# Between two looks at a server.
WATCH_SECONDS = 0.25
MIB = 1 << 20


class Engine:
    """A started server; `models` is part of the configuration -> file, `settings` are those of `server`."""

    def __init__(self, binary, models, settings):
        port = servers.free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.configuration = {
            "models": {part: {"name": file} for part, file in models.items()},
            "server": {"port": port, "queue_max": 4096, **settings},
        }
        self.binary = binary

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        # JSON is YAML.
        path = Path(self.folder.name) / "quarry.yaml"
        path.write_text(json.dumps(self.configuration))
        self.server = servers.Server([self.binary, "serve", "--config", str(path)], machine.quarry_environment())
        self.server.__enter__()
        self.server.wait(f"{self.url}/ready")
        self.process = self.server.process.pid
        self.models = {model["id"]: model for model in get(f"{self.url}/v1/models")["data"]}
        return self

    def __exit__(self, *what):
        self.server.__exit__(*what)
        self.folder.cleanup()

    def said(self):
        return f"quarry serve --config with {json.dumps(self.configuration)}"

    def state(self):
        return get(f"{self.url}/admin/state")

    def metrics(self):
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            return Metrics(answer.read().decode())

    def name_of(self, alias):
        """The id of the model that a part of the configuration names; the first one for `primary`."""
        ids = list(self.models)
        return next((name for name in ids if alias in self.models[name]["details"]["aliases"]), ids[0])

    def ask(self, model, messages, **fields):
        """One greedy answer, or why there is none."""
        body = {"model": model, "temperature": 0, "messages": messages, **fields}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        begun = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                said = json.load(answer)
            choice, usage = said["choices"][0], said["usage"]
            return Answer(
                choice["message"]["content"] or "", choice["finish_reason"], usage["prompt_tokens"],
                usage["completion_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
                time.perf_counter() - begun,
            )
        except urllib.error.HTTPError as error:
            lost = f"{error.code}: {error.read()[:300].decode(errors='replace')}"
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            lost = f"{type(error).__name__}: {error}"
        return Answer(seconds=time.perf_counter() - begun, lost=f"{lost} after {time.perf_counter() - begun:.1f} s")


@dataclasses.dataclass
class Answer:
    """What a request brought; `lost` says why it brought nothing."""

    text: str = ""
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    seconds: float = 0.0
    lost: str = ""


class Metrics:
    """The text of /metrics, read by family."""

    def __init__(self, text):
        self.lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]

    def total(self, family, *labels):
        """Sum over the series whose labels are all there, as `key="value"`."""
        begun = f"{family}{{"
        return sum(
            float(value) for name, value in self.lines if name.startswith(begun) and all(one in name for one in labels)
        )


class Watch(threading.Thread):
    """Looks at a server again and again: the most that it holds, and every switch."""

    def __init__(self, engine):
        super().__init__(daemon=True)
        self.engine, self.ended = engine, threading.Event()
        self.host_pool_bytes, self.host_pool_bytes_max, self.weight_bytes = 0, 0, 0
        self.resident, self.anonymous, self.looks, self.deaf_seconds = 0, 0, 0, 0.0
        # (model, seconds by phase)
        self.switches = []
        self.seen = {name: self.phases(engine.metrics(), name) for name in engine.models}

    @staticmethod
    def phases(metrics, model):
        """phase -> (count, seconds) of a model's switches so far."""
        family, name = "quarry_model_switch_seconds", f'model_name="{model}"'
        return {
            phase: tuple(metrics.total(f"{family}_{part}", name, f'phase="{phase}"') for part in ("count", "sum"))
            for phase in ("room", "load", "activate")
        }

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def run(self):
        is_last = False
        while not is_last:
            is_last = self.ended.wait(WATCH_SECONDS)
            begun = time.perf_counter()
            try:
                self.look()
            except (OSError, ValueError, http.client.HTTPException):
                pass  # what became of it is seen by the requests
            self.deaf_seconds = max(self.deaf_seconds, time.perf_counter() - begun)

    def look(self):
        memory = self.engine.state()["memory"]
        self.host_pool_bytes = max(self.host_pool_bytes, memory["host_pool_bytes"])
        self.weight_bytes = max(self.weight_bytes, memory["weight_bytes"])
        self.host_pool_bytes_max = memory["host_pool_bytes_max"]
        held = resident_bytes(self.engine.process)
        self.resident = max(self.resident, held["VmRSS"])
        self.anonymous = max(self.anonymous, held["RssAnon"])
        metrics = self.engine.metrics()
        for model, before in self.seen.items():
            now = self.phases(metrics, model)
            count = int(now["load"][0] - before["load"][0])
            each = {phase: (now[phase][1] - before[phase][1]) / max(1, count) for phase in now}
            self.switches += [(model, each)] * count
            self.seen[model] = now
        self.looks += 1

    def note(self, row):
        """Number and seconds of the switches, by model and phase."""
        if not self.switches:
            row.note("switches   none")
        for model in dict.fromkeys(model for model, _ in self.switches):
            own = [phases for name, phases in self.switches if name == model]
            said = ", ".join(
                f"{phase} {sum(one[phase] for one in own) / len(own):.3f} s (most {max(one[phase] for one in own):.3f})"
                for phase in own[0]
            )
            row.note(f"switches   {len(own)} to {model}: {said}")


def resident_bytes(process):
    """VmRSS, RssAnon, RssFile, RssShmem of a process."""
    with open(f"/proc/{process}/status") as status:
        lines = [line.split() for line in status]
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0].startswith(("VmRSS", "Rss"))}


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def words(count, begin=0):
    """So many words of the text beside this, from one of them on, over and over."""
    text = (machine.ROOT / "bench" / "text" / "orchard.txt").read_text().split()
    return " ".join(text[(begin + n) % len(text)] for n in range(count))
