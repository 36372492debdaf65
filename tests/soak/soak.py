#!/usr/bin/env python3
"""Runs `audit-exporter run` in real time while two simulated tenants show events and everything goes wrong.

    soak.py [MINUTES] [--seed NUMBER]

For so many minutes (30), but for the last quarter, events appear, 200 a second, under the faults of
`simulate --faults`. One blob in twenty shows up late: by up to what the last pass, which comes after minutes rather
than days (`relist_after`), can still find. The program is restarted now and then, by SIGTERM and by SIGKILL in turn. When
all is delivered the faults end and the simulated clock is set ahead, until every hour is settled; then files, accounts and
coverage are compared with the simulator's ledger. Any deviation is told, and the exit code is 1.
"""
import argparse
import collections
import fnmatch
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from compare_ledger import lines_of  # noqa: E402
from program import Failed, Run, Simulator, await_, build, compare, configuration, environment, get  # noqa: E402

TENANTS = {"contoso": "7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17", "fabrikam": "22222222-2222-4222-8222-222222222222"}
EVENTS_A_SECOND = 200
# The parts of the last pass's lag after which the others come.
PASSES = (1 / 24, 1 / 8, 3 / 8, 1)
# The overlap of the polls is at least a minute: what it cannot find is the passes' alone.
SHORTEST_LAST_PASS = 96
# A wait after a fault may be so long, in seconds.
LONGEST_WAIT = 300
PATIENCE = 4 * LONGEST_WAIT
# An hour settles when content of the next two days, which may hold its events, is listed for the last time.
SETTLES = 3 * 86400
OPERATIONS = ("*log*", "*flow*", "file*", "send")

SIMULATOR = """
seed = {seed}
[faults.records]
late_within_seconds = {late}
"""
SIMULATED_TENANT = """
[[tenants]]
id = "{id}"
domain = "{name}.onmicrosoft.com"
[tenants.records.generated]
events = 0
live_events_per_second = {rate}
live_for_seconds = {seconds}
"""
CONFIG = """
[sources.activity]
type = "management_activity"
poll_interval = "{poll}s"
overlap = "1m"
relist_after = {passes}
[filters.some]
type = "operation"
include = {operations}
[sinks.all]
type = "file"
path = "all/{{tenant}}/{{content_type}}.ndjson"
rotate_size = "4MiB"
[sinks.some]
type = "file"
path = "some/{{date}}/{{workload}}.ndjson"
compression = "gzip"
rotate_size = "256KiB"
filters = ["some"]
"""


