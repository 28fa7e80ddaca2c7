"""Topics and what is in them: every workload's records are produced once and drained by all subjects and runs.

Owns: names, loading through `affluent produce`, producers that run beside a job, deleting it all at the end.
Does not own: the generated records (`records`), the Kafka client (`kafka`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import typing

import records
from kafka import Kafka
from subject import RunFailed, Topic
from workloads import Catalogue, Content, Generated, Workload

SEED = 7
END_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class _Content:
    """What tells two topics apart; workloads that agree on it share one."""

    records: Content
    count: int
    partitions: int
    producer: tuple[tuple[str, str], ...]


class Topics:
    def __init__(self, affluent: pathlib.Path, kafka: Kafka, run: str, work: pathlib.Path):
        self.kafka = kafka
        self._affluent = affluent
        self._run = run
        self._work = work
        self._numbers = itertools.count(1)
        self._names: list[str] = []
        self._loaded: dict[_Content, Topic] = {}

    def loaded(self, workload: Workload, count: int) -> Topic:
        """The workload's topic with `count` records, loaded on first use."""
        content = _Content(workload.records, count, workload.partitions, workload.producer)
        if content not in self._loaded:
            name = self.new(workload.partitions)
            self.load(name, content.records, count, workload.producer)
            self._loaded[content] = self.sized(name, workload.partitions)
        return self._loaded[content]

    def new(self, partitions: int) -> str:
        """An empty topic."""
        name = f"{self._run}-{next(self._numbers)}"
        self.kafka.create_topic(name, partitions)
        self._names.append(name)
        return name

    def load(
        self, name: str, content: Content, count: int, properties: typing.Iterable[tuple[str, str]] = ()
    ) -> None:
        print(f"bench: loading {count:,} records into {name}", file=sys.stderr, flush=True)
        command = self._command(name, properties)
        if isinstance(content, Catalogue | Generated):
            self._load_lines([*command, "--file", "-"], records.chunks(content, count))
            return
        window = ["--since", content.window.since, "--until", content.window.until]
        self._finish(
            [*command, "sales", "--count", str(count), "--seed", str(SEED), "--bad", str(content.bad_percent), *window]
        )

    def sized(self, name: str, partitions: int, before: Topic | None = None) -> Topic:
        """The topic as it is now; what it held `before` is not part of the run."""
        count, size = self.kafka.size(name)
        if before is None:
            return Topic(name, partitions, count, size)
        return Topic(name, partitions, count - before.records, size - before.bytes, before.records)

    @contextlib.contextmanager
    def producing(self, name: str, rate: int) -> typing.Iterator[None]:
        """Sales of now, at this rate, for as long as the context lasts; all are acknowledged when it ends."""
        with open(self._work / f"{name}-produce.log", "ab") as log:
            command = [*self._command(name, ()), "sales", "--rate", str(rate)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())
            try:
                yield
                if process.poll() is not None:
                    raise RunFailed(f"the producer ended early, with {process.returncode}")
                process.send_signal(signal.SIGTERM)
                if process.wait(END_SECONDS) != 0:
                    raise RunFailed(f"the producer ended with {process.returncode}")
            finally:
                process.kill()
                process.wait()

    def produce_at(self, name: str, count: int, rate: int) -> None:
        """So many sales of the hour at this rate; returns when all are acknowledged."""
        self._finish(
            [
                *self._command(name, ()),
                "sales",
                "--count",
                str(count),
                "--rate",
                str(rate),
                "--seed",
                str(SEED),
                "--since",
                "2026-01-01T12:00:00Z",
                "--until",
                "2026-01-01T13:00:00Z",
            ]
        )

    def forget_dead_letters(self, topic: str) -> None:
        """The next run over the same topic begins without the letters of the last."""
        self.kafka.delete_topics([f"{topic}.dlq"])

    def delete_all(self) -> None:
        self.kafka.delete_topics([*self._names, *(f"{name}.dlq" for name in self._names)])

    def _command(self, topic: str, properties: typing.Iterable[tuple[str, str]]) -> list[str]:
        config = self._work / f"{topic}-produce.toml"
        lines = [
            "[kafka]",
            f'brokers = "{self.kafka.brokers}"',
            "[kafka.properties]",
            *(f'"{key}" = "{value}"' for key, value in properties),
        ]
        config.write_text("\n".join(lines) + "\n")
        return [str(self._affluent), "--config", str(config), "produce", "--topic", topic]

    def _finish(self, command: list[str]) -> None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment())
        _must_succeed(done.returncode, done.stderr)

    def _load_lines(self, command: list[str], lines: typing.Iterable[bytes]) -> None:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment()
        ) as process:
            # What it says is little: the pipe holds it until the end.
            with contextlib.suppress(BrokenPipeError):
                for chunk in lines:
                    process.stdin.write(chunk)
                process.stdin.close()
            said = process.stderr.read().decode(errors="replace")
        _must_succeed(process.returncode, said)


def _must_succeed(code: int, said: str) -> None:
    if code != 0:
        raise RuntimeError(f"affluent produce ended with {code}: {said.strip()[-500:]}")


def _environment() -> dict[str, str]:
    """Ours without AFFLUENT__…, which would beat the file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AFFLUENT__")}
