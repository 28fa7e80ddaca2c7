"""Where a peer's software lies; prepare.sh fetches it on first use."""

from __future__ import annotations

import functools
import pathlib
import subprocess

PREPARE = pathlib.Path(__file__).resolve().parent / "prepare.sh"


@functools.cache
def prepare(peer: str) -> dict[str, str]:
    """Paths by name; prepare.sh says which names there are."""
    printed = subprocess.run([PREPARE, peer], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines())
