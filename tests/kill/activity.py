"""Kills of `management_activity`, and of all that lies behind any source."""
import time

from campaign import OUTSIDE, Campaign

# Late blobs show up while this passes, and hours are listed again; a step at a time, when all that shows is delivered.
HOURS, STEP = 30, 6


class Activity(Campaign):
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

    def begin(self, folder):
        super().begin(folder)
        self.blobs = self.simulator.stats()["blobs"]
        self.hours, self.waits_since = 0, time.monotonic()

    def is_done(self, run):
        """Lets time pass, while it runs, if that is all that it needs."""
        if self.hours == HOURS:
            return run.is_drained(self.blobs)
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
        super().pass_time(seconds)
        self.waits_since = time.monotonic()
