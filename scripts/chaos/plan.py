"""Which fault comes when, on whom and for how long: a pure function of the seed.

Owns: the kinds of fault, how often and how long each is, two faults at once.
Does not own: doing them (`faults`).

Kinds are drawn from a shuffled deck that holds each as many times as its weight says: a short run sees many
kinds, a long one sees each about as often as it should.
"""

import dataclasses
import random

INSTANCES = ("a", "b")
EVERYBODY = "all"
TOPICS = ("sales", "clicks")
FIRST_PARTITIONS = 3
MOST_PARTITIONS = 8
TWO_AT_ONCE = 0.3


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    weight: int
    hold: tuple  # seconds, shortest and longest
    victims: tuple = ()
    amount: tuple = (0, 0)  # milliseconds or bytes
    unit: str = ""


ANY_OF_THEM = (*INSTANCES, EVERYBODY)
KINDS = (
    Kind("kill", 3, (0, 3), INSTANCES),  # SIGKILL, down for `hold`
    Kind("kill-all", 2, (0, 2)),  # nobody is left to take over
    Kind("kill-starting", 2, (0.05, 2), INSTANCES),  # SIGKILL, start, SIGKILL again after `hold`
    Kind("terminate", 2, (0.5, 4), INSTANCES),  # SIGTERM; must exit 0; down for `hold`
    Kind("pause", 1, (0.3, 4), INSTANCES),  # SIGSTOP, shorter than the session timeout
    Kind("pause-past-session", 2, (7.5, 11), INSTANCES),  # …and longer: wakes up as a former owner
    Kind("join", 2, (3, 7)),  # another instance joins and leaves again
    Kind("add-partition", 1, (0, 0), TOPICS),
    Kind("mongo-kill", 2, (0, 2)),
    Kind("mongo-restart", 1, (0, 2)),
    Kind("mongo-pause", 1, (1, 7)),
    Kind("broker-kill", 1, (0, 2)),
    Kind("broker-restart", 1, (0, 2)),
    Kind("broker-pause", 1, (1, 8)),
    Kind("net-cut", 1, (0.2, 4), ANY_OF_THEM),  # connections to mongod reset, new ones too
    Kind("net-blackhole", 2, (1, 8), ANY_OF_THEM),  # nothing passes, nobody is told
    Kind("net-delay", 1, (2, 6), ANY_OF_THEM, (20, 300), "ms"),  # each way, each piece
    Kind("net-cut-reply", 2, (2, 5), ANY_OF_THEM, (1, 4000), "bytes"),  # each connection ends after so much of its replies
)
# What comes instead of a partition where a topic has enough.
FULL = next(kind for kind in KINDS if kind.name == "join")


@dataclasses.dataclass(frozen=True)
class Fault:
    kind: str
    victim: str
    wait: float  # seconds before it: of the round, or of the first fault's end
    hold: float
    amount: int
    unit: str

    def __str__(self):
        words = [self.kind, self.victim, f"{self.amount} {self.unit}" if self.unit else "", f"{self.hold:.1f} s" if self.hold else ""]
        return " ".join(word for word in words if word)


@dataclasses.dataclass(frozen=True)
class Round:
    number: int
    first: Fault
    second: Fault | None = None
    # The second comes while the first lasts, or while the job recovers from it.
    during_recovery: bool = False

    def __str__(self):
        if self.second is None:
            return str(self.first)
        return f"{self.first} {'then' if self.during_recovery else '+'} {self.second}"

    @property
    def kind(self):
        """What its recovery time counts for: two faults at once are a kind of their own."""
        return self.first.kind if self.second is None else "two at once"


def plan(seed, rounds, only=()):
    """`only`: names of kinds, all of them when empty."""
    dice = random.Random(seed)
    draw = _Deck(dice, [kind for kind in KINDS if not only or kind.name in only]).draw
    planned = []
    for number in range(1, rounds + 1):
        first, second, during_recovery = draw(), None, False
        if dice.random() < TWO_AT_ONCE:
            second, during_recovery = draw(), dice.random() < 0.5
            longest = 4.0 if during_recovery else max(first.hold, 1.0)
            second = dataclasses.replace(second, wait=round(dice.uniform(0, longest), 2))
        planned.append(Round(number, first, second, during_recovery))
    return planned


class _Deck:
    def __init__(self, dice, kinds):
        self.dice = dice
        self.kinds = kinds
        self.cards = []
        self.partitions = dict.fromkeys(TOPICS, FIRST_PARTITIONS)

    def draw(self):
        if not self.cards:
            self.cards = [kind for kind in self.kinds for _ in range(kind.weight)]
            self.dice.shuffle(self.cards)
        kind = self.cards.pop()
        victim = self.dice.choice(kind.victims) if kind.victims else ""
        if kind.name == "add-partition":
            # More than so many would only make every later round slower.
            if self.partitions[victim] == MOST_PARTITIONS:
                kind, victim = FULL, ""
            else:
                self.partitions[victim] += 1
        return Fault(
            kind.name,
            victim,
            wait=round(self.dice.uniform(0, 2), 2),
            hold=round(self.dice.uniform(*kind.hold), 2),
            amount=self.dice.randint(*kind.amount),
            unit=kind.unit,
        )
