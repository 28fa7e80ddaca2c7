"""What lies in deploy/ and docs/, read once: the rules, the dashboard, the documented metrics.

Owns: the files' shapes, and which metric a query names. Does not own: what must hold of them (`files`, `live`).
"""

import json
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any, Iterator

import yaml

CLONE = pathlib.Path(__file__).resolve().parent.parent.parent
METRICS = "docs/metrics.md"
RUNBOOK = "docs/operations.md"

# Series that Prometheus makes itself.
PROMETHEUS = {"up", "ALERTS"}
PREFIXES = ("affluent_", "kafka_", "namedprocess_")
HISTOGRAM_SERIES = ("_bucket", "_sum", "_count")


@dataclass
class Query:
    """One expression of a rule or a panel."""

    where: str
    expression: str

    def names(self) -> set[str]:
        """Metrics and recorded series that it reads."""
        # Strings hold label values; braces hold label names; `by (…)` and the like hold label names too.
        plain = re.sub(r"\"[^\"]*\"", '""', self.expression)
        plain = re.sub(r"\{[^}]*\}", "", plain)
        plain = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", plain)
        words = re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*", plain)
        return {word for word in words if ":" in word or word in PROMETHEUS or word.startswith(PREFIXES)}


@dataclass
class Deployed:
    rules: list[dict[str, Any]] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    dashboard: dict[str, Any] = field(default_factory=dict)
    datasources: list[dict[str, Any]] = field(default_factory=list)
    compose: dict[str, Any] = field(default_factory=dict)
    # Name → counter, gauge or histogram.
    documented: dict[str, str] = field(default_factory=dict)

    def alerts(self) -> list[dict[str, Any]]:
        return [rule for rule in self.rules if "alert" in rule]

    def recorded(self) -> set[str]:
        return {rule["record"] for rule in self.rules if "record" in rule}

    def panels(self) -> list[dict[str, Any]]:
        return self.dashboard["panels"]

    def queries(self) -> Iterator[Query]:
        for rule in self.rules:
            yield Query(f"rules.yml, {rule.get('alert') or rule['record']}", rule["expr"])
        yield from self.dashboard_queries()

    def dashboard_queries(self) -> Iterator[Query]:
        for panel in self.panels():
            for target in panel.get("targets", []):
                yield Query(f"dashboard, “{panel['title']}” {target['refId']}", target["expr"])

    def metric_of(self, name: str) -> str | None:
        """The documented metric behind a series' name; `None` where there is none."""
        for suffix in HISTOGRAM_SERIES:
            base = name.removesuffix(suffix)
            if base != name and self.documented.get(base) == "histogram":
                return base
        return name if self.documented.get(name) in ("counter", "gauge") else None


def text(path: str) -> str:
    return (CLONE / path).read_text(encoding="utf-8")


def load() -> Deployed:
    groups = yaml.safe_load(text("deploy/prometheus/rules.yml"))["groups"]
    return Deployed(
        rules=[rule for group in groups for rule in group["rules"]],
        tests=yaml.safe_load(text("deploy/prometheus/rules.test.yml"))["tests"],
        dashboard=json.loads(text("deploy/grafana/dashboards/affluent.json")),
        datasources=yaml.safe_load(text("deploy/grafana/provisioning/datasources/affluent.yml"))["datasources"],
        compose=yaml.safe_load(text("docker-compose.yml")),
        documented=documented_metrics(text(METRICS)),
    )


def documented_metrics(markdown: str) -> dict[str, str]:
    """Rows of the form: | `name` | counter | …"""
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", markdown, re.MULTILINE)
    return dict(rows)


def anchors(markdown: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
