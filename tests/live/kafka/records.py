"""What consumers that are not ours read from a broker, compared with what a simulated tenant has shown."""
import collections
import hashlib
import json

from confluent_kafka import Consumer, KafkaError, TopicPartition

from program import Failed


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
