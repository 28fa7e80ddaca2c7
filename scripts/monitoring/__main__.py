"""The checks of scripts/monitoring.sh, which starts what they need; its header says in which order.

Owns: the command line. Does not own: any check.

    deployed   what is in deploy/ and docs/          files      what must hold of it
    live       what a real Prometheus makes of it    log_ends   the broker's side of the lag
    visits     somebody for affluent collect to count
"""

import argparse
import sys
import urllib.request

import deployed
import files
import live
import log_ends
import visits


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/monitoring")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("files", help="names, labels, anchors, tests: everything that needs no service")
    fetch = commands.add_parser("fetch", help="print /metrics once it has this text")
    fetch.add_argument("address")
    fetch.add_argument("text")
    ends = commands.add_parser("log-ends", help="serve where a topic's log ends")
    ends.add_argument("--brokers", required=True)
    ends.add_argument("--topic", required=True)
    ends.add_argument("--port", required=True, type=int)
    visitor = commands.add_parser("visits", help="send events, and what are none, until it is ended")
    visitor.add_argument("address")
    for name, what in {"live": "rules and panels find their series", "lag": "the lag was there and is gone"}.items():
        command = commands.add_parser(name, help=what)
        command.add_argument("--prometheus", required=True, help="host:port")
        command.add_argument("--stream", required=True)
        if name == "live":
            command.add_argument("--instances", required=True, type=int)
    options = parser.parse_args()
    try:
        return run(options)
    except live.Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    if options.command == "fetch":
        print(fetched(options.address, options.text), end="")
    elif options.command == "log-ends":
        log_ends.serve(options.brokers, options.topic, options.port)
    elif options.command == "visits":
        visits.visit(options.address)
    elif options.command == "lag":
        live.lag_comes_and_goes(options.prometheus, options.stream)
    elif options.command == "live":
        live.run(deployed.load(), options.prometheus, options.instances, options.stream)
    else:
        return report(files.problems(deployed.load()))
    return 0


def fetched(address: str, text: str) -> str:
    """The text of /metrics, once it has `text` in it."""
    seen = ""

    def ready() -> bool:
        nonlocal seen
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            seen = answer.read().decode()
        return text in seen

    live.until(f"/metrics of {address} has {text}", ready)
    return seen


def report(problems: list[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    print("files: " + (f"{len(problems)} problems" if problems else f"{len(files.CHECKS)} checks hold"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
