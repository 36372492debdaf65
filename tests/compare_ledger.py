#!/usr/bin/env python3
"""Compares what a simulated tenant has served with what the files hold, record by record.

    compare_ledger.py LEDGER FOLDER [--tenant ID]

LEDGER is the simulator's own account (GET /ledger, NDJSON); FOLDER holds NDJSON files, plain, .gz or .zst. Every
occurrence that repeats no other must be there exactly once, bytes identical (SHA-256), and nothing else. Deliberately
no part of the Rust program: it shares no code with what it judges. Exit 0 if it holds, 1 if not.
"""
import argparse
import collections
import gzip
import hashlib
import json
import pathlib
import subprocess
import sys


def lines_of(path):
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            yield from file
    elif path.suffix == ".zst":
        with subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE) as zstd:
            yield from zstd.stdout
        if zstd.returncode:
            sys.exit(f"{path}: zstd failed")
    else:
        with path.open("rb") as file:
            yield from file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tenant", help="compare only this tenant's occurrences")
    args = parser.parse_args()

    expected = collections.Counter()
    places = {}
    occurrences = repeats = 0
    with args.ledger.open() as ledger:
        for line in ledger:
            entry = json.loads(line)
            if args.tenant and entry["tenant"] != args.tenant:
                continue
            occurrences += 1
            if entry["repeats"] is not None:
                repeats += 1
                continue
            expected[entry["sha256"]] += 1
            places[entry["sha256"]] = f"{entry['content_type']} {entry['blob']} [{entry['index']}]"

    found = collections.Counter()
    broken = []
    for path in sorted(p for p in args.folder.rglob("*") if p.is_file()):
        for number, line in enumerate(lines_of(path), 1):
            if not line.endswith(b"\n"):
                broken.append(f"{path}:{number}: the last line has no end")
            found[hashlib.sha256(line.rstrip(b"\n")).hexdigest()] += 1

    missing = expected - found
    surplus = found - expected
    twice = sum(n for digest, n in surplus.items() if digest in expected)
    foreign = sum(n for digest, n in surplus.items() if digest not in expected)
    for digest in list(missing)[:10]:
        print(f"missing: {places[digest]} {digest}")
    for line in broken[:10]:
        print(line)
    print(
        f"{occurrences} occurrences, {repeats} repeats, {sum(expected.values())} expected, "
        f"{sum(found.values())} found: {sum(missing.values())} missing, {twice} twice, {foreign} foreign"
    )
    sys.exit(1 if missing or surplus or broken or not expected else 0)


if __name__ == "__main__":
    main()
