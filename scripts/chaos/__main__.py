"""Plays rounds of faults against running instances under load; called by scripts/chaos.sh, which starts the services.

    plan ─▶ faults ─▶ processes: instances a, b (and c), load, broker, mongod     proxy: a, b, c → mongod
                          │ /metrics, exits
                      watch ─▶ recovery time ─▶ figures ◀─ affluent verify

A round's recovery time runs from the end of its faults — the killed process is started again, the service
answers again, the network is clear — until both sinks have passed what was the log's end at that moment, on
every partition.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import signal
import socket
import sys
import time

import figures
from faults import GUEST, Faults
from kafka import Broker
from plan import FIRST_PARTITIONS, INSTANCES, KINDS, TOPICS, plan
from processes import Findings, Instance, Producer, Service, tail
from proxy import Proxy
from watch import SINKS, Watch, get

# Beyond this a round counts as hanging. A transaction that its process left open is ended by mongod after 60 s.
PATIENCE = 120
BROKER_PATIENCE = 60
CLICKS_SHARE = 0.25


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/chaos.sh")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", action="append", default=[], choices=[kind.name for kind in KINDS])
    parser.add_argument("--rate", type=int, default=1200)
    parser.add_argument("--verify-every", type=int, default=25)
    parser.add_argument("--json", type=pathlib.Path)
    # From scripts/chaos.sh.
    for name in ("affluent", "config", "work", "stack", "kafka-port", "mongo-port"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    return options


class Run:
    def __init__(self, options):
        self.options = options
        self.work = pathlib.Path(options.work)
        self.command = [options.affluent, "--config", options.config]
        self.findings = Findings()
        self.broker = Broker(int(options.kafka_port))
        self.services = {name: Service(name, options.stack, self.work / "stack") for name in ("kafka", "mongo")}
        self.instances = []
        rates = {"clicks": round(options.rate * CLICKS_SHARE), "sales": round(options.rate * (1 - CLICKS_SHARE))}
        self.load = [Producer(self.command, stream, rates[stream], self.work) for stream in TOPICS]
        self.started = time.monotonic()
        self.done = collections.Counter()
        self.measured = []
        self.undisturbed = 0.0
        self.verify = None

    def say(self, text):
        print(f"{time.monotonic() - self.started:7.1f} s  {text}", flush=True)

    async def play(self):
        try:
            await self._start()
            for round_ in plan(self.options.seed, self.options.rounds, self.options.only):
                await self._round(round_)
                if not self.findings and round_.number % self.options.verify_every == 0 and round_.number < self.options.rounds:
                    await self._verify("so far")
                if self.findings:
                    break
            await self._finish()
        finally:
            for process in (*self.instances, *self.load):
                await (process.kill() if isinstance(process, Instance) else process.stop(signal.SIGKILL))

    async def _start(self):
        for topic in TOPICS:
            await asyncio.to_thread(self.broker.create_topic, topic, FIRST_PARTITIONS)
        for name, port in zip((*INSTANCES, GUEST), free_ports(len(INSTANCES) + 1)):
            proxy = Proxy(int(self.options.mongo_port))
            await proxy.start()
            self.instances.append(Instance(name, self.command, self.work, port, proxy, self.findings))
        self.faults = Faults(self.instances, self.services, self._grow_topic)
        self.watch = Watch(self.instances, self.findings)
        self.watching = asyncio.ensure_future(self.watch.run())
        for producer in self.load:
            producer.start()
        for instance in self.instances:
            instance.wanted = instance.name in INSTANCES
            await instance.start()
        first = await self._recovered(time.monotonic())
        if first is None:
            return
        self.undisturbed = await self._recovered(time.monotonic()) or 0.0
        self.say(f"{len(INSTANCES)} instances at work after {first:.1f} s; the next look, without a fault, {self.undisturbed:.1f} s")

    async def _round(self, round_):
        if self.findings:
            return
        ended = await self.faults.play(round_)
        seconds = await self._recovered(ended)
        for fault in filter(None, (round_.first, round_.second)):
            self.done[fault.kind] += 1
        if seconds is not None:
            self.measured.append((round_.kind, seconds))
        outcome = "not recovered" if seconds is None else f"recovered in {seconds:.1f} s"
        self.say(f"round {round_.number:3}  {round_!s:<72}  {outcome:<21} peak RSS {self._peak_rss_mib()} MiB")

    async def _recovered(self, since):
        """Seconds until both sinks have passed the log's present end; `None` if they do not."""
        ends = await self._ends()
        if await self.watch.until_past(ends, PATIENCE):
            return time.monotonic() - since
        if not self.findings:
            await self._report_hang(ends)
        return None

    async def _report_hang(self, ends):
        behind = ", ".join(
            f"{stream}/{partition} in {sink} at {at} of {end}" for (stream, sink, partition), (at, end) in self.watch.behind(ends).items()
        )
        self.findings.add(f"no recovery within {PATIENCE} s: {behind}")
        for instance in self.instances:
            if not instance.running:
                continue
            try:
                print(await asyncio.wait_for(get(instance.http_port, "/readyz"), 2))
            except (OSError, TimeoutError) as error:
                print(f"instance {instance.name} does not answer on /readyz: {error!r}")
            print(f"  the end of {instance.log}:", *tail(instance.log, 30), sep="\n  | ")

    async def _ends(self):
        """(stream, partition) → the log's end; a broker that has just been started may need a moment."""
        deadline = time.monotonic() + BROKER_PATIENCE
        while True:
            try:
                ends = {topic: await asyncio.to_thread(self.broker.ends, topic) for topic in TOPICS}
                return {(topic, partition): end for topic, found in ends.items() for partition, end in found.items()}
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def _grow_topic(self, topic):
        partitions = await asyncio.to_thread(self.broker.partitions, topic)
        await asyncio.to_thread(self.broker.grow_topic, topic, len(partitions) + 1)

    async def _finish(self):
        for producer in self.load:
            await producer.stop()
        caught_up = await self._recovered(time.monotonic())
        if caught_up is not None:
            self.say(f"the load has ended; caught up after {caught_up:.1f} s")
        for instance in self.instances:
            instance.wanted = False
            await instance.terminate()
        self.watching.cancel()
        if self.verify is None or self.verify["holds"]:
            await self._verify("at the end")
        if self.verify is not None and self.verify["behind"] and not self.findings:
            self.findings.add(f"{self.verify['behind']} offsets are not in a sink although progress was told to be there")

    async def _verify(self, when):
        started = time.monotonic()
        log = self.work / "verify.json"
        with open(log, "wb") as out, open(self.work / "verify.log", "wb") as errors:
            process = await asyncio.create_subprocess_exec(*self.command, "verify", "--json", stdout=out, stderr=errors)
            code = await process.wait()
        if code not in (0, 1):
            self.findings.add(f"verify ended with {code}", self.work / "verify.log")
            return
        report = json.loads(log.read_text())
        self.verify = figures.verified(report)
        self.say(f"verify {when}: {'holds' if code == 0 else 'DOES NOT HOLD'}, {self.verify['records']:,} records, {time.monotonic() - started:.0f} s")
        if code != 0:
            self.findings.add(f"verify does not hold: {figures.wrong(report)} (all of it: {log})")

    def document(self):
        logs = [instance.log for instance in self.instances if instance.log.exists()]
        return {
            "seed": self.options.seed,
            "rounds": sum(1 for _ in self.measured),
            "rounds_asked": self.options.rounds,
            "seconds": round(time.monotonic() - self.started, 1),
            "holds": not self.findings and self.verify is not None,
            "failures": self.findings.all,
            "faults": dict(self.done),
            "undisturbed_seconds": round(self.undisturbed, 1),
            "recovery_seconds": figures.recovery(self.measured),
            "verify": self.verify,
            **figures.from_logs(logs),
            "producer_restarts": sum(producer.restarts for producer in self.load),
            "peak_rss_mib": self._peak_rss_mib(),
        }

    def _peak_rss_mib(self):
        return max((instance.peak_rss_kib for instance in self.instances), default=0) // 1024


def free_ports(count):
    # All at once, so that they differ.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


async def main():
    options = arguments()
    run = Run(options)
    print(f"seed {options.seed}, {options.rounds} rounds", flush=True)
    playing = asyncio.ensure_future(run.play())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    try:
        await playing
    except asyncio.CancelledError:
        print("interrupted", file=sys.stderr)
        return 130
    document = run.document()
    print()
    print(figures.table(document))
    if options.json:
        options.json.write_text(json.dumps(document) + "\n")
    return 0 if document["holds"] else 1


sys.exit(asyncio.run(main()))
