"""Mixtures that stay the same, and a ruler checked on systems whose score is known beforehand."""

import json
import math
from pathlib import Path

import pytest
import torch

from unweave import hub
from unweave.evaluate import systems
from unweave.evaluate.benchmarks import TwoSources, present, two_sources
from unweave.evaluate.run import WORST_DB, measure, summary
from unweave.train.publish import publish
from unweave.types import Example

DATA = Path(__file__).parent / "data"
CONFIG = TwoSources(split="test", count=6, seconds=3.0)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(two_sources(DATA, CONFIG))


def test_examples_are_what_the_config_says(examples: list[Example]) -> None:
    again = list(two_sources(DATA, CONFIG))
    for example, same in zip(examples, again, strict=True):
        assert torch.equal(example.mixture, same.mixture)
        assert example.queries == same.queries
        first, second, absent = example.sources
        assert torch.allclose(first + second, example.mixture, atol=1e-6)
        assert not absent.any()
        assert len({query.text for query in example.queries}) == 3
        snr = 10 * (first.square().mean() / second.square().mean()).log10().item()
        assert abs(snr) <= 5.01
        assert example.mixture.shape == (1, 96_000)


def test_low_pass_removes_what_is_above(examples: list[Example]) -> None:
    config = TwoSources(split="test", count=2, seconds=3.0, low_pass_hz=4000)
    for example in two_sources(DATA, config):
        spectrum = torch.fft.rfft(example.mixture[0]).abs().square()
        above = spectrum[int(len(spectrum) * 4500 / 16_000) :].sum() / spectrum.sum()
        assert above < 1e-3


def test_known_systems_score_what_they_must(examples: list[Example]) -> None:
    nothing = summary(measure(systems.nothing, examples), CONFIG.seconds)
    half = summary(measure(systems.half, examples), CONFIG.seconds)
    ideal = summary(measure(systems.ideal_ratio_mask, map(present, examples)), CONFIG.seconds)
    assert nothing.si_sdr_improvement == pytest.approx(0, abs=1e-4)
    assert nothing.absent_db == pytest.approx(0, abs=1e-4)
    assert half.si_sdr_improvement == pytest.approx(0, abs=1e-4)
    assert half.absent_db == pytest.approx(6.02, abs=0.01)
    assert 1.5 < half.sdr_improvement < 4  # what SDR improvement gives away for nothing
    assert ideal.si_sdr_improvement > 10
    assert ideal.wrong == 0
    assert math.isnan(ideal.absent_db)
    assert nothing.queries == 2 * CONFIG.count


def test_the_other_source_is_a_wrong_target_and_silence_has_a_floor(examples: list[Example]) -> None:
    def swapped(example: Example) -> torch.Tensor:
        return example.sources[[1, 0, 2]]

    def silent(example: Example) -> torch.Tensor:
        return torch.zeros_like(example.sources)

    assert summary(measure(swapped, examples), CONFIG.seconds).wrong == 1
    quiet = summary(measure(silent, examples), CONFIG.seconds)
    assert quiet.si_sdr_improvement == WORST_DB
    assert quiet.absent_db == 100


def test_publishing_a_run_fills_index_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = tmp_path / "weights", tmp_path / "run"
    folder.mkdir()
    run.mkdir()
    (folder / "index.json").write_text("{}")
    monkeypatch.setattr(hub, "FOLDER", folder)
    shipped = hub.WEIGHTS[hub.DEFAULT]
    (run / "weights.safetensors").write_bytes(
        (Path(hub.__file__).parent / "weights" / shipped.file).read_bytes()
    )
    (run / "log.jsonl").write_text('{"step": 1, "si_sdr": -1.0}\n{"step": 2, "si_sdr": -2.0}\n')
    one = {"si_sdr_improvement": 1.0, "si_sdr_interval": 0.1, "sdr_improvement": 2.0, "wrong": 0.5}
    report = {
        "dev": {"engine": one | {"absent_db": None, "absent_interval": None}},
        "speed": {"native": {"seconds_per_second": 0.01, "megabytes": 100}},
    }
    (tmp_path / "bench.json").write_text(
        json.dumps(report | {"dev": {"engine": one | {"absent_db": 20.0, "absent_interval": 1.0}}})
    )
    (tmp_path / "notes.md").write_text("# A model\n\nnotes\n")

    card = publish(run, "a", DATA, tmp_path / "bench.json", tmp_path / "notes.md")

    entry = json.loads((folder / "index.json").read_text())["a"]
    assert entry["sha256"] == hub.file_sha256(folder / "a.safetensors")
    assert entry["parameters"] == shipped.parameters
    assert entry["scores"]["dev SI-SDRi dB"] == 1.0
    text = card.read_text()
    assert "| dev | engine | 1.00 ± 0.10 | 2.00 | 50.0 % | 20.0 ± 1.0 |" in text
    assert "| 2 | -2.00 |" in text
