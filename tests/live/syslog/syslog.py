#!/usr/bin/env python3
"""A simulated tenant into rsyslog, by TCP and by TLS, while rsyslog is killed and restarted.

    syslog.py [EVENTS] [--release]

Each message has its length before it. rsyslog writes what it has read before it closes a connection; so whatever moment
it is killed at, with SIGKILL, nothing that counts as delivered may be missing. A kill may repeat what was on its way.
Compared record by record with a file sink beside it, and that with the simulator's ledger.
"""
import argparse
import collections
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from compare_ledger import lines_of  # noqa: E402
from program import Failed, Run, Simulator, await_, build, compare, configuration, free_port  # noqa: E402

KILLS = 8
SIMULATOR = """
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 100
huge_records = 0.0
"""
CONFIG = """
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.file]
type = "file"
path = "events/{{content_type}}.ndjson"
[sinks.tcp]
type = "syslog"
address = "127.0.0.1:{tcp}"
tls = false
batch_events = 200
[sinks.tls]
type = "syslog"
address = "localhost:{tls}"
ca_file = "certificate.pem"
batch_events = 200
"""
# Without queues, a message is in its file before the next one is read. The records are any text.
RSYSLOG = """
global(
    maxMessageSize="256k" parser.escapeControlCharactersOnReceive="off" workDirectory="{folder}"
    defaultNetstreamDriverCAFile="{folder}/certificate.pem"
    defaultNetstreamDriverCertFile="{folder}/certificate.pem" defaultNetstreamDriverKeyFile="{folder}/key.pem"
)
main_queue(queue.type="Direct")
module(load="imtcp")
template(name="record" type="string" string="%msg%\\n")
ruleset(name="tcp" queue.type="Direct") {{ action(type="omfile" file="{folder}/tcp" template="record") }}
ruleset(name="tls" queue.type="Direct") {{ action(type="omfile" file="{folder}/tls" template="record") }}
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="tcp")
input(
    type="imtcp" address="127.0.0.1" port="{tls}" ruleset="tls"
    streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"
)
"""


class Rsyslog:
    """rsyslogd in the foreground, always at the same ports."""

    def __init__(self, folder):
        self.folder, self.ports = folder, {"tcp": free_port(), "tls": free_port()}
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
             "-keyout", "key.pem", "-out", "certificate.pem"],
            cwd=folder, check=True, capture_output=True,
        )
        (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder, **self.ports))
        self.start()

    def start(self):
        command = ["rsyslogd", "-n", "-iNONE", "-f", self.folder / "rsyslog.conf"]
        with (self.folder / "rsyslog.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        await_("rsyslog listens", self.listens)

    def listens(self):
        if self.process.poll() is not None:
            raise Failed(f"rsyslog has ended: {(self.folder / 'rsyslog.log').read_text()}")
        try:
            for port in self.ports.values():
                socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        # A line that was being written belongs to a connection that was not closed.
        for name in self.ports:
            path = self.folder / name
            if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
                os.truncate(path, text.rfind(b"\n") + 1)

    def count(self):
        paths = [self.folder / name for name in self.ports]
        return min(path.read_bytes().count(b"\n") if path.exists() else 0 for path in paths)


def deliver(run, rsyslog, simulator, events):
    """Runs until all is delivered, killing rsyslog as it gets on."""
    alive = lambda condition: lambda: run.ended() or condition()  # noqa: E731
    for _ in range(KILLS):
        goal = min(rsyslog.count() + events // (2 * KILLS), events)
        await_("rsyslog gets on", alive(lambda: rsyslog.count() >= goal))
        rsyslog.kill()
        ups = ('up{component="sink",name="tcp"', 'up{component="sink",name="tls"')
        down = lambda: any(not up for name, up in run.metrics().items() if name.startswith(ups))  # noqa: E731
        await_("the outage is noticed", alive(lambda: down() or run.is_idle()))
        rsyslog.start()
    blobs = simulator.stats()["blobs"]
    await_("everything is delivered", alive(lambda: run.is_drained(blobs)))
    if run.ended():
        raise Failed(f"run ended with {run.process.returncode}")
    run.stop()


def judge(work, ledger, rsyslog):
    good, told = compare(ledger, work / "events")
    print(f"file: {told}")
    sent = collections.Counter(line for path in (work / "events").rglob("*.ndjson") for line in lines_of(path))
    for name in rsyslog.ports:
        found = collections.Counter(lines_of(work / name))
        missing, surplus = sent - found, found - sent
        foreign = sum(count for line, count in surplus.items() if line not in sent)
        print(
            f"{name}: {sent.total()} sent, {found.total()} found: {missing.total()} missing, {foreign} foreign; "
            f"{surplus.total() - foreign} repeated by {KILLS} kills"
        )
        good &= bool(sent) and not missing and not foreign
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=int, nargs="?", default=20_000)
    parser.add_argument("--release", action="store_true", help="the release build")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        # One of its own: a build in the meantime does not change what is tested.
        binary = shutil.copy(build(*(["--release"] if args.release else [])), work / "audit-exporter")
        rsyslog = Rsyslog(work)
        simulator = Simulator(binary, work, SIMULATOR.format(events=args.events))
        config = work / "config.toml"
        config.write_text(configuration(simulator.url, CONFIG.format(**rsyslog.ports)))
        run = Run(binary, config, work / "log")
        try:
            deliver(run, rsyslog, simulator, args.events)
            good = judge(work, simulator.ledger(), rsyslog)
        except Failed as failed:
            print(failed, (work / "log").read_text()[-4000:], sep="\n")
            good = False
        finally:
            run.process.kill()
            rsyslog.kill()
            simulator.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
