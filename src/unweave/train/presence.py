"""Fit what tells sounds that are there from sounds that are not: the weights of `pipeline.presence.Presence`.

``python -m unweave.train.presence --data ROOT`` draws mixtures of recordings that neither engine nor listener
learned from, asks for what is in them and for as much that is not, and fits a logistic regression over
`SIGNS`. The thresholds are chosen on chances that were predicted for folds left out of the fit.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from unweave import hub
from unweave.data.manifest import cache_folder
from unweave.errors import UsageError
from unweave.evaluate import benchmarks, build
from unweave.evaluate.metrics.openworld import presence_auroc
from unweave.evaluate.pool import Pool
from unweave.listen.merging import MEANS_THE_SAME
from unweave.pipeline import auto, judge
from unweave.pipeline import rig as rigs
from unweave.pipeline.longform import Chunked
from unweave.pipeline.native import Native
from unweave.pipeline.presence import SIGNS, Presence, shipped
from unweave.pipeline.rig import Rig
from unweave.train.recipes import split_groups
from unweave.types import Query

FOLDS = 5
RIDGE = 1.0  # penalty on the squared weights of standardised signs
LOST = 0.01  # share of the sounds that are there that may be silenced by mistake, on training folds


@dataclass(frozen=True)
class Case:
    """A mixture and what is in it."""

    mixture: Tensor  # (C, T)
    there: tuple[str, ...]  # names
    absent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Signs:
    """What was seen of N questions."""

    values: Tensor  # (N, signs) float64
    there: Tensor  # (N,) bool
    case: Tensor  # (N,) number of the mixture
    missed: int = 0  # sounds that were there and not asked about

    def of(self, chosen: Tensor) -> "Signs":
        """Those of a (N,) bool choice."""
        return Signs(self.values[chosen], self.there[chosen], self.case[chosen], self.missed)


def held_out(data: Path, count: int, seed: int, cache: Path) -> Iterator[Case]:
    """Mixtures of one, two and three sounds from training groups that nothing was learned from.

    Raises:
        UsageError: the manifest in `data` has too few groups to hold any out.
    """
    pool = Pool(data, "train", build.RATE, cache)
    _, pool.clips = split_groups(pool.clips)
    if not pool.clips:
        raise UsageError(
            f"{data} has no label with five groups; add recordings, so that some can be held out"
        )
    pool.of_label = {
        label: [clip for clip in pool.clips if clip.label == label]
        for label in sorted({clip.label for clip in pool.clips})
    }
    plan = build.Plan(count, (1, 2, 3), absent=-1)
    for item in build.mixtures(pool, "presence", seed, plan):
        there = tuple(ask.text for ask in item.queries if ask.sources)
        absent = tuple(ask.text for ask in item.queries if not ask.sources)
        yield Case(pool.sum(item.pieces, item.length)[None], there, absent)


def frozen(name: str, data: Path, cache: Path) -> Iterator[Case]:
    """The mixtures of a benchmark."""
    for item, example in benchmarks.examples(benchmarks.load(name), data, cache):
        there = tuple(ask.text for ask in item.queries if ask.sources)
        yield Case(example.mixture, there, tuple(ask.text for ask in item.queries if not ask.sources))


def asked(cases: Iterable[Case], rig: Rig, rate: int = build.RATE) -> Signs:
    """The signs of everything that is there and everything that is not, asked for together."""
    rows, there, number = [], [], []
    for index, case in enumerate(cases):
        names = (*case.there, *case.absent)
        rows += _signs(case.mixture, [Query(name) for name in names], rig, rate)
        there += [name in case.there for name in names]
        number += [index] * len(names)
    return Signs(torch.stack(rows), torch.tensor(there), torch.tensor(number))


def guessed(cases: Iterable[Case], rig: Rig, rate: int = build.RATE) -> Signs:
    """The signs of what the listener suggests; a suggestion is right if it means what no other one meant."""
    rows, there, number, missed = [], [], [], 0
    for index, case in enumerate(cases):
        if rig.ears is None:
            raise UsageError("suggestions take a listener")
        heard = rig.ears.heard(rig.ears.follow([case.mixture], rate))
        guesses = auto.guesses(heard, (), rig.ears.alike)[: auto.Limits().tracks]
        open_names = list(case.there)
        if guesses:
            rows += _signs(case.mixture, [guess.query for guess in guesses], rig, rate)
        for guess in guesses:
            near = [name for name in open_names if rig.ears.alike(name, guess.name) >= MEANS_THE_SAME]
            there.append(bool(near))
            open_names = [name for name in open_names if name not in near[:1]]
            number.append(index)
        missed += len(open_names)
    values = torch.stack(rows) if rows else torch.zeros(0, len(SIGNS), dtype=torch.float64)
    return Signs(values, torch.tensor(there, dtype=torch.bool), torch.tensor(number), missed)


def _signs(mixture: Tensor, queries: Sequence[Query], rig: Rig, rate: int) -> list[Tensor]:
    """(signs,) for each query, of the excerpt in which its stem is loudest."""
    loudest = judge.Loudest(queries, rate)
    for piece, stems in Chunked(Native(rig.separator, rate)).stream([mixture], queries):
        loudest.add(piece, stems)
    return [one[0] for one in judge.signs(queries, loudest, rig) if one is not None]


def fit(signs: Signs, ridge: float = RIDGE) -> tuple[Tensor, float]:
    """Weights (signs,) and bias of the regression, by Newton's method; deterministic.

    >>> values = torch.zeros(4, len(SIGNS), dtype=torch.float64)
    >>> values[:, 0] = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    >>> weights, bias = fit(Signs(values, torch.tensor([False, False, True, True]), torch.arange(4)))
    >>> weights[0].item() > 0, weights[1].item(), abs(bias) < 1e-9
    (True, 0.0, True)
    """
    mean, scale = signs.values.mean(0), signs.values.std(0).clamp(min=1e-6)
    inputs = torch.cat([(signs.values - mean) / scale, torch.ones(len(signs.values), 1)], dim=1).double()
    penalty = ridge * torch.eye(inputs.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 1e-9
    answer = torch.zeros(inputs.shape[1], dtype=torch.float64)
    for _ in range(50):
        chance = (inputs @ answer).sigmoid()
        slope = inputs.T @ (chance - signs.there.double()) + penalty @ answer
        bend = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + penalty
        answer = answer - torch.linalg.solve(bend, slope)
    weights = answer[:-1] / scale
    return weights, float(answer[-1] - (weights * mean).sum())


def unseen_chances(signs: Signs) -> Tensor:
    """(N,) the chance of each question from a fit that did not see its mixture."""
    chances = torch.zeros(len(signs.there), dtype=torch.float64)
    for fold in range(FOLDS):
        left_out = signs.case % FOLDS == fold
        weights, bias = fit(signs.of(~left_out))
        chances[left_out] = (signs.values[left_out] @ weights + bias).sigmoid()
    return chances


def best_drop(chances: Tensor, signs: Signs) -> float:
    """The chance from which on suggestions are kept so that the F1 of names is highest.

    Args:
        chances: (N,) of the suggestions.
        signs: of the suggestions.
    """
    steps = torch.linspace(0.02, 0.9, 45, dtype=torch.float64)
    right = torch.stack([(signs.there & (chances >= step)).sum() for step in steps]).double()
    kept = torch.stack([(chances >= step).sum() for step in steps]).double()
    f1 = 2 * right / (kept + signs.there.sum() + signs.missed).clamp(min=1)
    return float(steps[int(f1.argmax())])


def report(chances: Tensor, there: Tensor, silence: float) -> str:
    """AUROC, what the silence threshold costs and brings, and the reliability in ten bins."""
    lines = [
        f"AUROC {float(presence_auroc(chances, there)):.4f} over {int(there.sum())} present, "
        f"{int((~there).sum())} absent",
        f"silenced below {silence:.3f}: {_percent(chances[there] < silence):.2f} % of the present, "
        f"{_percent(chances[~there] < silence):.1f} % of the absent",
        f"Brier score {float((chances - there.double()).square().mean()):.4f}",
        "chance said   questions   really there",
    ]
    for low in range(10):
        here = (chances >= low / 10) & (chances < (low + 1) / 10 if low < 9 else chances <= 1)
        share = f"{float(there[here].double().mean()):.2f}" if here.any() else "-"
        lines.append(f"{low / 10:.1f} to {(low + 1) / 10:.1f}    {int(here.sum()):8}   {share:>8}")
    return "\n".join(lines)


def _percent(which: Tensor) -> float:
    return 100 * float(which.double().mean())


def train(data: Path, count: int, seed: int, rig: Rig, cache: Path) -> tuple[Presence, str]:
    """Fit on held-out training groups.

    Returns:
        The regression, and a report of chances predicted for folds that were left out.
    """
    cases = list(held_out(data, count, seed, cache))
    signs, suggestions = asked(cases, rig), guessed(cases, rig)
    chances = unseen_chances(signs)
    silence = float(chances[signs.there].quantile(LOST))
    weights, bias = fit(signs)
    drop = best_drop((suggestions.values @ weights + bias).sigmoid(), suggestions)
    fitted = (
        f"python -m unweave.train.presence --items {count} --seed {seed}; {rig.model} {_sha(rig.model)} and "
        f"{rig.listener} {_sha(rig.listener)}; {len(signs.there)} questions about {count} mixtures of "
        f"held-out training groups; AUROC {float(presence_auroc(chances, signs.there)):.4f}, {FOLDS} folds"
    )
    found = Presence(
        tuple(round(float(weight), 5) for weight in weights),
        round(bias, 5),
        round(silence, 4),
        round(max(drop, silence), 4),
        fitted,
    )
    return found, report(chances, signs.there, silence)


def _sha(name: str) -> str:
    digest = hub.WEIGHTS[name].sha256 if name in hub.WEIGHTS else hub.file_sha256(Path(name))
    return digest[:12]


def main() -> None:
    """Fit and write `weights/presence.json`, or measure with ``--measure BENCHMARK``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--items", type=int, help="mixtures; 300, and all of a benchmark")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--listener", default=rigs.LISTENER)
    parser.add_argument("--measure", default="", metavar="BENCHMARK", help="only measure what comes along")
    parser.add_argument("--out", type=Path, default=hub.FOLDER / "presence.json")
    options = parser.parse_args()
    rig, cache = rigs.load(options.model, "cpu", options.listener), cache_folder()
    if options.measure:
        signs = asked(islice(frozen(options.measure, options.data, cache), options.items), rig)
        print(report(shipped().chance(signs.values), signs.there, shipped().silence))
        return
    found, said = train(options.data, options.items or 300, options.seed, rig, cache)
    options.out.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")
    print(said)
    print(found)


if __name__ == "__main__":
    main()
