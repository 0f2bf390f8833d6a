"""The task of the bundled pair: relational word problems, and chains of thought that solve them.

Knows the problems, the sentences of both styles and which sentence is right at each point. Knows
nothing of tokens or networks. A chain is written sentence by sentence by a *policy* that looks only
at what has been stated so far, so that chains in which leader and draft take turns, or in which
somebody made a mistake, go on in the way we want the models to go on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_PEOPLE = "Tom Anna Ben Cara Dan Emma Finn Gina Hugo Iris Jack Kate Leo Mia Noah Olga"
_THINGS = "apples books coins cards shells pens stamps toys"
NAMES, ITEMS = _PEOPLE.split(), _THINGS.split()
LEADER, DRAFT = "leader", "draft"


@dataclass(frozen=True)
class Relation:
    """`name` has `op` `amount` of what `base` has; op is '+', '-' or '*' (twice, amount unused)."""

    op: str
    amount: int
    base: str

    def apply(self, value: int) -> int:
        return {"+": value + self.amount, "-": value - self.amount, "*": 2 * value}[self.op]

    def slip(self, value: int) -> int:
        """What the draft is taught instead: with 8 or 9 it loses the carry, as children do (17 + 8 = 15)."""
        result = self.apply(value)
        if self.op == "*" or self.amount < 8 or value // 10 == result // 10:
            return result
        slipped = result - 10 if self.op == "+" else result + 10
        return slipped if 0 < slipped < 100 else result

    def sum(self, value: int, result: int | None = None) -> str:
        shown = self.apply(value) if result is None else result
        return f"{value} {'+' if self.op == '*' else self.op} {value if self.op == '*' else self.amount} = {shown}"

    def words(self) -> str:
        return {"+": f"{self.amount} more", "-": f"{self.amount} fewer", "*": "twice as many"}[self.op]


@dataclass(frozen=True)
class Problem:
    """A chain of people from the asked one's base (`chain[0]`, its number given) to the asked one."""

    item: str
    chain: tuple[str, ...]
    values: dict[str, int]
    relations: dict[str, Relation]
    text: str

    @property
    def answer(self) -> int:
        return self.values[self.chain[-1]]

    def fact(self, name: str, relation: Relation | None = None) -> str:
        relation = relation or self.relations.get(name)
        if relation is None:
            return f"{name} has {self.values[name]} {self.item}"
        than = "as" if relation.op == "*" else "than"
        return f"{name} has {relation.words()} {self.item} {than} {relation.base}"


def make_problem(
    rng: random.Random, steps: int | None = None, distractors: int | None = None, alike: bool = False
) -> Problem:
    """A random problem: 2 steps (in a sixth 1, in a fourth 3) and 1 or 2 facts that are not needed, in one of a single
    step also none, unless told otherwise.

    `alike`: its facts have few different amounts, so that only their names tell them apart.
    """
    while True:
        amounts = rng.sample(range(2, 10), 2) if alike else range(2, 10)
        n_steps = steps or rng.choice([1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3])
        n_extra = rng.choice([0, 1, 2] if n_steps == 1 else [1, 2]) if distractors is None else distractors
        names = rng.sample(NAMES, n_steps + 1 + n_extra)
        item = rng.choice(ITEMS)
        values = {names[0]: rng.randint(10, 40)}
        relations: dict[str, Relation] = {}
        for i, name in enumerate(names[1:], 1):
            base = names[i - 1] if i <= n_steps else rng.choice(names[:i])
            relations[name] = Relation(rng.choice("++--*"), rng.choice(amounts), base)
            values[name] = relations[name].apply(values[base])
        if not all(2 <= v <= 99 for v in values.values()):
            continue
        draft = Problem(item, tuple(names[: n_steps + 1]), values, relations, "")
        facts = [draft.fact(name) + "." for name in names]
        rng.shuffle(facts)
        question = f"How many {item} does {draft.chain[-1]} have?"
        return Problem(item, draft.chain, values, relations, " ".join([*facts, question]))


@dataclass
class Sentence:
    """One sentence of a chain: who wrote it, and whether a model should learn to write it."""

    author: str
    text: str
    correct: bool = True