class Soak:
    def __init__(self, minutes, seed, work):
        self.random, self.work = random.Random(seed), work
        last = max(SHORTEST_LAST_PASS, round(minutes * 16))
        # The rest is for what shows up late.
        self.seconds = max(30, round(minutes * 60) - last)
        self.passes = [max(1, round(last * part)) for part in PASSES]
        # One of its own: a build in the meantime does not change what is tested.
        self.binary = shutil.copy(build(), work / "audit-exporter")
        rate = EVENTS_A_SECOND / len(TENANTS)
        simulated = SIMULATOR.format(seed=seed, late=self.passes[-1] - 2) + "".join(
            SIMULATED_TENANT.format(id=id, name=name, rate=rate, seconds=self.seconds) for name, id in TENANTS.items()
        )
        self.simulator = Simulator(self.binary, work, simulated, "--faults")
        self.config = work / "config.toml"
        text = CONFIG.format(
            poll=max(1, self.passes[0] // 2),
            passes=json.dumps([f"{lag}s" for lag in self.passes]),
            operations=json.dumps(OPERATIONS),
        )
        self.config.write_text(configuration(self.simulator.url, text, TENANTS))
        self.restarts = collections.Counter()
        self.downtime = 0
        # Blobs that were late by most of the last pass's lag; and those that were told as stragglers.
        self.very_late, self.stragglers = 0, 0
        self.wrong = []

    def start(self):
        return Run(self.binary, self.config, self.work / "log")

    def soak(self):
        """Lets the time pass, with restarts; then awaits that everything is delivered, and settled."""
        end = time.monotonic() + self.seconds + self.passes[-1]
        run = self.start()
        while (left := end - time.monotonic()) > 0:
            mean = max(10, self.seconds / 16)
            over = time.monotonic() + min(left, self.random.uniform(0.5, 1.5) * mean)
            await_("it is time", lambda: run.ended() or time.monotonic() >= over, 3 * mean)
            if run.ended():
                raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
            if time.monotonic() < end:
                run = self.restart(run)
        blobs = self.simulator.stats()["blobs"]
        await_("everything is delivered", lambda: run.ended() or run.is_drained(blobs), PATIENCE)
        # Three days in hundreds of windows: what is still to be shown is not how long a third of all answers failing takes.
        get(f"{self.simulator.url}/control/faults", {})
        get(f"{self.simulator.url}/control/clock", {"advance_seconds": SETTLES})
        await_("every hour is settled", lambda: run.ended() or not self.unsettled(), PATIENCE)
        if run.ended():
            raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
        run.stop()
        return run

    def restart(self, run):
        kind = ("SIGTERM", "SIGKILL")[self.restarts.total() % 2]
        began = time.monotonic()
        if kind == "SIGTERM":
            run.stop()
        else:
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()
        self.restarts[kind] += 1
        away = began + self.random.uniform(0, 3)
        await_("it was away", lambda: time.monotonic() >= away)
        again = self.start()
        await_("it answers", lambda: again.ended() or again.metrics())
        self.downtime += time.monotonic() - began
        return again

    def coverage(self):
        """What `coverage` says by the hour, and its exit code."""
        command = [self.binary, "coverage", "--hours", "--from", "1970-01-01", "--json", "--config", self.config]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment())
        return json.loads(answer.stdout), answer.returncode

    def unsettled(self):
        """The hours with content that may still get more."""
        rows = (row for tenant in self.coverage()[0]["tenants"] for row in tenant["rows"])
        listed = (row for row in rows if any(part["listed"] for part in row["content"]))
        return [row["span"] for row in listed if row["state"] not in ("settled", "partial")]

    def judge(self, run):
        """Compares with the ledger, and returns the lines of the report."""
        path = self.simulator.ledger()
        with path.open() as ledger:
            entries = [json.loads(line) for line in ledger]
        for name, id in TENANTS.items():
            holds, told = compare(path, self.work / "all" / name, "--tenant", id)
            self.expect(holds, f"{name}: {told}")
        passing = self.passing()
        written = collections.Counter(line for _, line in lines(self.work / "some"))
        self.expect(passing == written, f"filtered: {(passing - written).total()} missing, {(written - passing).total()} too many")
        said, code = self.coverage()
        self.expect(code == 0 and said["balanced"], f"coverage ends with {code} and is {said['state']}")
        for tenant in said["tenants"]:
            self.judge_tenant(tenant, [entry for entry in entries if entry["tenant"] == tenant["tenant"]])
        # Not all of many content types can have stood still so long.
        self.expect(self.stragglers or self.very_late < 4, f"no stragglers, of {self.very_late} very late blobs")
        some = total(said, lambda row: row["sinks"].get("some", {}).get("delivered", 0))
        self.expect(some == written.total(), f"coverage says {some} passed the filter, not {written.total()}")
        for sink in run.status()["sinks"]:
            parts = sum(sink[part] for part in ("filtered", "delivered", "dead", "skipped", "pending"))
            balances = sink["journaled"] == parts and not sink["dead"] + sink["skipped"] + sink["pending"]
            self.expect(balances, f"the account does not balance: {sink}")
        with run.log.open() as log:
            self.wrong += [f"logged: {line.strip()}" for line in log if '"level":"ERROR"' in line][:10]
        stats = self.simulator.stats()
        self.expect(not stats["foreign_tokens"], f"{stats['foreign_tokens']} tokens went to another host")
        return self.report(entries, said, written, stats)

    def judge_tenant(self, tenant, entries):
        name, rows = tenant["name"], {"tenants": [tenant]}
        blobs = {(entry["content_type"], entry["blob"]) for entry in entries}
        for content_type in {content_type for content_type, _ in blobs}:
            there = sum(1 for known, _ in blobs if known == content_type)
            for figure, expected in (("listed", there), ("fetched", there), ("lost", 0), ("pending", 0)):
                parts = lambda row: (part for part in row["content"] if part["content_type"] == content_type)
                said = total(rows, lambda row: sum(part[figure] for part in parts(row)))
                self.expect(said == expected, f"{name}: {content_type}: {said} {figure}, not {expected}")
        firsts = sum(1 for entry in entries if entry["repeats"] is None)
        fates = lambda row: {sink: row["sinks"].get(sink, {}) for sink in ("all", "some")}
        figures = {
            "journaled": (total(rows, lambda row: row["journaled"]), firsts),
            "repeated": (total(rows, lambda row: row["repeats"]), len(entries) - firsts),
            "delivered": (total(rows, lambda row: fates(row)["all"].get("delivered", 0)), firsts),
            "filtered or delivered": (
                total(rows, lambda row: sum(fates(row)["some"].get(fate, 0) for fate in ("filtered", "delivered"))), firsts
            ),
        }
        for figure, (said, expected) in figures.items():
            self.expect(said == expected, f"{name}: coverage says {said} {figure}, not {expected}")
        found = sum(one["units"] for one in tenant["stragglers"])
        late = {entry["blob"]: lateness(entry) for entry in entries if lateness(entry) > 0}
        # Some are so little late that nothing was listed in between: not before they showed up, not since they were made.
        surely = sum(1 for by in late.values() if by > max(self.passes[-1] * 3 / 4, LONGEST_WAIT))
        self.very_late += sum(1 for by in late.values() if by > self.passes[-1] * 3 / 4)
        self.stragglers += found
        self.expect(surely <= found <= len(late), f"{name}: {found} stragglers, of {len(late)} late blobs, {surely} very late")

    def passing(self):
        """What the filter must have let pass of what the other sink has."""
        passing = collections.Counter()
        for _, line in lines(self.work / "all"):
            operation = json.loads(line).get("Operation")
            if isinstance(operation, str) and any(fnmatch.fnmatchcase(operation.lower(), name) for name in OPERATIONS):
                passing[line] += 1
        return passing

    def expect(self, holds, otherwise):
        if not holds:
            self.wrong.append(otherwise)

    def report(self, entries, said, written, stats):
        blobs = {entry["blob"]: lateness(entry) for entry in entries}
        firsts = sum(1 for entry in entries if entry["repeats"] is None)
        rows = [
            ("minutes with new events", round(self.seconds / 60, 1)),
            ("records served", len(entries)),
            ("of them repeats", len(entries) - firsts),
            ("of them variants", total(said, lambda row: row["variants"])),
            ("events", firsts),
            ("that passed the filter", written.total()),
            ("blobs", len(blobs)),
            ("of repeats alone", len(blobs) - len({entry["blob"] for entry in entries if entry["repeats"] is None})),
            ("that showed up late", sum(1 for by in blobs.values() if by > 0)),
            ("restarts", f"{self.restarts['SIGTERM']} SIGTERM, {self.restarts['SIGKILL']} SIGKILL, {self.downtime:.0f} s away"),
            ("tokens", stats["tokens_issued"]),
        ]
        stragglers = collections.Counter()
        for tenant in said["tenants"]:
            for one in tenant["stragglers"]:
                stragglers[one["pass"]] += one["units"]
        passes = ["poll", *(f"+{lag}s" for lag in self.passes)]
        names = passes + sorted(stragglers.keys() - set(passes))
        rows += [(f"stragglers {name}", stragglers[name]) for name in names]
        for operation, outcomes in stats["requests"].items():
            rows.append((f"requests: {operation}", sum(outcomes.values())))
            faults = (f"{outcome} {count}" for outcome, count in outcomes.items() if not outcome.startswith("2"))
            rows.append(("  of them", ", ".join(faults) or "none with a fault"))
        return [f"{name:<26} {value}" for name, value in rows]


