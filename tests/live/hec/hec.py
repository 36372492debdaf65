#!/usr/bin/env python3
"""Delivers a simulated tenant to a Splunk HTTP Event Collector that was not written here, and compares what it has.

    hec.py [EVENTS]

The collector is the OpenTelemetry Collector's receiver (main.go). In mid-delivery it, and `audit-exporter run`, are
killed with SIGKILL and restarted, in turn. At the end every record that the tenant has shown must be at the collector
with the same content, and nothing else; a kill may repeat what was on its way. That the records are the tenant's is
known from a file sink beside it, which is compared with the simulator's ledger byte for byte.
"""
import argparse
import collections
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
from compare_ledger import lines_of  # noqa: E402
from program import REPOSITORY, TENANT, Failed, Run, Simulator, await_, build, compare  # noqa: E402

KILLS = 8
METADATA = {
    "host.name": "contoso",
    "com.splunk.source": "audit-exporter",
    "com.splunk.sourcetype": "o365:management:activity",
    "com.splunk.index": "audit",
}
SIMULATOR = """
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 100
"""
CONFIG = """
[journal]
path = "journal"
[admin]
listen = "127.0.0.1:0"
[tenants.contoso]
id = "{tenant}"
client_id = "c0a1b2d3-4e5f-4061-8273-94a5b6c7d8e9"
client_secret = "simulator-secret"
authority = "{url}"
management_api = "{url}"
requests_per_minute = 100000
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.file]
type = "file"
path = "events/{{content_type}}.ndjson"
[sinks.splunk]
type = "splunk_hec"
urls = ["http://{collector}"]
token = "any: this collector checks none"
index = "audit"
fields = {{ tenant = "{{tenant}}" }}
batch_events = 200
request_size = "100kB"
"""


def receiver():
    """Builds the collector; Go's own cache keeps what was built before."""
    begun = time.monotonic()
    if not shutil.which("go"):
        raise Failed("the collector is built by go, which is not installed")
    binary = REPOSITORY / "target/live/hec"
    binary.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE, check=True)
    print(f"the receiver was built in {time.monotonic() - begun:.0f} s")
    return binary


class Collector:
    """The receiver as a process, always at the same address."""

    def __init__(self, binary, work):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.events, self.log = work / "collector.ndjson", work / "collector.log"
        self.command = [binary, self.address, self.events]
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()
        # What was being written had no answer yet: a torn line was never accepted.
        if self.events.exists() and not (text := self.events.read_bytes()).endswith(b"\n"):
            self.events.write_bytes(text[: text.rfind(b"\n") + 1])

    def count(self):
        return self.events.read_bytes().count(b"\n") if self.events.exists() else 0


def plain(value):
    """Numbers as the collector keeps them, which has no other than doubles."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def canonical(value):
    return json.dumps(plain(value), sort_keys=True)


def record(line):
    """A record as it must be at the collector: what is no object travels as text."""
    text = line.rstrip(b"\n").decode()
    try:
        value = json.loads(text)
    except ValueError:
        return canonical(text)
    return canonical(value if isinstance(value, dict) else text)


def sink_is_up(run):
    return all(up for name, up in run.metrics().items() if name.startswith("up{") and "splunk" in name)


def deliver(binary, config, collector, simulator, events, environment):
    """Runs until all is delivered, killing both sides in turn."""
    run = Run(binary, config, config.parent / "log", environment)
    for kill in range(KILLS):
        goal = min(collector.count() + events // (2 * KILLS), events)
        await_("the collector gets on", lambda: run.ended() or collector.count() >= goal)
        if run.ended():
            raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
        if kill % 2:
            run.process.kill()
            run.process.wait()
            run = Run(binary, config, run.log, environment)
        else:
            collector.kill()
            await_("the outage is noticed", lambda: run.ended() or run.is_idle() or not sink_is_up(run))
            collector.start()
    blobs = simulator.stats()["blobs"]
    await_("everything is delivered", lambda: run.ended() or run.is_drained(blobs))
    run.stop()


def judge(work, ledger, collector):
    same, told = compare(ledger, work / "events")
    print(f"file: {told}")
    sent = collections.Counter(record(line) for path in (work / "events").rglob("*.ndjson") for line in lines_of(path))
    found, strange = collections.Counter(), 0
    with collector.events.open() as lines:
        for line in map(json.loads, lines):
            found[canonical(line["event"])] += 1
            strange += line["metadata"] != METADATA or line["fields"] != {"tenant": "contoso"}
    missing, surplus = sent - found, found - sent
    foreign = sum(count for event, count in surplus.items() if event not in sent)
    repeated = surplus.total() - foreign
    print(
        f"collector: {sent.total()} sent, {found.total()} found: {missing.total()} missing, {foreign} foreign, "
        f"{strange} with other metadata; {repeated} repeated by {KILLS} kills"
    )
    return same and sent and not missing and not foreign and not strange


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=int, nargs="?", default=30_000)
    parser.add_argument("--release", action="store_true", help="the release build")
    args = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_EXPORTER_")}
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        # One of its own: a build in the meantime does not change what is tested.
        binary = shutil.copy(build(*(["--release"] if args.release else [])), work / "audit-exporter")
        collector = Collector(receiver(), work)
        simulator = Simulator(binary, work, SIMULATOR.format(events=args.events))
        try:
            config = work / "config.toml"
            config.write_text(CONFIG.format(tenant=TENANT, url=simulator.url, collector=collector.address))
            deliver(binary, config, collector, simulator, args.events, environment)
            good = judge(work, simulator.ledger(), collector)
        except Failed as failed:
            print(failed, (work / "log").read_text()[-4000:], sep="\n")
            good = False
        finally:
            collector.kill()
            simulator.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
