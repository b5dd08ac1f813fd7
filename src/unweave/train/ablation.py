"""Which parts of OpenSep's training pay, on the clips at hand: the ablation of the paper's table 4.

``python -m unweave.train.ablation --data ROOT --out FOLDER`` trains a small network from nothing by name
only, then told how things sound, then on multi-level mixtures as well, with several seeds each, and measures
every one on labels that were trained on and on labels never met; then all of it again on half of the
labels, as in the paper's table 2. With ``--questions`` also on mixtures of three to six sounds, and asked
in prompts other than those it was trained with. A run that was stopped goes on where it was.
"""

import argparse
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unweave import encoders, hub
from unweave.config import read_toml
from unweave.data.manifest import read_manifest
from unweave.encoders.minilm import MiniLM
from unweave.errors import OutputError, UnweaveError, UsageError
from unweave.evaluate import benchmarks, build, systems
from unweave.evaluate.benchmarks import Benchmark, Clips
from unweave.evaluate.frozen import sealed
from unweave.evaluate.headline import headline
from unweave.evaluate.pool import SEED, Pool
from unweave.evaluate.rows import write_atomically
from unweave.evaluate.workers import rivals
from unweave.hub import file_sha256
from unweave.language.prompts import PromptConfig, Prompts
from unweave.models import channels_last
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.separators.opensep import OpenSepSeparator
from unweave.train import checkpoint
from unweave.train.comparison import MEASURED, Found, Row, Run, lines, table
from unweave.train.recipes.opensep import OpenSepRecipe, run

# By name: the prompts, and whether some mixtures are multi-level; each adds one thing to the one before.
VARIANTS = {"name": ("name", False), "knowledge": ("table", False), "multi-level": ("table", True)}
MORE = ("seen-3", "seen-4", "seen-5", "seen-6")  # the paper's first open question
HALVES = ("trained", "other")  # of the labels, where half of them are left out
RESULTS, TABLE = "ablation.json", "ablation.md"


@dataclass(frozen=True)
class Plan:
    """What to train and to measure."""

    data: Path  # folder of manifest.csv and its clips
    out: Path  # folder of everything that is made
    recipe: OpenSepRecipe  # what all runs have in common; its mixing.levels is that of "multi-level"
    seeds: tuple[int, ...] = (0, 1, 2)
    count: int | None = 200  # mixtures of each benchmark; None: all
    benchmarks: tuple[str, ...] = ("seen-2", "unseen-2")  # names, or files of `benchmarks.write`
    split: str = "dev"  # whose clips test the labels of the two halves
    questions: bool = False  # more sources, other prompts
    chat: str = ""  # for prompts of a chat among those, a spec of `chat.load`


@dataclass(frozen=True)
class Trial:
    """What a network is measured on: a benchmark, asked in prompts of a kind."""

    benchmark: Benchmark
    prompts: PromptConfig

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.benchmark.name}--{self.prompts.kind}"


