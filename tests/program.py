"""Runs the real binary against a simulated Microsoft 365, for the scripts in this folder. Standard library only."""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TENANT = "7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17"
# Every simulated tenant's application.
APP, SECRET = "c0a1b2d3-4e5f-4061-8273-94a5b6c7d8e9", "simulator-secret"
# The API may take a while to answer on a busy machine; a hang must still end.
PATIENCE = 300


class Failed(Exception):
    """What a script found wrong."""


def build(*options):
    """Builds the binary and returns where it is."""
    command = ["cargo", "build", "--quiet", "--message-format=json-render-diagnostics", *options]
    built = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = (json.loads(line) for line in built.stdout.splitlines() if line.startswith("{"))
    found = [a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "audit-exporter"]
    return pathlib.Path(found[-1])


def own_build(folder, *options):
    """A build of the script's own: another one in the meantime does not change what is tested."""
    return shutil.copy(build(*options), folder / "audit-exporter")


def arguments(usage, events):
    """What a script was asked for that delivers so many events by default: `events`, and options for the `build`."""
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=int, nargs="?", default=events)
    parser.add_argument(
        "--release", dest="build", action="store_const", const=["--release"], default=[], help="the release build"
    )
    return parser.parse_args()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(**more):
    """That of this process, without what would change the program's configuration or its log."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_EXPORTER_", "RUST_LOG"))}
    return rest | more


def configuration(url, rest, tenants=None, **journal):
    """The text of a configuration: its tenants (ids by name) are the simulator's at `url`, its plugins are the `rest`."""
    lines = ["[journal]", *(f"{key} = {json.dumps(value)}" for key, value in {"path": "journal", **journal}.items())]
    lines += ["[admin]", 'listen = "127.0.0.1:0"']
    for name, id in (tenants or {"contoso": TENANT}).items():
        lines += [
            f"[tenants.{name}]", f'id = "{id}"', f'client_id = "{APP}"', f'client_secret = "{SECRET}"',
            f'authority = "{url}"', f'management_api = "{url}"', f'graph_api = "{url}"', f'exchange_api = "{url}"',
            "requests_per_minute = 100000",
        ]
    return "\n".join(lines) + "\n" + rest


def get(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
        return answer.read().decode()


def await_(what, condition, patience=PATIENCE):
    """Asks again and again until the condition gives something."""
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"in vain: {what}")
        time.sleep(0.02)
    return found


class Simulator:
    """`audit-exporter simulate` as a process of its own."""

    def __init__(self, binary, folder, config, *options):
        self.folder = folder
        (folder / "simulator.toml").write_text(config)
        command = [binary, "simulate", "--config", folder / "simulator.toml", *options]
        self.log = (folder / "simulator.log").open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        first = self.process.stdout.readline()
        found = re.search(r"http://\S+", first)
        if not found:
            raise Failed(f"the simulator says {first!r}, see {self.log.name}")
        self.url = found[0]

    def stats(self):
        return json.loads(get(f"{self.url}/stats"))

    def ledger(self):
        """Writes the ledger of this moment into a file."""
        path = self.folder / "ledger.ndjson"
        path.write_text(get(f"{self.url}/ledger"))
        return path

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Kernel:
    """What the kernel tells of a process that lives."""

    def __init__(self, process):
        self.folder = pathlib.Path(f"/proc/{process.pid}")

    def peak_mb(self):
        """Its largest resident set so far, in MB of 1024 * 1024 bytes."""
        lines = (self.folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def cpu_seconds(self):
        """User and system time of all its threads."""
        fields = (self.folder / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Run:
    """One process of `audit-exporter run`."""

    def __init__(self, binary, config, log, **variables):
        self.binary, self.config, self.log = binary, config, log
        self.journal = config.parent / "journal"
        (self.journal / "control.address").unlink(missing_ok=True)
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [binary, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=stderr, env=environment(**variables)
            )

    def ended(self):
        return self.process.poll() is not None

    def metrics(self):
        """Series and value, or nothing if the process does not answer (any more)."""
        try:
            address = (self.journal / "control.address").read_text()
            text = get(f"http://{address}/metrics")
        except (OSError, ValueError):
            return {}
        series = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("audit_exporter_"): float(value) for name, value in series}

    def status(self):
        command = [self.binary, "sinks", "status", "--json", "--config", self.config]
        answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    def listed(self, metrics=None):
        """Whether everything was listed since the start."""
        return any(name.startswith("last_listing") for name in (self.metrics() if metrics is None else metrics))

    def waits(self, metrics, without=()):
        """Whether anything that was listed is not fetched and delivered, but for the sinks in `without`."""
        behind = tuple(f'sink_pending_events{{sink="{sink}"' for sink in without)
        return any(
            value for series, value in metrics.items()
            if series.startswith(("units_pending{", "sink_pending_events{")) and not series.startswith(behind)
        )

    def is_idle(self, without=()):
        """Whether everything was listed since the start, and all of it is fetched and delivered."""
        metrics = self.metrics()
        return self.listed(metrics) and not self.waits(metrics, without)

    def is_drained(self, blobs, without=()):
        """Whether so many blobs are listed and fetched, and all sinks, but for those `without`, have everything.

        A source is well only while it lists every content type: under faults that may take long after all is there.
        """
        metrics = self.metrics()
        if not metrics or self.waits(metrics, without):
            return False
        status = self.status()
        if status is None or sum(unit["listed"] for unit in status["tenants"]) != blobs:
            return False
        sinks = [sink for sink in status["sinks"] if sink["sink"] not in without]
        return not any(part["pending"] for part in status["tenants"] + sinks)

    def terminate(self):
        """Asks it to stop, as a service manager does, and tells what it ended with."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def stop(self):
        if (code := self.terminate()) != 0:
            raise Failed(f"run ended with {code}, see {self.log}")


def compare(ledger, folder, *options):
    """Whether the folder holds what the ledger says, and what the comparison told."""
    command = [sys.executable, REPOSITORY / "tests/compare_ledger.py", ledger, folder, *options]
    compared = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return compared.returncode == 0, compared.stdout.strip()
