"""Watches files grow: which line was there when.

A sink closes files when it has too many open, and goes on in one with a number behind its name.
"""
import hashlib
import os
import threading
import time

# How exactly it is known when a line was there.
EVERY_SECONDS = 0.5


class Arrivals:
    """The lines of `FOLDER/NAME.ndjson` and `FOLDER/NAME-2.ndjson`, by name: the SHA-256 of each, and when it was seen."""

    def __init__(self, folder):
        self.folder = folder
        self.lines = {}
        self.places = {}
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.ending.wait(EVERY_SECONDS):
            self.look()

    def look(self):
        if not self.folder.is_dir():
            return
        for entry in os.scandir(self.folder):
            place = self.places.get(entry.name, 0)
            if entry.stat().st_size > place:
                self.read(entry, place)

    def read(self, entry, place):
        with open(entry.path, "rb") as file:
            file.seek(place)
            text = file.read()
        now = time.time()
        # The last line may not be whole yet.
        text = text[: text.rfind(b"\n") + 1]
        self.places[entry.name] = place + len(text)
        name = entry.name.removesuffix(".ndjson").split("-")[0]
        arrived = self.lines.setdefault(name, [])
        arrived.extend((hashlib.sha256(line).digest(), now) for line in text.split(b"\n")[:-1])

    def count(self, name):
        return len(self.lines.get(name, ()))

    def stop(self):
        self.ending.set()
        self.thread.join()
        self.look()
