"""A visitor whose page is counted: two requests a second, and one that `affluent collect` has to refuse.

Owns: keeping it busy, until it is ended. Does not own: what it counts (`live`).
"""

import contextlib
import json
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 0.5


def visit(address: str) -> None:
    good = json.dumps([{"session_id": "monitoring", "page": "/"}, {"session_id": "monitoring", "page": "/panier"}])
    while True:
        for body in (good, "no events"):
            request = urllib.request.Request(f"http://{address}/collect", body.encode(), {"Content-Type": "application/json"})
            # Refused, or not there yet: what counts is what the metrics say.
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(request, timeout=10).close()
        time.sleep(PAUSE_SECONDS)
