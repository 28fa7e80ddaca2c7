"""affluent as a subject: one build of it, with a configuration per run.

Owns: the configuration of a run, starting `affluent run`, its proof by `affluent verify`.
Does not own: measuring a process (`child`), watching the sinks (`observe`), kinds of runs that need more than a drain
(`catch_up`, `freshness`, `start`): those start from a `Job`, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import typing

import observe
import records
from child import Child, Ended
from services import ServiceCost, Services
from subject import Measure, RunFailed, Topic
from workloads import LAKE, MONGO, Generated, Workload

STREAM = "sales"
# One job for all runs: a table that is taken over from an earlier run (`history`) belongs to a job.
JOB = "bench"
# Beyond this a drain counts as failed.
DRAIN_SECONDS = 1200
SHUTDOWN_SECONDS = 60


class Affluent:
    guarantee = "exactly once in each sink"
    environment: typing.Mapping[str, str] = {}
    """Of the process, beside what the benchmark has itself."""

    def __init__(self, name: str, binary: pathlib.Path, settings: typing.Sequence[str] = ()):
        self.name = name
        self.binary = binary
        self.settings = tuple(settings)

    def supports(self, workload: Workload) -> bool:
        return True

    def prove(self, job: Job, topic: Topic) -> str | None:
        """None where the sinks hold all of the topic, else what is wrong."""
        return job.verify(topic)

    def drain(self, workload: Workload, topic: Topic, services: Services, work_dir: pathlib.Path) -> Measure:
        job = Job(self, workload, topic.name, services, work_dir)
        with job.watching(observe.DRAIN_INTERVAL_SECONDS) as watches:
            meter = services.meter()
            child = job.run("--once")
            try:
                ended = child.wait(DRAIN_SECONDS)
                if ended is None:
                    raise RunFailed(f"not done after {DRAIN_SECONDS} s: {child.last_words()}")
                cost = meter.read(ended.cpu_s)
            finally:
                child.end()
        if ended.code != 0:
            raise RunFailed(f"run --once ended with {ended.code}: {child.last_words()}")
        measure = costs(ended.seconds, ended, cost)
        add_visibility(measure, watches, child.started, topic)
        job.finish(measure, topic)
        return measure


def served_at(url: str) -> tuple[str, ...]:
    """Flags that open the page there; without them nothing listens."""
    return "--set=http.enabled=true", f"--set=http.listen={url.removeprefix('http://')}"


def costs(seconds: float, ended: Ended, services: ServiceCost) -> Measure:
    """Of a run that went well so far; `Job.finish` proves it."""
    return Measure(
        seconds=seconds,
        verified=True,
        cpu_s=ended.cpu_s,
        mongod_cpu_s=services.mongod_cpu_s,
        broker_cpu_s=services.broker_cpu_s,
        other_cpu_s=services.other_cpu_s,
        peak_rss_mib=ended.peak_rss_mib,
    )


def add_visibility(measure: Measure, watches: dict[str, observe.Watch], started: float, topic: Topic) -> None:
    """When a drain's records were seen. The last look comes after its end; what it finds was there by then."""
    seen = [
        (min(moment - started, measure.seconds), records - topic.before)
        for moment, records in observe.in_every_sink(watches)
        if records > topic.before
    ]
    if not seen:
        return
    (first, at_first), (last, at_last) = seen[0], seen[-1]
    measure.seconds_first = first
    # Where one sink shows everything in one step, most of the work was done before that: no drain to be timed.
    steps = min(sum(s.records > topic.before for s in watch.sightings) for watch in watches.values())
    if steps > 1 and at_last > at_first:
        measure.seconds_drain, measure.records_drain = last - first, at_last - at_first


