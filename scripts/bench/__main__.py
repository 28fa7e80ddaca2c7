"""End-to-end benchmarks of affluent; called by scripts/bench.sh, which starts the services.

    workloads ─▶ topics: each loaded once ─▶ subject: drain (or freshness, catch_up, looking, start: affluent only)
                                                │ child: CPU, memory     observe: when it is visible
                                                ▼
                                             verify ─▶ report: a JSON object per run, one table

Owns: the command line and the order of runs: every workload and every subject once, then all again, the subjects in
turn first. So what else the machine does hits all of them alike. Ends everything on SIGTERM.
Does not own: any measuring.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import textwrap
import time
import typing

import peers
import report
import workloads
from subject import Measure, RunFailed, Subject, Topic
from workloads import Workload

EXIT_BAD, EXIT_USAGE = 1, 2

DESCRIPTION = """\
Drives builds of affluent, and on request what else could do the job, over loaded Kafka topics into MongoDB and a
Delta lake on local disk, and says what it costs. A run counts only when `affluent verify` (for a peer: a comparison of
its sinks with the topic) finds every record there exactly once; else it is a DNF, whatever its speed.

stdout: a JSON object per run, then a table of median (minimum - maximum). stderr: progress.
Exit: 0 all runs verified, 1 a DNF, 2 usage, 3 a service is missing."""

FIGURES = """\
figures of a run (null: not known)
  seconds              start of the process to its exit, start-up and final proof reading included
  seconds_first        start to the first record visible in every sink; looked for every 50 ms
  seconds_drain        from then to the last; null where a sink shows all of them in one commit
  records_per_s        of drains: records / seconds; ..._drain: those that came after the first look / seconds_drain
  cpu_s_per_million    user + system of the subject; mongod's and the broker's of the same time, with the checkpoint
                       that writes the run's data to disk; null where a job stores a part of the topic (start)
  peak_rss_mib         of the subject
  files, mean_file_mib, commits   of the lake's table
  detail               other_cpu_s: CPU-seconds of everything else on the machine meanwhile (large: distrust the clock);
                       latencies of freshness; seconds to the first commit of each sink; why a run failed;
                       seconds_start, cpu_s_start: of a peer before it begins to work (scripts/bench/peers/README.md)"""


def arguments(argv: typing.Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh",
        description=DESCRIPTION,
        epilog=FIGURES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"names or groups of --list [default: {' '.join(workloads.DEFAULT)}]",
    )
    parser.add_argument("--list", action="store_true", help="print all workloads and end")
    parser.add_argument(
        "--runs",
        type=_positive,
        default=3,
        metavar="N",
        help="rounds over all workloads and subjects [default: %(default)s]",
    )
    parser.add_argument(
        "--count",
        type=_positive,
        default=workloads.BASE_COUNT,
        metavar="N",
        help="records of a workload whose share is 1 [default: %(default)s]",
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=60,
        metavar="N",
        help="of steady production that count (freshness) [default: %(default)s]",
    )
    parser.add_argument(
        "--binary",
        action="append",
        default=[],
        type=_named_path,
        metavar="NAME=PATH",
        help="a build of affluent to measure; repeat to compare several",
    )
    parser.add_argument(
        "--without-progress",
        action="append",
        default=[],
        type=_named_path,
        metavar="NAME=PATH",
        help="a build with the feature bench-without-progress, proved by its contents; repeatable",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of affluent for all runs; repeatable"
    )
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        choices=("all", *peers.NAMES),
        metavar="NAME",
        help=f"measure a peer too, or `all`; repeatable: {', '.join(peers.NAMES)}",
    )
    parser.add_argument(
        "--report",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="no run: the table, in Markdown, of what --json wrote, of the WORKLOADs named or of all",
    )
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="FILE", help="the JSON objects go here, appended, not to stdout"
    )
    parser.add_argument("--keep", action="store_true", help="keep topics, databases, lakes and logs")
    # From scripts/bench.sh.
    for name in ("brokers", "mongo-uri", "stack", "work"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        options.workloads = workloads.select(options.workloads or (["all"] if options.report else workloads.DEFAULT))
    except KeyError as unknown:
        parser.error(f"no workload is called {unknown}; --list names them")
    names = [name for name, _ in options.binary + options.without_progress]
    if len(set(names)) != len(names):
        parser.error("every --binary and --without-progress needs a name of its own")
    return options


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number above 0")
    return int(text)


def _named_path(text: str) -> tuple[str, pathlib.Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and os.access(path, os.X_OK)):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=PATH of an executable")
    return name, pathlib.Path(path)


def list_workloads() -> str:
    lines = [f"{w.name:<22} {w.kind:<10} {w.summary}" for w in workloads.WORKLOADS.values()]
    groups = dict.fromkeys(w.group for w in workloads.WORKLOADS.values() if w.group not in workloads.WORKLOADS)
    text = f"groups: {', '.join(groups)}, the kinds of the second column, all"
    return "\n".join([*lines, "", *textwrap.wrap(text, 110)])


class Bench:
    """One invocation: everything it makes carries its name and is deleted at the end."""

    def __init__(self, options: argparse.Namespace):
        # Here, so that --help and --list need no package.
        from affluent import Affluent
        from history import Histories
        from kafka import Kafka
        from services import Services
        from stage import Stage
        from topics import Topics
        from without_progress import WithoutProgress

        self.options = options
        self.work = pathlib.Path(options.work)
        name = f"bench-{time.strftime('%m%d-%H%M%S')}-{os.getpid()}"
        self.services = Services(options.brokers, options.mongo_uri, pathlib.Path(options.stack), name)
        binaries = [(name, self._copied(name, path)) for name, path in options.binary]
        # Topics are loaded by the first build, for all.
        self.topics = Topics(binaries[0][1], Kafka(options.brokers), name, self.work)
        self.stage = Stage(
            self.services, self.topics, Histories(self.services, self.topics, self.work), options.count, options.seconds
        )
        self.subjects: list[Subject] = [Affluent(name, binary, options.set) for name, binary in binaries]
        self.subjects += [
            WithoutProgress(name, self._copied(name, path), options.set) for name, path in options.without_progress
        ]
        names = peers.NAMES if "all" in options.peers else dict.fromkeys(options.peers)
        self.subjects += [peers.named(name) for name in names]
        self.lines: list[report.Line] = []

    def run(self) -> None:
        try:
            for run in range(1, self.options.runs + 1):
                for workload in self.options.workloads:
                    # In turn: who goes first finds other caches than who goes last.
                    able = [subject for subject in self.subjects if subject.supports(workload)]
                    if run == 1 and len(able) < len(self.subjects):
                        unable = (subject.name for subject in self.subjects if subject not in able)
                        say(f"{workload.name}: not for {', '.join(unable)}")
                    turn = (run - 1) % len(able)
                    for subject in (*able[turn:], *able[:turn]):
                        self._run(run, workload, subject)
        finally:
            if not self.options.keep:
                self.services.drop_databases()
                self.topics.delete_all()

    def _run(self, number: int, workload: Workload, subject: Subject) -> None:
        work_dir = self.work / f"{workload.name}-{subject.name}-{number}"
        work_dir.mkdir()
        topic = None
        try:
            if workload.kind == "drain":
                topic = self._topic(workload, subject, work_dir)
                self.services.settle()
                measure = subject.drain(workload, topic, self.services, work_dir)
            else:
                self.services.settle()
                topic, measure = self._course(workload)(subject, workload, self.stage, work_dir)
        except RunFailed as failed:
            measure = Measure(seconds=None, verified=False, detail={"why": str(failed)})
        line = report.line(subject.name, workload, number, topic, measure)
        self.lines.append(line)
        self._emit(line)
        if topic is not None:
            self.topics.forget_dead_letters(topic.name)
        if not self.options.keep:
            self.services.drop_databases()
            if measure.verified:
                shutil.rmtree(work_dir)

    def _topic(self, workload: Workload, subject: Subject, work_dir: pathlib.Path) -> Topic:
        count = self.stage.count(workload)
        if workload.history:
            return self.stage.histories.lend(subject, workload, count, work_dir)
        return self.topics.loaded(workload, count)

    @staticmethod
    def _course(workload: Workload) -> typing.Callable[..., tuple[Topic, Measure]]:
        """How the kinds go that are more than a drain; peers do not support them."""
        import catch_up
        import freshness
        import looking
        import start

        return {
            "catch-up": catch_up.measure,
            "freshness": freshness.measure,
            "questions": looking.measure,
            "start": start.measure,
        }[workload.kind]

    def _emit(self, line: report.Line) -> None:
        text = json.dumps(line, ensure_ascii=False)
        if self.options.json:
            with open(self.options.json, "a") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)
        if not line["verified"]:
            said = f"DNF: {line['detail'].get('why')}"
        else:
            rate, cpu = line["records_per_s"], line["cpu_s_per_million"]
            said = f"{line['seconds']:.1f} s"
            said += f", {rate:,.0f} records/s" if rate is not None else ""
            said += f", {cpu:.2f} CPU-s per million" if cpu is not None else ""
            said += f", peak RSS {line['peak_rss_mib']:.0f} MiB"
        say(f"{line['workload']} by {line['subject']}, run {line['run']}: {said}")

    def _copied(self, name: str, path: pathlib.Path) -> pathlib.Path:
        """A build in the meantime must not change what is being measured."""
        folder = self.work / "bin" / name
        folder.mkdir(parents=True)
        return pathlib.Path(shutil.copy2(path, folder / "affluent"))


def usage(message: str) -> int:
    print(f"bench: {message}", file=sys.stderr)
    return EXIT_USAGE


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def print_report(options: argparse.Namespace) -> int:
    try:
        lines = [json.loads(line) for path in options.report for line in path.read_text().splitlines()]
    except (OSError, ValueError) as unreadable:
        return usage(f"--report: {unreadable}")
    print(report.markdown(lines, options.workloads))
    return 0


def _interrupt(*_: object) -> None:
    # Once: ending the children and deleting what was made must not be interrupted in turn.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    options = arguments(sys.argv[1:])
    if options.list:
        print(list_workloads())
        return 0
    if options.report:
        return print_report(options)
    if not (options.binary and options.brokers and options.mongo_uri and options.stack and options.work):
        return usage("call scripts/bench.sh: it brings the services and the binary")
    signal.signal(signal.SIGTERM, _interrupt)
    bench = Bench(options)
    interrupted = False
    try:
        bench.run()
    except KeyboardInterrupt:
        interrupted = True
    with contextlib.suppress(BrokenPipeError):
        print(f"\n{report.table(bench.lines, options.workloads)}" if bench.lines else "", flush=True)
    if interrupted:
        return 130
    return 0 if all(line["verified"] for line in bench.lines) else EXIT_BAD


sys.exit(main())
