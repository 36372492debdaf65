#!/usr/bin/env python3
"""Kills `audit-exporter run` with SIGKILL at chosen moments, restarts it, and compares its files with the ledger.

    kill.py [KILLS] [--source TYPE] [--seed NUMBER]

A round is a fresh folder and as many killed runs on it as it takes until everything is delivered; then each sink's
files are compared with the simulator's ledger, by tests/compare_ledger.py. What a kill leaves behind stays in the files, so the
comparison at the end of a round judges every kill of it. A kill counts only if the process died of it.

Most kills come from fail points: the process ends itself with SIGKILL when it passes a point for the nth time, so the
moment is exact. The others come from outside after a random time. Points and passes follow from the seed; what other
threads do at that moment does not.

Of the sources that Microsoft grants so many searches a day or a minute, it is counted too what a kill costs: no Graph query
is created twice, and no session is read again but of what was not finished.
"""
import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

from activity import Activity
from graph import Graph
from search import Search

SOURCES = {"management_activity": Activity, "graph_audit_query": Graph, "search_unified_audit_log": Search}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=int(os.environ.get("KILLS", 100)))
    parser.add_argument("--source", choices=SOURCES, default="management_activity")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="audit-exporter-kill-"))
    began = time.monotonic()
    campaign = SOURCES[args.source](args.kills, args.seed, work)
    try:
        campaign.all()
    finally:
        campaign.end()
    campaign.report()
    total = sum(campaign.done.values())
    print(f"\n{campaign.rounds} rounds in {time.monotonic() - began:.0f} s; the seed was {args.seed}")
    print(f"{total - campaign.failed} passed, {campaign.failed} failed")
    if campaign.failed:
        sys.exit(1)
    shutil.rmtree(work)


main()
