#!/usr/bin/env python3
"""Measures the peak memory of `audit-exporter run` at its worst, in its default configuration of memory.

    memory.py [--backlog MB] [--blob MB]

A tenant has a backlog, in it one enormous blob. One sink is down and the journal is small, so that collecting has to
wait; then the sink is mended and everything must arrive at both sinks, as tests/compare_ledger.py judges. The peak is the
process' VmHWM, over its whole life; the binary is the release build.
"""
import argparse
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import Failed, Run, Simulator, await_, build, compare, configuration  # noqa: E402

# What the default configuration allows two sinks of type `file`, in MB of 1024 * 1024 bytes: see docs/performance.md.
BOUNDS_MB = {
    "bodies being cut (limits.intake_memory)": 32,
    "fresh batches (limits.handover_memory)": 8,
    "a delivery of each of two sinks (batch_size)": 8,
    "ids, SQLite's pages": 12,
    "the program's file and its start": 24,
}
BOUND_MB = sum(BOUNDS_MB.values())
RECORD_BYTES = 1_300

SIMULATOR = """
seed = 11
cache_bytes = 1000000000
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 1000
oddities = 0.0
giant_blob_bytes = {giant}
"""

CONFIG = """
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.up]
type = "file"
path = "up/{content_type}.ndjson"
[sinks.down]
type = "file"
path = "down/{content_type}.ndjson"
"""


def memory(run, key):
    """A figure of /proc/PID/status, in MB of 1024 * 1024 bytes."""
    lines = pathlib.Path(f"/proc/{run.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def sum_of(metrics, name, label=""):
    return sum(value for series, value in metrics.items() if series.startswith(name) and label in series)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=2_000, help="MB of records beside the enormous blob")
    parser.add_argument("--blob", type=int, default=200, help="MB of the enormous blob")
    args = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-memory-"))
    binary = build("--release")
    events = args.backlog * 1_000_000 // RECORD_BYTES
    simulator = Simulator(binary, work, SIMULATOR.format(events=events, giant=args.blob * 1_000_000))
    # Compressed, a record takes about an eighth: the journal fills long before the backlog is through.
    journal = f"{max(16, (args.backlog + args.blob) // 40)}MiB"
    config = work / "config.toml"
    config.write_text(configuration(simulator.url, CONFIG, max_size=journal))
    (work / "down").write_text("a file where the sink's folder should be")
    began = time.monotonic()
    run = Run(binary, config, work / "log")
    try:
        await_("it answers", lambda: run.ended() or run.metrics())
        print(f"{memory(run, 'VmHWM'):6.1f} MB  at the start", flush=True)
        await_("the journal is full and the tenant waits", lambda: run.ended() or sum_of(run.metrics(), "tenant_paused"), 900)
        metrics = run.metrics()
        print(
            f"{memory(run, 'VmHWM'):6.1f} MB  peak until one sink's outage has filled the journal ({journal}) and collecting waits,"
            f" {time.monotonic() - began:.0f} s; the other sink has {sum_of(metrics, 'events_delivered_total'):.0f} events",
            flush=True,
        )
        (work / "down").unlink()
        blobs = simulator.stats()["blobs"]
        await_("everything is delivered", lambda: run.ended() or run.is_drained(blobs), 3600)
        if run.ended():
            raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
        peak = memory(run, "VmHWM")
        received = sum_of(run.metrics(), "received_bytes_total") / 1e6
        print(
            f"{peak:6.1f} MB  peak until all is delivered, {time.monotonic() - began:.0f} s: {received:.0f} MB of records,"
            f" one blob of {args.blob} MB"
        )
        run.stop()
        ledger = simulator.ledger()
    finally:
        if not run.ended():
            run.process.kill()
        simulator.stop()
    for sink in ("up", "down"):
        holds, told = compare(ledger, work / sink)
        print(f"sink {sink}: {told}")
        if not holds:
            raise Failed(f"sink {sink} is not complete, see {work}")
    shutil.rmtree(work)
    print(f"peak {peak:.1f} MB, bound {BOUND_MB} MB")
    if peak > BOUND_MB:
        raise Failed("memory is not within its bound")


main()
