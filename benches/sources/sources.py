#!/usr/bin/env python3
"""Measures what an event costs by each of the three sources, of the same simulated tenant, beside one another.

    sources.py [--events NUMBER] [--runs NUMBER]

Each run is a fresh `audit-exporter run` with one source and one sink of type `file`, from its start until everything is
delivered; then the file is compared with the simulator's ledger. The sources take turns. CPU is user and system time of
all threads, and memory the largest resident set, by the kernel's account of the process. The last column is what
the simulator, a process of its own, used meanwhile: it makes pages of searches anew for each request, so that it and not
the program limits how many events a second come that way.

AUDIT_EXPORTER_BINARY names a program to run in place of a release that is built first.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests"))
from program import Failed, Kernel, Run, Simulator, await_, build, compare, configuration, get  # noqa: E402

SIMULATOR = """
seed = 3
cache_bytes = 8000000000
prepare = true
[graph_audit]
run_seconds = 0
[[tenants]]
subscribed = true
[tenants.records.generated]
events = {events}
days = 5.0
oddities = 0.0
huge_records = 0.0
"""
# Everything as by default, but for the limits of requests and where it begins: the oldest event is nine days old.
SOURCES = {
    "management_activity": "",
    "graph_audit_query": 'start = "9d"\npoll_interval = "1s"\n',
    "graph_audit_query, read once": 'start = "9d"\npoll_interval = "1s"\nread_twice = false\n',
    "search_unified_audit_log": 'start = "9d"\nrequests_per_minute = 10000\n',
}
SINK = '[sinks.archive]\ntype = "file"\npath = "archive/{content_type}.ndjson"\n'
# After this, all that there is lies in a time that is searched.
SETTLED = 2 * 3600


class Bench:
    def __init__(self, events, work):
        self.work, self.events = work, events
        self.binary = os.environ.get("AUDIT_EXPORTER_BINARY") or build("--release")
        self.simulator = Simulator(self.binary, work, SIMULATOR.format(events=events))
        get(f"{self.simulator.url}/control/clock", {"advance_seconds": SETTLED})
        self.ledger = self.simulator.ledger()
        self.kernel = Kernel(self.simulator.process)

    def requests(self):
        return sum(count for outcomes in self.simulator.stats()["requests"].values() for count in outcomes.values())

    def turn(self, name):
        """One run: seconds, CPU seconds, MB, requests, the simulator's CPU seconds, MB of records."""
        kind, folder = name.split(",")[0], self.work / "run"
        folder.mkdir()
        source = f'[sources.one]\ntype = "{kind}"\n{SOURCES[name]}'
        (folder / "config.toml").write_text(configuration(self.simulator.url, source + SINK))
        before, asked = self.kernel.cpu_seconds(), self.requests()
        began = time.monotonic()
        run = Run(self.binary, folder / "config.toml", folder / "log")
        await_("all is delivered", lambda: run.ended() or self.is_delivered(run), 1800)
        if run.ended():
            raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
        seconds, kernel = time.monotonic() - began, Kernel(run.process)
        cpu, memory = kernel.cpu_seconds(), kernel.peak_mb()
        run.stop()
        told = (self.requests() - asked, self.kernel.cpu_seconds() - before)
        holds, said = compare(self.ledger, folder / "archive")
        if not holds:
            raise Failed(f"{name}: {said}, see {folder}")
        written = sum(path.stat().st_size for path in (folder / "archive").iterdir())
        shutil.rmtree(folder)
        return seconds, cpu, memory, *told, written / 1e6

    def is_delivered(self, run):
        time.sleep(0.1)
        metrics = run.metrics()
        return sum(value for name, value in metrics.items() if name.startswith("events_delivered_total")) >= self.events

    def tell(self, name, figures):
        seconds, cpu, memory, requests, simulator, written = figures
        micros = lambda used: used * 1e6 / self.events
        print(
            f"{name:<30}{seconds:8.1f}{self.events / seconds:10.0f}{written / seconds:8.1f}{micros(cpu):12.2f}{memory:9.1f}"
            f"{requests:10.0f}{micros(simulator):12.2f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-sources-"))
    bench = Bench(args.events, work)
    heads = ("wall s", 8), ("events/s", 10), ("MB/s", 8), ("µs CPU/ev", 12), ("RSS MB", 9), ("requests", 10), ("sim. µs/ev", 12)
    print(" " * 30 + "".join(f"{head:>{width}}" for head, width in heads))
    turns = {name: [] for name in SOURCES}
    try:
        for _ in range(args.runs):
            for name, found in turns.items():
                found.append(bench.turn(name))
                bench.tell(name, found[-1])
    finally:
        bench.simulator.stop()
    print(f"median of {args.runs}")
    for name, found in turns.items():
        bench.tell(name, [statistics.median(figure) for figure in zip(*found)])
    shutil.rmtree(work)


main()
