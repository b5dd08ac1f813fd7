"""Training: data that repeats, losses that agree with waveforms, a loop that survives kill -9."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from unweave import hub, separators
from unweave.config import read_toml
from unweave.data import mixtures
from unweave.data.manifest import DecodedClips, read_manifest
from unweave.data.mixtures import Labels, Mixer, MixingConfig
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, OutputError, UnknownNameError, UsageError
from unweave.models.opensep import OpenSepConfig
from unweave.signal.bands import band_matrix
from unweave.signal.stft import stft
from unweave.train.checkpoint import NAME
from unweave.train.loop import LoopConfig, rate
from unweave.train.losses import leak_loss, si_sdr_loss, snr_loss
from unweave.train.recipes import split_groups
from unweave.train.recipes.audiosep import AudioSepRecipe
from unweave.train.recipes.listener import ListenerRecipe
from unweave.train.recipes.mixit import MixItRecipe
from unweave.train.recipes.opensep import OpenSepRecipe, collate, train

DATA = Path(__file__).parent / "data"
CONFIG = """
batch = 2
validation = 2
[model]
fft_size = 512
hop = 256
bands = 32
widths = [8, 16]
heads = 2
layers = 1
[mixing]
seconds = 0.5
[loop]
steps = 4
every = 2
warmup = 2
"""


@pytest.fixture(scope="module")
def mixer(tmp_path_factory: pytest.TempPathFactory) -> Mixer:
    clips = read_manifest(DATA, "train")
    decoded = DecodedClips(DATA, clips, 32_000, tmp_path_factory.mktemp("cache"))
    return Mixer(decoded, MixingConfig(), seed=3)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


def test_manifest_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.csv"):
        read_manifest(tmp_path, "train")
    (tmp_path / "manifest.csv").write_text("file,label\na.wav,dog\n")
    with pytest.raises(UsageError, match="lacks the column 'split'"):
        read_manifest(tmp_path, "train")
    header = "file,split,label,domain,group,seconds,license\n"
    (tmp_path / "manifest.csv").write_text(header + "../secret.wav,train,dog,sound,g,1,CC0\n")
    with pytest.raises(UsageError, match="below the manifest"):
        read_manifest(tmp_path, "train")
    with pytest.raises(UsageError, match="no clip of split 'dev'"):
        read_manifest(DATA, "dev")


def test_decoded_clips_are_the_files_samples(mixer: Mixer) -> None:
    import soundfile

    samples, sample_rate = soundfile.read(DATA / "rain.flac", dtype="float32")
    index = [clip.label for clip in mixer.clips.clips].index("rain")
    assert sample_rate == 32_000
    expected = torch.from_numpy(samples - samples.mean())
    assert torch.allclose(mixer.clips[index], expected, atol=1e-4)


def test_mixtures_repeat_and_differ(mixer: Mixer) -> None:
    one, same, other = mixer.draw(5), mixer.draw(5), mixer.draw(6)
    assert torch.equal(one.sources, same.sources)
    assert one.texts == same.texts
    assert one.sources.shape != other.sources.shape or not torch.equal(one.sources, other.sources)


def test_mixtures_are_what_the_config_says(mixer: Mixer) -> None:
    absent = counts = 0
    for number in range(60):
        item = mixer.draw(number)
        level = 10 * item.sources.square().mean(1).log10()
        assert item.sources.shape[1] == round(3.056 * 32_000)
        assert (level - level[0]).abs().max() <= 8.01
        assert item.wanted[0].any(), "the first query asks for something that is there"
        absent += not item.wanted[-1].any()
        counts += len(item.sources) > 2
    assert 20 <= absent <= 50  # 60 %
    assert 12 <= counts <= 36  # 40 %


def test_what_overlaps_is_never_mixed_nor_called_absent() -> None:
    labels = Labels(["rain", "thunderstorm", "dog barking", "dog growling", "flute", "speech"])
    overlap = {
        (a, b)
        for a in labels.names
        for b in labels.names
        if labels.overlap[labels.number[a], labels.number[b]]
    }
    assert ("rain", "thunderstorm") in overlap  # from the table
    assert ("dog barking", "dog growling") in overlap
    assert ("flute", "rain") not in overlap
    assert all((b, a) in overlap for a, b in overlap)


def test_wording_varies_and_names_the_label_or_tells_its_sound() -> None:
    labels = Labels(["dog barking"])
    draw = torch.Generator().manual_seed(0)
    texts = [labels.wording(0, draw) for _ in range(400)]
    alone = [text for text in texts if text in labels.sounds_like[0]]
    told = [text for text in texts if ": " in text and text.split(": ")[1] in labels.sounds_like[0]]
    assert 40 <= len(alone) <= 80  # 15 %
    assert 110 <= len(told) <= 170  # 35 %
    assert texts.count("dog barking") > 60
    assert len(set(texts)) > 40


def test_a_kind_asks_for_all_that_belong_to_it(tmp_path: Path) -> None:
    names = ["violin", "snare drum", "rain"]
    clips = [
        replace(clip, label=name) for clip, name in zip(read_manifest(DATA, "train"), names, strict=False)
    ]
    config = MixingConfig(kind=1.0, absent=0.0, sources=(0.0, 1.0, 0.0))
    asking = Mixer(DecodedClips(DATA, clips, 8000, tmp_path), config, seed=2)
    asked = {}
    for item in map(asking.draw, range(20)):
        asked |= {text: wanted.sum().item() for text, wanted in zip(item.texts, item.wanted, strict=True)}
    assert {of for text, of in asked.items() if text.endswith("musical instrument")} == {2}
    assert {of for text, of in asked.items() if text.endswith("drum")} == {1}
    assert {of for text, of in asked.items() if text.endswith("weather")} == {1}


def test_a_recording_cut_into_many_clips_is_drawn_as_one(tmp_path: Path) -> None:
    clips = read_manifest(DATA, "train")
    dog = next(clip for clip in clips if clip.label == "dog barking")
    many = [*clips, *[dog] * 9, replace(dog, group="another dog")]
    found = Mixer(DecodedClips(DATA, many, 8000, tmp_path), MixingConfig(evenness=1.0), seed=0)
    weights = dict(zip(found.labels.names, found.weights.tolist(), strict=True))
    assert weights["dog barking"] == 2 * weights["rain"]


def test_a_room_adds_what_it_says() -> None:
    draw = torch.Generator().manual_seed(4)
    for _ in range(20):
        echo = mixtures._room(32_000, 32_000, draw)
        wet = 10 * (echo.square().sum() - 1).log10()  # but for what the first sample of noise adds
        assert -13 < wet < 1
        assert echo[0].abs() > 0.5
        assert echo[-3200:].square().sum() < 1e-4 * echo[:3200].square().sum()


def test_band_losses_agree_with_waveform_energies() -> None:
    """On spectra of real sound: the losses from band sums equal those of the masked spectrum itself."""
    import soundfile

    target, other = (
        torch.from_numpy(soundfile.read(DATA / name, dtype="float32")[0][:48_000])
        for name in ("speech.flac", "alto-saxophone.flac")
    )
    bands = band_matrix(1025, 64)
    wanted, total = stft(target), stft(target + other)
    mask = torch.rand(64, total.shape[-1], generator=torch.Generator().manual_seed(0))
    estimate = (bands.T @ mask) * total
    error = (estimate - wanted).abs().square().sum()
    expected_snr = 10 * (wanted.abs().square().sum() / error).log10()
    cosine = (estimate * wanted.conj()).real.sum() / estimate.norm() / wanted.norm()
    expected_si_sdr = 10 * (cosine**2 / (1 - cosine**2)).log10()
    sums = (
        mask[None],
        (bands @ total.abs().square())[None],
        (bands @ (total * wanted.conj()).real)[None],
        wanted.abs().square().sum()[None],
    )
    assert snr_loss(*sums, ceiling_db=60).item() == pytest.approx(-expected_snr.item(), abs=1e-2)
    assert si_sdr_loss(*sums, ceiling_db=60).item() == pytest.approx(-expected_si_sdr.item(), abs=1e-2)
    passed = 20 * (estimate.norm() / total.norm()).log10()
    assert leak_loss(sums[0], sums[1], floor_db=80).item() == pytest.approx(passed.item(), abs=1e-2)
    assert snr_loss(torch.zeros_like(sums[0]), *sums[1:]).item() == pytest.approx(0, abs=0.01)


def test_rate_rises_holds_and_falls() -> None:
    config = LoopConfig(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    assert rate(config, 0) == pytest.approx(0.1)
    assert rate(config, 50) == 1.0
    assert rate(config, 90) == pytest.approx(0.5)
    assert 0 < rate(config, 99) <= 0.051


def test_groups_are_never_shared_by_both_sides() -> None:
    from unweave.data.manifest import Clip

    clips = [Clip(f"{n}.wav", "train", "rain", "sound", f"g{n % 7}", 1.0, "CC0") for n in range(20)]
    kept, held_out = split_groups(clips)
    assert held_out
    assert not {clip.group for clip in kept} & {clip.group for clip in held_out}


def test_a_run_in_two_halves_equals_an_unbroken_one(config: Path, tmp_path: Path) -> None:
    whole = train(config, DATA, tmp_path / "whole")
    train(config, DATA, tmp_path / "halves", steps=2)
    # The learning rate falls towards the end, so the first half has to know the real end.
    first = json.loads((tmp_path / "halves" / "log.jsonl").read_text().splitlines()[-1])
    assert first["step"] == 2

    broken = tmp_path / "broken"
    recipe = read_toml(OpenSepRecipe, config)
    stopped = _train_until(config, broken, updates=2)
    assert stopped == 2
    resumed = train(config, DATA, broken, resume=True)
    with safe_open(whole, framework="pt") as one, safe_open(resumed, framework="pt") as two:
        assert all(torch.equal(one.get_tensor(name), two.get_tensor(name)) for name in one.keys())  # noqa: SIM118
    logged = [json.loads(line)["step"] for line in (broken / "log.jsonl").read_text().splitlines()]
    assert logged == [2, recipe.loop.steps]


def _train_until(config: Path, out: Path, updates: int) -> int:
    class Stop(Exception):
        pass

    def report(entry: dict[str, float]) -> None:
        if entry["step"] >= updates:
            raise Stop

    with pytest.raises(Stop):
        train(config, DATA, out, report=report)
    return int(json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"])


def test_a_killed_run_resumes(config: Path, tmp_path: Path) -> None:
    """kill -9 between two checkpoints of a real process: the last whole one is there and goes on."""
    config.write_text(CONFIG.replace("steps = 4", "steps = 100000"))
    out = tmp_path / "run"
    program = (
        "from pathlib import Path; from unweave.train.recipes.opensep import train; import sys; "
        "train(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(config), str(DATA), str(out)], env=os.environ.copy()
    )
    deadline = time.monotonic() + 120
    while not (out / NAME).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = (
        json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"]
        if (out / "log.jsonl").exists()
        else 0
    )
    config.write_text(CONFIG.replace("steps = 4", f"steps = {reached + 6}"))
    weights = train(config, DATA, out, resume=True)
    assert separators.load(str(weights), "cpu").sample_rate == 32_000


def test_training_refuses_what_would_lose_work(config: Path, tmp_path: Path) -> None:
    train(config, DATA, tmp_path / "run")
    with pytest.raises(OutputError, match="--resume"):
        train(config, DATA, tmp_path / "run")
    with pytest.raises(ModelError, match="no checkpoint"):
        train(config, DATA, tmp_path / "other", resume=True)
    checkpoint = tmp_path / "run" / NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        train(config, DATA, tmp_path / "run", resume=True)


def test_config_files_are_strict(config: Path, tmp_path: Path) -> None:
    config.write_text("bacth = 3")
    with pytest.raises(UnknownNameError, match="Did you mean 'batch'"):
        read_toml(OpenSepRecipe, config)
    config.write_text('batch = "many"')
    with pytest.raises(UsageError, match="batch wants int"):
        read_toml(OpenSepRecipe, config)
    with pytest.raises(UsageError, match="no config file"):
        read_toml(OpenSepRecipe, tmp_path / "none.toml")


def test_every_shipped_config_is_readable() -> None:
    for path in (Path(__file__).parent.parent / "configs").glob("*.toml"):
        name = tomllib.loads(path.read_text()).get("recipe", "opensep")
        kinds = {
            "opensep": OpenSepRecipe,
            "listener": ListenerRecipe,
            "audiosep": AudioSepRecipe,
            "mixit": MixItRecipe,
        }
        kind = kinds[name]
        assert read_toml(kind, path).loop.steps > 0


def test_it_learns(mixer: Mixer) -> None:
    """One batch of real mixtures, a hundred updates: the separation gets better by decibels."""
    from unweave.models.opensep import OpenSep
    from unweave.train.recipes.opensep import step

    model = OpenSepConfig(fft_size=1024, hop=512, bands=64, widths=(12, 24), heads=2, layers=1)
    recipe = OpenSepRecipe(model=model, mixing=MixingConfig(seconds=1.0), batch=3)
    short = Mixer(mixer.clips, recipe.mixing, seed=1)
    batch = collate(short, range(3), MiniLM(), recipe, noise=0.0)
    torch.manual_seed(0)
    network = OpenSep(model)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    found = []
    for _ in range(100):
        losses = step(network, batch, recipe)
        optimiser.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
        optimiser.step()
        found.append({name: loss.item() for name, loss in losses.items()})
    assert all(math.isfinite(one["loss"]) for one in found)
    assert found[-1]["si_sdr"] < found[0]["si_sdr"] - 4
    assert found[-1]["told"] == 1.0


def test_saved_weights_are_half_precision(config: Path, tmp_path: Path) -> None:
    weights = train(config, DATA, tmp_path / "run")
    assert hub.engine_of(weights) == "opensep"
    with safe_open(weights, framework="pt") as opened:
        assert {opened.get_tensor(name).dtype for name in opened.keys()} == {torch.float16}  # noqa: SIM118
