"""A finished run becomes shipped weights with a card."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unweave import hub
from unweave.train.publish import publish

DATA = Path(__file__).parent / "data"


@pytest.fixture
def run(ears: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copyfile(ears, folder / "weights.safetensors")
    entries: list[dict[str, Any]] = [
        {"step": 10 * n, "rank": 3.0 / n, "held_out/rank": 4.0 / n} for n in (1, 2)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "index.json").write_text("{}")
    monkeypatch.setattr(hub, "FOLDER", folder)
    return folder


def test_a_listener_is_published_with_calibration_and_card(run: Path, shipped: Path, tmp_path: Path) -> None:
    calibration = {
        "calibration": {"threshold": 0.3},
        "fitted_on": "two mixtures",
        "label_f1": {"1": 0.5},
        "reliability": {"frame": [{"count": 4, "said": 0.24, "observed": 0.25}]},
    }
    (run / "weights.json").write_text(json.dumps(calibration))
    notes = tmp_path / "notes.md"
    notes.write_text("# What is in a recording\n\nTrained by a test.\n")

    card = publish(run, "ears", DATA, {"label F1": 0.5}, notes).read_text()

    entry = json.loads((shipped / "index.json").read_text())["ears"]
    assert entry["engine"] == "listener"
    assert entry["sha256"] == hub.file_sha256(shipped / "ears.safetensors")
    assert entry["scores"] == {"label F1": 0.5}
    assert entry["summary"] == "What is in a recording"
    assert json.loads((shipped / "ears.json").read_text()) == calibration
    for said in (
        "Trained by a test.",
        "| label F1 | 0.5 |",
        "| 20 | 1.50 | 2.00 |",
        "| 0.240 | 0.250 | `#####-",
    ):
        assert said in card
    assert "CC BY 3.0" in card  # the licences of what it was trained on
