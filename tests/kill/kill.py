#!/usr/bin/env python3
"""Kills `audit-exporter run` with SIGKILL at chosen moments, restarts it, and compares its files with the ledger.

    kill.py [KILLS] [--seed NUMBER]

A round is a fresh folder and as many killed runs on it as it takes until everything is delivered; then each sink's
files are compared with the simulator's ledger, by tests/compare_ledger.py. What a kill leaves behind stays in the files, so the
comparison at the end of a round judges every kill of it. A kill counts only if the process died of it.

Most kills come from fail points: the process ends itself with SIGKILL when it passes a point for the nth time, so the
moment is exact. The others come from outside after a random time. Points and passes follow from the seed; what other
threads do at that moment does not.
"""
import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import Failed, Run, Simulator, await_, build, compare, configuration, get  # noqa: E402

OUTSIDE = "from outside"
# The moment that a point stands for, and the most passes before the kill.
POINTS = {
    "source::page": ("listing", 30),
    "source::register": ("listing", 30),
    "source::fetch": ("fetch", 25),
    "intake::cut": ("cut", 60),
    "intake::commit": ("cut", 60),
    "journal::commit": ("journal commit", 40),
    "journal::bodies": ("journal commit", 40),
    "journal::committed": ("journal commit", 40),
    "journal::recycle": ("recycled bodies", 4),
    "dedupe::spill": ("ids", 6),
    "dedupe::merge": ("ids", 2),
    "dedupe::switched": ("ids", 8),
    "sink::file::write": ("sink write", 80),
    "sink::file::sync": ("sync", 20),
    "sink::delivered": ("cursor commit", 20),
    "journal::cursor": ("cursor commit", 20),
    "sink::file::rotate": ("rotation", 20),
    OUTSIDE: (OUTSIDE, 0),
}
# So many rounds in a row may pass without a single kill before a point counts as out of reach.
BARREN_ROUNDS = 5

SIMULATOR = """
seed = {seed}
[[tenants]]
[tenants.records.generated]
events = 3000
events_per_blob = 10
days = 0.9
[faults]
tokens = {{ lifetime_seconds = 864000 }}
blobs = {{ reset = 0.005, cut_gzip = 0.005 }}
[faults.records]
duplicate_in_blob = 0.05
duplicate_in_other_blob = 0.05
variant = 0.02
two_operations = 0.02
redelivered_blob = 0.05
late_blob = 0.1
late_within_seconds = 21600
"""
# Late blobs show up while this passes, and hours are listed again; a step at a time, when all that shows is delivered.
HOURS, STEP = 30, 6
# So that what is rare happens often.
SMALL = {"IDS_IN_MEMORY": "150", "BODIES_FILE_BYTES": "65536"}

# Small batches and files: a blob is several batches, a delivery several writes, and files rotate all the time.
CONFIG = """
[limits]
batch_size = "8KiB"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
start = "72h"
[sinks.plain]
type = "file"
path = "plain/{content_type}.ndjson"
rotate_size = "64KiB"
batch_events = 40
[sinks.gzip]
type = "file"
path = "gzip/{date}/{content_type}.ndjson"
compression = "gzip"
rotate_size = "16KiB"
batch_events = 100
max_open_files = 4
"""


