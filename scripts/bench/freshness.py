"""How fresh the sinks are: from a record's time in Kafka to the moment an outside reader can see it.

Owns: the arithmetic and the course of such a run, also where pages are open meanwhile (`viewers`). Does not own: looking at
the sinks (`observe`), the pages (`looking`).

  affluent run ── both sinks, lake.commit_interval = 1s ── affluent produce at a steady rate, sales of now
  observe: (moment, first offset not yet visible) per partition and sink
  afterwards: the topic is read, and each record's latency is the first sighting beyond its offset − its timestamp

A record's timestamp is given by the producer when it takes the record in (CreateTime), so batching in the producer
and the broker's work are part of the latency. Resolution: 1 ms of the timestamp, and the observer's 20 ms (MongoDB) or
10 ms (lake), which only ever add. Both clocks are this machine's. The first five seconds do not count: connections are
opened, rollup documents of the first minute are created.
"""

from __future__ import annotations

import array
import contextlib
import pathlib
import time
import typing

from affluent import Affluent, Job, costs, served_at
from looking import figures, free_url, viewing
from observe import Sighting
from report import percentile
from running import end_well, owning, wait_until_stored
from stage import Stage
from subject import Measure, RunFailed, Topic
from workloads import Workload

WARM_UP_SECONDS = 5
PERCENTS = (50, 95, 99)


def measure(subject: Affluent, workload: Workload, stage: Stage, work_dir: pathlib.Path) -> tuple[Topic, Measure]:
    kafka = stage.topics.kafka
    name = stage.topics.new(workload.partitions)
    job = Job(subject, workload, name, stage.services, work_dir)
    seconds_of_load = WARM_UP_SECONDS + stage.seconds
    flags, looked_at = (), contextlib.nullcontext([])
    if workload.viewers is not None:
        stage.topics.load(name, workload.records, stage.count(workload))
        job.drain()
        url = free_url()
        flags = served_at(url)
        looked_at = viewing(url, work_dir, f"--viewers={workload.viewers}", f"--seconds={seconds_of_load}")
    before = stage.topics.sized(name, workload.partitions)
    with owning(job, workload.partitions, *flags) as (child, watches, meter):
        produced_from = time.time()
        with stage.topics.producing(name, workload.rate), looked_at as asked:
            ended_early = child.wait(seconds_of_load)
        if ended_early is not None:
            raise RunFailed(f"run ended by itself with {ended_early.code}: {child.last_words()}")
        seconds = time.time() - produced_from
        wait_until_stored(child, watches, sum(kafka.ends(name).values()))
        ended = end_well(child)
        cost = meter.read(ended.cpu_s)
    topic = stage.topics.sized(name, workload.partitions, before)
    measured = costs(seconds, ended, cost)
    if asked:
        measured.detail |= {f"question_{name}": figure for name, figure in figures(asked).items()}
    # Below the workload's rate the machine was too slow for the producer, and the latencies are of a lesser load.
    measured.detail["produced_records_per_s"] = topic.records / seconds
    times = kafka.timestamps(name)
    for sink, watch in watches.items():
        latencies = sorted(seconds_to_visible(times, watch.sightings, (produced_from + WARM_UP_SECONDS) * 1000))
        if not latencies:
            raise RunFailed(f"{sink}: no record was produced after the first {WARM_UP_SECONDS} s")
        measured.detail |= {f"{sink}_p{percent}_s": percentile(latencies, percent) for percent in PERCENTS}
        measured.detail[f"{sink}_max_s"] = latencies[-1]
    job.finish(measured, topic)
    return topic, measured


def seconds_to_visible(
    times: dict[int, array.array], sightings: typing.Sequence[Sighting], since_ms: float
) -> typing.Iterator[float]:
    """One latency per record that is not older than `since_ms`."""
    for partition, timestamps in times.items():
        offset = 0
        for sighting in sightings:
            visible = min(sighting.next.get(partition, 0), len(timestamps))
            for timestamp in timestamps[offset:visible]:
                if timestamp >= since_ms:
                    yield sighting.time - timestamp / 1000
            offset = max(offset, visible)
