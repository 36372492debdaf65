#!/usr/bin/env python3
"""Runs one `audit-exporter run` for a thousand tenants, and measures what that takes and whether it is fair.

    tenants.py [MINUTES] [--tenants NUMBER]

Each tenant has a file of its own and five content types. One has a huge backlog, one is throttled by Microsoft all the time,
and one has a wrong secret. Half-way ten tenants' files are added and ten removed, and SIGHUP is sent; the log must name these
and no others. At the end each tenant's file is compared with the simulator's ledger: all of it, once.

What is measured: peak memory, CPU, requests and events, and how long content takes from the moment at which it can be
listed to the tenant's file, for the worst tenant and the median one. Times are told and not judged; memory is, by what
the configuration allows and a share for each tenant.

AUDIT_EXPORTER_BINARY and SIMULATOR_BINARY name programs to run in place of a release that is built first.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import APP, SECRET, Failed, Kernel, Run, Simulator, await_, build, get  # noqa: E402
from watch import Arrivals  # noqa: E402

POLL_SECONDS = 60
CHANGED = 10
HUGE, THROTTLED, WRONG = "t0000", "t0001", "t0002"
# Events that the huge one has had before, for each minute of the test.
BACKLOG_A_MINUTE = 10_000
# Listing five content types takes five requests.
THROTTLED_TO = 3
# What the default configuration allows with one sink of type `file` (tests/memory/memory.py), and for each tenant.
BOUND_MB, BOUND_KB_A_TENANT = 80, 280
# After the last event has appeared: a poll, and what is behind may be fetched.
PATIENCE = 900

TENANT = """
[[tenants]]
id = "{id}"
domain = "{name}.onmicrosoft.com"
[tenants.records.generated]
events = {events}
events_per_blob = {blob}
days = 0.2
oddities = 0.0
huge_records = 0.0
live_events_per_second = {rate}
live_for_seconds = {seconds}
"""
CONFIG = f"""
[journal]
path = "journal"
[admin]
listen = "127.0.0.1:0"
[tenant_files]
folder = "tenants.d"
[sources.activity]
type = "management_activity"
poll_interval = "{POLL_SECONDS}s"
[sinks.archive]
type = "file"
path = "archive/{{tenant}}.ndjson"
"""


def is_out_of_reach(line):
    """Where Microsoft lets a tenant list three times a minute, the oldest of the seven days is gone before its turn."""
    return line["message"].startswith("not listed") and line.get("span", {}).get("tenant") == THROTTLED


class Tenants:
    def __init__(self, minutes, count, work):
        self.work, self.count = work, count
        self.backlog = round(BACKLOG_A_MINUTE * minutes)
        self.names = [f"t{number:04}" for number in range(count + CHANGED)]
        self.ids = {name: f"7f3c9a52-1d0b-4c8e-9b61-{number:012}" for number, name in enumerate(self.names)}
        self.added, self.removed = self.names[count:], self.names[count - CHANGED : count]
        given = os.environ.get("AUDIT_EXPORTER_BINARY")
        self.binary = shutil.copy(given or build("--release"), work / "audit-exporter")
        seconds = round(minutes * 60)
        simulated = "seed = 5\ncache_bytes = 300000000\n" + "".join(
            self.simulated(number, name, seconds) for number, name in enumerate(self.names)
        )
        self.simulator = Simulator(os.environ.get("SIMULATOR_BINARY", self.binary), work, simulated)
        self.began = time.time()
        self.end = self.began + seconds
        (work / "tenants.d").mkdir()
        for name in self.names[:count]:
            self.write(name)
        (work / "config.toml").write_text(CONFIG)
        self.limit(THROTTLED_TO)
        self.wrong = []

    def simulated(self, number, name, seconds):
        # Not all the same, so that their content does not appear in the same moments.
        rate = round(0.1 + 0.3 * number / self.count, 4)
        # A blob appears when it is full: a slow tenant's small ones do not hold up the end.
        events, blob = 20, 5
        if name == HUGE:
            events, rate, blob = self.backlog, 20, 20
        if name == WRONG:
            events, rate = 0, 0
        return TENANT.format(id=self.ids[name], name=name, events=events, blob=blob, rate=rate, seconds=seconds)

    def write(self, name):
        secret = "wrong" if name == WRONG else SECRET
        url = self.simulator.url
        lines = [("id", self.ids[name]), ("client_id", APP), ("client_secret", secret), ("authority", url), ("management_api", url)]
        path = self.work / "tenants.d" / f"{name}.toml"
        path.write_text("".join(f'{key} = "{value}"\n' for key, value in lines))

    def limit(self, requests):
        get(f"{self.simulator.url}/control/limit", {"tenant": self.ids[THROTTLED], "requests_per_minute": requests})

    def requests(self):
        return sum(count for outcomes in self.simulator.stats()["requests"].values() for count in outcomes.values())

    def run(self):
        self.arrivals = Arrivals(self.work / "archive")
        self.process = Run(self.binary, self.work / "config.toml", self.work / "log")
        self.kernel = Kernel(self.process.process)
        try:
            self.start()
            self.steady()
            self.ledger = self.read_ledger()
            self.catch_up([name for name in self.ledger if name not in (THROTTLED, *self.removed)])
            self.peak = self.kernel.peak_mb()
            self.process.stop()
            # It waits as Microsoft let it wait; who starts anew tries at once.
            self.limit(None)
            self.process = Run(self.binary, self.work / "config.toml", self.work / "log")
            self.catch_up([THROTTLED])
            self.process.stop()
            self.arrivals.stop()
        finally:
            if not self.process.ended():
                self.process.process.kill()

    def alive(self):
        if self.process.ended():
            raise Failed(f"run ended with {self.process.process.returncode}, see {self.process.log}")

    def start(self):
        """Until every tenant whose secret is right and who is not throttled was listed once."""
        def listed():
            self.alive()
            time.sleep(1)
            metrics = self.process.metrics()
            return sum(1 for name in metrics if name.startswith("last_listing")) >= self.count - 2

        await_("every tenant is listed", listed)
        self.started = time.time()
        cpu, asked = self.kernel.cpu_seconds(), self.requests()
        self.tell(f"the start: {self.count} tenants listed after {self.started - self.began:.0f} s, with {asked} requests and {cpu:.1f} s of CPU")

    def steady(self):
        """Until the time is over; half-way the tenants change."""
        cpu, asked = self.kernel.cpu_seconds(), self.requests()
        self.live_until("half of the time", (self.started + self.end) / 2)
        self.change()
        self.live_until("the time is over", self.end)
        self.seconds = time.time() - self.started
        self.cpu = self.kernel.cpu_seconds() - cpu
        self.asked = self.requests() - asked

    def live_until(self, what, end):
        await_(what, lambda: self.alive() or time.time() >= end, max(0, end - time.time()) + PATIENCE)

    def change(self):
        for name in self.added:
            self.write(name)
        for name in self.removed:
            (self.work / "tenants.d" / f"{name}.toml").unlink()
        self.process.process.send_signal(signal.SIGHUP)
        said = await_("the configuration is read anew", lambda: self.alive() or self.logged("was read anew"))
        self.removed_at = time.time()
        lists = {word: names.split(", ") for word, names in re.findall(r"(started|stopped|changed): ([^\\\"]+)", said)}
        of = lambda names: [f"activity of {name}" for name in names]
        expected = {"started": of(self.added), "stopped": of(self.removed), "changed": ["sink archive"]}
        self.expect(lists == expected, f"the reload has touched others, or not these: {lists}")

    def logged(self, text):
        with self.process.log.open() as log:
            return "".join(line for line in log if text in line)

    def catch_up(self, names):
        """Until these tenants' files hold all that there is."""
        began = time.time()
        expected = {name: sum(self.ledger[name][0].values()) for name in names}
        complete = lambda: all(self.arrivals.count(name) >= count for name, count in expected.items())
        await_("all is delivered", lambda: self.alive() or complete(), PATIENCE)
        self.tell(f"all of {len(names)} tenants delivered {time.time() - began:.0f} s later")

    def read_ledger(self):
        """For each tenant its events, and when each could be listed."""
        names = {id: name for name, id in self.ids.items()}
        ledger = {}
        with self.simulator.ledger().open() as lines:
            for line in lines:
                entry = json.loads(line)
                digests, shown = ledger.setdefault(names[entry["tenant"]], (collections.Counter(), {}))
                if entry["repeats"] is None:
                    digest = bytes.fromhex(entry["sha256"])
                    digests[digest] += 1
                    shown[digest] = datetime.fromisoformat(entry["visible_at"].replace("Z", "+00:00")).timestamp()
        return ledger

    def judge(self):
        for name in sorted(set(self.ledger) | set(self.arrivals.lines)):
            expected = self.ledger.get(name, (collections.Counter(), {}))[0]
            found = collections.Counter(digest for digest, _ in self.arrivals.lines.get(name, ()))
            surplus, missing = found - expected, expected - found
            self.expect(not surplus, f"{name}: {surplus.total()} events twice or foreign")
            if name not in self.removed:
                self.expect(not missing, f"{name}: {missing.total()} events missing")
        for name in self.removed:
            late = sum(1 for _, at in self.arrivals.lines.get(name, ()) if at > self.removed_at + 2)
            self.expect(not late, f"{name}: {late} events came after it was removed")
        self.expect(not self.arrivals.count(WRONG), f"{WRONG} has a wrong secret, and events")
        with self.process.log.open() as log:
            errors = [line.strip() for line in log if '"level":"ERROR"' in line]
        self.wrong += [f"logged: {line}" for line in errors if not is_out_of_reach(json.loads(line))][:10]
        bound = BOUND_MB + self.count * BOUND_KB_A_TENANT / 1024
        self.expect(self.peak <= bound, f"peak {self.peak:.1f} MB, bound {bound:.0f} MB")

    def lags(self, name):
        """How long each event took that could first be listed after the start was over."""
        shown = self.ledger.get(name, ({}, {}))[1]
        arrived = ((shown.get(digest), at) for digest, at in self.arrivals.lines.get(name, ()))
        return [at - since for since, at in arrived if since and since > self.started]

    def report(self):
        events = sum(1 for lines in self.arrivals.lines.values() for _, at in lines if self.started < at <= self.started + self.seconds)
        minutes = self.seconds / 60
        huge = sorted(at for _, at in self.arrivals.lines[HUGE])
        self.tell(f"a backlog of {self.backlog:,} events of one of them was delivered {huge[self.backlog - 1] - self.began:.0f} s after the start")
        self.tell(f"then {minutes:.1f} minutes: {events / self.seconds:.0f} events/s, {self.asked / minutes:.0f} requests a minute")
        share = self.cpu / self.seconds
        self.tell(f"CPU {self.cpu:.1f} s, {share:.1%} of one; peak memory {self.peak:.1f} MB")
        lags = {name: found for name in self.names if (found := self.lags(name))}
        others = {name: found for name, found in lags.items() if name not in (HUGE, THROTTLED, *self.added, *self.removed)}
        medians = {name: statistics.median(found) for name, found in others.items()}
        worst = max(others, key=lambda name: max(others[name]))
        self.tell(f"lag of {len(others)} tenants, from the moment at which content can be listed to the file, seconds:")
        row = lambda what, found: self.tell(f"  {what:<28} median {statistics.median(found):6.1f}  worst {max(found):6.1f}")
        row("all", [lag for found in others.values() for lag in found])
        row("median tenant", others[sorted(medians, key=medians.get)[len(medians) // 2]])
        row("tenant with the worst median", others[max(medians, key=medians.get)])
        row(f"tenant with the worst event", others[worst])
        for what, name in (("the huge one", HUGE), ("the throttled one", THROTTLED)):
            if name in lags:
                row(what, lags[name])
        if any(name in lags for name in self.added):
            row("the ten that were added", [lag for name in self.added for lag in lags.get(name, ())])

    def tell(self, text):
        print(text, flush=True)

    def expect(self, holds, otherwise):
        if not holds:
            self.wrong.append(otherwise)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--tenants", type=int, default=1000)
    args = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-tenants-"))
    tenants = Tenants(args.minutes, args.tenants, work)
    try:
        tenants.run()
        tenants.judge()
        tenants.report()
    except Failed as failed:
        sys.exit(f"{failed}\nthe evidence is in {work}")
    finally:
        tenants.simulator.stop()
    for line in tenants.wrong[:20]:
        print(f"wrong: {line}")
    if tenants.wrong:
        sys.exit(f"the evidence is in {work}")
    print(f"each of {args.tenants - 1 - CHANGED} tenants has every event once, and {CHANGED} more that were added")
    shutil.rmtree(work)


main()
