"""The processes of one peer: started as a session of their own, sampled while they run, gone afterwards.

    `Tree.sample` ── /proc ──▶ cpu_s, peak_rss_mib of the first process and all its descendants

Owns: their life, and what they use. Does not own: when they are done (`peer`).

CPU of a descendant that ended is in its parent's account once the parent has waited for it (`cutime`); when the
first process ends itself, its `rusage` has all of it. Memory is the greatest sum of resident pages seen at one
sample; pages that two processes share count twice, which for a JVM and its small helpers is next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time

from services import process_stat

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Finding descendants means reading all of /proc: too dear for every sample.
LOOK_FOR_CHILDREN_SECONDS = 1.0
END_SECONDS = 20


class Tree:
    def __init__(self, command: list[str], environment: dict[str, str], log: pathlib.Path):
        self.log = log
        self.exit_code: int | None = None
        self.cpu_s = 0.0
        self.peak_rss_mib = 0.0
        with open(log, "wb") as output:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command,
                env=os.environ | environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pids = [self._process.pid]
        self._looked = 0.0

    def sample(self) -> None:
        """Brings `cpu_s`, `peak_rss_mib` and `exit_code` up to date."""
        if self.exit_code is not None:
            return
        now = time.monotonic()
        if now - self._looked >= LOOK_FOR_CHILDREN_SECONDS:
            self._looked = now
            self._pids = descendants(self._process.pid)
        seen = [fields for pid in self._pids if (fields := stat(pid))]
        self.cpu_s = max(self.cpu_s, sum(sum(map(int, fields[11:15])) for fields in seen) / TICKS_PER_SECOND)
        self.peak_rss_mib = max(self.peak_rss_mib, sum(int(fields[21]) for fields in seen) * PAGE_BYTES / 2**20)
        self._reap(os.WNOHANG)

    def stop(self) -> None:
        """SIGTERM to the first process, SIGKILL to all of them where that takes too long; nothing is left behind."""
        self._signal(os.kill, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while self.exit_code is None and time.monotonic() < deadline:
            self._reap(os.WNOHANG)
            time.sleep(0.05)
        # The whole group, also when the first process ended: a child may have outlived it.
        self._signal(os.killpg, signal.SIGKILL)
        if self.exit_code is None:
            self._reap(0)

    def end_of_log(self, lines: int = 5) -> str:
        return " | ".join(self.log.read_text(errors="replace").split("\n")[-lines - 1 :]).strip(" |")

    def _signal(self, send, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended by itself
            send(self._process.pid, number)

    def _reap(self, options: int) -> None:
        if self.exit_code is not None:
            return
        pid, status, usage = os.wait4(self._process.pid, options)
        if pid:
            self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s = max(self.cpu_s, usage.ru_utime + usage.ru_stime)


def descendants(root: int) -> list[int]:
    """`root` and everything below it, by the parents in /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def stat(pid: int) -> list[str] | None:
    """None for a process that has ended."""
    try:
        return process_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
