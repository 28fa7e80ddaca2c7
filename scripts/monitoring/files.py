"""What must hold of deploy/ without anything running: every name leads somewhere.

Each check yields what is wrong, as a sentence that names where and what to do.
"""

import re
from typing import Any, Iterator

from deployed import METRICS, PROMETHEUS, RUNBOOK, Deployed, Query, anchors, text

SEVERITIES = ("critical", "warning", "info")
GRID_WIDTH = 24
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def problems(deployed: Deployed) -> list[str]:
    return [problem for function in CHECKS for problem in function(deployed)]


@check
def every_name_is_documented(deployed: Deployed) -> Iterator[str]:
    recorded = deployed.recorded()
    for query in deployed.queries():
        names = query.names()
        if not names:
            yield f"{query.where}: reads no series"
        for name in sorted(names):
            if ":" in name and name not in recorded:
                yield f"{query.where}: no rule records {name}"
            elif ":" not in name and name not in PROMETHEUS and deployed.metric_of(name) is None:
                yield f"{query.where}: {name} is not in {METRICS}, or not with that suffix"


@check
def every_metric_is_shown(deployed: Deployed) -> Iterator[str]:
    recorded = {rule["record"]: Query(rule["record"], rule["expr"]) for rule in deployed.rules if "record" in rule}
    names: set[str] = set()
    waiting = list(deployed.dashboard_queries())
    # What a recorded series is made of is shown through it.
    while waiting:
        new = waiting.pop().names() - names
        names |= new
        waiting += [recorded[name] for name in new if name in recorded]
    for name in deployed.documented.keys() - {deployed.metric_of(name) for name in names}:
        yield f"{METRICS} lists {name}, and no panel shows it"


@check
def alerts_say_what_to_do(deployed: Deployed) -> Iterator[str]:
    runbook = text(RUNBOOK)
    for rule in deployed.alerts():
        name, notes = rule["alert"], rule.get("annotations", {})
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            yield f"{name}: its severity is none of {', '.join(SEVERITIES)}"
        for note in ("summary", "description", "runbook"):
            if not notes.get(note):
                yield f"{name}: has no {note}"
        path, _, anchor = notes.get("runbook", "").partition("#")
        if path and anchor not in anchors(text(path)):
            yield f"{name}: {path} has no section #{anchor}"
        if f"`{name}`" not in runbook:
            yield f"{name}: {RUNBOOK} does not explain it"
    known = {rule["alert"] for rule in deployed.alerts()}
    described = [panel.get("description", "") for panel in deployed.panels()]
    for mentioned in set(re.findall(r"\bAffluent[A-Z]\w+", runbook + " ".join(described))) - known:
        yield f"{mentioned} is mentioned, and no rule has that name"


@check
def alerts_are_tested_both_ways(deployed: Deployed) -> Iterator[str]:
    expected: dict[str, list[Any]] = {}
    for test in deployed.tests:
        for case in test.get("alert_rule_test", []):
            expected.setdefault(case["alertname"], []).append(case["exp_alerts"])
    for rule in deployed.alerts():
        cases = expected.get(rule["alert"], [])
        if not any(cases):
            yield f"{rule['alert']}: no test in rules.test.yml sees it fire"
        if all(cases):
            yield f"{rule['alert']}: no test in rules.test.yml sees it keep quiet"


@check
def the_dashboard_holds_together(deployed: Deployed) -> Iterator[str]:
    provisioned = {source["uid"] for source in deployed.datasources}
    variables = {variable["name"] for variable in deployed.dashboard["templating"]["list"]}
    taken: dict[tuple[int, int], str] = {}
    ids = [panel["id"] for panel in deployed.panels()]
    if len(ids) != len(set(ids)):
        yield "dashboard: two panels have one id"
    for panel in deployed.panels():
        place, title = panel["gridPos"], panel["title"]
        if place["x"] + place["w"] > GRID_WIDTH:
            yield f"dashboard, “{title}”: wider than the grid"
        for cell in ((place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])):
            if taken.setdefault(cell, title) != title:
                yield f"dashboard, “{title}” lies upon “{taken[cell]}”"
                break
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"dashboard, “{title}”: has no description"
        for source in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
            if source["uid"] not in provisioned:
                yield f"dashboard, “{title}”: nothing provides the data source {source['uid']}"
        for target in panel["targets"]:
            for name in re.findall(r"\$(\w+)", target["expr"]):
                if name not in variables and not name.startswith("__"):
                    yield f"dashboard, “{title}”: there is no variable ${name}"


@check
def compose_starts_it(deployed: Deployed) -> Iterator[str]:
    services = deployed.compose["services"]
    for name in ("prometheus", "grafana", "kafka-exporter", "process-exporter"):
        service = services.get(name)
        if service is None:
            yield f"docker-compose.yml: has no service {name}"
            continue
        if not re.search(r":v?\d+\.\d+\.\d+", service["image"]):
            yield f"docker-compose.yml, {name}: {service['image']} is no fixed version"
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"docker-compose.yml, {name}: {port} is open to the network"
        for volume in service.get("volumes", []):
            if volume.startswith((".", "/")) and not volume.endswith(":ro"):
                yield f"docker-compose.yml, {name}: {volume} is not read-only"