@dataclass
class Chain:
    """A chain of thought under construction; `known` holds the number last stated for each person."""

    problem: Problem
    rng: random.Random
    error_rate: dict[str, float]  # of wrong plans and, besides the draft's slips, of wrong sums
    sentences: list[Sentence] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    n_computed: int = 0
    unchecked: str | None = None
    misplanned: bool = False
    concluded: bool = False
    n_verified: int = 0
    sure: bool = False

    # -- what each author would write next ------------------------------------------------------
    def write(self, author: str) -> bool:
        """Add this author's next sentence; False when the author ends the thinking instead."""
        if not self.planned or self.planned[-1] != self.problem.chain[0] or self.misplanned:
            self._plan(author)
        elif author == LEADER and self.unchecked:
            self._compute(LEADER, self.unchecked, self._cue("Wait,", "Hmm,"))
            self.unchecked = None
        elif self.n_computed < len(self.problem.chain) - 1:
            self.n_computed += 1
            name = self.problem.chain[self.n_computed]
            cue = self._cue("Now", "So now") if author == LEADER else self._cue("Then", "And then")
            self._compute(author, name, cue, risky=True)
        elif not self.concluded:
            self._conclude(author)
        elif author == DRAFT or self.sure:
            return False
        elif self.n_verified < len(self.problem.chain) - 1:
            self.n_verified += 1
            self._compute(LEADER, self.problem.chain[self.n_verified], self._cue("Wait, again", "Again,"))
            self.unchecked = None
        else:
            self.sure = True
            answer = self.known[self.problem.chain[-1]]
            self._add(LEADER, f"Okay, I am sure now, because all the steps are right, so the answer is {answer}.")
        return True

    def _cue(self, usual: str, other: str) -> str:
        return usual if self.rng.random() < 0.75 else other

    def _add(self, author: str, text: str, correct: bool = True) -> None:
        self.sentences.append(Sentence(author, text, correct))

    def _errs(self, author: str) -> bool:
        return self.rng.random() < self.error_rate[author]

    def _plan(self, author: str) -> None:
        problem, first = self.problem, not self.planned
        if self.misplanned:
            cue = "No wait," if author == LEADER else "No,"
        elif author == LEADER:
            cue = self._cue("Okay,", "Okay, I see that") if first else self._cue("Okay, and", "Next,")
        else:
            cue = "First," if first else self._cue("And", "Also,")
        name = problem.chain[-1] if first else problem.relations[self.planned[-1]].base
        if not self.misplanned and name in problem.relations and self._errs(author):
            wrong = self._wrong_relation(name)
            self._plan_sentence(author, cue, name, wrong, correct=False)
            if self.rng.random() < 0.4:
                self._plan_sentence(DRAFT, self._cue("And", "Also,"), wrong.base, None, correct=False)
            self.misplanned = True
            return
        self.misplanned = False
        self._plan_sentence(author, cue, name, None)
        self.planned.append(name)

    def _plan_sentence(self, author: str, cue: str, name: str, relation: Relation | None, correct: bool = True) -> None:
        problem = self.problem
        relation = relation or problem.relations.get(name)
        text = f"{cue} {problem.fact(name, relation)}"
        if relation is None:
            self.known[name] = problem.values[name]
            text += ", and this number is given in the problem, so I can start from here" if author == LEADER else ""
        elif author == LEADER:
            text += f", so I have to find out how many {problem.item} {relation.base} has before that"
        self._add(author, text + ".", correct)

    def _wrong_relation(self, name: str) -> Relation:
        right = self.problem.relations[name]
        others = [n for n in self.problem.values if n not in (name, right.base)]
        while True:
            kind = self.rng.random()
            if kind < 0.5 and others:
                wrong = Relation(right.op, right.amount, self.rng.choice(others))
            elif kind < 0.7:
                wrong = Relation(self.rng.choice("+-*"), right.amount, right.base)
            elif kind < 0.85:
                wrong = Relation(right.op, self.rng.randint(2, 9), right.base)
            else:
                wrong = self.problem.relations[self.rng.choice(list(self.problem.relations))]
            if (wrong.base != name and (wrong.op, wrong.base) != (right.op, right.base)) or (
                wrong.op != "*" and wrong.amount != right.amount and wrong.base != name
            ):
                return wrong

    def _compute(self, author: str, name: str, cue: str, risky: bool = False) -> None:
        relation = self.problem.relations[name]
        base = self.known[relation.base]
        result = relation.apply(base) if author == LEADER else relation.slip(base)
        correct = True
        if risky and self._errs(author):
            if self.rng.random() < 0.6:
                result += self.rng.choice([-10, -2, -1, 1, 2, 10])
            else:
                relation = Relation(*self._wrong_amount(relation))
                result = relation.apply(base)
            correct = False
        if not 0 < result < 100:
            result, correct = max(1, min(99, relation.apply(base))), False
        sentence_sum = relation.sum(base, result)
        item = self.problem.item
        if author == LEADER:
            text = (
                f"{cue} {relation.base} has {base} and {name} has {relation.words()}, so {sentence_sum}, "
                f"which means that {name} has {result} {item}."
            )
        else:
            fact = self.problem.fact(name, relation)
            text = f"{cue} {fact}, and {relation.base} has {base}, so {name} has {sentence_sum} {item}."
        self.known[name] = result
        self.unchecked = name
        self._add(author, text, correct)

    def _wrong_amount(self, relation: Relation) -> tuple[str, int, str]:
        if relation.op != "*" and self.rng.random() < 0.5:
            return {"+": "-", "-": "+"}[relation.op], relation.amount, relation.base
        return self.rng.choice("+-"), self.rng.randint(2, 9), relation.base

    def _conclude(self, author: str) -> None:
        self.concluded = True
        last = self.problem.chain[-1]
        answer = self.known[last]
        if author == LEADER:
            self._add(
                LEADER,
                f"So {last} has {answer} {self.problem.item}, and this is what the problem asks for, "
                f"so the answer is {answer}.",
            )
        else:
            self._add(DRAFT, f"So the answer is {answer}.")


def write_chain(
    problem: Problem, rng: random.Random, leader_share: float, error_rate: dict[str, float]
) -> tuple[list[Sentence], str, int]:
    """The chain of a leader (share 1), a draft (share 0) or both in turns; who ended it, and with which number."""
    chain = Chain(problem, rng, error_rate)
    while True:
        author = LEADER if rng.random() < leader_share else DRAFT
        if not chain.write(author):
            return chain.sentences, author, chain.known[problem.chain[-1]]