def lines(folder):
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for line in lines_of(path):
            yield path, line


def total(said, figure):
    return sum(figure(row) for tenant in said["tenants"] for row in tenant["rows"])


def lateness(entry):
    """By how many seconds a blob showed up late. Its id says when it was made."""
    made = datetime.strptime(entry["blob"].split("$")[1][:17] + "000", "%Y%m%d%H%M%S%f").replace(tzinfo=timezone.utc)
    return (datetime.fromisoformat(entry["visible_at"].replace("Z", "+00:00")) - made).total_seconds()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-soak-"))
    began = time.monotonic()
    soak = Soak(args.minutes, args.seed, work)
    print(f"passes after {', '.join(f'{lag} s' for lag in soak.passes)}", flush=True)
    try:
        report = soak.judge(soak.soak())
    except Failed as failed:
        sys.exit(f"{failed}\nthe evidence is in {work}")
    finally:
        soak.simulator.stop()
    print("\n".join(report))
    print(f"\n{time.monotonic() - began:.0f} s; the seed was {args.seed}")
    for line in soak.wrong:
        print(f"wrong: {line}")
    if soak.wrong:
        sys.exit(f"the evidence is in {work}")
    print("0 lost, 0 repeated, all accounts equal the ledger")
    shutil.rmtree(work)


main()