def ablation(plan: Plan, report: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Train and measure what is not there yet, and sum it up in plan.out/ablation.json and ablation.md.

    Args:
        plan: what.
        report: told in a line what goes on.

    Returns:
        What ablation.json says.

    Raises:
        OutputError: `plan.out` holds runs of another recipe.
        UsageError: no manifest, no such benchmark, too few labels to cut in halves, or no multi-level
            mixtures in the recipe.
    """
    if not plan.recipe.mixing.levels:
        raise UsageError("the variant multi-level would be the one before it; set levels above 0 in [mixing]")
    # Seed by seed, so that a stop leaves whole comparisons.
    grid = itertools.product(VARIANTS, ("all", "half"), plan.seeds)
    runs = sorted((Run(*one) for one in grid), key=lambda one: one.seed)
    tests = {labels: _tests(plan, labels) for labels in ("all", "half")}
    clips: dict[str, Clips] = {}
    found: Found = {}
    told = []
    for one in runs:
        weights = train(plan, one, report)
        for test in asked(plan, one, tests[one.labels]):
            place = plan.out / "runs" / one.name / "scores" / f"{test.name}.json"
            identity = {"benchmark": test.benchmark.sha256, "count": plan.count, "chat": test.prompts.chat}
            rows = _kept(place, identity)
            if rows is None:
                report(f"{one.name}: {test.name}")
                key = test.benchmark.sha256
                if key not in clips:
                    clips[key] = Clips(test.benchmark, plan.data)
                rows = measure(weights, test, clips[key], plan.count)
                write_atomically(place, json.dumps(identity | {"rows": rows}, allow_nan=False))
            found[one, test.benchmark.name, test.prompts.kind] = rows
        told.append(_facts(one, weights))
    document = {
        "seeds": list(plan.seeds),
        "count": plan.count,
        "data": file_sha256(plan.data / "manifest.csv"),
        "recipe": asdict(plan.recipe),
        "lines": lines(found, {variant: kind for variant, (kind, _) in VARIANTS.items()}),
        "runs": told,
    }
    text = json.dumps(document, indent=1, allow_nan=False)
    write_atomically(plan.out / RESULTS, text + "\n")
    write_atomically(plan.out / TABLE, table(document))
    said: dict[str, Any] = json.loads(text)
    return said


def recipe_of(plan: Plan, one: Run) -> OpenSepRecipe:
    """What a run is trained with."""
    kind, levels = VARIANTS[one.variant]
    common = plan.recipe
    return replace(
        common,
        prompts=PromptConfig(kind),
        mixing=common.mixing if levels else replace(common.mixing, levels=0.0),
        loop=replace(common.loop, seed=one.seed),
        without=halves(plan.data)[1] if one.labels == "half" else (),
    )


def halves(data: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels of the split "train" in two halves: to train on, and to test on as never met.

    In the order of their hashes, which has nothing to do with what they mean.
    """
    labels = {clip.label for clip in read_manifest(data, "train")}
    ordered = sorted(labels, key=lambda label: hashlib.sha256(label.encode()).hexdigest())
    middle = (len(ordered) + 1) // 2
    return tuple(ordered[:middle]), tuple(ordered[middle:])


def train(plan: Plan, one: Run, report: Callable[[str], None]) -> Path:
    """The weights of a run, trained now unless they are there.

    Raises:
        OutputError: its folder holds another recipe.
    """
    recipe, out = recipe_of(plan, one), plan.out / "runs" / one.name
    text = json.dumps(asdict(recipe) | {"data": file_sha256(plan.data / "manifest.csv")}, indent=1)
    place = out / "recipe.json"
    if place.exists() and place.read_text(encoding="utf-8") != text:
        raise OutputError(f"{out} was made with another recipe or manifest; choose another --out")
    weights = out / "weights.safetensors"
    if not weights.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(place, text)
        resume = (out / checkpoint.NAME).exists()
        steps = recipe.loop.steps
        run(
            recipe,
            plan.data,
            out,
            resume=resume,
            report=lambda entry: report(f"{one.name}: {entry['step']} of {steps}, loss {entry['loss']:.2f}"),
        )
        (out / checkpoint.NAME).unlink()  # several times as large as the weights, and of no more use
    return weights


def _tests(plan: Plan, labels: str) -> list[Benchmark]:
    """What networks trained on all labels, or on half of them, are measured on."""
    if labels == "all":
        names = [*plan.benchmarks, *(MORE if plan.questions else ())]
        return [_benchmark(name) for name in names]
    kept = zip(HALVES, halves(plan.data), strict=True)
    return [_of_labels(plan, f"{name}-half", labels_of) for name, labels_of in kept]


def _benchmark(name: str) -> Benchmark:
    return benchmarks.read(Path(name)) if name.endswith(".jsonl") else benchmarks.load(name)


def _of_labels(plan: Plan, name: str, labels: Sequence[str]) -> Benchmark:
    """Mixtures of two sounds of some labels, drawn as those of `seen-2` are."""
    pool = Pool(plan.data, plan.split, build.RATE)
    pool.of_label = {label: clips for label, clips in pool.of_label.items() if label in labels}
    absent = min(1, len(pool.of_label) - 2)  # a corpus for a smoke test may have no third label
    items = build.mixtures(pool, name, SEED, build.Plan(plan.count or 500, absent=absent))
    return sealed(
        Benchmark(
            name=name,
            sample_rate=build.RATE,
            seconds=5.0,
            seed=SEED,
            command="python -m unweave.train.ablation --data ROOT --out FOLDER",
            files=pool.used(items),
            sha256="",
            items=tuple(items),
            about=f"two sounds at once, {name} of the labels",
        )
    )


def asked(plan: Plan, one: Run, listed: Sequence[Benchmark]) -> Iterator[Trial]:
    """What a run is measured on: in its own prompts, and if the plan says so in others."""
    own = VARIANTS[one.variant][0]
    for benchmark in listed:
        yield Trial(benchmark, PromptConfig(own))
    if not plan.questions or one.labels != "all":
        return
    others = [PromptConfig(kind) for kind in ("name", "table") if kind != own]
    others += [PromptConfig(kind, plan.chat) for kind in ("zero-shot", "five-shot") if plan.chat]
    for benchmark in listed[: len(plan.benchmarks)]:
        for prompts in others:
            yield Trial(benchmark, prompts)


@torch.inference_mode()
def measure(weights: Path, test: Trial, clips: Clips, count: int | None) -> list[Row]:
    """Every answer of the bare engine to the first mixtures of a benchmark whose clips are there.

    Raises:
        UsageError: the network works at another rate than the benchmark.
    """
    network = channels_last(hub.load(OpenSep, OpenSepConfig, weights))
    encoder = encoders.load(network.config.text)
    names = encoder if isinstance(encoder, MiniLM) else MiniLM()
    engine = OpenSepSeparator(network, encoder, prompts=Prompts(test.prompts, names))
    system, rows = systems.engine(engine), []
    for index, item in enumerate(test.benchmark.items[:count]):
        if not clips.ready(item):
            continue
        example = benchmarks.render(test.benchmark, index, clips)
        rest = benchmarks.unasked(test.benchmark, index, clips)
        values = headline(system(example), example.sources, example.mixture, rivals(item.queries), rest)
        for number, ask in enumerate(item.queries):
            row: Row = {"item": item.id, "query": number}
            for metric in MEASURED:
                value = float(values[metric][number])
                if math.isfinite(value) and bool(ask.sources) != (metric == "attenuation_db"):
                    row[metric] = round(value, 6)
            rows.append(row)
    return rows


def _facts(one: Run, weights: Path) -> dict[str, Any]:
    """What is said of one run."""
    log = (weights.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(log[-1])
    seconds = {"seconds": last["seconds"], "seconds_per_update": round(last["seconds"] / last["step"], 4)}
    return (
        asdict(one)
        | {"updates": last["step"], "loss": last["loss"], "threads": torch.get_num_threads()}
        | seconds
    )


def _kept(place: Path, identity: Mapping[str, Any]) -> list[Row] | None:
    """Answers that were measured before, under the same conditions."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        rows: list[Row] = found.pop("rows")
    except (OSError, ValueError, KeyError):
        return None
    return rows if found == identity else None


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of manifest.csv and its clips")
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--config", type=Path, default=Path("configs/ablation.toml"), help="what runs share")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every variant")
    parser.add_argument("--steps", type=int, help="updates of every run, instead of the config's")
    parser.add_argument("--count", type=int, default=200, help="mixtures of every benchmark")
    parser.add_argument("--questions", action="store_true", help="also more sources and other prompts")
    parser.add_argument("--chat", default="", help="openai:MODEL@ADDRESS or local:FOLDER, for its prompts")
    given = parser.parse_args()
    try:
        recipe = read_toml(OpenSepRecipe, given.config)
        if given.steps is not None:
            recipe = replace(recipe, loop=replace(recipe.loop, steps=given.steps))
        plan = Plan(
            data=given.data,
            out=given.out,
            recipe=recipe,
            seeds=tuple(range(given.seeds)),
            count=given.count,
            questions=given.questions,
            chat=given.chat,
        )
        print(table(ablation(plan, lambda line: print(line, flush=True))))
    except UnweaveError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
