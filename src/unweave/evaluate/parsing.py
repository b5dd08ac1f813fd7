"""How well captions are parsed: precision and recall of rules, and of a chat, on captions with known sources.

Run it as ``python -m unweave.evaluate.parsing [--chat SPEC] [--json]``. The 300 captions are of the
validation set of AudioCaps (Kim et al., NAACL 2019), one for each of 300 recordings, in the order they were
drawn. Their sources were written by one annotator, a language model that read each caption; no person has
checked them. The same model then wrote the rules and corrected them on the first half. The second half is
held out from corrections, not unread.
"""

import argparse
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from unweave.errors import QueryError, UsageError
from unweave.evaluate.benchmarks import FOLDER
from unweave.evaluate.metrics.openworld import TextSimilarity, label_f1, same_words, similarity_by
from unweave.evaluate.statistics import Estimate, estimate
from unweave.language.chat import load
from unweave.language.parse import parse

SHA256 = "a9a0545ac85e99ae31d93c91584862a01f18adc063195013bf55f24c767c73fe"
SEEN = 150  # captions that the rules were written with; the others are held out
NEAR = 0.6  # least cosine of all-MiniLM-L6-v2 between a predicted source and the one it stands for

Parser = Callable[[str], Sequence[str]]  # caption -> sources


@dataclass(frozen=True)
class Item:
    """A caption and its sources."""

    id: int  # of the caption in AudioCaps
    caption: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """Of one parser on one half; means over sources, intervals over captions."""

    parser: str
    half: str  # "seen" or "held out"
    match: str  # "cosine" or "exact"
    captions: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


def gold() -> list[Item]:
    """The captions with their sources, verified; the first `SEEN` are those the rules were written with.

    Raises:
        UsageError: the file is missing or is not the published one.
    """
    path = FOLDER / "parsing-gold.jsonl"
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UsageError(f"{path} is not the published list of captions; reinstall unweave")
    rows = [json.loads(line) for line in content.decode("utf-8").splitlines()]
    return [Item(row["audiocap_id"], row["caption"], tuple(row["sources"])) for row in rows]


def score(
    items: Sequence[Item], predicted: Sequence[Sequence[str]], similarity: TextSimilarity
) -> tuple[Estimate, Estimate, Estimate]:
    """Precision, recall and F1 over all sources, with intervals over captions.

    A predicted and a true source are a pair from a similarity of `NEAR` on, each in one pair at most. F1 is
    the share of all sources, predicted and true, that are in a pair.
    """
    given: list[tuple[float, int]] = []
    wanted: list[tuple[float, int]] = []
    for item, names in zip(items, predicted, strict=True):
        pairs = label_f1(names, item.sources, similarity, NEAR).pairs
        ours, theirs = {one for one, _ in pairs}, {other for _, other in pairs}
        given += [(float(place in ours), item.id) for place in range(len(names))]
        wanted += [(float(place in theirs), item.id) for place in range(len(item.sources))]
    precision, recall, f1 = (
        estimate([value for value, _ in some], [key for _, key in some])
        for some in (given, wanted, given + wanted)
    )
    return precision, recall, f1


def measure(name: str, parser: Parser) -> list[Scores]:
    """One parser on both halves, by cosine and by the very words; what it refuses counts as nothing found."""
    from unweave.encoders.minilm import MiniLM

    items = gold()
    predicted = [_answer(parser, item.caption) for item in items]
    encoder = MiniLM()
    encoder.remember(
        [text for item, names in zip(items, predicted, strict=True) for text in (*item.sources, *names)]
    )
    kinds = (("cosine", similarity_by(encoder)), ("exact", same_words))
    halves = (("seen", slice(0, SEEN)), ("held out", slice(SEEN, None)))
    return [
        Scores(name, half, match, len(items[part]), *score(items[part], predicted[part], similarity))
        for half, part in halves
        for match, similarity in kinds
    ]


def _answer(parser: Parser, caption: str) -> Sequence[str]:
    try:
        return parser(caption)
    except QueryError:
        return ()


def _shown(value: Estimate) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _plain(scores: Scores) -> dict[str, object]:
    """For JSON, which has no NaN."""
    found = dataclasses.asdict(scores)
    for metric in ("precision", "recall", "f1"):
        found[metric] = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in found[metric].items()
        }
    return found


def main(words: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").splitlines()[0]
    options = argparse.ArgumentParser(prog="python -m unweave.evaluate.parsing", description=about)
    options.add_argument(
        "--chat", default="none", metavar="SPEC", help="none, openai:MODEL@ADDRESS or local:FOLDER"
    )
    options.add_argument("--json", action="store_true", help="one JSON object a row, on stdout")
    given = options.parse_args(words)
    results = measure("rules", lambda caption: parse(caption).names)
    chat, alone = load(given.chat), 0
    if chat is not None:

        def asked(caption: str) -> Sequence[str]:
            nonlocal alone
            parsed = parse(caption, chat)
            alone += parsed.by == "rules"
            return parsed.names

        results += measure(given.chat, asked)
    if given.json:
        for one in results:
            print(json.dumps(_plain(one)))
        return
    table = Table("parser", "captions", "match", "precision", "recall", "F1", title="Source parsing")
    for one in results:
        values = (_shown(value) for value in (one.precision, one.recall, one.f1))
        table.add_row(one.parser, f"{one.captions} {one.half}", one.match, *values)
    console = Console()
    console.print(table)
    if chat is not None:
        console.print(f"the rules read {alone} captions in place of the chat")


if __name__ == "__main__":
    main()
