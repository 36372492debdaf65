#!/usr/bin/env python3
"""A simulated tenant into a real Kafka broker, by four sinks, while both the broker and the exporter are killed.

    deliver.py [EVENTS]

`idempotent` comes by TLS and SCRAM, `token` by TLS and OAUTHBEARER, `certificate` by TLS on both sides, `exact` without
any and in transactions. The exporter ends itself with SIGKILL between a transaction's records and its commit, and
between commit and cursor, and is killed from outside; another process takes over on a copy of the journal; the broker is
killed in mid-delivery and started again. Then a consumer that is not ours reads everything, librdkafka's by
confluent-kafka, and of two sinks also Kafka's own in Java. Compared with the simulator's ledger, nothing may be missing
or foreign, and in `exact`, read as committed, nothing twice; keys and headers must be the record's own.
"""
import collections
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

from broker import PASSWORD, SCOPE, USER, Broker
from records import compare, expected, java_consumer, read
from tokens import LIFE_SECONDS, Tokens

from program import Failed, Run, Simulator, await_, build, configuration  # noqa: E402

SIMULATOR = """
seed = 7
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 50
huge_records = 0.0
"""
CONFIG = """
[sources.activity]
type = "management_activity"
[sinks.idempotent]
type = "kafka"
brokers = ["{tls}"]
topic = "idempotent.{{tenant}}.{{content_type}}"
batch_events = 50
timeout = "2m"
[sinks.idempotent.tls]
ca = "{ca}"
[sinks.idempotent.sasl]
mechanism = "scram_sha_512"
username = "{user}"
password = {{ env = "KAFKA_PASSWORD" }}
[sinks.token]
type = "kafka"
brokers = ["{tls}"]
topic = "token.{{tenant}}.{{content_type}}"
[sinks.token.tls]
ca = "{ca}"
[sinks.token.sasl]
mechanism = "oauthbearer"
token_url = "{token_url}"
client_id = "{user}"
client_secret = {{ env = "KAFKA_PASSWORD" }}
scope = "{scope}"
[sinks.certificate]
type = "kafka"
brokers = ["{mutual}"]
topic = "certificate.{{tenant}}.{{content_type}}"
[sinks.certificate.tls]
ca = "{ca}"
certificate = "{certificate}"
key = {{ file = "{key}" }}
[sinks.exact]
type = "kafka"
brokers = ["{plain}"]
topic = "exact.{{tenant}}.{{content_type}}"
transactional = true
batch_events = 50
timeout = "2m"
"""
# Moments at which the exporter ends itself: so many passes of a fail point.
POINTS = [
    "sink::kafka::sent=3", "sink::kafka::committed=5", "sink::kafka::marked=4", "sink::kafka::sent=20",
    "sink::kafka::committed=9",
]
# Read by Kafka's own consumer too.
TWICE_READ = ("idempotent", "exact")
SINKS = {
    "idempotent": "read_uncommitted",
    "token": "read_uncommitted",
    "certificate": "read_uncommitted",
    "exact": "read_committed",
}


class Campaign:
    """A broker, a tenant, and the exporter that is killed between them."""

    def __init__(self, work, events):
        self.work, self.chance, self.runs, self.simulator = work, random.Random(7), [], None
        self.binary = pathlib.Path(shutil.copy2(build("--features", "failpoints"), work))
        (work / "broker").mkdir()
        self.broker = Broker(work / "broker")
        self.broker.start()
        self.simulator = Simulator(self.binary, work, SIMULATOR.format(events=events))
        self.config = work / "first" / "config.toml"
        self.config.parent.mkdir()
        self.tokens = Tokens(USER, PASSWORD)
        held = work / "broker"
        sinks = CONFIG.format(
            plain=self.broker.plain, tls=self.broker.tls, mutual=self.broker.mutual, user=USER, scope=SCOPE,
            token_url=self.tokens.url, ca=held / "ca.pem", certificate=held / "client.crt", key=held / "client.key")
        self.config.write_text(configuration(self.simulator.url, sinks))

    def start(self, **variables):
        variables["KAFKA_PASSWORD"] = PASSWORD
        self.runs.append(Run(self.binary, self.config, self.config.parent / "log", **variables))
        return self.run

    @property
    def run(self):
        return self.runs[-1]

    def kill_at_points(self):
        for point in POINTS:
            self.start(KILL_AT=point)
            await_(f"the exporter passes {point}", self.run.ended)
            if self.run.process.returncode != -signal.SIGKILL:
                raise Failed(f"the exporter ended with {self.run.process.returncode}, see {self.run.log}")

    def take_over(self):
        """A process on a copy of the journal; the first has slept meanwhile, and stops its sink when it wakes."""
        first = self.start()
        self.await_deliveries()
        first.process.send_signal(signal.SIGSTOP)
        shutil.copytree(self.config.parent, self.work / "second")
        self.config = self.work / "second" / "config.toml"
        self.start()
        self.await_deliveries()
        first.process.send_signal(signal.SIGCONT)
        await_("the first process stops its sink", lambda: "has taken over" in first.log.read_text())
        first.process.kill()
        first.process.wait()
        self.kill()
        print("taken over by a process on a copy of the journal; the first has stopped its sink", flush=True)

    def kill(self):
        self.run.process.kill()
        self.run.process.wait()

    def kill_from_outside(self, times):
        for _ in range(times):
            self.start()
            time.sleep(self.chance.uniform(0.2, 1))
            self.kill()

    def kill_broker(self, times):
        self.start()
        for _ in range(times):
            self.await_deliveries()
            self.broker.kill()
            print(f"broker killed after {delivered(self.run):.0f} events of this run", flush=True)
            time.sleep(self.chance.uniform(1, 3))
            self.broker.start()
        await_("everything is delivered", self.run.is_idle)
        self.run.stop()

    def await_deliveries(self):
        """Waits for transactions: this process has taken the transactional id."""
        before = delivered(self.run)
        await_("deliveries are under way", lambda: delivered(self.run) > before)

    def end(self):
        for process in [*(run.process for run in self.runs), self.broker.process]:
            process.kill()
            process.wait()
        if self.simulator:
            self.simulator.stop()


def delivered(run):
    return sum(v for k, v in run.metrics().items() if k.startswith('events_delivered_total{sink="exact"'))


def judge(broker, wanted):
    for sink, isolation in SINKS.items():
        once = isolation == "read_committed"
        compare(read(broker, sink, isolation), wanted, sink, once)
        if sink not in TWICE_READ:
            continue
        java = collections.Counter(java_consumer(broker, sink, isolation))
        ours = collections.Counter(value for *_, value in read(broker, sink, isolation))
        if java != ours:
            raise Failed(f"{sink}: Kafka's own consumer has {java.total()} records, librdkafka's {ours.total()}")
        print(f"{sink}: Kafka's own consumer reads the same {java.total()} records", flush=True)
    visible = sum(1 for _ in read(broker, "exact", "read_uncommitted"))
    print(f"exact: {visible - len(wanted)} records of aborted transactions, which nobody reads as committed")


def main():
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-kafka-"))
    try:
        campaign = Campaign(work, events)
        try:
            campaign.kill_at_points()
            campaign.take_over()
            campaign.kill_from_outside(3)
            campaign.kill_broker(2)
            judge(campaign.broker, expected(campaign.simulator.ledger()))
            print(f"{campaign.tokens.given} tokens were asked for, each good for {LIFE_SECONDS} s")
        finally:
            campaign.end()
    except Failed as failed:
        sys.exit(f"{failed}\nwhat is left: {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
