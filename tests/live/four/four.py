#!/usr/bin/env python3
"""A simulated tenant's events into four real destinations at once, two of which are killed again and again.

    four.py [EVENTS] [--release]

Kafka in transactions, the OpenTelemetry Collector's receiver for Splunk, a digest by a mail server, and files. The
events show in five parts. At moments that follow from what has been delivered, the broker and the receiver are killed
with SIGKILL, both or one of them, and started again only when every other sink has everything. At the end:

- Kafka, read as committed, and the files have each event exactly once, as the simulator's ledger says;
- the receiver lacks none (a kill may repeat what was on its way);
- the mails have each new flow exactly once;
- every account balances, and nothing was skipped or refused.

It prints how fast the file sink was, with the others up and down.
"""
import collections
import csv
import datetime
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

LIVE = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(LIVE.parent), str(LIVE / "hec"), str(LIVE / "mail")]
import collector as hec  # noqa: E402
from broker import Broker  # noqa: E402
from compare_ledger import lines_of  # noqa: E402
from records import compare as compare_kafka, expected, read  # noqa: E402
from server import PASSWORD, MailServer  # noqa: E402

from program import TENANT, Failed, Run, Simulator, arguments, await_, compare, configuration, get, own_build  # noqa: E402

PARTS = 5
SIMULATOR = """
[[tenants]]
records = { explicit = [] }
"""
# What shows must be in the time that each poll lists again.
SHOWN = {"events_per_blob": 100, "days": 0.01, "huge_records": 0.0}
CONFIG = """
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[filters.new-flows]
type = "operation"
include = ["CreateFlow"]
[sinks.file]
type = "file"
path = "files/{{content_type}}.ndjson"
[sinks.kafka]
type = "kafka"
brokers = ["{broker}"]
topic = "kafka.{{tenant}}.{{content_type}}"
transactional = true
batch_events = 1000
[sinks.splunk]
type = "splunk_hec"
urls = ["http://{collector}"]
batch_events = 1000
{hec_options}
[sinks.digest]
type = "email_digest"
filters = ["new-flows"]
report = "flows"
from = "audit@example.com"
to = ["admins@contoso.example"]
schedule = "* * * * *"
period = "minute"
settle = "0s"
max_rows = 0
attachment_size = "64MiB"
send_empty = false
[sinks.digest.smtp]
host = "localhost"
port = {smtp}
ca_file = "{certificate}"
user = "audit@example.com"
password = "{password}"
"""


def figure(metrics, name, sink):
    return sum(value for series, value in metrics.items() if series.startswith(f'{name}{{sink="{sink}"'))


