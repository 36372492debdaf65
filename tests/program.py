"""Runs the real binary against a simulated Microsoft 365, for the scripts in this folder. Standard library only."""
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TENANT = "7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17"
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


class Run:
    """One process of `audit-exporter run`."""

    def __init__(self, binary, config, log, environment):
        self.binary, self.config, self.log = binary, config, log
        self.journal = config.parent / "journal"
        (self.journal / "control.address").unlink(missing_ok=True)
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [binary, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=stderr, env=environment
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

    def is_idle(self):
        """Whether all that was listed is fetched and delivered."""
        metrics = self.metrics()
        waiting = sum(v for k, v in metrics.items() if k.startswith(("units_pending{", "sink_pending_events{")))
        return self.listed(metrics) and not waiting

    def is_drained(self, blobs):
        """Whether so many blobs are listed and fetched, and all sinks have everything."""
        if not self.is_idle():
            return False
        status = self.status()
        return (
            status is not None
            and sum(unit["listed"] for unit in status["tenants"]) == blobs
            and not any(part["pending"] for part in status["tenants"] + status["sinks"])
        )

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
