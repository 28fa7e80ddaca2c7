"""A job that runs on while records come: what the kinds of runs that do not drain have in common.

Owns: waiting for a job to own its partitions, for both sinks to hold everything, and its graceful end.
Does not own: what is measured meanwhile (`freshness`, `catch_up`, `start`).
"""

from __future__ import annotations

import contextlib
import typing

from affluent import SHUTDOWN_SECONDS, Job
from child import Child, Ended
from observe import Watch
from services import Meter
from subject import RunFailed

Watches = typing.Mapping[str, Watch]

OWN_SECONDS = 60
# A member that was killed holds its partitions until its session times out, after 45 s by default.
PATIENCE_SECONDS = 180


@contextlib.contextmanager
def owning(job: Job, partitions: int, *flags: str) -> typing.Iterator[tuple[Child, Watches, Meter]]:
    """`affluent run`, metered from its start, from when it owns all partitions; it does not outlive the context."""
    with job.watching() as watches:
        meter = job.services.meter()
        child = job.run(*flags)
        try:
            wait_until_owning(child, watches, partitions)
            yield child, watches, meter
        finally:
            child.end()


def wait_until_owning(child: Child, watches: Watches, partitions: int) -> None:
    """Both sinks have recorded where every partition starts: from then on records are fetched."""
    for sink, watch in watches.items():
        if not watch.wait_until(lambda sighting: len(sighting.next) == partitions, OWN_SECONDS, lambda: child.running):
            raise RunFailed(f"{sink} has no start {given_up(child, OWN_SECONDS)}")


def wait_until_stored(child: Child, watches: Watches, records: int) -> None:
    for sink, watch in watches.items():
        if not watch.wait_for(records, PATIENCE_SECONDS, lambda: child.running):
            raise RunFailed(f"{sink} holds {watch.records} of {records} records {given_up(child, PATIENCE_SECONDS)}")


def given_up(child: Child, seconds: float) -> str:
    """Why nobody waits any longer: time, or a job that has ended."""
    ended = child.wait(0)
    when = f"after {seconds:.0f} s" if ended is None else f"when run ended with {ended.code}"
    return f"{when}: {child.last_words()}"


def end_well(child: Child, command: str = "run") -> Ended:
    ended = child.end(SHUTDOWN_SECONDS)
    if ended.code != 0:
        raise RunFailed(f"{command} ended with {ended.code} after SIGTERM: {child.last_words()}")
    return ended
