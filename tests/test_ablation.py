"""The ablation: what each run is trained and measured with, that it resumes, and what its table says."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unweave.config import read_toml
from unweave.data.mixtures import MixingConfig
from unweave.errors import OutputError, UsageError
from unweave.models.opensep import OpenSepConfig
from unweave.train import ablation as harness
from unweave.train.ablation import VARIANTS, Plan, ablation, asked, halves, recipe_of
from unweave.train.comparison import Run, lines, table
from unweave.train.loop import LoopConfig
from unweave.train.recipes.opensep import OpenSepRecipe

DATA = Path(__file__).parent / "data"
CONFIG = Path(__file__).parent.parent / "configs" / "ablation.toml"
# Names of sounds that nobody takes for one another, for the few clips at hand.
MORE = {"dog-barking": "cowbell", "rain": "zipper", "speech": "accordion", "clock-ticking": "helicopter"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of the tests, four of them under a second name; dev is what is else test."""
    root = tmp_path_factory.mktemp("corpus")
    rows = list(csv.DictReader((DATA / "manifest.csv").read_text().splitlines()))
    for file in DATA.glob("*.flac"):
        (root / file.name).write_bytes(file.read_bytes())
    more = []
    for row in rows:
        stem = row["file"].removesuffix(".flac")
        if stem in MORE:
            more.append(row | {"label": MORE[stem], "group": f"{row['group']} again"})
    with (root / "manifest.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(row | {"split": row["split"].replace("test", "dev")} for row in [*rows, *more])
    return root


@pytest.fixture
def plan(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("XDG_CACHE_HOME", str(corpus / "cache"))
    recipe = OpenSepRecipe(
        model=OpenSepConfig(bands=32, widths=(8, 16), heads=2, layers=1),
        mixing=MixingConfig(seconds=0.5, levels=0.5),
        loop=LoopConfig(steps=2, every=1, warmup=1),
        batch=2,
        validation=0,
    )
    return Plan(corpus, tmp_path / "out", recipe, seeds=(0,), count=2, benchmarks=("tiny",))


def test_variants_differ_in_what_they_are_named_for(plan: Plan) -> None:
    name, knowledge, levels = (recipe_of(plan, Run(one, "all", 1)) for one in VARIANTS)
    assert (name.prompts.kind, name.mixing.levels) == ("name", 0)
    assert replace(name, prompts=knowledge.prompts) == knowledge
    assert knowledge.prompts.kind == "table"
    assert replace(knowledge, mixing=levels.mixing) == levels
    assert levels.mixing == plan.recipe.mixing
    assert {one.loop.seed for one in (name, knowledge, levels)} == {1}
    half = recipe_of(plan, Run("name", "half", 1))
    assert replace(half, without=()) == name
    assert half.without == halves(plan.data)[1]


def test_halves_share_no_label_and_leave_none_out(corpus: Path) -> None:
    one, other = halves(corpus)
    assert (len(one), len(other)) == (5, 4)
    assert not set(one) & set(other)
    assert halves(corpus) == (one, other)


def test_it_trains_measures_resumes_and_sums_up(plan: Plan) -> None:
    told: list[str] = []
    document = ablation(plan, told.append)
    names = {f"{variant}-{labels}-0" for variant in VARIANTS for labels in ("all", "half")}
    assert {place.name for place in (plan.out / "runs").iterdir()} == names
    assert {(one["labels"], one["benchmark"]) for one in document["lines"]} == {
        ("all", "tiny"),
        ("half", "trained-half"),
        ("half", "other-half"),
    }
    assert len(document["lines"]) == 9
    assert all(line["metrics"]["si_sdri"]["mean"] is not None for line in document["lines"])
    assert all(run["updates"] == 2 and run["seconds_per_update"] > 0 for run in document["runs"])
    assert json.loads((plan.out / "ablation.json").read_text()) == document
    assert (plan.out / "ablation.md").read_text() == table(document)

    # What is there is not made again, and what is missing is, to the same digits.
    (plan.out / "runs" / "knowledge-all-0" / "scores" / "tiny--table.json").unlink()
    (plan.out / "runs" / "name-half-0" / "scores" / "other-half--name.json").unlink()
    (plan.out / "runs" / "name-half-0" / "weights.safetensors").unlink()
    told.clear()
    again = ablation(plan, told.append)
    trained = [line for line in told if "loss" in line]
    assert [line.partition(",")[0] for line in trained] == ["name-half-0: 1 of 2", "name-half-0: 2 of 2"]
    assert [line for line in told if "loss" not in line] == [
        "name-half-0: other-half--name",
        "knowledge-all-0: tiny--table",
    ]
    assert again["lines"] == document["lines"]

    with pytest.raises(OutputError, match="another recipe"):
        ablation(replace(plan, recipe=replace(plan.recipe, batch=3)))


def test_without_multi_level_mixtures_there_is_nothing_to_compare(plan: Plan) -> None:
    recipe = replace(plan.recipe, mixing=replace(plan.recipe.mixing, levels=0.0))
    with pytest.raises(UsageError, match="multi-level"):
        ablation(replace(plan, recipe=recipe))


def test_questions_ask_more_sources_and_other_prompts(plan: Plan) -> None:
    full = replace(plan, questions=True, chat="local:somewhere", benchmarks=("seen-2", "unseen-2"))
    listed = harness._tests(full, "all")
    trials = [trial.name for trial in asked(full, Run("knowledge", "all", 0), listed)]
    own = [f"{name}--table" for name in ("seen-2", "unseen-2", "seen-3", "seen-4", "seen-5", "seen-6")]
    others = [
        f"{name}--{kind}" for name in ("seen-2", "unseen-2") for kind in ("name", "zero-shot", "five-shot")
    ]
    assert trials == own + others
    assert len(list(asked(full, Run("name", "half", 0), listed[:2]))) == 2


def test_halves_are_measured_on_their_own_labels(plan: Plan) -> None:
    for listed, labels in zip(harness._tests(plan, "half"), halves(plan.data), strict=True):
        assert {ask.label for item in listed.items for ask in item.queries} <= set(labels)
        assert all(len(item.pieces) == 2 for item in listed.items)


def test_gains_are_paired_and_intervals_are_over_seeds() -> None:
    """Seeds that lie 10 dB apart, every answer of the second variant 1 dB better than the first's."""
    found = {}
    for seed in (0, 1, 2):
        for variant, more in (("a", 0.0), ("b", 1.0)):
            rows = [
                {
                    "item": f"m/{number}",
                    "query": 0,
                    "si_sdri": 10.0 * seed + number + more,
                    "wrong_target": 0.5,
                }
                for number in range(4)
            ]
            found[Run(variant, "all", seed), "seen-2", "name"] = rows
    found[Run("b", "all", 0), "seen-2", "table"] = [{"item": "m/0", "query": 0, "si_sdri": -1.0}]
    first, second, other = lines(found, {"a": "name", "b": "name"})
    assert first["metrics"]["si_sdri"]["mean"] == 11.5
    assert first["metrics"]["si_sdri"]["low"] == 1.5, "some resamples have the worst seed alone"
    assert first["metrics"]["si_sdri"]["high"] == 21.5
    assert first["metrics"]["si_sdri"]["low_over_mixtures"] > 9
    assert first["gain"] is None
    assert (second["gain"]["mean"], second["gain"]["low"], second["gain"]["high"]) == (1, 1, 1)
    assert (other["prompts"], other["gain"]["mean"], other["gain"]["low"]) == ("table", -2, None)
    assert first["metrics"]["attenuation_db"]["mean"] is None
    page = table({"lines": [first, second, other], "seeds": [0, 1, 2], "count": 4})
    assert "| 11.50 [1.50, 21.50] |  |" in page
    assert "| 12.50 [2.50, 22.50] | 1.00 [1.00, 1.00] |" in page
    assert "| 50.0 [50.0, 50.0] |" in page
    assert len({row.count("|") for row in page.splitlines() if row.startswith("|")}) == 1


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "unweave.train.ablation", "--data", str(tmp_path), "--out", str(tmp_path)]
    ended = subprocess.run([*words, "--config", str(CONFIG)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no ")


def test_the_shipped_config_has_every_variant() -> None:
    recipe = read_toml(OpenSepRecipe, CONFIG)
    assert recipe.mixing.levels > 0
    assert recipe.start == ""
