"""Kills of `search_unified_audit_log`: in every phase of a session. A restart reads anew what it had not finished alone."""
from campaign import OUTSIDE, SEARCHED_TENANT, SETTLED, SINKS_BY_DATE, Campaign

# Slices are searched a second time after six hours.
HOURS, STEP = 12, 6
# Fetches at a time; and pages of the largest unit, sessions that were cut at the ceiling included.
AT_ONCE, UNIT_PAGES = 2, 24


class Search(Campaign):
    POINTS = {
        "source::register": ("listing", 1),
        "source::session": ("a session begins", 20),
        "source::page": ("between pages", 40),
        "source::split": ("at a split", 2),
        "source::fetch": ("within a page", 400),
        "source::close": ("before a unit is closed", 10),
        "intake::commit": ("before the commit of a batch", 30),
        "journal::commit": ("before the commit of a batch", 60),
        "journal::committed": ("after the commit", 60),
        OUTSIDE: (OUTSIDE, 0),
    }
    # A session shows so few rows that times have to be split.
    SMALL = {"LARGE_SET_ROWS": "60"}
    SIMULATOR = """
seed = {seed}
[search]
large_set_rows = 60
duplicates = 0.03
[faults.tokens]
lifetime_seconds = 864000
""" + SEARCHED_TENANT
    CONFIG = """
[limits]
batch_size = "32KiB"
parallel_fetches_per_tenant = 2
[sources.search]
type = "search_unified_audit_log"
poll_interval = "1s"
slice = "1h"
settle = "0s"
start = "7d"
search_again_after = ["6h"]
page_size = 25
requests_per_minute = 10000
""" + SINKS_BY_DATE
    # Pages that were asked for in a round without a kill.
    calm = None

    def all(self):
        left, self.left = self.left, {}
        self.round()
        self.left = left
        super().all()

    def begin(self, folder):
        # The same tenant each time, so that pages can be compared.
        rounds, self.rounds = self.rounds, 1
        super().begin(folder)
        self.rounds = rounds
        self.hours = 0
        self.pass_time(SETTLED)

    def is_done(self, run):
        return run.is_idle()

    def time_is_left(self):
        return self.hours < HOURS

    def pass_time_between(self):
        if not self.time_is_left():
            return False
        self.pass_time(STEP * 3600)
        self.hours += STEP
        return True

    def judge(self, folder, run, kills):
        wrong = super().judge(folder, run, kills)
        pages = sum(self.simulator.stats()["requests"]["invoke_command"].values())
        if self.calm is None:
            self.calm = pages
        # The hours of another round cut the same events otherwise.
        most = self.calm * 5 // 4 + kills * AT_ONCE * UNIT_PAGES
        if pages > most:
            wrong.append(f"{pages} pages were asked for, {self.calm} without a kill: more than {kills} kills may cost ({most})")
        return wrong

    def report(self):
        super().report()
        print(f"\na round without a kill asks for {self.calm} pages")