class Job:
    """One configuration of affluent over one topic, from nothing: database, lake and group are its own."""

    def __init__(
        self,
        subject: Affluent,
        workload: Workload,
        topic: str,
        services: Services,
        work_dir: pathlib.Path,
        properties: typing.Mapping[str, str] | None = None,
    ):
        self.workload = workload
        self.collection = STREAM
        self._subject = subject
        self.services = services
        self.work_dir = work_dir
        self.database = services.new_database()
        self.table = work_dir / "lake" / STREAM
        self._config = work_dir / "affluent.toml"
        self._config.write_text(
            configuration(workload, topic, services, self.database, self.table.parent, properties or {})
        )
        sets = [f"{key}={value}" for key, value in workload.settings] + list(subject.settings)
        self._binary = str(subject.binary)
        self._settings = ["--config", str(self._config), *(f"--set={setting}" for setting in sets)]
        # Environment beats the file; here the file is to be all that counts.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AFFLUENT__")}
        self._environment = inherited | dict(subject.environment)

    def run(self, *flags: str) -> Child:
        """`affluent run`, with further flags (`--once`, `--set=…`, above everything else)."""
        return Child(self._command("run", *flags), self.work_dir / "run.log", self._environment)

    def drain(self) -> None:
        """`affluent run --once`, not measured: what is there before a run begins."""
        child = self.run("--once")
        try:
            ended = child.wait(DRAIN_SECONDS)
        finally:
            child.end()
        if ended is None or ended.code != 0:
            raise RunFailed(f"the run --once before it did not end well: {child.last_words()}")

    def _command(self, name: str, *flags: str) -> list[str]:
        # All settings behind the name: those before it would be dropped for those behind it.
        return [self._binary, name, *self._settings, *flags]

    def serve(self, url: str) -> Child:
        """`affluent serve` at that address."""
        return Child(self._command("serve", *served_at(url)), self.work_dir / "serve.log", self._environment)

    @contextlib.contextmanager
    def watching(self, interval: float | None = None) -> typing.Iterator[dict[str, observe.Watch]]:
        """A watch per sink of the workload."""
        every = {} if interval is None else {"interval": interval}
        with contextlib.ExitStack() as stack:
            watches: dict[str, observe.Watch] = {}
            if MONGO in self.workload.sinks:
                watches[MONGO] = stack.enter_context(
                    observe.MongoWatch(self.services.mongo, self.database, STREAM, **every)
                )
            if LAKE in self.workload.sinks:
                watches[LAKE] = stack.enter_context(observe.LakeWatch(self.table, **every))
            yield watches

    def finish(self, measure: Measure, topic: Topic) -> None:
        """Proves the run and adds what the lake's table looks like in the end."""
        why = self._subject.prove(self, topic)
        if why is not None:
            measure.verified = False
            measure.detail["why"] = why
        if LAKE in self.workload.sinks:
            commits = observe.commits(self.table)
            files = observe.files(commits)
            measure.files, measure.file_bytes = len(files), sum(files.values())
            measure.commits = sum(commit.changes_data for commit in commits)

    def verify(self, topic: Topic) -> str | None:
        """None where both sinks hold all of the topic, else what is wrong."""
        done = subprocess.run(
            self._command("verify", "--json"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment,
        )
        (self.work_dir / "verify.json").write_text(done.stdout)
        if done.returncode not in (0, 1):
            return f"verify ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        report = json.loads(done.stdout)["streams"][0]
        wrong = [] if done.returncode == 0 and report["holds"] else ["verify does not hold"]
        read, good = report["records"]["read"], report["records"]["good"]
        if read != topic.before + topic.records:
            wrong.append(f"verify saw {read} records of {topic.before + topic.records}")
        for sink in self.workload.sinks:
            found = report[sink]
            wrong += [
                f"{sink}: {found[kind]} {kind}"
                for kind in ("missing", "duplicate", "foreign", "unequal", "behind")
                if found[kind]
            ]
            if found["rows"] != good:
                wrong.append(f"{sink}: {found['rows']} rows for {good} good records")
        return "; ".join(wrong + report["problems"]) or None


def configuration(
    workload: Workload,
    topic: str,
    services: Services,
    database: str,
    root: pathlib.Path,
    properties: typing.Mapping[str, str],
) -> str:
    def quoted(value: object) -> str:
        # TOML's basic strings are JSON's.
        return json.dumps(str(value))

    lines = [
        f"job = {quoted(JOB)}",
        "[kafka]",
        f"brokers = {quoted(services.brokers)}",
        f"group = {quoted(database)}",
        "[kafka.properties]",
        *(f"{quoted(key)} = {quoted(value)}" for key, value in properties.items()),
        "[mongo]",
        f"enabled = {'true' if MONGO in workload.sinks else 'false'}",
        f"uri = {quoted(services.mongo_uri)}",
        f"database = {quoted(database)}",
        "[lake]",
        f"enabled = {'true' if LAKE in workload.sinks else 'false'}",
        f"root = {quoted(root)}",
        "[http]",
        "enabled = false",
        "[[streams]]",
        f"topic = {quoted(topic)}",
        f"partition_by = [{', '.join(map(quoted, workload.partition_by))}]",
    ]
    if isinstance(workload.records, Generated):
        lines += [f"name = {quoted(STREAM)}", 'event_time = "at"', "fields = ["]
        for number, (name, kind) in enumerate(records.fields(workload.records)):
            lines.append(
                f"  {{ name = {quoted(name)}, type = {quoted(kind)}, required = {'true' if number < 2 else 'false'} }},"
            )
        lines.append("]")
    else:
        lines.append(f"preset = {quoted(STREAM)}")
        if not workload.rollups:
            lines.append("rollups = []")
    return "\n".join(lines) + "\n"
