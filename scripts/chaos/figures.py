"""The figures of a run, for people and as one JSON document.

Owns: medians and percentiles, the table, the document's shape.
Does not own: measuring.
"""

import re
import statistics


def spread(seconds):
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "median": round(statistics.median(ordered), 1),
        # The smallest figure that 95 % do not exceed.
        "p95": round(ordered[-(-len(ordered) * 95 // 100) - 1], 1),
        "worst": round(ordered[-1], 1),
    }


def recovery(measured):
    """`measured`: (kind, seconds) of every round."""
    if not measured:
        return {"overall": None, "by_kind": {}}
    kinds = sorted({kind for kind, _ in measured})
    return {
        "overall": spread([seconds for _, seconds in measured]),
        "by_kind": {kind: spread([s for k, s in measured if k == kind]) for kind in kinds},
    }


def from_logs(logs):
    """What shows that the faults bit: refusals of former owners, and records found already stored."""
    refused = replayed = 0
    for log in logs:
        with open(log, errors="replace") as lines:
            for line in lines:
                refused += "dropping what is not committed and reading progress again" in line
                replayed += sum(int(n) for n in re.findall(r"\breplayed=(\d+)", line))
    return {"commits_refused": refused, "documents_already_there": replayed}


def verified(report):
    """The sums of `affluent verify --json` that matter here."""
    sums = {"holds": report["holds"], "records": 0, "good": 0, "dead_letters": 0, "rollups": 0}
    wrong = dict.fromkeys(("missing", "duplicate", "foreign", "unequal", "behind"), 0)
    for stream in report["streams"]:
        sums["records"] += stream["records"]["read"]
        sums["good"] += stream["records"]["good"]
        sums["dead_letters"] += stream["records"]["rejected"]
        sums["rollups"] += len(stream["rollups"])
        for sink in ("mongo", "lake"):
            for what in wrong:
                wrong[what] += stream[sink][what]
    return {**sums, **wrong}


def wrong(report):
    """What `affluent verify --json` holds against each stream, with one example of each kind."""
    found = []
    for stream in report["streams"]:
        name = stream["stream"]
        found += [f"{name}: {problem}" for problem in stream["problems"]]
        for sink in ("mongo", "lake"):
            for kind, examples in stream[sink]["examples"].items():
                found.append(f"{name} in {sink}: {stream[sink].get(kind)} {kind}, such as {examples[0]}")
        for rollup in stream["rollups"]:
            off = {kind: rollup[kind] for kind in ("missing", "foreign", "unequal") if rollup[kind]}
            if off:
                found.append(f"rollup {rollup['name']}: groups {off}")
        if stream["dead_letters"]["missing"]:
            found.append(f"{name}: {stream['dead_letters']['missing']} dead letters missing")
    return "; ".join(found)


def table(document):
    faults, recovery_ = document["faults"], document["recovery_seconds"]
    lines = [f"{'recovery, seconds':<22}{'rounds':>8}{'median':>9}{'p95':>9}{'worst':>9}"]
    rows = [*recovery_["by_kind"].items(), ("all", recovery_["overall"])]
    lines += [
        f"{kind:<22}{s['count']:>8}{s['median']:>9.1f}{s['p95']:>9.1f}{s['worst']:>9.1f}" for kind, s in rows if s is not None
    ]
    lines.append(f"without a fault the same measure gives {document['undisturbed_seconds']:.1f} s")
    lines.append("")
    lines.append("faults: " + ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items())))
    verify = document["verify"]
    if verify is not None:
        lines.append(
            "verify: {} · {records:,} records, {good:,} good, {dead_letters:,} dead letters · missing {missing}, duplicate "
            "{duplicate}, foreign {foreign}, unequal {unequal}, behind {behind} (both sinks) · {rollups} rollups".format(
                "holds" if verify["holds"] else "DOES NOT HOLD", **verify
            )
        )
    lines.append(
        f"{document['commits_refused']} commits of former owners refused, {document['documents_already_there']:,} documents "
        f"found already there, {document['producer_restarts']} restarts of the load"
    )
    lines.append(f"peak RSS of an instance: {document['peak_rss_mib']} MiB")
    lines.append(f"{document['rounds']} rounds in {document['seconds']:.0f} s, seed {document['seed']}")
    return "\n".join(lines)
