"""How good the automatic mode is: names, sounds, and whether it knows what is there.

``python -m unweave.evaluate.automatic --data ROOT [--count N] [--json]``

Mixtures of the frozen lists go through `pipeline.edit.separate` with no word said. Names are right from a
text similarity of 0.6 on, one to one. Sounds are compared with what the same engine makes of the true labels.
One source: the first of each mixture of `seen-2`, alone. Presence: the scores of named queries on `absent`.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unweave import hub
from unweave.encoders.minilm import MiniLM
from unweave.evaluate import benchmarks
from unweave.evaluate.headline import WORST_DB
from unweave.evaluate.metrics.openworld import (
    class_aware_sdri,
    count_accuracy,
    label_f1,
    presence_auroc,
    similarity_by,
)
from unweave.evaluate.metrics.signal import si_sdr
from unweave.evaluate.statistics import Estimate, estimate
from unweave.pipeline import edit, rig
from unweave.pipeline.rig import Rig
from unweave.types import Audio, Example, Query, Stem

SAME = 0.6  # text similarity from which a name counts as right
SOURCES = {1: "seen-2", 2: "seen-2", 3: "seen-3"}


@dataclass(frozen=True)
class Row:
    """What came of one mixture; NaN where there is nothing to measure."""

    mixture: str
    label_f1: float
    precision: float
    recall: float
    count_right: float
    si_sdri: float  # mean over the sources that are there; a missed one counts 0 dB
    si_sdri_told: float  # of the same engine, told the true labels
    ca_sdri: float  # class-aware SDR improvement
    ca_sdri_told: float


def measure(data: Path, sources: int, count: int | None, model: str) -> list[Row]:
    """Rows of the first mixtures of `sources` known sounds; all of the list where `count` is None."""
    ears = rig.load(model, "cpu")
    told = replace(ears, ears=None)  # named sounds are not silenced, whatever the listener thinks
    similarity = similarity_by(MiniLM())
    rows = []
    for example in islice(_examples(data, sources), count):
        labels = [query.text for query in example.queries]
        stems = _named(example, None, ears)
        pairs = label_f1(list(stems), labels, similarity, SAME)
        right = {labels[true]: list(stems)[found] for found, true in pairs.pairs}
        asked = _named(example, labels, told)
        references = dict(zip(labels, example.sources, strict=True))
        # Under the true name where it is right, or two spellings of one label would count as two.
        answers = {label: stems[name] for label, name in right.items()}
        answers |= {name: stem for name, stem in stems.items() if name not in right.values()}
        mixture = example.mixture if sources > 1 else None  # alone, there is nothing to improve
        rows.append(
            Row(
                mixture=example.id,
                label_f1=pairs.f1,
                precision=pairs.precision,
                recall=pairs.recall,
                count_right=float(count_accuracy(torch.tensor(len(stems)), torch.tensor(len(labels)))),
                si_sdri=_improvement(answers, references, mixture),
                si_sdri_told=_improvement(asked, references, mixture),
                ca_sdri=_class_aware(answers, references, mixture),
                ca_sdri_told=_class_aware(asked, references, mixture),
            )
        )
    return rows


def presence(data: Path, count: int | None, model: str) -> tuple[float, int, int]:
    """AUROC of the scores of named queries on `absent`, and how many were there and not."""
    loaded = rig.load(model, "cpu")
    scores, there = [], []
    for item, example in islice(benchmarks.examples(benchmarks.load("absent"), data), count):
        texts = dict.fromkeys(ask.text for ask in item.queries)
        found = edit.separate(Audio(example.mixture, example.sample_rate), list(texts), model=loaded)
        score = {stem.query.text: stem.score for stem in found if stem.query is not None}
        scores += [score[ask.text] for ask in item.queries]
        there += [bool(ask.sources) for ask in item.queries]
    present = torch.tensor(there)
    auroc = float(presence_auroc(torch.tensor(scores, dtype=torch.float64), present))
    return auroc, int(present.sum()), int((~present).sum())


def _examples(data: Path, sources: int) -> Iterator[Example]:
    """Mixtures whose queries are their sources, each once, by label."""
    for item, example in benchmarks.examples(benchmarks.load(SOURCES[sources]), data):
        chosen: dict[int, int] = {}
        for index, ask in enumerate(item.queries):
            if len(ask.sources) == 1:
                chosen.setdefault(ask.sources[0], index)
        kept = list(chosen.values())[: 1 if sources == 1 else None]
        answers = example.sources[kept]
        yield Example(
            id=example.id,
            mixture=answers[0] if sources == 1 else example.mixture,
            sources=answers,
            queries=tuple(Query(item.queries[index].label) for index in kept),
            sample_rate=example.sample_rate,
        )


def _named(example: Example, labels: list[str] | None, loaded: Rig) -> dict[str, Tensor]:
    """(C, T) stems by name, without the residual."""
    stems: list[Stem] = edit.separate(Audio(example.mixture, example.sample_rate), labels, model=loaded)
    return {stem.query.text: stem.audio.samples for stem in stems if stem.query is not None}


def _class_aware(answers: dict[str, Tensor], references: dict[str, Tensor], mixture: Tensor | None) -> float:
    if mixture is None:
        return math.nan
    return float(class_aware_sdri(answers, references, mixture).mean())


def _improvement(answers: dict[str, Tensor], references: dict[str, Tensor], mixture: Tensor | None) -> float:
    if mixture is None:
        return math.nan
    gained = []
    for label, reference in references.items():
        if label not in answers:
            gained.append(0.0)  # what is left without the name is the mixture
            continue
        better = float((si_sdr(answers[label], reference) - si_sdr(mixture, reference)).mean())
        gained.append(max(better, WORST_DB))  # a silent answer has no SI-SDR but minus infinity
    return sum(gained) / len(gained)


def _estimates(rows: list[Row]) -> dict[str, Estimate]:
    mixtures = [row.mixture for row in rows]
    fields = [field.name for field in dataclasses.fields(Row) if field.name != "mixture"]
    return {name: estimate([getattr(row, name) for row in rows], mixtures) for name in fields}


def _plain(one: Estimate) -> dict[str, float | None]:
    values = dataclasses.asdict(one)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _print(console: Console, found: dict[int, dict[str, Estimate]]) -> None:
    table = Table(title="automatic mode", title_justify="left")
    for column in ("sources", "label F1", "precision", "recall", "right count"):
        table.add_column(column)
    for column in ("SI-SDRi dB", "told", "CA-SDRi dB", "told"):
        table.add_column(column)
    for sources, estimates in found.items():
        cells = [
            "-" if math.isnan(one.mean) else f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]"
            for one in estimates.values()
        ]
        table.add_row(str(sources), *cells)
    console.print(table)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the benchmarks' clips")
    parser.add_argument("--count", type=int, help="mixtures of each; default: all")
    parser.add_argument("--sources", default="1,2,3", help="how many at once, with commas")
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    found = {
        number: _estimates(measure(options.data, number, options.count, options.model))
        for number in map(int, options.sources.split(","))
    }
    _print(console, found)
    auroc, there, not_there = presence(options.data, options.count, options.model)
    console.print(
        f"presence on `absent`: AUROC {auroc:.4f} over {there} present and {not_there} absent sounds"
    )
    if options.json:
        report = {
            str(number): {name: _plain(one) for name, one in estimates.items()}
            for number, estimates in found.items()
        }
        print(json.dumps(report | {"presence": {"auroc": auroc, "present": there, "absent": not_there}}))


if __name__ == "__main__":
    main()
