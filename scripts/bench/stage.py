"""What every kind of run finds ready: services, topics, and how much of everything.

Owns: nothing but the bundle. Does not own: any of its parts.
"""

from __future__ import annotations

import dataclasses

from history import Histories
from services import Services
from topics import Topics
from workloads import Workload


@dataclasses.dataclass(frozen=True)
class Stage:
    services: Services
    topics: Topics
    histories: Histories
    base_count: int
    seconds: int
    """Of steady production (freshness)."""

    def count(self, workload: Workload) -> int:
        return max(1, round(self.base_count * workload.share))
