"""Kills of `graph_audit_query`: in every phase of a query, none of which may be created, and so paid for, twice."""
import collections
import datetime
import json
import re
import time
import urllib.parse
import urllib.request

from campaign import OUTSIDE, SEARCHED_TENANT, SETTLED, SINKS_BY_DATE, Campaign
from program import APP, SECRET, TENANT

# What a query is called: the time that it searches, for which pass, and a random number.
NAME = re.compile(r"audit-exporter (\S+)/(\S+) (.+) [0-9a-f]{8}")
DAY = datetime.timedelta(days=1)
# Longer than a query whose creation was not answered is looked for.
GIVEN_UP = 150


class Graph(Campaign):
    POINTS = {
        "source::name": ("before a query is created", 5),
        "source::create": ("before a query is created", 4),
        "source::created": ("created, its id not on record", 4),
        "source::found": ("found again by its name, not on record", 1),
        "source::recorded": ("created and on record", 4),
        "source::look": ("while it runs", 12),
        "source::succeeded": ("succeeded, not registered", 4),
        "source::register": ("before listings are committed", 20),
        "source::fetch": ("between pages", 20),
        "intake::commit": ("before the commit of a batch", 30),
        "journal::commit": ("before the commit of a batch", 60),
        "journal::committed": ("after the commit", 60),
        OUTSIDE: (OUTSIDE, 0),
    }
    # Queries are created without a pause.
    SMALL = {"QUERY_PACE_MILLIS": "200"}
    AFTER = {"source::found": "source::created"}
    SIMULATOR = """
seed = {seed}
[graph_audit]
run_seconds = 1
[faults.tokens]
lifetime_seconds = 864000
""" + SEARCHED_TENANT
    CONFIG = """
[limits]
batch_size = "32KiB"
[sources.queries]
type = "graph_audit_query"
poll_interval = "100ms"
start = "7d"
settle = "0s"
""" + SINKS_BY_DATE

    # In all rounds.
    created = 0

    def begin(self, folder):
        super().begin(folder)
        self.began = datetime.datetime.now(datetime.timezone.utc)
        self.waits_since = time.monotonic()
        self.headers = {"Authorization": f"Bearer {self.token()}"}
        self.pass_time(SETTLED)

    def token(self):
        form = {
            "grant_type": "client_credentials", "client_id": APP, "client_secret": SECRET,
            "scope": "https://graph.microsoft.com/.default",
        }
        url = f"{self.simulator.url}/{TENANT}/oauth2/v2.0/token"
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=60) as answer:
            return json.load(answer)["access_token"]

    def queries(self):
        """All queries that the service knows, as it tells them itself."""
        url = f"{self.simulator.url}/v1.0/security/auditLog/queries"
        with urllib.request.urlopen(urllib.request.Request(url, headers=self.headers), timeout=60) as answer:
            return json.load(answer)["value"]

    def is_done(self, run):
        metrics = run.metrics()
        if not run.listed(metrics) or run.waits(metrics):
            self.waits_since = time.monotonic()
            return False
        if time.monotonic() - self.waits_since > 12:
            # A creation that nobody answered, because it was never asked for, is given up in the end.
            self.pass_time(GIVEN_UP)
            self.waits_since = time.monotonic()
        queries = self.queries()
        if any(query["status"] != "succeeded" for query in queries) or not self.is_covered(queries):
            return False
        status = run.status()
        slices = {NAME.fullmatch(query["displayName"]).groups() for query in queries}
        if status is None or sum(unit["listed"] for unit in status["tenants"]) != len(slices):
            return False
        return not any(part["pending"] for part in status["tenants"] + status["sinks"])

    def is_covered(self, queries):
        """Whether the queries leave out no time between the first and the last that is due."""
        moment = datetime.datetime.fromisoformat
        spans = (NAME.fullmatch(query["displayName"]).groups()[:2] for query in queries)
        spans = sorted(tuple(moment(at.replace("Z", "+00:00")) for at in span) for span in spans)
        if not spans or spans[0][0] > self.began - 6.9 * DAY:
            return False
        end = spans[0][1]
        for begin, to in spans:
            if begin > end:
                return False
            end = max(end, to)
        return end >= self.began

    def killed(self, point):
        # Sometimes it comes back only when such a query would be given up.
        if self.random.random() < 0.5:
            self.pass_time(GIVEN_UP)
        self.waits_since = time.monotonic()

    def judge(self, folder, run, kills):
        wrong = super().judge(folder, run, kills)
        created = collections.Counter(NAME.fullmatch(query["displayName"]).groups() for query in self.queries())
        wrong += [f"{count} queries were created for {' '.join(slice)}" for slice, count in created.items() if count != 1]
        counted = self.simulator.stats()["audit_queries"]
        if counted != created.total():
            wrong.append(f"the service has {counted} queries, of which it tells {created.total()}")
        self.created += created.total()
        return wrong

    def report(self):
        super().report()
        print(f"\n{self.created} queries were created, one for each slice of time")
