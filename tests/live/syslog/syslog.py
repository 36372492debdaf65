#!/usr/bin/env python3
"""A simulated tenant into rsyslog, by TCP and by TLS (with both of its drivers), while rsyslog is ended and restarted.

    syslog.py [EVENTS] [--release]

Each message has its length before it. rsyslog writes what it has read before it closes a connection; so nothing that counts
as delivered may be missing, and an end may repeat what was on its way. By TLS it is killed with SIGKILL: an end without
close_notify does not count, for rsyslog's driver ossl always sends it. Its driver gtls never does, which the sink has to
find out by itself. There, and by TCP, it is ended with SIGTERM: if a server is killed with what it has read and not
written, the system closes its connection just as it would itself, and no sender can know.
Compared record by record with a file sink beside it, and that with the simulator's ledger.
"""
import collections
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from compare_ledger import lines_of  # noqa: E402
from program import Failed, Run, Simulator, arguments, await_, compare, configuration, free_port, own_build  # noqa: E402

ENDINGS = 8
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
[sinks.gtls]
type = "syslog"
address = "localhost:{gtls}"
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
ruleset(name="records" queue.type="Direct") {{ action(type="omfile" file="{folder}/{name}" template="record") }}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="records"{tls})
"""
TLS = ' streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="anon"'
DRIVERS = {"tls": "ossl", "gtls": "gtls"}
ENDS = {"tcp": signal.SIGTERM, "tls": signal.SIGKILL, "gtls": signal.SIGTERM}


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
         "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )


class Rsyslog:
    """rsyslogd in the foreground, always at the same port."""

    def __init__(self, folder, name):
        self.folder, self.name, self.port = folder, name, free_port()
        self.file, self.config, self.log = folder / name, folder / f"{name}.conf", folder / f"{name}.log"
        tls = TLS.format(driver=DRIVERS[name]) if name in DRIVERS else ""
        self.config.write_text(RSYSLOG.format(folder=folder, name=name, port=self.port, tls=tls))
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            command = ["rsyslogd", "-n", "-iNONE", "-f", self.config]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        await_("rsyslog listens", self.listens)

    def listens(self):
        if self.process.poll() is not None:
            raise Failed(f"rsyslog has ended: {self.log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def end(self):
        self.process.send_signal(ENDS[self.name])
        self.process.wait()
        # A line that was being written belongs to a connection that was not closed.
        if self.file.exists() and not (text := self.file.read_bytes()).endswith(b"\n"):
            os.truncate(self.file, text.rfind(b"\n") + 1)

    def count(self):
        return self.file.read_bytes().count(b"\n") if self.file.exists() else 0


def deliver(run, servers, simulator, events):
    """Runs until all is delivered, ending rsyslog as it gets on."""
    alive = lambda condition: lambda: run.ended() or condition()  # noqa: E731
    count = lambda: min(server.count() for server in servers)  # noqa: E731
    for _ in range(ENDINGS):
        goal = min(count() + events // (2 * ENDINGS), events)
        await_("rsyslog gets on", alive(lambda: count() >= goal))
        for server in servers:
            server.end()
        ups = tuple(f'up{{component="sink",name="{name}"' for name in ENDS)
        down = lambda: any(not up for name, up in run.metrics().items() if name.startswith(ups))  # noqa: E731
        await_("the outage is noticed", alive(lambda: down() or run.is_idle()))
        for server in servers:
            server.start()
    blobs = simulator.stats()["blobs"]
    await_("everything is delivered", alive(lambda: run.is_drained(blobs)))
    if run.ended():
        raise Failed(f"run ended with {run.process.returncode}")
    run.stop()


def judge(work, ledger, servers):
    good, told = compare(ledger, work / "events")
    print(f"file: {told}")
    sent = collections.Counter(line for path in (work / "events").rglob("*.ndjson") for line in lines_of(path))
    for server in servers:
        found = collections.Counter(lines_of(server.file))
        missing, surplus = sent - found, found - sent
        foreign = sum(count for line, count in surplus.items() if line not in sent)
        print(
            f"{server.name}: {sent.total()} sent, {found.total()} found: {missing.total()} missing, {foreign} foreign; "
            f"{surplus.total() - foreign} repeated by {ENDINGS} ends"
        )
        good &= bool(sent) and not missing and not foreign
    return good


def main():
    args = arguments(__doc__, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        binary = own_build(work, *args.build)
        certificate(work)
        servers = [Rsyslog(work, name) for name in ENDS]
        simulator = Simulator(binary, work, SIMULATOR.format(events=args.events))
        config = work / "config.toml"
        config.write_text(configuration(simulator.url, CONFIG.format(**{server.name: server.port for server in servers})))
        run = Run(binary, config, work / "log")
        try:
            deliver(run, servers, simulator, args.events)
            good = judge(work, simulator.ledger(), servers)
        except Failed as failed:
            print(failed, (work / "log").read_text()[-4000:], sep="\n")
            good = False
        finally:
            run.process.kill()
            for server in servers:
                server.end()
            simulator.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