class Campaign:
    def __init__(self, kills, seed, work):
        self.random = random.Random(seed)
        self.work = work
        # A copy: a build meanwhile does not change it.
        self.binary = pathlib.Path(shutil.copy2(build("--features", "failpoints"), work))
        self.seed = seed
        self.simulator = None
        self.hours, self.waits_since = 0, 0
        share, more = divmod(kills, len(POINTS))
        self.left = {point: share + (place < more) for place, point in enumerate(POINTS)}
        self.done = collections.Counter()
        self.failed = 0
        self.rounds = 0

    def all(self):
        barren = 0
        while any(self.left.values()):
            kills = self.round()
            barren = 0 if kills else barren + 1
            if barren == BARREN_ROUNDS:
                out_of_reach = [point for point, left in self.left.items() if left]
                raise Failed(f"never reached: {', '.join(out_of_reach)}")

    def round(self):
        """Kills until everything is delivered; then compares. Returns the number of kills."""
        self.rounds += 1
        began = time.monotonic()
        folder = self.work / f"round-{self.rounds}"
        folder.mkdir()
        self.begin(folder)
        config = folder / "config.toml"
        config.write_text(configuration(self.simulator.url, CONFIG))
        kills = []
        while point := self.pick():
            kill = self.kill(config, point)
            if kill is None:
                break
            kills.append(kill)
            self.left[point] -= 1
        last = Run(self.binary, config, folder / "log", **SMALL)
        blobs = self.simulator.stats()["blobs"]
        await_("everything is delivered", lambda: last.ended() or self.is_drained(last, blobs))
        if last.ended():
            raise Failed(f"run ended with {last.process.returncode}, see {last.log}")
        last.stop()
        wrong = self.judge(folder, last)
        self.end()
        self.done.update(point for point, _ in kills)
        print(f"round {self.rounds}: {len(kills)} kills, {time.monotonic() - began:.1f} s", flush=True)
        for line in wrong:
            print(f"  {line}")
        if wrong:
            self.failed += max(len(kills), 1)
            print(f"  after the kills {kills}; the evidence is in {folder}")
        else:
            shutil.rmtree(folder)
        return len(kills)

    def begin(self, folder):
        """A tenant of its own, whose time passes with the round."""
        self.simulator = Simulator(self.binary, folder, SIMULATOR.format(seed=self.seed + self.rounds))
        self.hours, self.waits_since = 0, time.monotonic()

    def end(self):
        if self.simulator:
            self.simulator.stop()
        self.simulator = None

    def is_drained(self, run, blobs):
        """Whether everything is delivered. Lets time pass if that is all that it needs."""
        if self.hours == HOURS:
            return run.is_drained(blobs)
        if run.is_idle():
            self.pass_time(STEP * 3600)
            self.hours += STEP
        elif run.listed() or not run.metrics():
            self.waits_since = time.monotonic()
        elif time.monotonic() - self.waits_since > 3:
            # Killed as it asked for a subscription, it does not ask again for 15 minutes.
            self.pass_time(16 * 60)
        return False

    def pass_time(self, seconds):
        get(f"{self.simulator.url}/control/clock", {"advance_seconds": seconds})
        self.waits_since = time.monotonic()

    def pick(self):
        """One of the points with kills to come; those with most to come are most likely."""
        return next(iter(self.random.choices(list(self.left), self.left.values())), None) if any(self.left.values()) else None

    def kill(self, config, point):
        """One run that is to die. Nothing if it had delivered everything before it came to that."""
        if point == OUTSIDE:
            moment = round(self.random.uniform(0.05, 1.5), 3)
            run = Run(self.binary, config, config.parent / "log", **SMALL)
            end = time.monotonic() + moment
        else:
            moment = self.random.randint(1, POINTS[point][1])
            run = Run(self.binary, config, config.parent / "log", **SMALL, KILL_AT=f"{point}={moment}")
            end = float("inf")
        blobs = self.simulator.stats()["blobs"]

        def over():
            if time.monotonic() >= end:
                run.process.kill()
                run.process.wait()
            return run.ended() or self.is_drained(run, blobs)

        await_(f"{point} is reached, or everything is delivered", over)
        # It may come to its point even while it stops.
        code = run.terminate()
        if code == 0:
            return None
        if code != -signal.SIGKILL:
            raise Failed(f"run ended with {code}, see {run.log}")
        return point, moment

    def judge(self, folder, run):
        """What is wrong after a round."""
        ledger = self.simulator.ledger()
        wrong = []
        for sink in ("plain", "gzip"):
            holds, told = compare(ledger, folder / sink)
            if not holds:
                wrong.append(f"{sink}: {told}")
        for sink in run.status()["sinks"]:
            parts = sum(sink[part] for part in ("filtered", "delivered", "dead", "skipped", "pending"))
            if sink["journaled"] != parts or sink["dead"] or sink["skipped"]:
                wrong.append(f"the account does not balance: {sink}")
        with run.log.open() as log:
            wrong += [f"logged: {line.strip()}" for line in log if '"level":"ERROR"' in line]
        return wrong

    def report(self):
        by_moment = collections.Counter()
        print(f"\n{'kills':>5}  point")
        for point, (moment, _) in POINTS.items():
            print(f"{self.done[point]:>5}  {point}")
            by_moment[moment] += self.done[point]
        print(f"\n{'kills':>5}  moment")
        for moment, count in by_moment.items():
            print(f"{count:>5}  {moment}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=int(os.environ.get("KILLS", 100)))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-kill-"))
    began = time.monotonic()
    campaign = Campaign(args.kills, args.seed, work)
    try:
        campaign.all()
    finally:
        campaign.end()
    campaign.report()
    total = sum(campaign.done.values())
    print(f"\n{campaign.rounds} rounds in {time.monotonic() - began:.0f} s; the seed was {args.seed}")
    print(f"{total - campaign.failed} passed, {campaign.failed} failed")
    if campaign.failed:
        sys.exit(1)
    shutil.rmtree(work)


main()
