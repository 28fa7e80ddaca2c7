"""The processes of a run: instances of the job, the load, and the services they depend on.

Owns: starting and ending them, their logs, and the judgement of an exit: an instance may end only when it was
told to, with 0, or by our SIGKILL.
Does not own: when (`faults`), what they achieve (`watch`).
"""

import asyncio
import contextlib
import os
import signal
import time

# `limits.shutdown_timeout` is 30 s.
END_SECONDS = 45
# Before its handler is installed, SIGTERM simply ends a process.
YOUNG_SECONDS = 3


class Findings:
    """What went wrong; the first one ends the run."""

    def __init__(self):
        self.all = []

    def add(self, what, log=None):
        self.all.append(what)
        print(f"FAILED: {what}", flush=True)
        if log is not None:
            print(f"  the end of {log}:")
            for line in tail(log, 30):
                print(f"  | {line}")

    def __bool__(self):
        return bool(self.all)


def tail(path, lines):
    with open(path, errors="replace") as file:
        return file.read().splitlines()[-lines:]


class Instance:
    """`affluent run`, with a proxy to mongod, an HTTP port and a log of its own."""

    def __init__(self, name, command, work, http_port, proxy, findings):
        self.name = name
        self.command = command
        self.http_port = http_port
        self.proxy = proxy
        self.findings = findings
        self.log = work / f"instance-{name}.log"
        self.process = None
        # Whether it should be running: one that is to leave is not brought back by somebody else's restart.
        self.wanted = False
        self.peak_rss_kib = 0
        self._starting = asyncio.Lock()
        self._started = 0.0
        self._watcher = None
        self._allowed = set()

    @property
    def running(self):
        return self.process is not None and self.process.returncode is None

    async def start(self):
        # Two faults at once may both bring it back.
        async with self._starting:
            if self.wanted and not self.running:
                await self._spawn()

    async def _spawn(self):
        environment = {
            **os.environ,
            "AFFLUENT__MONGO__URI": f"mongodb://127.0.0.1:{self.proxy.port}/?directConnection=true",
            "AFFLUENT__HTTP__LISTEN": f"127.0.0.1:{self.http_port}",
        }
        self._allowed, self._started = set(), time.monotonic()
        with open(self.log, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, "run", env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._watcher = asyncio.ensure_future(self._watch(self.process, self._allowed))

    async def _watch(self, process, allowed):
        code = await process.wait()
        if code not in allowed:
            wanted = f"allowed were {sorted(allowed)}" if allowed else "nobody had told it to end"
            self.findings.add(f"instance {self.name} ended with {code}; {wanted}", self.log)

    async def kill(self):
        if self.running:
            self.note_memory()
            self._allowed.add(-signal.SIGKILL)
            self.signal(signal.SIGKILL)
            await asyncio.shield(self._watcher)

    async def terminate(self, outage=False):
        """With a service out it may not manage to commit everything: it says so with 3, and nothing is lost."""
        if not self.running:
            return
        self._allowed.update({0, 3} if outage else {0})
        if time.monotonic() - self._started < YOUNG_SECONDS:
            self._allowed.add(-signal.SIGTERM)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._watcher), END_SECONDS)
        except TimeoutError:
            self.findings.add(f"instance {self.name} did not end within {END_SECONDS} s of SIGTERM", self.log)
            await self.kill()

    def signal(self, number):
        # It may have ended by itself a moment ago; its watcher says so.
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def note_memory(self):
        with contextlib.suppress(OSError, StopIteration):
            with open(f"/proc/{self.process.pid}/status") as status:
                line = next(line for line in status if line.startswith("VmHWM"))
            self.peak_rss_kib = max(self.peak_rss_kib, int(line.split()[1]))


class Producer:
    """`affluent produce` for ever; started again when a broker's absence ends it. What counts is the log."""

    def __init__(self, command, stream, rate, work):
        self.command = [*command, "produce", stream, "--topic", stream, "--rate", str(rate), "--bad", "1"]
        self.log = work / f"produce-{stream}.log"
        self.restarts = 0
        self.process = None
        self._stopping = False
        self._task = None

    def start(self):
        self._task = asyncio.ensure_future(self._run())

    async def _run(self):
        while not self._stopping:
            with open(self.log, "ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
                )
            await self.process.wait()
            if not self._stopping:
                self.restarts += 1
                await asyncio.sleep(0.5)

    async def stop(self, number=signal.SIGTERM):
        self._stopping = True
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
        if self._task is not None:
            await self._task


class Service:
    """Broker or mongod of the run's own stack."""

    def __init__(self, name, stack, stack_dir):
        self.name = name
        self.stack = stack
        self.pid_file = stack_dir / f"{name}.pid"
        # Two faults at once may want the same service: one after the other.
        self.lock = asyncio.Lock()

    async def down(self, kill):
        await self._script("down", *(["--kill"] if kill else []))

    async def up(self):
        """Returns when it answers."""
        await self._script("up")

    async def _script(self, command, *flags):
        process = await asyncio.create_subprocess_exec(
            self.stack,
            command,
            *flags,
            self.name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"stack.sh {command} {self.name}: {said.decode(errors='replace')}")

    def signal(self, number):
        os.kill(int(self.pid_file.read_text().split()[0]), number)
