"""The measurements of scripts/absence.sh: absence.py sample|until-current --address … --lake … --pid … --rate …

sample           every 10 s until --seconds are over, then the figures
until-current    waits until both sinks are at most 5 seconds behind the producer; prints how long that took

The lake's age is that of the newest record (Kafka's timestamp) in the newest Delta commit that has one: what a reader
of the table could see at best.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import time
import urllib.error
import urllib.request
from datetime import datetime

EVERY_SECONDS = 10
BEHIND_SECONDS = 5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["sample", "until-current"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--lake", required=True, type=pathlib.Path)
    parser.add_argument("--pid", required=True, type=int)
    parser.add_argument("--rate", required=True, type=float)
    parser.add_argument("--seconds", type=float, default=0)
    args = parser.parse_args()
    sample(args) if args.what == "sample" else until_current(args)


def sample(args):
    started, busy = time.time(), processor_seconds(args.pid)
    memory, ages, newest = [], [], 0.0
    before = progress(args, "lake")
    while (elapsed := time.time() - started) < args.seconds:
        memory.append(resident_mib(args.pid))
        newest = newest_record(args.lake)
        ages.append(time.time() - newest)
        if len(memory) % 6 == 1:
            print(f"{elapsed:5.0f} s  {memory[-1]:4.0f} MiB  lake {ages[-1]:5.0f} s old", flush=True)
        time.sleep(min(EVERY_SECONDS, args.seconds - elapsed))
    seconds = time.time() - started
    halves = memory[: len(memory) // 2 or 1], memory[len(memory) // 2 :]
    for name, half in zip(("first", "second"), halves):
        middle = statistics.median(half)
        print(f"memory, {name} half: {min(half):.0f} min · {middle:.0f} median · {max(half):.0f} max MiB")
    print(f"processor: {100 * (processor_seconds(args.pid) - busy) / seconds:.1f} % of a core")
    print(f"lake's newest record: {statistics.median(ages):.0f} s old in the median, {max(ages):.0f} s at most")
    ahead = progress(args, "lake") - before
    print(f"the lake went on for {max(0.0, newest - started):.0f} s, {ahead:.0f} records, without mongodb")
    tries = series(args, "affluent_failed_tries_total", 'part="mongo"')
    print(f"tries of mongodb: {tries:.0f} in {seconds:.0f} s; {board(args)}")


def until_current(args):
    started = time.time()
    while True:
        lag = time.time() - newest_record(args.lake)
        gap = progress(args, "lake") - progress(args, "mongo")
        # Within a commit interval of the producer, and of each other.
        if ready(args) and lag <= 2 * BEHIND_SECONDS and gap <= BEHIND_SECONDS * args.rate:
            break
        time.sleep(0.5)
    print(f"both sinks up to date after {time.time() - started:.1f} s")


def get(args, path):
    try:
        with urllib.request.urlopen(f"http://{args.address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        os.kill(args.pid, 0)  # An error of its own when the job has ended.
        return 0, ""


def ready(args):
    return get(args, "/readyz")[0] == 200


def board(args):
    parts = json.loads(get(args, "/readyz")[1])["parts"]
    return "; ".join(f"{p['part']} {p['state']} since {p['since']}" for p in parts if "since" in p) or "all parts work"


def series(args, name, label):
    lines = get(args, "/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{") and label in line)


def progress(args, sink):
    return series(args, "affluent_progress_offset", f'sink="{sink}"')


def newest_record(lake):
    commits = sorted(lake.glob("_delta_log/" + "[0-9]" * 20 + ".json"), reverse=True)
    for commit in commits[:50]:
        newest = [
            json.loads(action["add"]["stats"])["maxValues"]["_timestamp"]
            for action in map(json.loads, commit.read_text().splitlines())
            if "add" in action
        ]
        if newest:
            return max(datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp() for text in newest)
    return 0.0


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
