"""What the instances' logs of scripts/churn.sh tell, in figures.

    churn_figures.py JOINED LOG…      JOINED: how often the third member joined and left
"""

import re
import sys
from datetime import datetime

LINE = re.compile(r"^(\S+)\s+(INFO|WARN|ERROR)\s+(.*)$")


def main():
    joined, logs = sys.argv[1], sys.argv[2:]
    commits = {"mongo": [], "lake": []}
    rows = {"mongo": 0, "lake": 0}
    handed_over = unflushed = lost = reads = 0
    for path in logs:
        for line in open(path, encoding="utf-8", errors="replace"):
            match = LINE.match(line)
            if not match:
                continue
            at, _, said = match.groups()
            if said.startswith("committed "):
                sink = re.search(r'sink="(\w+)"', said)[1]
                commits[sink].append(datetime.fromisoformat(at.replace("Z", "+00:00")))
                rows[sink] += int(re.search(r"rows=(\d+)", said)[1])
            elif said.startswith("partitions handed over"):
                handed_over += 1
                unflushed += "flushed=false" in said
            elif "reading progress again" in said:
                lost += 1
            elif said.startswith("reading "):
                reads += 1
    print(f"members joined and left      {joined}")
    print(f"rebalances with a revoke     {handed_over} ({unflushed} not flushed in time, read again)")
    print(f"assignments read             {reads}")
    print(f"commits refused by a fence   {lost}")
    for sink, times in commits.items():
        times.sort()
        gaps = [(b - a).total_seconds() for a, b in zip(times, times[1:])]
        print(
            f"{sink:5}  {rows[sink]} rows in {len(times)} commits, "
            f"longest time without a commit {max(gaps, default=0):.1f} s"
        )


if __name__ == "__main__":
    main()
