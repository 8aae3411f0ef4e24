"""The table of a row, its record as JSON (QUARRY_SHOW_OUT), and the exit code that is its goal."""

import json
from pathlib import Path

import machine


class Row:
    """Lines of measurements, each beside its goal."""

    def __init__(self, name, unit, higher_is_better=True):
        self.name, self.unit, self.higher_is_better = name, unit, higher_is_better
        self.lines, self.notes = [], []

    def add(self, label, ours, rivals, ratio, goal, holds, beside=""):
        """`rivals` is name -> figure; `ratio` is what the goal speaks of."""
        self.lines.append(
            {
                "label": label, "ours": ours, "rivals": rivals, "ratio": ratio, "goal": goal,
                "met": holds, "beside": beside,
            }
        )

    def compare(self, label, found, goal, beside):
        """Ours beside rivals of the same label. `beside` is `better`, or the rival whose ratio counts."""
        ours = found["Quarry"]
        rivals = {name: speed for name, speed in found.items() if name != "Quarry"}
        pick = max if self.higher_is_better else min
        rival = pick(rivals.values()) if beside == "better" else rivals[beside]
        ratio = ours / rival if self.higher_is_better else rival / ours
        self.add(label, ours, rivals, ratio, f">= {goal:g} x", ratio >= goal, beside)

    def note(self, text):
        self.notes.append(text)

    def finish(self, complete=True):
        """Prints all, writes the record, returns the exit code."""
        names = list(dict.fromkeys(name for line in self.lines for name in line["rivals"]))
        width = max([len(line["label"]) for line in self.lines] + [8])
        print()
        for text in self.notes:
            print(text)
        head = "".join(f"{name[:14]:>15}" for name in names)
        print(f"\n{self.unit:<{width}} {'Quarry':>10}{head} {'ratio':>8}  goal")
        for line in self.lines:
            cells = "".join(
                f"{line['rivals'][name]:>15.2f}" if name in line["rivals"] else f"{'':>15}" for name in names
            )
            ratio = f"{line['ratio']:>8.2f}" if line["ratio"] is not None else f"{'':>8}"
            verdict = "met" if line["met"] else "MISSED"
            beside = f" ({line['beside']})" if line["beside"] else ""
            print(f"{line['label']:<{width}} {line['ours']:>10.2f}{cells} {ratio}  {line['goal']}{beside}: {verdict}")
        met = bool(self.lines) and all(line["met"] for line in self.lines)
        code = machine.MISSED if not met else machine.MET if complete else machine.INCOMPLETE
        said = {machine.MET: "every goal met", machine.MISSED: "a goal is missed"}
        print(f"\n{self.name}: {said.get(code, 'met as far as it was measured, which is not the whole row')}")
        out = machine.env("QUARRY_SHOW_OUT")
        if out:
            record = {
                "row": self.name, "unit": self.unit, "processor": machine.processor(),
                "commit": machine.commit(), "isa": machine.isa(), "notes": self.notes,
                "lines": self.lines, "exit": code,
            }
            Path(out).write_text(json.dumps(record, indent=2) + "\n")
        return code
