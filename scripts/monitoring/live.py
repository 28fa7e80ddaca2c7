"""What must hold once a real Prometheus has scraped a running job: every rule and every panel finds its series.

Owns: asking Prometheus' HTTP API, waiting with a deadline. Does not own: starting anything (scripts/monitoring.sh).
"""

import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable

from deployed import Deployed, Query

DEADLINE_SECONDS = 120
# A panel's variables, as Grafana would fill them in for "All".
VARIABLES = {"$stream": ".*", "$instance": ".*", "$__rate_interval": "30s"}
JOBS = {"affluent", "collect", "kafka", "process"}

# Series that only a fault, another program or a week makes. All others must be there.
NOT_IN_A_GOOD_MINUTE = {
    "affluent_compactions_overtaken_total",
    "affluent_failed_tries_total",
    "affluent_held_parts",
    "affluent_held_since_timestamp_seconds",
    "affluent_lake_foreign_commits_total",
    "affluent_ownership_lost_total",
    "affluent_stopped_streams",
    "affluent_upkeep_failures_total",
    "affluent_vacuumed_bytes_total",
    "affluent_vacuumed_files_total",
}


class Failed(Exception):
    """Something does not hold; the message is for people."""


class Prometheus:
    def __init__(self, address: str):
        self.address = address

    def get(self, path: str, **parameters: Any) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Failed(f"Prometheus refuses {path} {parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        return self.get("query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """Of an expression with one result."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def recent(self, expression: str, seconds: int = 45) -> list[float]:
        """Every finite value of the last while, of all series."""
        now = time.time()
        result = self.get("query_range", query=expression, start=now - seconds, end=now, step="3s")["result"]
        values = [float(value) for series in result for _, value in series["values"]]
        return [value for value in values if math.isfinite(value)]

    def names(self) -> set[str]:
        return set(self.get("label/__name__/values"))


def until(what: str, holds: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> None:
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if holds():
                return
            last = ""
        except (OSError, Failed) as error:
            last = f" ({error})"
        time.sleep(0.5)
    raise Failed(f"not within {seconds:.0f} s: {what}{last}")


def run(deployed: Deployed, address: str, instances: int, stream: str) -> None:
    prometheus = Prometheus(address)
    until("every target is scraped", lambda: all_up(prometheus, instances))
    absent = NOT_IN_A_GOOD_MINUTE
    expected = {name for name in deployed.documented if name not in absent}
    until_all_seen(prometheus, deployed, expected)
    print(f"scraped: {instances} instances; {len(expected)} of {len(deployed.documented)} documented metrics are there,")
    print("  the others need a fault, another program or time:", ", ".join(sorted(set(deployed.documented) - expected)))
    until("every rule evaluates", lambda: rules_are_well(prometheus, deployed))
    print(f"rules: all {len(deployed.rules)} evaluate without an error")
    panels_resolve(prometheus, deployed)
    until("AffluentDeadLetters fires", lambda: is_firing(prometheus, "AffluentDeadLetters", stream))
    print(f"alerts: AffluentDeadLetters fires for {stream}, whose producer breaks records on purpose")


def all_up(prometheus: Prometheus, instances: int) -> bool:
    targets = prometheus.get("targets")["activeTargets"]
    up = [target["labels"]["job"] for target in targets if target["health"] == "up"]
    return set(up) == JOBS and up.count("affluent") == instances


def until_all_seen(prometheus: Prometheus, deployed: Deployed, expected: set[str]) -> None:
    def missing() -> set[str]:
        return expected - {deployed.metric_of(name) for name in prometheus.names()}

    try:
        until("every documented metric is there", lambda: not missing())
    except Failed as failure:
        raise Failed(f"{failure}; missing: {', '.join(sorted(missing()))}") from None


def rules_are_well(prometheus: Prometheus, deployed: Deployed) -> bool:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] == "err":
            raise Failed(f"rule {rule['name']}: {rule['lastError']}")
    return len(rules) == len(deployed.rules) and all(rule["health"] == "ok" for rule in rules)


def panels_resolve(prometheus: Prometheus, deployed: Deployed) -> None:
    """A query whose metrics are all there must give figures: else its labels or its matching are wrong."""
    with_data, waiting = 0, []
    for query in deployed.dashboard_queries():
        expression = filled_in(query)
        if prometheus.recent(expression):
            with_data += 1
        elif may_be_empty(prometheus, deployed, query):
            waiting.append(query.where.removeprefix("dashboard, "))
        else:
            until(f"{query.where} gives a figure: {expression}", lambda e=expression: prometheus.recent(e), 40)
            with_data += 1
    print(f"dashboard: {with_data} queries give figures; without a fault nothing to show: {', '.join(waiting)}")
    for variable in deployed.dashboard["templating"]["list"]:
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
        if not any(label in series["metric"] for series in prometheus.query(selector)):
            raise Failed(f"dashboard, variable {variable['name']}: no series of {selector} has the label {label}")


def may_be_empty(prometheus: Prometheus, deployed: Deployed, query: Query) -> bool:
    """A comparison filters; so does one in the rule behind a recorded series; and what is not there cannot be shown."""
    present = prometheus.names()
    expressions = [query.expression]
    for rule in deployed.rules:
        if rule.get("record") in query.names():
            expressions.append(rule["expr"])
    filters = any(re.search(r"[<>]=?|==", re.sub(r"\{[^}]*\}", "", expression)) for expression in expressions)
    return filters or not query.names() <= present


def filled_in(query: Query) -> str:
    expression = query.expression
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def is_firing(prometheus: Prometheus, alert: str, stream: str) -> bool:
    alerts = prometheus.get("alerts")["alerts"]
    return any(
        found["labels"]["alertname"] == alert and found["labels"].get("stream") == stream and found["state"] == "firing"
        for found in alerts
    )


def lag_comes_and_goes(address: str, stream: str) -> None:
    """Called once the producer has ended: the lag was there, and is gone in both sinks."""
    prometheus = Prometheus(address)
    lag = f'stream_sink:affluent_lag_records:sum{{stream="{stream}"}}'
    highest = max(prometheus.recent(f'{lag.removesuffix("}")}, sink="lake"}}', seconds=120), default=0.0)
    if highest <= 0:
        raise Failed("the lake never had a lag while records came, says the recorded series")
    until("both sinks have caught up", lambda: prometheus.value(f"count({lag} == 0)") == 2)
    print(f"lag: up to {highest:.0f} records in the lake under load, 0 in both sinks after it")
