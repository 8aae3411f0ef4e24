"""1,000 chat requests at once: who is served, who is refused and how soon, and what a refusal costs the server.

Connections are open before anything is sent, so that a refusal's time is that between the request's last byte and the
answer's first, as the client sees it. Server and client share the cores: the client is one thread that polls raw
sockets, and the processor time of both is printed.
"""

import json
import os
import selectors
import socket
import statistics
import sys
import time
import urllib.request

import machine
import servers
from verdict import Row

AT_ONCE = 1000
REFUSAL_MS = 100.0
# Of the server whose queue is held full by long requests while refusals alone are measured: few, so that their
# connections and those of the refused are within its bound together.
FULL = {"QUARRY__SERVER__QUEUE_MAX": "8", "QUARRY__SERVER__STEP_ROWS_MAX": "4"}
HOLDERS_MAX = 20
# Seconds for all answers.
PATIENCE = 900
TOKENS = 8
MODEL = "smollm2-135m"


class Exchange:
    """One request on an open connection, and its answer."""

    def __init__(self, address, body):
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.sending = head.encode() + body
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.answer, self.sent, self.first, self.lost = b"", None, None, None

    def send(self):
        # Before the last byte rather than after: what happens in between counts.
        self.sent = time.perf_counter()
        while self.sending:
            try:
                self.sending = self.sending[self.socket.send(self.sending) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self.lost = str(error)
                break

    def receive(self):
        """Whether that was the end."""
        try:
            piece = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError as error:
            self.lost = str(error)
            return True
        if piece and self.first is None:
            self.first = time.perf_counter()
        self.answer += piece
        return not piece

    def milliseconds(self):
        return (self.first - self.sent) * 1000

    def outcome(self):
        """`served`, `refused`, or what is wrong with it."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if self.lost or not status:
            return f"lost: {self.lost or 'no answer'}"
        try:
            body = json.loads(body)
        except ValueError:
            return f"{status[0].decode()} without JSON"
        if status[0] == b"200":
            whole = body.get("choices") and body["choices"][0]["finish_reason"] in ("stop", "length")
            return "served" if whole and body["usage"]["completion_tokens"] == TOKENS else "200 that is no whole answer"
        if status[0] == b"429":
            return "refused" if b"retry-after: " in head.lower() else "429 without Retry-After"
        return f"{status[0].decode()}: {body.get('error', {}).get('message')}"


def at_once(exchanges, seconds):
    """Sends all, then reads whatever comes until all have ended."""
    begun, selector = time.perf_counter(), selectors.DefaultSelector()
    for one in exchanges:
        selector.register(one.socket, selectors.EVENT_READ, one)
    waiting, open_ones = iter(exchanges), len(exchanges)
    one = next(waiting, None)
    while open_ones and time.perf_counter() - begun < seconds:
        # Reading goes before the next request, so that an answer's time is not that of the sending of others.
        if one is not None:
            one.send()
            one = next(waiting, None)
        for key, _ in selector.select(0 if one is not None else 1):
            if key.data.receive():
                selector.unregister(key.fileobj)
                key.fileobj.close()
                open_ones -= 1
    for key in list(selector.get_map().values()):
        key.data.lost = f"no end within {seconds} s"
        key.fileobj.close()
    selector.close()


def processor_seconds(process):
    """User and system time of a process so far."""
    with open(f"/proc/{process}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def body(model, tokens, number):
    asked = f"Write a sentence about the number {number}."
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": asked}],
            "temperature": 0,
            "max_completion_tokens": tokens,
            "ignore_eos": True,
        }
    ).encode()


def waiting(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_waiting{"))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def refusals(address, server, model):
    """1,000 refusals while the queue is full of long requests, and what both sides spent on them."""
    url = f"http://{address[0]}:{address[1]}"
    holders = []
    while waiting(url) < int(FULL["QUARRY__SERVER__QUEUE_MAX"]):
        if len(holders) == HOLDERS_MAX:
            machine.give_up("the queue does not become full")
        holders.append(Exchange(address, body(model, 1900, len(holders))))
        holders[-1].send()
        time.sleep(0.1)
    exchanges = [Exchange(address, body(model, TOKENS, n)) for n in range(AT_ONCE)]
    # What the server computes goes on meanwhile, so its time is measured without refusals as well.
    before, quiet_begun = processor_seconds(server), time.perf_counter()
    time.sleep(3)
    idle_rate = (processor_seconds(server) - before) / (time.perf_counter() - quiet_begun)
    before, ours, begun = processor_seconds(server), time.process_time(), time.perf_counter()
    at_once(exchanges, PATIENCE)
    wall, client = time.perf_counter() - begun, time.process_time() - ours
    spent = processor_seconds(server) - before
    for one in holders:
        one.socket.close()
    return exchanges, wall, client, spent, max(0.0, spent - idle_rate * wall), idle_rate


class Started:
    """A server of ours, ready."""

    def __init__(self, binary, file, settings):
        port = servers.free_port()
        self.command = [binary, "serve", "--model", file, "--port", str(port)]
        self.settings, self.address, self.url = settings, ("127.0.0.1", port), f"http://127.0.0.1:{port}"

    def __enter__(self):
        self.server = servers.Server(self.command, machine.quarry_environment() | self.settings)
        self.server.__enter__()
        self.server.wait(f"{self.url}/ready")
        with urllib.request.urlopen(f"{self.url}/v1/models") as listed:
            self.model = json.load(listed)["data"][0]["id"]
        return self

    def __exit__(self, *what):
        self.server.__exit__(*what)

    def said(self):
        return " ".join([*(f"{key}={value}" for key, value in self.settings.items()), *self.command])


def overload():
    binary = machine.quarry()
    files, complete = machine.models(binary, [MODEL])
    file = next(iter(files.values()))
    machine.head("overload", binary)
    row = Row("overload", "milliseconds", higher_is_better=False)
    with Started(binary, file, {}) as one:
        exchanges = [Exchange(one.address, body(one.model, TOKENS, n)) for n in range(AT_ONCE)]
        process, ours, begun = one.server.process.pid, time.process_time(), time.perf_counter()
        before = processor_seconds(process)
        at_once(exchanges, PATIENCE)
        wall, client = time.perf_counter() - begun, time.process_time() - ours
        spent = processor_seconds(process) - before
        report(row, "at once", exchanges, False)
        row.note(f"at once    {wall:.1f} s, processor: server {spent:.2f} s, client {client:.2f} s "
                 f"({100 * client / (client + spent):.0f} %)")
        row.note(f"command    {one.said()}")
    with Started(binary, file, FULL) as one:
        full, wall, client, spent, of_refusals, rate = refusals(one.address, one.server.process.pid, one.model)
        report(row, "queue full", full, True)
        row.note(f"queue full {wall:.2f} s, processor: server {spent:.2f} s of which {of_refusals:.2f} s beside its "
                 f"{rate:.2f} a second of computing, client {client:.2f} s ({100 * client / (client + spent):.0f} %)")
        row.note(f"a refusal  at most {spent / AT_ONCE * 1e6:.0f} us of the server's processor time, "
                 f"{of_refusals / AT_ONCE * 1e6:.0f} us beside its computing; {client / AT_ONCE * 1e6:.0f} us of the client's")
        row.note(f"command    {one.said()}")
    return row.finish(complete)


def report(row, label, exchanges, all_refused):
    outcomes = [one.outcome() for one in exchanges]
    good = sum(outcome in ("served", "refused") for outcome in outcomes)
    counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    row.note(f"{label:<10} {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}")
    row.add(f"{label}: served or refused", good, {}, None, f"= {AT_ONCE}", good == AT_ONCE)
    times = [one.milliseconds() for one, outcome in zip(exchanges, outcomes) if outcome == "refused"]
    if not times:
        row.add(f"{label}: refusals", 0, {}, None, "> 0", False)
        return
    if all_refused:
        # Answers of holders end meanwhile and let one or the other in.
        row.add(f"{label}: refused", len(times), {}, None, f">= {AT_ONCE * 9 // 10}", len(times) >= AT_ONCE * 9 // 10)
    row.note(f"{label:<10} refusals: median {statistics.median(times):.1f} ms, "
             f"99 % within {percentile(times, 0.99):.1f} ms, first {times[0]:.1f} ms")
    row.add(f"{label}: slowest refusal", max(times), {}, None, f"<= {REFUSAL_MS:g} ms", max(times) <= REFUSAL_MS)
