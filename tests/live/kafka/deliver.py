#!/usr/bin/env python3
"""A simulated tenant into a real Kafka broker, by two sinks, while both the broker and the exporter are killed.

    deliver.py [EVENTS]

`idempotent` comes by TLS and SCRAM, `exact` without and in transactions. The exporter ends itself with SIGKILL between
a transaction's records and its commit, and between commit and cursor, and is killed from outside; another process takes
over on a copy of the journal; the broker is killed in mid-delivery and started again. Then two consumers that are not ours read everything: librdkafka's by
confluent-kafka, and Kafka's own in Java. Compared with the simulator's ledger, nothing may be missing or foreign, and
in `exact`, read as committed, nothing twice; keys and headers must be the record's own.
"""
import collections
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from broker import PASSWORD, USER, Broker

from program import TENANT, Failed, Run, Simulator, await_, build  # noqa: E402

SIMULATOR = """
seed = 7
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 50
huge_records = 0.0
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
[sinks.exact]
type = "kafka"
brokers = ["{plain}"]
topic = "exact.{{tenant}}.{{content_type}}"
transactional = true
batch_events = 50
timeout = "2m"
"""
# Moments at which the exporter ends itself: so many passes of a fail point.
POINTS = ["sink::kafka::sent=3", "sink::kafka::committed=5", "sink::kafka::marked=4", "sink::kafka::sent=20", "sink::kafka::committed=9"]
SINKS = {"idempotent": "read_uncommitted", "exact": "read_committed"}


def expected(ledger):
    """What must arrive: by hash, the content type."""
    entries = (json.loads(line) for line in ledger.open())
    return {entry["sha256"]: entry["content_type"] for entry in entries if entry["repeats"] is None}


def read(broker, sink, isolation):
    """Every record of a sink's topics: topic, key, headers, value."""
    consumer = Consumer({
        "bootstrap.servers": broker.plain,
        "group.id": "live-test",
        "enable.partition.eof": True,
        "isolation.level": isolation,
    })
    topics = consumer.list_topics(timeout=60).topics
    partitions = [
        TopicPartition(name, partition, 0)
        for name, topic in topics.items() if name.startswith(f"{sink}.") for partition in topic.partitions
    ]
    consumer.assign(partitions)
    open_ones = {(p.topic, p.partition) for p in partitions}
    while open_ones:
        message = consumer.poll(60)
        if message is None:
            raise Failed(f"{sink}: the broker does not answer")
        if (error := message.error()) is None:
            headers = dict(message.headers() or [])
            yield message.topic(), message.key(), headers, message.value()
        elif error.code() == KafkaError._PARTITION_EOF:
            open_ones.discard((message.topic(), message.partition()))
        else:
            raise Failed(f"{sink}: {error}")
    consumer.close()


def compare(records, wanted, sink, once):
    """Compares what a consumer found with what must be there."""
    found, wrong = collections.Counter(), []
    for topic, key, headers, value in records:
        digest = hashlib.sha256(value).hexdigest()
        found[digest] += 1
        if digest in wanted:
            wrong += differences(topic, key, headers, value, f"{sink}.contoso.{wanted[digest]}")
    missing = sum(1 for digest in wanted if digest not in found)
    foreign = sum(1 for digest in found if digest not in wanted)
    twice = sum(found.values()) - len(found)
    print(f"{sink}: {len(wanted)} expected, {sum(found.values())} found: "
          f"{missing} missing, {twice} twice, {foreign} foreign, {len(wrong)} wrong", flush=True)
    if missing or foreign or wrong or (once and twice):
        raise Failed(f"{sink}: " + "; ".join(wrong[:5]))


def differences(topic, key, headers, value, wanted_topic):
    """What is not as the record says."""
    try:
        record = json.loads(value)
    except ValueError:
        return []
    pairs = [
        ("topic", topic, wanted_topic),
        ("key", (key or b"").decode(), record.get("Id") or ""),
        ("tenant", headers.get("tenant"), b"contoso"),
        ("operation", headers.get("operation"), (record.get("Operation") or "").encode() or None),
        ("schema", headers.get("schema"), b"raw"),
    ]
    # Some records have a name or a text in its place.
    if isinstance(number := record.get("RecordType"), int):
        pairs.append(("record_type", headers.get("record_type"), str(number).encode()))
    return [f"{name} is {found!r}, not {wanted!r}" for name, found, wanted in pairs if found != wanted]


def java_consumer(broker, sink, isolation):
    """Values as Kafka's own consumer prints them."""
    text = broker.tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.plain,
        "--include", f"{sink}\\..*", "--from-beginning", "--isolation-level", isolation, "--timeout-ms", "15000")
    return [line.encode() for line in text.split("\n") if line]


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
        self.config.write_text(CONFIG.format(
            tenant=TENANT, url=self.simulator.url, plain=self.broker.plain, tls=self.broker.tls, user=USER,
            ca=work / "broker" / "ca.pem"))

    def start(self, **variables):
        environment = {**os.environ, "KAFKA_PASSWORD": PASSWORD, **variables}
        self.runs.append(Run(self.binary, self.config, self.config.parent / "log", environment))
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
        finally:
            campaign.end()
    except Failed as failed:
        sys.exit(f"{failed}\nwhat is left: {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
