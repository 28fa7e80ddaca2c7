"""The broker and the mongod that all subjects share: where they are, and the CPU they spend on a run.

Owns: their addresses and processes, CPU accounting by /proc, databases of runs, quiet before a run.
Does not own: starting and ending them (scripts/stack.sh), topics (`topics`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import time

import pymongo
from pymongo.errors import PyMongoError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# A service that stays below this share of a core has put its former work behind it.
QUIET_SHARE = 0.1
QUIET_LOOK_SECONDS = 0.5
QUIET_PATIENCE_SECONDS = 15


class Services:
    def __init__(self, brokers: str, mongo_uri: str, stack_dir: pathlib.Path, run: str):
        self.brokers = brokers
        self.mongo_uri = mongo_uri
        # Without a pid file (services in containers) their CPU stays unknown.
        self.broker_pid = _pid(stack_dir / "kafka.pid")
        self.mongod_pid = _pid(stack_dir / "mongo.pid")
        self.mongo: pymongo.MongoClient = pymongo.MongoClient(mongo_uri)
        self._run = run
        self._numbers = itertools.count(1)
        self._databases: list[str] = []

    def new_database(self) -> str:
        """Name of a database that does not exist yet; `drop_databases` forgets it."""
        name = f"{self._run.replace('-', '_')}_{next(self._numbers)}"
        self._databases.append(name)
        return name

    def drop_databases(self) -> None:
        while self._databases:
            self.mongo.drop_database(self._databases.pop())

    def settle(self) -> None:
        """Waits until both services are done with what came before, so that a run pays only for itself."""
        self._checkpoint()
        deadline = time.monotonic() + QUIET_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            meter = self.meter()
            time.sleep(QUIET_LOOK_SECONDS)
            spent = meter.read_services()
            if all(seconds is None or seconds < QUIET_SHARE * QUIET_LOOK_SECONDS for seconds in spent):
                return

    def meter(self) -> Meter:
        return Meter(self)

    def _checkpoint(self) -> None:
        with contextlib.suppress(PyMongoError):
            self.mongo.admin.command("fsync")


@dataclasses.dataclass(frozen=True)
class ServiceCost:
    """CPU-seconds; None where the processes are out of sight."""

    mongod_cpu_s: float | None
    broker_cpu_s: float | None
    other_cpu_s: float | None


class Meter:
    """Counts from its creation to `read`. Take the run's wall clock before `read`: that asks mongod for a checkpoint,
    so that writing to disk is charged to whoever caused it and not to the next run."""

    def __init__(self, services: Services):
        self._services = services
        self._mongod = _cpu_seconds(services.mongod_pid)
        self._broker = _cpu_seconds(services.broker_pid)
        self._machine = _machine_busy_seconds()

    def read(self, subject_cpu_s: float | None) -> ServiceCost:
        machine = _machine_busy_seconds() - self._machine
        before_checkpoint = self.read_services()
        self._services._checkpoint()
        mongod, broker = self.read_services()
        known = (subject_cpu_s, *before_checkpoint)
        other = None if None in known else round(max(0.0, machine - sum(known)), 2)
        return ServiceCost(mongod, broker, other)

    def read_services(self) -> tuple[float | None, float | None]:
        """mongod's and the broker's CPU-seconds so far."""
        return (
            _since(self._mongod, _cpu_seconds(self._services.mongod_pid)),
            _since(self._broker, _cpu_seconds(self._services.broker_pid)),
        )


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, 2)


def _pid(path: pathlib.Path) -> int | None:
    """stack.sh writes `pid start-time`: a pid alone may have been given to another program since."""
    try:
        pid, started = path.read_text().split()
        return int(pid) if process_stat(int(pid))[19] == started else None
    except (OSError, ValueError):
        return None


def process_stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, which may hold spaces: state is [0], parent [1], utime, stime,
    cutime, cstime [11:15], start [19], resident pages [21]."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _cpu_seconds(pid: int | None) -> float | None:
    if pid is None:
        return None
    try:
        fields = process_stat(pid)
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _machine_busy_seconds() -> float:
    """All cores, without idling and waiting for disks; time stolen from a virtual machine counts as busy."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, pathlib.Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
