"""What all kill tests have in common: rounds of killed runs, and the judgement of what they leave behind."""
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import Failed, Run, Simulator, await_, build, compare, configuration, get  # noqa: E402

OUTSIDE = "from outside"
# After so many seconds everything that was there at the start lies in a time that is searched.
SETTLED = 2 * 3600
# What a source that searches finds: events that an Id tells from one another; and where it puts them.
SEARCHED_TENANT = """
[[tenants]]
[tenants.records.generated]
events = 1500
days = 3.0
oddities = 0.0
huge_records = 0.0
"""
SINKS_BY_DATE = """
[sinks.plain]
type = "file"
path = "plain/{date}.ndjson"
rotate_size = "64KiB"
batch_events = 40
[sinks.gzip]
type = "file"
path = "gzip/{date}.ndjson"
compression = "gzip"
batch_events = 100
"""
# A run that is killed from outside has begun this long before, in seconds.
SOONEST, LATEST = 0.05, 1.5
# So many rounds in a row may pass without a single kill before a point counts as out of reach.
BARREN_ROUNDS = 5


class Campaign:
    """Kills one source's runs. What a source has of its own is in a subclass (activity.py, graph.py, search.py)."""

    # The moment that a point stands for, and the most passes before the kill.
    POINTS = {}
    # A point that is passed only after a kill at another one.
    AFTER = {}
    SIMULATOR, CONFIG = "", ""
    # So that what is rare happens often.
    SMALL = {}

    def __init__(self, kills, seed, work):
        self.random = random.Random(seed)
        self.work = work
        # A copy: a build meanwhile does not change it. One that was built with the feature `failpoints` may be given.
        given = os.environ.get("FAILPOINTS_BINARY")
        self.binary = pathlib.Path(shutil.copy2(given or build("--features", "failpoints"), work))
        self.seed = seed
        self.simulator = None
        share, more = divmod(kills, len(self.POINTS))
        self.left = {point: share + (place < more) for place, point in enumerate(self.POINTS)}
        self.done = collections.Counter()
        self.failed = 0
        self.rounds = 0
        # How long runs last, as far as is known: what comes later hits none.
        self.latest = LATEST

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
        self.config = folder / "config.toml"
        self.config.write_text(configuration(self.simulator.url, self.CONFIG))
        kills = []
        while (point := self.pick()) or self.time_is_left():
            kill = self.kill(point)
            if kill:
                kills.append(kill)
                self.left[point] -= 1
            elif not self.pass_time_between():
                break
        last = self.run()
        await_("everything is delivered", lambda: last.ended() or self.is_done(last))
        if last.ended():
            raise Failed(f"run ended with {last.process.returncode}, see {last.log}")
        last.stop()
        wrong = self.judge(folder, last, len(kills))
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
        self.simulator = Simulator(self.binary, folder, self.SIMULATOR.format(seed=self.seed + self.rounds))

    def end(self):
        if self.simulator:
            self.simulator.stop()
        self.simulator = None

    def run(self, **variables):
        return Run(self.binary, self.config, self.config.parent / "log", **self.SMALL, **variables)

    def is_done(self, run):
        """Whether everything is delivered that the round has to show until now."""
        raise NotImplementedError

    def time_is_left(self):
        """Whether time has to pass between two runs before everything has shown up."""
        return False

    def pass_time_between(self):
        """Lets some of that time pass. Returns whether it did."""
        return False

    def killed(self, point):
        """Called after each kill, before the next run."""

    def pass_time(self, seconds):
        get(f"{self.simulator.url}/control/clock", {"advance_seconds": seconds})

    def pick(self):
        """One of the points with kills to come; those with most to come are most likely."""
        return next(iter(self.random.choices(list(self.left), self.left.values())), None) if any(self.left.values()) else None

    def kill(self, point):
        """One run that is to die, if a point is given. Nothing if it had delivered everything before it came to that."""
        if before := self.AFTER.get(point):
            if not self.kill(before):
                return None
        end, variables, moment = float("inf"), {}, None
        if point == OUTSIDE:
            moment = round(self.random.uniform(SOONEST, self.latest), 3)
            end = time.monotonic() + moment
        elif point:
            moment = self.random.randint(1, self.POINTS[point][1])
            variables = {"KILL_AT": f"{point}={moment}"}
        run = self.run(**variables)

        def over():
            if time.monotonic() >= end:
                run.process.kill()
                run.process.wait()
            return run.ended() or self.is_done(run)

        await_(f"{point} is reached, or everything is delivered", over)
        # It may come to its point even while it stops.
        code = run.terminate()
        if point == OUTSIDE:
            self.latest = max(moment, 2 * SOONEST) if code == 0 else min(self.latest * 1.5, LATEST)
        if code == 0:
            return None
        if code != -signal.SIGKILL:
            raise Failed(f"run ended with {code}, see {run.log}")
        self.killed(point)
        return point, moment

    def judge(self, folder, run, kills):
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
        for point, (moment, _) in self.POINTS.items():
            print(f"{self.done[point]:>5}  {point}")
            by_moment[moment] += self.done[point]
        print(f"\n{'kills':>5}  moment")
        for moment, count in by_moment.items():
            print(f"{count:>5}  {moment}")
