"""A build of affluent that stores data and no progress (`--features bench-without-progress`): what is exactly once worth?

Owns: which workloads it can do, and its proof, which cannot be `affluent verify`: that begins at the progress.
Does not own: how it is run (`affluent`), how contents are read back (`peers.contents`).
"""

from __future__ import annotations

from affluent import Affluent, Job
from peers import contents, shape
from subject import Topic
from workloads import LAKE, MONGO, Sales, Workload


class WithoutProgress(Affluent):
    guarantee = "none: a restart begins again from the start of the topic"
    # Such a build refuses to run for anybody else.
    environment = {"AFFLUENT_BENCH_WITHOUT_PROGRESS": "1"}

    def supports(self, workload: Workload) -> bool:
        """Plain drains: what it says about rejected records or a history cannot be proved from outside."""
        good = isinstance(workload.records, Sales) and workload.records.bad_percent == 0
        return workload.kind == "drain" and good and not workload.history

    def prove(self, job: Job, topic: Topic) -> str | None:
        of_records = shape.of(job.workload)
        truth = contents.of_topic(job.services.brokers, topic.name, of_records)
        wrong = []
        if MONGO in job.workload.sinks:
            held = contents.of_collection(job.services.mongo[job.database], job.collection, of_records)
            wrong += [f"{MONGO}: {difference}" for difference in held.differences(truth)]
        if LAKE in job.workload.sinks:
            held = contents.of_table(job.table, of_records)
            wrong += [f"{LAKE}: {difference}" for difference in held.differences(truth)]
        return "; ".join(wrong) or None