class Four:
    """The tenant, the exporter and its four destinations."""

    def __init__(self, work, binary, events):
        self.work, self.binary, self.part = work, binary, events // PARTS
        self.kills, self.phases, self.stops = 0, [], []

    def begin(self):
        work = self.work
        for folder in ("broker", "mail"):
            (work / folder).mkdir()
        self.broker = Broker(work / "broker")
        self.collector = self.will_stop(hec.Collector(hec.receiver(), work), "kill")
        self.mail = self.will_stop(MailServer(work / "mail"))
        self.broker.start()
        self.will_stop(self.broker, "kill")
        self.simulator = self.will_stop(Simulator(self.binary, work, SIMULATOR))
        config = work / "config.toml"
        sinks = CONFIG.format(
            broker=self.broker.plain, collector=self.collector.address, hec_options=hec.OPTIONS, smtp=self.mail.smtp,
            certificate=self.mail.certificate, password=PASSWORD)
        # Room for all that the two which are down do not take.
        config.write_text(configuration(self.simulator.url, sinks, max_size="2GiB"))
        self.run = Run(self.binary, config, work / "log")
        self.stops.append(self.run.process.kill)
        self.await_("the exporter has listed", self.run.listed)

    def will_stop(self, process, how="stop"):
        self.stops.append(getattr(process, how))
        return process

    def end(self):
        for stop in reversed(self.stops):
            stop()

    def await_(self, what, condition):
        await_(what, lambda: self.run.ended() or condition())
        if self.run.ended():
            raise Failed(f"run ended with {self.run.process.returncode}, see {self.run.log}")

    def delivered(self, sink):
        return figure(self.run.metrics(), "events_delivered_total", sink)

    def show(self):
        """The next part of the events shows."""
        generated = {"events": self.part, **SHOWN}
        get(f"{self.simulator.url}/control/events", {"tenant": TENANT, "generated": generated})

    def all_have_all(self, phase, but=()):
        """Waits until all is collected and every sink has it, but for those which are down, and notes the file sink's pace."""
        blobs, seen, lags = self.simulator.stats()["blobs"], [], []

        def done():
            metrics = self.run.metrics()
            count = figure(metrics, "events_delivered_total", "file")
            if metrics and (not seen or seen[-1][1] != count):
                seen.append((time.monotonic(), count))
            lags.append(figure(metrics, "sink_lag_seconds", "file"))
            return self.run.is_drained(blobs, but)

        self.await_(f"{phase}: the others have everything", done)
        metrics = self.run.metrics()
        behind = {sink: figure(metrics, "sink_pending_events", sink) for sink in but}
        if not all(behind.values()):
            raise Failed(f"{phase}: nothing was held back: {behind}")
        # From the first delivery on: before that, the next poll was waited for.
        if len(seen) > 2:
            (began, before), (ended, after) = seen[1], seen[-1]
            self.phases.append((phase, after - before, ended - began, max(lags)))
        held = ", ".join(f"{sink} is {count:.0f} events behind" for sink, count in behind.items())
        print(f"{phase}: the file sink has everything{'; ' + held if held else ''}", flush=True)
        return behind

    def kill(self, *sinks):
        for sink in sinks:
            self.destination(sink).kill()
            self.kills += 1

    def start(self, *sinks):
        for sink in sinks:
            self.destination(sink).start()

    def destination(self, sink):
        return {"kafka": self.broker, "splunk": self.collector}[sink]

    def amid(self, *sinks):
        """Waits until each of these sinks has delivered another quarter of a part, so that it is in the middle of more."""
        goals = {sink: self.delivered(sink) + self.part // 4 for sink in sinks}
        self.await_(f"{sinks} get on", lambda: all(self.delivered(sink) >= goal for sink, goal in goals.items()))

    def go(self):
        both = ("kafka", "splunk")
        self.show()
        self.all_have_all("all up")
        self.kill(*both)
        self.show()
        behind = self.all_have_all("both down", both)
        if min(behind.values()) < self.part:
            raise Failed(f"one of those that are down was delivered to: {behind}")
        self.start(*both)
        # What waits for them is more than they have time for.
        self.amid(*both)
        self.kill(*both)
        self.show()
        self.all_have_all("both killed as they caught up", both)
        self.start(*both)
        for sink in both:
            self.show()
            self.amid(sink)
            self.kill(sink)
            self.all_have_all(f"{sink} killed in mid-delivery", (sink,))
            self.start(sink)
        self.all_have_all("all up again")

    def judge(self):
        ledger = self.simulator.ledger()
        wanted = expected(ledger)
        files = self.work / "files"
        good, told = compare(ledger, files)
        print(f"files: {told}", flush=True)
        compare_kafka(read(self.broker, "kafka", "read_committed"), wanted, "kafka", once=True)
        good &= hec.compare(files, self.collector, self.kills)
        good &= self.mails_have(flows(files))
        for sink in self.run.status()["sinks"]:
            parts = sum(sink[part] for part in ("filtered", "delivered"))
            if sink["journaled"] != len(wanted) or parts != len(wanted):
                print(f"the account does not balance, or some are not delivered: {sink}")
                good = False
        self.run.stop()
        return good

    def mails_have(self, flows):
        """Waits until as many flows were mailed as there are, and compares them."""
        self.await_("the flows are mailed", lambda: self.mailed() >= flows.total())
        mails = self.mail.mails("admins@contoso.example")
        rows = collections.Counter(row for mail in mails for row in rows_of(mail))
        # A record without a time has that of its arrival in the mail.
        timeless = collections.Counter(flow for flow in flows.elements() if flow[0] is None)
        missing, surplus = flows - timeless - rows, rows - (flows - timeless)
        arrived = collections.Counter((None, *row[1:]) for row in surplus.elements())
        missing, surplus = missing + (timeless - arrived), arrived - timeless
        print(f"mails: {flows.total()} new flows, {rows.total()} rows in {len(mails)} mails: {missing.total()} missing, "
              f"{surplus.total()} foreign or twice", flush=True)
        return bool(flows) and not missing and not surplus

    def mailed(self):
        command = [self.binary, "digest", "list", "--json", "--config", self.run.config]
        listed = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return sum(sent["rows"] + sent["late"] for entry in listed for sent in entry["sent"])

    def report(self):
        print(f"\n{'file sink while':<32} {'events':>8} {'seconds':>8} {'events/s':>9} {'longest lag':>12}")
        for phase, events, seconds, lag in self.phases:
            print(f"{phase:<32} {events:>8.0f} {seconds:>8.1f} {events / seconds:>9.0f} {lag:>10.1f} s")


def time_of(text):
    time = datetime.datetime.fromisoformat(text)
    return time.replace(tzinfo=time.tzinfo or datetime.timezone.utc, microsecond=0)


def flows(folder):
    """Time, user and address of each new flow in the files."""
    found = collections.Counter()
    for record in (json.loads(line) for path in folder.rglob("*.ndjson") for line in lines_of(path) if b"CreateFlow" in line):
        if record.get("Operation") == "CreateFlow":
            time = record.get("CreationTime")
            found[time and time_of(time), record.get("UserId") or record["UserUPN"], record["FlowDetailsUrl"]] += 1
    return found


def rows_of(mail):
    """The same of the rows in a mail's attachment."""
    for part in mail.iter_attachments():
        lines = part.get_payload(decode=True).decode("utf-8-sig").splitlines()
        for row in csv.DictReader(lines):
            yield time_of(row["time"]), row["user"], row["link"]


def main():
    args = arguments(__doc__, 200_000)
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-four-"))
    binary = own_build(work, *args.build)
    began = time.monotonic()
    four = Four(work, binary, args.events)
    try:
        four.begin()
        four.go()
        good = four.judge()
        four.report()
    except Failed as failed:
        sys.exit(f"{failed}\nwhat is left: {work}")
    finally:
        four.end()
    if not good:
        sys.exit(f"what is left: {work}")
    print(f"{four.kills} kills, all complete, in {time.monotonic() - began:.0f} s")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
