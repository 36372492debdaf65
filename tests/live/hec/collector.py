"""A Splunk HTTP Event Collector that was not written here: the OpenTelemetry Collector's receiver (main.go)."""
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
from compare_ledger import lines_of  # noqa: E402
from program import REPOSITORY, Failed, free_port  # noqa: E402

# A line that was being written, in bytes.
LONGEST_LINE = 1 << 22
METADATA = {
    "host.name": "contoso",
    "com.splunk.source": "audit-exporter",
    "com.splunk.sourcetype": "o365:management:activity",
    "com.splunk.index": "audit",
}
# The sink's options that give events this metadata, and the field `tenant`.
OPTIONS = """
token = "any: this collector checks none"
index = "audit"
fields = { tenant = "{tenant}" }
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
        self.address = f"127.0.0.1:{free_port()}"
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
        if self.events.exists():
            with self.events.open("rb+") as file:
                start = max(0, file.seek(0, os.SEEK_END) - LONGEST_LINE)
                file.seek(start)
                file.truncate(start + file.read().rfind(b"\n") + 1)

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


def compare(folder, collector, kills):
    """Whether the collector has every record of the folder's files, with its metadata, and nothing else."""
    sent = collections.Counter(record(line) for path in folder.rglob("*.ndjson") for line in lines_of(path))
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
        f"{strange} with other metadata; {repeated} repeated by {kills} kills"
    )
    return bool(sent) and not missing and not foreign and not strange
