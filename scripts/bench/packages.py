"""The Python environments of scripts/python.sh: programs whose packages are not the benchmark's own run in those.

Owns: nothing but the question. Does not own: what is in them (scripts/requirements-*.txt).
"""

from __future__ import annotations

import functools
import pathlib
import subprocess

PYTHON_SH = pathlib.Path(__file__).resolve().parents[1] / "python.sh"


@functools.cache
def python(packages: str) -> str:
    """The interpreter of that set; it is fetched on first use."""
    return subprocess.run([PYTHON_SH, packages], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
