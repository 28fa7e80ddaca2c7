"""Open dashboards, as the server feels them: scripts/bench/viewers.py URL [--viewers 10] [--seconds 30] [--alone]

A viewer listens to the news and asks what the page about sales asks: figures, the figures of the period before, over time, by
region, product and category, the hours of the week, the latest sales. It does so as the page does: each question again when
there is news, at most once a second, and no sooner than four times as long as its answer took; five requests at a time, as
browsers do. Each viewer looks at a choice of its own (all, a region, a product, a category, a region and a category), so that
not all share one answer.

--alone: no viewers; every question of every choice by itself, seven times, never from the server's memory.

stdout: a JSON object per question and choice, with every time in milliseconds.
Owns: what a page asks, and when. Needs nothing but Python. Does not own: what it costs others (`freshness`).
"""

import argparse
import itertools
import json
import threading
import time
import typing
import urllib.parse
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime, timedelta

ALONE_TIMES = 7
CONNECTIONS = 5
# As in dashboard/src/ui/use_question.ts.
AT_MOST_EVERY_SECONDS = 1.0
SHARE_OF_TIME = 4

Filters = list[tuple[str, str]]
Parameters = dict[str, str]
# In milliseconds, by question and choice.
Times = dict[tuple[str, str], list[float]]


class Server:
    def __init__(self, url: str, begin: datetime, end: datetime):
        self.base = url.rstrip("/") + "/api/v1"
        self.begin, self.end = begin, end

    def page(self) -> typing.Iterator[tuple[str, Parameters]]:
        """What the page about sales asks."""
        before = {"from": rfc3339(self.begin - (self.end - self.begin)), "to": rfc3339(self.begin)}
        yield "figures", {"measures": "revenue,sales,units"}
        yield "figures before", {"measures": "revenue,sales,units"} | before
        yield "over time", {"measures": "revenue", "every": "1d"}
        yield "regions", {"measures": "revenue,sales", "by": "region"}
        yield "products", {"measures": "revenue,sales", "by": "product", "order": "-revenue", "limit": "10"}
        yield "categories", {"measures": "revenue,sales", "by": "category"}
        yield "week", {"measures": "sales", "every": "1h"}
        yield "latest", {}

    def choices(self) -> typing.Iterator[tuple[str, Filters]]:
        """Names and filters, with the value that most sales have."""
        first = {}
        for field in ("region", "product", "category"):
            parameters = {"measures": "sales", "by": field, "order": "-sales", "limit": "1"}
            first[field] = self.ask("most", parameters)["rows"][0][0]
        for fields in ([], ["region"], ["product"], ["category"], ["region", "category"]):
            yield " and ".join(fields) or "all", [("filter", f"{field}:{first[field]}") for field in fields]

    def ask(self, question: str, parameters: Parameters, filters: Filters = ()) -> typing.Any:
        path, period = "aggregate", {"from": rfc3339(self.begin), "to": rfc3339(self.end)}
        if question == "latest":
            path, period = "records", {"limit": "10"}
        query = urllib.parse.urlencode([*(period | parameters).items(), *filters])
        with urllib.request.urlopen(f"{self.base}/streams/sales/{path}?{query}", timeout=30) as answer:
            return json.load(answer)

    def timed(self, question: str, parameters: Parameters, filters: Filters) -> float:
        """Milliseconds."""
        began = time.monotonic()
        self.ask(question, parameters, filters)
        return 1000 * (time.monotonic() - began)


def alone(server: Server) -> Times:
    times: Times = defaultdict(list)
    # Another limit is another question, with the same answer.
    limits = itertools.count(5_000)
    for (choice, filters), (question, parameters) in itertools.product(list(server.choices()), server.page()):
        for number in range(ALONE_TIMES):
            limit = 10 + number if parameters.get("limit") or question == "latest" else next(limits)
            times[question, choice].append(server.timed(question, parameters | {"limit": str(limit)}, filters))
    return times


def together(server: Server, viewers: int, seconds: float) -> Times:
    times: Times = defaultdict(list)
    choices = list(server.choices())
    until = time.monotonic() + seconds
    threads = []
    for number in range(viewers):
        news, connections = News(server.base, until), threading.Semaphore(CONNECTIONS)
        choice, filters = choices[number % len(choices)]
        threads.append(threading.Thread(target=news.listen))
        for question, parameters in server.page():
            arguments = (server, question, parameters, filters, news, connections, times[question, choice])
            threads.append(threading.Thread(target=keep_answered, args=arguments))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def keep_answered(server, question, parameters, filters, news, connections, times: list[float]) -> None:
    seen: int | None = 0
    while seen is not None:
        with connections:
            began = time.monotonic()
            took = server.timed(question, parameters, filters)
        times.append(took)
        pause = max(AT_MOST_EVERY_SECONDS, SHARE_OF_TIME * took / 1000)
        time.sleep(max(0.0, began + pause - time.monotonic()))
        seen = news.after(seen)


class News:
    """Server-sent events, listened to until the end."""

    def __init__(self, base: str, until: float):
        self._base, self._until, self._count, self._more = base, until, 0, threading.Condition()

    def listen(self) -> None:
        with urllib.request.urlopen(f"{self._base}/live", timeout=60) as lines:
            for line in lines:
                if line.startswith(b"data:"):
                    with self._more:
                        self._count += 1
                        self._more.notify_all()
                if time.monotonic() > self._until:
                    break

    def after(self, seen: int) -> int | None:
        """How many there are, once there are more than were seen; None at the end."""
        with self._more:
            left = self._until - time.monotonic()
            is_more = self._more.wait_for(lambda: self._count > seen, max(0.0, left))
            return self._count if is_more and left > 0 else None


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of affluent run or serve, such as http://127.0.0.1:8080")
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--alone", action="store_true")
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    parser.add_argument("--from", dest="begin", type=datetime.fromisoformat, default=tomorrow - timedelta(days=30))
    parser.add_argument("--to", dest="end", type=datetime.fromisoformat, default=tomorrow)
    options = parser.parse_args()
    server = Server(options.url, options.begin, options.end)
    times = alone(server) if options.alone else together(server, options.viewers, options.seconds)
    for (question, choice), took in times.items():
        print(json.dumps({"question": question, "choice": choice, "ms": [round(ms, 1) for ms in took]}))


if __name__ == "__main__":
    main()
