"""How often an instruction becomes exactly the plan that was meant, by the rules and by a chat.

Run it as ``python -m unweave.evaluate.instructions [--chat SPEC] [--json]``. The 250 instructions and their
plans were written by hand before the rules, in two parts: 200 ordinary ones and 50 nasty ones. The rules were
made with the first half of each part in view ("developed"); the second half is "held out".
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from unweave.errors import QueryError
from unweave.language import chat as chats
from unweave.language import instruct
from unweave.language.plans import Edit, Plan, from_document

PARTS = ("ordinary", "nasty")
NEAR_DB = 0.05  # gains this near or nearer are one


@dataclass(frozen=True)
class Instruction:
    """One row of the gold set."""

    text: str
    part: str  # of PARTS
    plan: Plan | None  # None: to be refused
    held_out: bool


@dataclass(frozen=True)
class Answer:
    """What a parser made of it."""

    instruction: Instruction
    plan: Plan | None  # None: refused
    why: str = ""  # it was refused

    @property
    def exact(self) -> bool:
        """Whether the plan is the one that was meant, in any order of its edits."""
        return same(self.plan, self.instruction.plan)


def gold() -> list[Instruction]:
    """The gold set, the ordinary ones first."""
    file = resources.files("unweave.evaluate") / "lists" / "instructions-gold.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = []
    for part in PARTS:
        own = [row for row in rows if row["part"] == part]
        for i, row in enumerate(own):
            meant = {key: row[key] for key in ("edits", "rest_db") if key in row}
            plan = None if row.get("refused") else from_document(meant)
            found.append(Instruction(row["text"], part, plan, held_out=i >= len(own) // 2))
    return found


def same(one: Plan | None, other: Plan | None) -> bool:
    """Whether two plans do the same."""
    if one is None or other is None:
        return one is other
    mine, theirs = sorted(map(_comparable, one.edits)), sorted(map(_comparable, other.edits))
    return (
        [row[:2] for row in mine] == [row[:2] for row in theirs]
        and all(_near(a[2], b[2]) for a, b in zip(mine, theirs, strict=True))
        and _near(one.rest_db, other.rest_db)
    )


def answers(chat: chats.Chat | None = None) -> Iterator[Answer]:
    """The gold set as the rules read it, or as `chat` does."""
    for instruction in gold():
        try:
            yield Answer(instruction, instruct.plan(instruction.text, chat))
        except QueryError as error:
            yield Answer(instruction, None, str(error))


def accuracy(found: list[Answer]) -> dict[str, dict[str, Any]]:
    """Exact plans in each half of each part: {"ordinary, developed": {"count", "exact", "accuracy"}, ...}."""
    scores = {}
    for part in PARTS:
        for held_out, half in ((False, "developed"), (True, "held out")):
            some = [a for a in found if (a.instruction.part, a.instruction.held_out) == (part, held_out)]
            exact = sum(answer.exact for answer in some)
            scores[f"{part}, {half}"] = {
                "count": len(some),
                "exact": exact,
                "accuracy": round(exact / len(some), 3),
                "by_chat": sum(answer.plan is not None and answer.plan.by == "chat" for answer in some),
            }
    return scores


def _comparable(edit: Edit) -> tuple[str, tuple[tuple[float, float], ...], float]:
    return edit.name.casefold(), tuple(sorted(edit.spans)), edit.gain_db


def _near(one: float, other: float) -> bool:
    return one == other or abs(one - other) <= NEAR_DB  # the first for two that are removed


def main() -> None:
    """Print the scores, and the developed ones that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--chat", default="", help=f"a language model: {chats.KINDS}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--wrong", action="store_true", help="show what went wrong among the developed ones")
    given = parser.parse_args()
    kinds: dict[str, chats.Chat | None] = {"rules": None}
    if (chat := chats.load(given.chat)) is not None:
        kinds[given.chat] = chat
    found = {name: list(answers(one)) for name, one in kinds.items()}
    if given.json:
        print(json.dumps({name: accuracy(some) for name, some in found.items()}))
        return
    for name, some in found.items():
        for part, one in accuracy(some).items():
            print(
                f"{name:<20}  {part:<20}  {one['exact']:>3} of {one['count']:>3} exact  {one['accuracy']:.3f}"
            )
    for answer in (a for some in found.values() for a in some if given.wrong and not a.exact):
        if not answer.instruction.held_out:
            print(f"{answer.instruction.text!r}: {answer.plan or answer.why}")


if __name__ == "__main__":
    main()
