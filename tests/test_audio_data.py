"""The recordings in tests/data: small, sound, credited, and the demo is the sum of its parts."""

import importlib.util
from pathlib import Path

import pytest
import torch

from unweave.audio import probe, read

DATA = Path(__file__).parent / "data"
FILES = sorted(path.name for path in DATA.glob("*.flac"))


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 1_500_000


@pytest.mark.parametrize("name", FILES)
def test_each_is_credited_and_sounds(name):
    assert f"| `{name}` |" in (DATA / "PROVENANCE.md").read_text(encoding="utf-8")
    assert read(DATA / name).samples.abs().max() > 0.1
    info = probe(DATA / name)
    assert info.subtype == "PCM_16"
    assert (info.sample_rate, info.channels) == ((44_100, 2) if name == "street.flac" else (32_000, 1))


def test_the_demo_is_the_sum_of_its_parts():
    spec = importlib.util.spec_from_file_location("make_mixture", DATA / "make_mixture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    street = read(DATA / "street.flac")

    dog, rain = module.parts().values()

    assert torch.equal(dog + rain, street.samples)
    assert street.samples.shape == (2, 6 * 44_100)
    assert dog[0].square().sum() > 4 * dog[1].square().sum()  # the dog is on the left
    assert rain[1].square().sum() > 4 * rain[0].square().sum()
