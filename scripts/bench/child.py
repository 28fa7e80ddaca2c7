"""One process under measurement: its wall clock, CPU and memory, and a log of what it said.

Owns: starting, signalling, ending it; nothing that was started here outlives `end`.
Does not own: processes of a subject that has several (a peer sums them itself).

CPU is `wait4`'s. The peak of memory is too, where it can be trusted: Linux lets a child inherit the high-water mark of
the process that spawned it, so a peak below our own says nothing; then the last VmHWM seen in /proc counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import threading
import time
import typing

LOOK_SECONDS = 0.05
KIB_PER_MIB = 1024


@dataclasses.dataclass(frozen=True)
class Ended:
    code: int
    """Negative: the signal that ended it."""
    seconds: float
    cpu_s: float
    peak_rss_mib: float


class Child:
    def __init__(self, command: typing.Sequence[str], log: pathlib.Path, environment: typing.Mapping[str, str]):
        self.log = log
        self._done = threading.Event()
        self._ended: Ended | None = None
        self._vm_hwm_kib = 0
        self._own_peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            self.started = time.monotonic()
            self.pid = os.posix_spawn(
                command[0],
                [str(part) for part in command],
                dict(environment),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, descriptor, 1),
                    (os.POSIX_SPAWN_DUP2, descriptor, 2),
                ],
                # A Ctrl-C is ours to handle: it must not reach the subject by way of the terminal.
                setpgroup=0,
            )
        finally:
            os.close(descriptor)
        threading.Thread(target=self._await, daemon=True).start()
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def running(self) -> bool:
        return not self._done.is_set()

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            # It may have ended a moment ago.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> Ended | None:
        """None when it has not ended by then."""
        self._done.wait(seconds)
        return self._ended

    def end(self, grace_seconds: float = 0) -> Ended:
        """SIGTERM and so long to obey, then SIGKILL."""
        if grace_seconds > 0:
            self.signal(signal.SIGTERM)
        if self.wait(grace_seconds) is None:
            self.signal(signal.SIGKILL)
        self._done.wait()
        return typing.cast(Ended, self._ended)

    def last_words(self, lines: int = 3) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return " / ".join(line.strip() for line in text[-lines:])

    def _await(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self.started
        peak_kib = usage.ru_maxrss if usage.ru_maxrss > self._own_peak_kib else self._vm_hwm_kib
        self._ended = Ended(
            code=os.waitstatus_to_exitcode(status),
            seconds=seconds,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_rss_mib=peak_kib / KIB_PER_MIB,
        )
        self._done.set()

    def _look(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError, StopIteration), open(f"/proc/{self.pid}/status") as status:
                line = next(line for line in status if line.startswith("VmHWM"))
                self._vm_hwm_kib = max(self._vm_hwm_kib, int(line.split()[1]))
