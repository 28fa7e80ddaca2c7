"""Runs a command and writes what it cost as shell assignments: measure.py OUT COMMAND ARGS…

OUT gets `seconds=`, `cpu_seconds=` and `peak_rss_mib=` of that one process; the exit code is the command's.
`/usr/bin/time -v` says the same, but is not part of a slim Debian.
"""

import os
import sys
import time

out, command = sys.argv[1], sys.argv[2:]
started = time.monotonic()
child = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - started
with open(out, "w") as file:
    print(f"seconds={seconds:.2f}", file=file)
    print(f"cpu_seconds={usage.ru_utime + usage.ru_stime:.2f}", file=file)
    print(f"peak_rss_mib={usage.ru_maxrss // 1024}", file=file)  # Linux counts in KiB
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
