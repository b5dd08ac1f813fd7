"""The check of the stated facts against recordings, on recordings whose band is known."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unweave.data.manifest import COLUMNS
from unweave.evaluate import acoustics
from unweave.evaluate.acoustics import Row, band, check, overlap, summary

RATE = 32_000


def noise_between(low: float, high: float, seed: int) -> np.ndarray:
    """Two seconds of noise, flat between two frequencies and nothing elsewhere."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(2 * RATE))
    hertz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    samples = np.fft.irfft(spectrum)
    return 0.5 * samples / np.abs(samples).max()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five clips each of three labels, and two of another."""
    bands = {
        "rain": (300, 9000),  # as stated
        "thunderstorm": (4000, 12_000),  # far off
        "bubble wrap popping": (30, 60),  # off, and the table says why
        "oboe": (400, 2600),
    }
    rows = []
    for label, (low, high) in bands.items():
        for number in range(2 if label == "oboe" else 5):
            name = f"{label}-{number}.wav"
            soundfile.write(tmp_path / name, noise_between(low, high, number), RATE)
            rows.append([name, "train", label, "sound", name, 2.0, "CC0"])
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    rows.append(["silence.wav", "train", "rain", "sound", "silence", 1.0, "CC0"])
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([COLUMNS, *rows])
    return tmp_path


def test_a_band_is_where_the_energy_is() -> None:
    flat = torch.from_numpy(noise_between(1000, 11_000, 0)).float()
    low, high = band(flat, RATE)
    assert low == pytest.approx(1500, rel=0.05)  # 5 % of the way from 1 to 11 kHz
    assert high == pytest.approx(10_500, rel=0.05)
    assert band(flat * 1e-3, RATE) == (low, high), "the level does not matter"
    assert band(flat + 0.4, RATE) == (low, high), "nor does an offset, which nobody hears"
    assert band(torch.zeros(RATE), RATE) is None
    click = torch.zeros(100)
    click[50] = 1
    low, high = band(click, RATE)  # shorter than a window; all frequencies alike
    assert (low, high) == (pytest.approx(820, abs=20), pytest.approx(15_200, abs=20))


def test_overlap_is_counted_in_octaves() -> None:
    assert overlap((100, 1000), (100, 1000)) == 1
    assert overlap((100, 1000), (200, 500)) == overlap((200, 500), (100, 1000))
    assert overlap((200, 800), (100, 800)) == overlap((200, 800), (200, 1600)), "an octave is an octave"
    assert overlap((1000, 1010), (1000, 1250)) > 0.6, "tones of nearly one pitch are alike"
    assert overlap((100, 200), (1000, 2000)) == 0


def test_every_label_is_judged_by_its_clips(root: Path, tmp_path: Path) -> None:
    rows = {row.label: row for row in check(root, cache=tmp_path / "cache")}
    assert rows.keys() == {"rain", "thunderstorm", "bubble wrap popping"}, "two clips are too few"
    assert {label: row.verdict for label, row in rows.items()} == {
        "rain": "agrees",
        "thunderstorm": "disagrees",
        "bubble wrap popping": "explained",
    }
    rain = rows["rain"]
    assert rain.clips == 5, "silence has no band"
    assert rain.measured == (pytest.approx(735, rel=0.05), pytest.approx(8565, rel=0.05))
    assert rain.stated == (300, 9000)
    assert next(iter(rows)) == "thunderstorm", "the worst comes first"
    assert summary(rows.values()) == {"agrees": 1, "explained": 1, "disagrees": 1}


def test_a_disagreement_is_an_exit_code(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    monkeypatch.setattr(sys, "argv", ["acoustics", "--data", str(root), "--json"])
    with pytest.raises(SystemExit) as left:
        acoustics.main()
    assert left.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["summary"] == {"agrees": 1, "explained": 1, "disagrees": 1}
    assert told["labels"][0]["label"] == "thunderstorm"

    monkeypatch.setattr(acoustics, "check", lambda _: [Row("rain", 5, (300, 9000), (300, 9000), 1.0, "")])
    monkeypatch.setattr(sys, "argv", ["acoustics", "--data", str(root)])
    with pytest.raises(SystemExit) as left:
        acoustics.main()
    assert left.value.code == 0
    assert "1 labels: 1 agrees, 0 explained, 0 disagrees" in capsys.readouterr().out
