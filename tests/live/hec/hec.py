#!/usr/bin/env python3
"""Delivers a simulated tenant to a Splunk HTTP Event Collector that was not written here, and compares what it has.

    hec.py [EVENTS] [--release]

The collector is the OpenTelemetry Collector's receiver (main.go). In mid-delivery it, and `audit-exporter run`, are
killed with SIGKILL and restarted, in turn. At the end every record that the tenant has shown must be at the collector
with the same content, and nothing else; a kill may repeat what was on its way. That the records are the tenant's is
known from a file sink beside it, which is compared with the simulator's ledger byte for byte.
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import collector as hec  # noqa: E402
from program import Failed, Run, Simulator, arguments, await_, compare, configuration, own_build  # noqa: E402

KILLS = 8
SIMULATOR = """
[[tenants]]
[tenants.records.generated]
events = {events}
events_per_blob = 100
"""
CONFIG = """
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.file]
type = "file"
path = "events/{content_type}.ndjson"
[sinks.splunk]
type = "splunk_hec"
batch_events = 200
request_size = "100kB"
"""


def sink_is_up(run):
    return all(up for name, up in run.metrics().items() if name.startswith("up{") and "splunk" in name)


def deliver(binary, config, collector, simulator, events):
    """Runs until all is delivered, killing both sides in turn."""
    run = Run(binary, config, config.parent / "log")
    for kill in range(KILLS):
        goal = min(collector.count() + events // (2 * KILLS), events)
        await_("the collector gets on", lambda: run.ended() or collector.count() >= goal)
        if run.ended():
            raise Failed(f"run ended with {run.process.returncode}, see {run.log}")
        if kill % 2:
            run.process.kill()
            run.process.wait()
            run = Run(binary, config, run.log)
        else:
            collector.kill()
            await_("the outage is noticed", lambda: run.ended() or run.is_idle() or not sink_is_up(run))
            collector.start()
    blobs = simulator.stats()["blobs"]
    await_("everything is delivered", lambda: run.ended() or run.is_drained(blobs))
    run.stop()


def main():
    args = arguments(__doc__, 30_000)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        binary = own_build(work, *args.build)
        collector = hec.Collector(hec.receiver(), work)
        simulator = Simulator(binary, work, SIMULATOR.format(events=args.events))
        try:
            config = work / "config.toml"
            urls = f'urls = ["http://{collector.address}"]'
            config.write_text(configuration(simulator.url, CONFIG + urls + hec.OPTIONS))
            deliver(binary, config, collector, simulator, args.events)
            same, told = compare(simulator.ledger(), work / "events")
            print(f"file: {told}")
            good = same and hec.compare(work / "events", collector, KILLS)
        except Failed as failed:
            print(failed, (work / "log").read_text()[-4000:], sep="\n")
            good = False
        finally:
            collector.kill()
            simulator.stop()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
