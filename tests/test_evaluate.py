"""The evaluator on systems whose score is known, and on runs that are killed, resumed and compared."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unweave.errors import OutputError, UnknownNameError, UsageError
from unweave.evaluate import benchmarks, run
from unweave.evaluate.compare import compare
from unweave.evaluate.headline import EXACT_DB, QUIETEST_DB, WORST_DB, headline
from unweave.evaluate.metrics import openworld
from unweave.evaluate.metrics import signal as plain
from unweave.evaluate.rows import read
from unweave.types import Example

DATA = Path(__file__).parent / "data"
Cli = Callable[..., Any]  # conftest.Ran


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def planned(out: Path, *engines: str, **others: Any) -> run.Plan:
    return run.Plan(engines, ("tiny",), DATA, out, **({"baseline": ""} | others))


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, dict[str, Any]]:
    """A report of everything whose score is known, on all of the tiny benchmark."""
    out = tmp_path_factory.mktemp("systems")
    plan = planned(out, "ideal-mask", "half", "nothing", cache=cache / "unweave")
    return out, run.evaluate(plan, page=False)


@pytest.fixture(scope="module")
def examples(cache: Path) -> list[Example]:
    tiny = benchmarks.load("tiny")
    clips = benchmarks.Clips(tiny, DATA, cache / "unweave")
    return [benchmarks.render(tiny, index, clips) for index in (0, 1)]


def timeless(path: Path) -> list[dict[str, Any]]:
    """Rows without what a clock says."""
    _, items = read(path)
    return [{key: row[key] for key in row if key != "seconds"} for rows in items.values() for row in rows]


def clock(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    _, items = read(path)
    return {(row["item"], row["query"]): row["seconds"] for rows in items.values() for row in rows}


# The headline: dot products against the functions that define the metrics.


def every_metric(estimates: Tensor, sources: Tensor, mixture: Tensor, rivals: Tensor) -> dict[str, Tensor]:
    whole = mixture.expand_as(sources)
    others = [sources[rivals[query]] for query in range(len(sources))]
    return {
        "si_sdr": plain.si_sdr(estimates, sources).mean(1),
        "si_sdri": plain.si_sdr_improvement(estimates, sources, whole).mean(1).clamp(min=WORST_DB),
        "sdr": plain.sdr(estimates, sources).mean(1),
        "sdri": plain.sdr_improvement(estimates, sources, whole).mean(1),
        "snr_db": plain.sdr(whole, sources).mean(1),
        "attenuation_db": plain.attenuation_db(estimates, whole).mean(1).clamp(max=QUIETEST_DB),
        "wrong_target": torch.stack(
            [
                openworld.wrong_target(estimate[0], source[0], other[:, 0])
                for estimate, source, other in zip(estimates, sources, others, strict=True)
            ]
        ),
        "sum_error_db": openworld.consistency_error_db(estimates, mixture).mean(0)[None].clamp(min=EXACT_DB),
    }


def assert_same(example: Example, estimates: Tensor) -> None:
    there = example.sources.flatten(1).any(1)
    rivals = there[:, None] & there[None, :] & ~torch.eye(len(there), dtype=torch.bool)
    found = headline(estimates, example.sources, example.mixture, rivals)
    wanted = every_metric(estimates, example.sources, example.mixture, rivals)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-6, equal_nan=True, msg=name)


@pytest.mark.parametrize("noise", [1.0, 0.1, 1e-3, 1e-5, 0.0])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_dot_products_say_what_the_metrics_say(examples: list[Example], noise: float, offset: float) -> None:
    """From bad answers to perfect ones, whose error is far below what a difference of energies resolves."""
    for example in examples:
        draw = torch.randn(example.sources.shape, generator=torch.Generator().manual_seed(0))
        level = example.mixture.square().mean().sqrt()
        assert_same(example, 0.8 * example.sources + noise * level * draw + offset * level)
        assert_same(example, example.sources + noise * level * draw)
        assert_same(example, example.mixture + noise * level * draw)
        assert_same(example, example.sources.roll(1, 0) + noise * level * draw)


def test_dot_products_of_degenerate_answers(examples: list[Example]) -> None:
    example = examples[0]
    silent = torch.zeros_like(example.sources)
    assert_same(example, silent)
    assert_same(example, silent + 0.1)
    constant = replace(example, sources=torch.cat([example.sources[:1], silent[1:] + 0.01]))
    assert_same(constant, example.sources)


def test_dot_products_in_stereo_and_in_blocks(examples: list[Example]) -> None:
    one = examples[0]
    pan = torch.tensor([0.2, 1.0, 0.7])[:, None, None]
    sources = torch.cat([pan * one.sources, one.sources], 1).repeat(1, 1, 2)[..., :100_003]
    stereo = Example("stereo", sources.sum(0), sources, one.queries, one.sample_rate)
    estimates = sources + 0.2 * sources.roll(1, 0) + 0.01 * sources.flip(1)
    found = headline(estimates, sources, stereo.mixture, torch.zeros(3, 3, dtype=torch.bool))
    for name in ("si_sdr", "si_sdri", "sdr", "sdri", "attenuation_db", "sum_error_db"):
        wanted = every_metric(estimates, sources, stereo.mixture, torch.zeros(3, 3, dtype=torch.bool))[name]
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6, equal_nan=True, msg=name)


def test_the_other_source_is_a_wrong_target_only_where_it_is_a_rival(examples: list[Example]) -> None:
    example = examples[0]
    swapped = example.sources[[1, 0, 2]]
    rivals = torch.tensor([[False, True, False], [True, False, False], [False] * 3])
    wrong = headline(swapped, example.sources, example.mixture, rivals)["wrong_target"]
    assert wrong[:2].tolist() == [1, 1]
    assert wrong[2].isnan()
    alike = headline(swapped, example.sources, example.mixture, torch.zeros(3, 3, dtype=torch.bool))
    assert alike["wrong_target"].isnan().all()


def test_what_nobody_asks_for_is_a_rival_too(examples: list[Example]) -> None:
    example = examples[0]
    asked, rest = example.sources[:1], example.sources[1]
    none = torch.zeros(1, 1, dtype=torch.bool)
    for estimate, wrong in ((asked + 0.1 * rest, 0.0), (0.1 * asked + rest, 1.0)):
        assert headline(estimate, asked, example.mixture, none, rest)["wrong_target"].tolist() == [wrong]
        assert headline(estimate, asked, example.mixture, none)["wrong_target"].isnan().all()


def test_answers_that_cannot_be_measured_are_refused(examples: list[Example]) -> None:
    example, none = examples[0], torch.zeros(3, 3, dtype=torch.bool)
    broken = example.sources.clone()
    broken[1, 0, 7] = torch.nan
    with pytest.raises(UsageError, match="the estimates hold NaN"):
        headline(broken, example.sources, example.mixture, none)
    with pytest.raises(UsageError, match="do not fit"):
        headline(example.sources[:2], example.sources, example.mixture, none)


# Whole runs.


def test_known_systems_score_what_they_must(systems: tuple[Path, dict[str, Any]]) -> None:
    out, document = systems
    ideal, half, nothing = document["results"]
    assert [one["engine"] for one in document["results"]] == ["ideal-mask", "half", "nothing"]
    for one in document["results"]:
        assert one["items"] == 24
        assert one["queries"]["present"] > one["queries"]["absent"] > 0
        assert one["failed"] == one["left_out"] == []
        assert one["metrics"]["si_sdri"]["count"] == one["queries"]["present"]
        assert one["metrics"]["attenuation_db"]["count"] == one["queries"]["absent"]
    for name in ("mean", "low", "high", "median"):
        assert nothing["metrics"]["si_sdri"][name] == nothing["metrics"]["sdri"][name] == 0
        assert half["metrics"]["si_sdri"][name] == 0
        assert half["metrics"]["attenuation_db"][name] == pytest.approx(6.0206, abs=1e-4)
        assert nothing["metrics"]["attenuation_db"][name] == 0
    assert half["metrics"]["sdri"]["low"] > 2  # what SDR improvement gives away for nothing
    assert half["presence_auroc"] == nothing["presence_auroc"] == 0.5
    assert ideal["presence_auroc"] == 1
    assert ideal["metrics"]["si_sdri"]["low"] > 14
    assert ideal["metrics"]["wrong_target"]["mean"] == 0
    assert ideal["metrics"]["attenuation_db"]["mean"] == QUIETEST_DB
    assert 0.4 < nothing["metrics"]["wrong_target"]["mean"] < 0.7  # the louder source is always right
    assert json.loads((out / "results.json").read_text()) == document


def test_groups_are_the_rows_sorted_apart(systems: tuple[Path, dict[str, Any]]) -> None:
    out, document = systems
    ideal = document["results"][0]
    rows = [row for row in timeless(out / ideal["rows"]) if row["present"]]
    assert [group["key"] for group in ideal["by_label"]] == sorted({row["label"] for row in rows})
    for group in ideal["by_label"]:
        values = [row["metrics"]["si_sdri"] for row in rows if row["label"] == group["key"]]
        assert group["count"] == len(values)
        assert group["mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    for group in ideal["by_snr"]:
        inside = [row for row in rows if abs(row["snr_db"] - group["key"]) <= 1]
        assert group["count"] == len(inside)
    assert sum(group["count"] for group in ideal["by_snr"]) == len(rows)
    assert [group["key"] for group in ideal["by_sources"]] == sorted({row["sources"] for row in rows})
    ranked = sorted(row["metrics"]["si_sdri"] for row in rows)
    assert [row["metrics"]["si_sdri"] for row in ideal["worst"]] == ranked[:10]
    assert [row["metrics"]["si_sdri"] for row in ideal["best"]] == ranked[:-11:-1]
    two = [row for row in rows if row["sources"] == 2]
    for first, second in zip(two[::2], two[1::2], strict=True):
        assert first["snr_db"] == pytest.approx(-second["snr_db"], abs=1e-3)  # two sources of one mixture


def test_a_finished_run_is_not_done_again_and_a_torn_one_is_mended(
    systems: tuple[Path, dict[str, Any]], tmp_path: Path, cache: Path
) -> None:
    out = tmp_path / "report"
    shutil.copytree(systems[0], out)
    path = out / "rows" / "tiny--half.jsonl"
    before, times = path.read_bytes(), clock(path)
    seen: list[run.Step] = []
    run.evaluate(planned(out, "half"), seen.append, page=False)
    assert seen == []
    assert path.read_bytes() == before

    lines = before.splitlines(keepends=True)
    items = [json.loads(line).get("item") for line in lines]
    lost = items.index("tiny/5")
    del lines[lost]  # one answer of an item, as if the write had stopped between two of them
    path.write_bytes(b"".join(lines) + b'{"item": "tiny/99", "que')
    document = run.evaluate(planned(out, "half"), seen.append, page=False)
    assert seen == [run.Step("half on tiny", 24, 24, 1, 1)]
    assert timeless(path) == timeless(systems[0] / "rows" / "tiny--half.jsonl")
    again = clock(path)
    assert {key for key in times if times[key] != again[key]} == {key for key in times if key[0] == "tiny/5"}
    assert document["results"][0]["metrics"] == systems[1]["results"][1]["metrics"]


def test_rows_of_another_run_are_refused(systems: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "report"
    shutil.copytree(systems[0], out)
    rows = (out / "rows" / "tiny--half.jsonl").read_bytes()
    with pytest.raises(OutputError, match=r"rows of another run \(threads 1 and not 2\).*-o"):
        run.evaluate(planned(out, "half", threads=2))
    assert (out / "rows" / "tiny--half.jsonl").read_bytes() == rows
    more = run.evaluate(planned(out, "half", count=3), page=False)  # a part of the same run is not another
    assert more["results"][0]["items"] == 3
    assert (out / "rows" / "tiny--half.jsonl").read_bytes() == rows


def evaluating(out: Path, *words: str) -> "subprocess.Popen[str]":
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        command = [sys.executable, "-m", "unweave", "evaluate", "--engine", "opensep", "--benchmark", "tiny"]
        return subprocess.Popen(
            [*command, "--data", str(DATA), "-o", str(out), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_rows(process: "subprocess.Popen[str]", path: Path, items: int) -> None:
    while process.poll() is None and (not path.exists() or len(read(path)[1]) < items):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")
def test_two_workers_a_killed_run_and_one_worker_say_the_same(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    path = killed / "rows" / "tiny--opensep-small.jsonl"
    with evaluating(killed, "--workers", "2", "--count", "20") as process:
        wait_for_rows(process, path, 2)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in workers if Path(f"/proc/{pid}/exe").exists()], "workers outlived their parent"
    assert len(workers) >= 2
    done = clock(path)
    assert done

    document = run.evaluate(planned(killed, "opensep", count=4), page=False)  # resumed by one worker
    assert {key: clock(path)[key] for key in done} == done, "finished items were done again"
    again = run.evaluate(planned(whole, "opensep", count=4), page=False)
    other = whole / "rows" / "tiny--opensep-small.jsonl"
    first = [row for row in timeless(path) if int(row["item"].split("/")[1]) < 4]
    assert first == timeless(other)
    assert document["results"][0]["metrics"] == again["results"][0]["metrics"]
    assert again["results"][0]["metrics"]["si_sdri"]["mean"] > 8
    assert again["results"][0]["engine_share"] > 0.5
    (engine,) = again["engines"]
    assert engine["loading_seconds"] > 0
    assert engine["worker_megabytes"] > 100


def test_ctrl_c_leaves_a_folder_that_can_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "report"
    path = out / "rows" / "tiny--opensep-small.jsonl"
    with evaluating(out) as process:
        wait_for_rows(process, path, 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    _, items = read(path)
    assert items
    assert not (out / "results.json").exists()
    assert sorted((out / "rows").iterdir()) == [path.with_name("tiny--half.jsonl"), path]


def test_an_item_that_fails_does_not_stop_the_others(cli: Cli, tmp_path: Path) -> None:
    tiny = benchmarks.load("tiny")
    first = tiny.items[0]
    late = replace(first.pieces[0], start=10_000_000)  # the clip ends long before
    items = (replace(first, pieces=(late, *first.pieces[1:])), *tiny.items[1:3])
    benchmarks.write(replace(tiny, name="late", items=items), tmp_path / "late.jsonl")
    ran = cli(
        "evaluate", "--engine", "half", "--benchmark", "late.jsonl", "--data", DATA, "-o", "out", "--json"
    )
    assert ran.code == 3
    assert "tiny/0" in ran.err
    (document,) = ran.documents
    (result,) = document["results"]
    assert result["items"] == 2
    assert [failed["item"] for failed in result["failed"]] == ["tiny/0"]
    assert "tiny/0" in Path("out/index.html").read_text()


def test_missing_clips_are_counted_and_changed_ones_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(DATA, folder)
    (folder / "rain.flac").unlink()
    words = ("evaluate", "--engine", "nothing", "--benchmark", "tiny", "--data", folder)
    ran = cli(*words, "-o", "out")
    assert ran.code == 3
    document = json.loads(Path("out/results.json").read_text())
    result, _ = document["results"]
    rainy = [
        item.id
        for item in benchmarks.load("tiny").items
        if any(piece.file == "rain.flac" for piece in item.pieces)
    ]
    assert result["left_out"] == rainy
    assert result["items"] == 24 - len(rainy)
    assert document["benchmarks"][0]["missing"] == ["rain.flac"]

    shutil.copy(DATA / "speech.flac", folder / "rain.flac")
    ran = cli(*words, "-o", "other")
    assert ran.code == 2
    assert "rain.flac" in ran.err
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--engine", "opensepp"], "Did you mean 'opensep'?"),
        (["--engine", "ideal-mark"], "Did you mean 'ideal-mask'?"),
        (["--benchmark", "seen-22"], "Did you mean 'seen-2'?"),
        (["--metrics", "perzeptual"], "Did you mean 'perceptual'?"),
        (["--metrics", "semantic", "--embedder", "clapp"], "Did you mean 'clap'?"),
        (["--engine", ""], "an engine and a benchmark"),
        (["--data", "nowhere"], "none of the"),
        (["--compare", "one", "two"], "no whole report"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(cli: Cli, words: list[str], named: str) -> None:
    given = {"--engine": "half", "--benchmark": "tiny", "--data": str(DATA)}
    rest = words if "--compare" in words else []
    given |= dict(zip(words[::2], words[1::2], strict=True)) if not rest else {}
    ran = cli("evaluate", *(word for pair in given.items() for word in pair), *rest)
    assert ran.code == 2
    assert named in ran.err
    assert list(Path().iterdir()) == []


def test_a_report_compared_with_itself_and_with_another(
    systems: tuple[Path, dict[str, Any]], cli: Cli, tmp_path: Path
) -> None:
    out, document = systems
    same = compare(out, out)
    assert {one["metric"] for one in same} >= {"si_sdri", "sdri", "wrong_target", "attenuation_db"}
    assert {one["engines"][0] for one in same} == {"ideal-mask", "half", "nothing"}
    for one in same:
        assert (one["difference"], one["low"], one["high"]) == (0, 0, 0), one

    run.evaluate(planned(tmp_path / "a", "half"), page=False)
    run.evaluate(planned(tmp_path / "b", "nothing"), page=False)
    ran = cli("evaluate", "--compare", "a", "b", "--json")
    gained = {one["metric"]: one for one in ran.documents[0]}
    assert gained["sdri"]["engines"] == ["half", "nothing"]
    half = document["results"][1]["metrics"]["sdri"]
    assert gained["sdri"]["difference"] == pytest.approx(half["mean"], abs=1e-6)
    assert (gained["sdri"]["low"], gained["sdri"]["high"]) == pytest.approx((half["low"], half["high"]))
    assert gained["sdri"]["pairs"] == half["count"]
    table = cli("evaluate", "--compare", "a", "b").out
    assert f"{half['mean']:.2f}" in table
    assert "SDRi dB" in table


def test_other_mixtures_of_the_same_name_are_not_compared(tmp_path: Path) -> None:
    tiny = benchmarks.load("tiny")
    for name, items in (("a", tiny.items[:2]), ("b", tiny.items[2:4])):
        benchmarks.write(replace(tiny, items=items), tmp_path / f"{name}.jsonl")
        run.evaluate(run.Plan(("half",), (f"{name}.jsonl",), DATA, tmp_path / name), page=False)
    with pytest.raises(UsageError, match="different lists called 'tiny'"):
        compare(tmp_path / "a", tmp_path / "b")


def test_more_sets_of_metrics(tmp_path: Path) -> None:
    """Perfect and useless answers have known values in all of them."""
    plan = planned(tmp_path / "r", "nothing", count=2, metrics=("spectral", "bss", "semantic"))
    document = run.evaluate(plan, page=False)
    (one,) = document["results"]
    metrics = one["metrics"]
    assert metrics["delay_samples"]["median"] == 0
    assert metrics["multi_resolution_stft"]["mean"] > 0.1
    assert -1 <= metrics["clap_text"]["mean"] <= 1
    assert 0 < metrics["clap_audio"]["mean"] < 1
    assert metrics["bss_sir"]["mean"] == pytest.approx(metrics["bss_sdr"]["mean"], abs=0.5)  # no artefacts
    assert metrics["bss_sar"]["mean"] > 60
    assert one["frechet_audio_distance"] > 0
    assert document["options"]["embedder"] == "own listener"
    rows = timeless(tmp_path / "r" / one["rows"])
    assert all(("heard" in row) == row["present"] for row in rows)


def test_benchmarks_are_listed_described_and_built(cli: Cli, tmp_path: Path) -> None:
    listed = cli("benchmarks", "list", "--json").documents[0]
    assert [one["name"] for one in listed] == benchmarks.names()
    tiny = next(one for one in listed if one["name"] == "tiny")
    assert tiny["mixtures"] == 24
    assert "tiny" in cli("benchmarks").out
    told = cli("benchmarks", "info", "tiny")
    assert benchmarks.load("tiny").sha256 in told.out
    assert cli("benchmarks", "info", "tinny").code == 2
    built = cli("benchmarks", "build", "tiny", "--data", DATA, "-o", "again.jsonl")
    assert built.code == 0, built.err
    assert benchmarks.read(Path("again.jsonl")).sha256 == tiny["sha256"]
    assert cli("benchmarks", "build", "tiny", "--data", DATA, "-o", "again.jsonl").code == 7


def test_rows_keep_the_reason_for_what_is_not_finite() -> None:
    from unweave.evaluate.rows import row

    found = row({"item": "a"}, {"sdr": math.inf, "si_sdr": -math.inf, "pesq": math.nan, "x": -0.00001})
    assert found["metrics"] == {"sdr": None, "si_sdr": None, "pesq": None, "x": 0.0}
    assert found["undefined"] == {"sdr": "infinite", "si_sdr": "-infinite", "pesq": "undefined"}
    assert math.copysign(1, found["metrics"]["x"]) == 1  # no minus in front of nothing


def test_all_leaves_out_lists_without_a_clip(tmp_path: Path) -> None:
    plan = replace(planned(tmp_path / "report", "nothing", count=1), benchmarks=("all",))
    with pytest.warns(UserWarning, match=r"left out, as none of their clips is below .*: absent, long, "):
        document = run.evaluate(plan, page=False)
    assert [one["name"] for one in document["benchmarks"]] == ["tiny"]
    with pytest.raises(UsageError, match="no benchmark has a clip below"):
        run.evaluate(replace(plan, data=tmp_path), page=False)


def test_half_stands_beside_whatever_is_measured(tmp_path: Path) -> None:
    plan = replace(planned(tmp_path, "nothing", count=2), baseline="half")
    nothing, half = run.evaluate(plan, page=False)["results"]
    assert (nothing["engine"], half["engine"]) == ("nothing", "half")
    assert half["metrics"]["sdri"]["mean"] > 1 > nothing["metrics"]["sdri"]["mean"] == 0


@pytest.mark.parametrize(
    ("named", "error", "says"),
    [
        ("clap=no/folder", UsageError, "commit"),
        ("ears", UnknownNameError, "embedder"),
        ("clap=", UsageError, "commit"),
    ],
)
def test_what_listens_is_refused_before_any_work(
    tmp_path: Path, named: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run.evaluate(planned(tmp_path, "nothing", metrics=("semantic",), embedder=named), page=False)
    assert not list(tmp_path.iterdir())
