"""How far the job is, seen from its own metrics, twice a second.

Owns: the furthest progress per stream, sink and partition that any instance has reported, and waiting until it
has passed given ends. Progress never goes back, so the maximum over instances and time is what is stored.
Does not own: judging exits (`processes`), proving anything (`affluent verify`).
"""

import asyncio
import re
import time

POLL_SECONDS = 0.5
ANSWER_SECONDS = 1.0
SINKS = ("mongo", "lake")
LINE = re.compile(r"^(affluent_progress_offset|affluent_stopped_streams)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Watch:
    def __init__(self, instances, findings):
        self.instances = instances
        self.findings = findings
        self.progress = {}
        self._stopped = set()

    async def run(self):
        while True:
            started = time.monotonic()
            await asyncio.gather(*(self._look(instance) for instance in self.instances if instance.running))
            await asyncio.sleep(max(0.1, started + POLL_SECONDS - time.monotonic()))

    async def _look(self, instance):
        instance.note_memory()
        try:
            text = await asyncio.wait_for(get(instance.http_port, "/metrics"), ANSWER_SECONDS)
        except (OSError, TimeoutError):
            return  # starting, ending or paused
        for name, labels, value in LINE.findall(text):
            labels = dict(LABEL.findall(labels))
            if name == "affluent_stopped_streams":
                self._note_stop(instance, labels["stream"], float(value))
                continue
            key = (labels["stream"], labels["sink"], int(labels["partition"]))
            self.progress[key] = max(self.progress.get(key, 0), int(float(value)))

    def _note_stop(self, instance, stream, value):
        if value and (instance.name, stream) not in self._stopped:
            self._stopped.add((instance.name, stream))
            self.findings.add(f"instance {instance.name} has stopped stream {stream}", instance.log)

    def behind(self, ends):
        """What has not reached its end yet: (stream, sink, partition) → (progress, end)."""
        wanted = {(stream, sink, partition): end for (stream, partition), end in ends.items() for sink in SINKS}
        # A partition without a record counts from the moment somebody has begun to own it.
        return {key: (self.progress.get(key), end) for key, end in wanted.items() if self.progress.get(key, -1) < end}

    async def until_past(self, ends, patience):
        """False when it did not come to that in time, or when something failed meanwhile."""
        deadline = time.monotonic() + patience
        while self.behind(ends):
            if self.findings or time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS / 2)
        return True


async def get(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()
