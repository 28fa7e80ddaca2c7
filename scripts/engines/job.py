"""One job of affluent in a folder of its own: configuration, topic, database, lake, and the commands on it.

Owns: starting and ending them. Does not own: what they are asked for (`scenarios`, `__main__`).
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
import typing

DEADLINE_SECONDS = 120
STREAM = "sales"


class Failed(Exception):
    """Something is not as it must be."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Failed(what)


def until(what: str, condition: typing.Callable[[], bool], alive: typing.Callable[[], None] = lambda: None) -> None:
    """Waits for it; `alive` raises where there is nothing to wait for any more."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        alive()
        require(time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s in vain: {what}")
        time.sleep(0.2)


class Running:
    """A long-running command; its output goes to a file."""

    def __init__(self, command: list[str], folder: pathlib.Path, log: pathlib.Path):
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def is_running(self) -> None:
        require(self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()[-2000:]}")

    def until_logged(self, needle: str) -> None:
        until(f"{needle!r} in {self._log}", lambda: needle in self.log(), self.is_running)

    def wait(self) -> int:
        try:
            return self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"it goes on after {DEADLINE_SECONDS} s:\n{self.log()[-2000:]}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """Whatever it is doing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


class Job:
    def __init__(self, name: str, binary: str, brokers: str, mongo: str, folder: pathlib.Path):
        self.topic = f"{name}-{os.getpid()}"
        self.folder = folder
        self.table = folder / "lake" / STREAM
        self._binary = binary
        folder.mkdir()
        # TOML's basic strings are JSON's.
        quoted = {
            key: json.dumps(value)
            for key, value in {
                "job": self.topic,
                "brokers": brokers,
                "mongo": mongo,
                "root": str(folder / "lake"),
            }.items()
        }
        (folder / "affluent.toml").write_text(
            """job = {job}
[kafka]
brokers = {brokers}
group = {job}
[mongo]
uri = {mongo}
database = {job}
[lake]
root = {root}
commit_interval = "1s"
idle_interval = "1s"
[http]
enabled = false
[[streams]]
preset = "sales"
topic = {job}
""".format(**quoted)
        )

    def command(self, *arguments: str) -> list[str]:
        return [self._binary, *arguments]

    def output(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    def ok(self, *arguments: str) -> str:
        """What it printed; it must succeed."""
        done = self.output(*arguments)
        said = f"affluent {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        require(done.returncode == 0, said)
        return done.stdout

    def start(self, name: str, *arguments: str) -> Running:
        return Running(self.command(*arguments), self.folder, self.folder / f"{name}.log")

    def produce(self, name: str, lines: list[str]) -> None:
        file = self.folder / f"{name}.jsonl"
        file.write_text("\n".join(lines) + "\n")
        self.ok("produce", "--file", str(file), "--topic", self.topic, "--partitions", "2")

    def sales_of(self, day: str, count: int) -> None:
        window = ("--since", f"{day}T00:00:00Z", "--until", f"{day}T23:59:59Z")
        self.ok("produce", STREAM, "--topic", self.topic, "--count", str(count), "--partitions", "2", *window)

    def load(self, rate: int) -> Running:
        """Sales of two days at a steady rate, as long as it is let run."""
        # An end of the window wants a number of records.
        window = ("--count", "1000000000", "--since", "2026-02-01T00:00:00Z", "--until", "2026-02-03T00:00:00Z")
        arguments = ("produce", STREAM, "--topic", self.topic, "--rate", str(rate), "--partitions", "2", *window)
        return self.start("produce", *arguments)

    def verify(self) -> dict[str, typing.Any]:
        """The stream's report, whether it holds or not."""
        done = self.output("verify", "--json")
        said = f"verify ended with {done.returncode}:\n{done.stderr[-2000:]}"
        require(done.returncode in (0, 1), said)
        return json.loads(done.stdout)["streams"][0]

    def partitions(self) -> list[dict[str, typing.Any]]:
        """`affluent status` of the stream's partitions."""
        return json.loads(self.ok("status", "--json"))["streams"][0]["partitions"]

    def until_caught_up(self) -> None:
        until("both sinks hold everything", lambda: all(p["lag_records"] == 0 for p in self.partitions()))
