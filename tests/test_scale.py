"""Training at scale: in parts, in several processes, from shards. The answer is that of the plain way."""

import io
import json
import math
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unweave.cli import main
from unweave.data.manifest import Clip, DecodedClips, read_manifest
from unweave.data.mixtures import Clips, Mixer, MixingConfig
from unweave.data.shards import INDEX, POOL, Shard, ShardMixer, read_index, read_shard, write_shards
from unweave.encoders.minilm import MiniLM
from unweave.errors import AudioError, OutputError, UsageError
from unweave.hub import file_sha256
from unweave.models.opensep import OpenSep, OpenSepConfig
from unweave.train import estimate
from unweave.train.loop import Batch, Learner, LoopConfig, Part, fit
from unweave.train.losses import mean_of
from unweave.train.recipes.opensep import OpenSepRecipe, collate, step, train

DATA = Path(__file__).parent / "data"
SMALL = OpenSepConfig(fft_size=512, hop=256, bands=32, widths=(8, 16), heads=2, layers=1)  # as in CONFIG
CONFIG = """
batch = 4
validation = 0
[model]
fft_size = 512
hop = 256
bands = 32
widths = [8, 16]
heads = 2
layers = 1
dropout = 0.1
[mixing]
seconds = 0.5
absent = 0.5
[loop]
steps = 4
every = 2
warmup = 2
decay = 0.0
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def regression(number: int, part: Part) -> Batch:
    """Twelve points of a plane a batch; a part of them is "present", more in some parts than in others."""
    draw = torch.Generator().manual_seed(number)
    points = torch.randn(12, 3, generator=draw, dtype=torch.float64)
    present = torch.rand(12, generator=draw) < torch.linspace(0.1, 0.9, 12)
    mine = torch.tensor(list(part.of(range(12))))
    points, present = points[mine], present[mine]
    return {"points": points, "present": present, "counts": present.sum().double()[None]}


def distance(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """A mean over present points and one over all."""
    points, present = batch["points"], batch["present"]
    wrong = (model(points)[:, 0] - points @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)).square()
    there = mean_of(wrong[present], batch["counts"][0])
    return {"loss": there + 0.1 * wrong.mean(), "there": there}


def fitted(out: Path, accumulate: int) -> tuple[dict[str, Tensor], list[float]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        config = LoopConfig(steps=40, every=10, warmup=1, learning_rate=0.05, accumulate=accumulate)
        losses = [entry["there"] for entry in fit(model, regression, distance, config, out)]
    return model.state_dict(), losses


def test_parts_of_a_batch_teach_what_the_whole_does(tmp_path: Path) -> None:
    whole, losses = fitted(tmp_path / "1", 1)
    for parts in (2, 3, 12):
        found, same = fitted(tmp_path / str(parts), parts)
        assert same == pytest.approx(losses, rel=1e-7)
        for name, tensor in whole.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-8)
    assert losses[-1] < 0.5 * losses[0]


def test_two_processes_add_up_to_the_whole(tmp_path: Path) -> None:
    """The same in two processes of three parts each, in double precision: only the order of sums differs."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; from safetensors.torch import save_file; import test_scale\n"
        "from unweave.train import processes\n"
        "with processes.joined():\n"
        f"    weights, losses = test_scale.fitted(Path({str(tmp_path / 'both')!r}), 3)\n"
        f"    save_file(weights, {str(tmp_path)!r} + f'/{{processes.place()}}')\n"
        "    assert bool(losses) == processes.first()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", program], env=os.environ | place | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    whole, losses = fitted(tmp_path / "whole", 1)
    for rank in "01":
        for name, tensor in load_file(tmp_path / rank).items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-8)
    assert [entry["there"] for entry in logged(tmp_path / "both")] == pytest.approx(losses, abs=1e-5)


def test_a_batch_that_cannot_be_parted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 5"):
        fitted(tmp_path, 5)
    with pytest.raises(ValueError, match="accumulate"):
        LoopConfig(accumulate=0)


def test_parts_of_real_mixtures_have_the_losses_of_the_whole(tmp_path: Path) -> None:
    """Queries that are present differ in number from part to part, and texts in length."""
    recipe = OpenSepRecipe(model=SMALL, mixing=MixingConfig(seconds=0.5, absent=0.5))
    mixer = Mixer(DecodedClips(DATA, read_manifest(DATA, "train"), 32_000, tmp_path), recipe.mixing, seed=5)
    encoder, numbers = MiniLM(), range(8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = OpenSep(SMALL)
    whole = collate(mixer, numbers, encoder, recipe, noise=0.3)
    parts = [collate(mixer, Part(index, 4).of(numbers), encoder, recipe, noise=0.3) for index in range(4)]
    assert len({int(part["counts"][0]) for part in parts}) > 1
    assert sum(part["counts"] for part in parts).tolist() == whole["counts"].tolist()
    longest = whole["text"].shape[2]
    texts = torch.cat(
        [nn.functional.pad(one["text"], (0, 0, 0, longest - one["text"].shape[2])) for one in parts]
    )
    torch.testing.assert_close(texts, whole["text"], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        expected = step(network, whole, recipe)
        losses = [step(network, part | {"counts": whole["counts"] / 4}, recipe) for part in parts]
    for name, value in expected.items():
        # Half precision: what is computed beside a sample changes its last digits.
        assert sum(float(one[name]) for one in losses) / 4 == pytest.approx(float(value), rel=0.01, abs=0.01)


def test_two_processes_learn_what_one_does(config: Path, tmp_path: Path) -> None:
    """torchrun and gloo: half of every batch each. The run is then ended by one process alone."""
    alone = config.with_name("alone.toml")
    alone.write_text(CONFIG.replace("[loop]", "[loop]\naccumulate = 2"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun has it
    try:
        train(alone, DATA, tmp_path / "alone")
        out = tmp_path / "together"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["-m", "unweave", "train", str(config), "--data", str(DATA), "-o", str(out)]
        done = subprocess.run([*command, "--steps", "2"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str(out / "weights.safetensors")]
        train(alone, DATA, out, resume=True)
    finally:
        torch.set_num_threads(threads)
    one, two = logged(tmp_path / "alone"), logged(out)
    assert [entry["step"] for entry in two] == [2, 4]
    for expected, found in zip(one, two, strict=True):
        for name in ("loss", "si_sdr", "snr", "leak", "gate", "told", "gradient"):
            assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-3), name  # half precision
    expected, found = (
        joined(load_file(folder / "weights.safetensors")) for folder in (tmp_path / "alone", out)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = joined(OpenSep(SMALL).state_dict())
    assert (found - expected).norm() < 0.02 * (expected - start).norm()


def joined(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].float().flatten() for name in sorted(tensors)])


def test_dropout_is_the_same_after_a_stop() -> None:
    """The masks of an update are its own, whatever was drawn before."""
    model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 1)).double()
    learner = Learner(model, distance, LoopConfig(learning_rate=0.0))
    one = learner.update(3, [regression(3, Part())])
    learner.update(4, [regression(4, Part())])
    assert learner.update(3, [regression(3, Part())])["there"] == one["there"]


def test_what_is_not_finite_changes_nothing() -> None:
    model = nn.Linear(3, 1).double()
    learner = Learner(model, distance, LoopConfig())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = regression(0, Part())
    batch["points"][0, 0] = math.nan
    assert learner.update(0, [batch]) == {"skipped": 1.0}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def corpus(folder: Path, clips: int) -> Path:
    """A manifest of short noises: two of each label from one recording, nine labels."""
    import soundfile

    folder.mkdir()
    names = [
        "rain",
        "flute",
        "dog barking",
        "siren",
        "clapping",
        "laughter",
        "violin",
        "snoring",
        "bell",
        "owl",
    ]
    rows = ["file,split,label,domain,group,seconds,license,source"]
    for number in range(clips):
        noise = torch.randn(800, generator=torch.Generator().manual_seed(number)) * 0.1
        soundfile.write(folder / f"{number}.flac", noise.numpy(), 8000)
        label = names[number // 2 % len(names)]
        rows.append(f"{number}.flac,train,{label},sound,g{number // 2},0.1,CC0,field {number}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips in shards of about four."""
    folder = tmp_path_factory.mktemp("shards")
    data = corpus(folder / "data", 60)
    size = (data / "0.flac").stat().st_size
    write_shards(data, folder / "shards", megabytes=4 * size / 1e6)
    return folder / "shards"


def test_shards_hold_what_the_manifest_lists(sharded: Path) -> None:
    data = sharded.parent / "data"
    clips = {clip.file: clip for clip in read_manifest(data, "train")}
    shards = read_index(sharded)
    found: dict[str, Clip] = {}
    home: dict[str, set[str]] = {}
    for shard in shards:
        held = list(read_shard(sharded, shard))
        assert len(held) == shard.clips == sum(shard.labels.values())
        assert shard.seconds == pytest.approx(sum(clip.seconds for clip, _, _ in held))
        assert file_sha256(sharded / shard.file) == shard.sha256
        for clip, kind, content in held:
            assert (data / clip.file).read_bytes() == content
            assert kind == "flac"
            found[clip.file] = clip
            home.setdefault(clip.group, set()).add(shard.file)
    assert found == clips
    assert all(len(files) == 1 for files in home.values()), "a group was parted"
    assert 10 <= len(shards) <= 15
    assert not (sharded / ".finished.jsonl").exists()


def test_other_programs_read_the_shards(sharded: Path) -> None:
    tar = pytest.importorskip("webdataset").tariterators
    shard = read_index(sharded)[0]
    with (sharded / shard.file).open("rb") as stream:
        samples = list(tar.group_by_keys(tar.tar_file_expander([{"url": shard.file, "stream": stream}])))
    for sample, (clip, kind, content) in zip(samples, read_shard(sharded, shard), strict=True):
        assert sample[kind] == content
        assert json.loads(sample["json"])["label"] == clip.label
        assert json.loads(sample["json"])["source"].startswith("field")


def test_sharding_goes_on_where_it_was_broken_off(sharded: Path, tmp_path: Path) -> None:
    data, size = sharded.parent / "data", (sharded.parent / "data" / "0.flac").stat().st_size

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(data, tmp_path, megabytes=4 * size / 1e6, advance=stop)
    assert not (tmp_path / INDEX).exists()
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    assert len(written) == 3
    write_shards(data, tmp_path, megabytes=4 * size / 1e6)
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in written.items())
    assert (tmp_path / INDEX).read_bytes() == (sharded / INDEX).read_bytes()
    with pytest.raises(OutputError, match="--out"):
        write_shards(data, tmp_path)


def test_the_command_shards_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["data", "shard", "--data", str(DATA), "--out", str(tmp_path / "shards"), "--size", "0.2"])
    assert left.value.code == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'shards' / INDEX}\n"
    assert "5 clips" in said.err
    labels = {clip.label for clip in read_manifest(DATA, "train")}
    assert set().union(*(shard.labels for shard in read_index(tmp_path / "shards"))) == labels
    with pytest.raises(SystemExit) as left:
        main(["data", "shard", "--data", str(DATA), "--out", str(tmp_path / "none"), "--size", "0"])
    assert left.value.code == UsageError.exit_code


def hostile(folder: Path, members: Sequence[tuple[str, bytes]]) -> Shard:
    with tarfile.open(folder / "x.tar", "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Shard("x.tar", file_sha256(folder / "x.tar"), 1, 1.0, {}, "")


@pytest.mark.parametrize(
    "name",
    ["00000000.pickle", "00000000.pyd", "../../00000000.flac", "/00000000.json", "x.flac", "a.pth"],
)
def test_a_hostile_shard_is_not_read(name: str, tmp_path: Path) -> None:
    """The pickle would write a file if anybody loaded it."""
    trap = b"cbuiltins\nexec\n(Vopen('%s', 'w')\ntR." % str(tmp_path / "sprung").encode()
    row = (DATA / "manifest.csv").read_text().splitlines()[-1].split(",")
    columns = ("file", "split", "label", "domain", "group", "seconds", "license")
    facts = json.dumps(dict(zip(columns, row, strict=True)) | {"seconds": 3.0}).encode()
    sound = (DATA / "rain.flac").read_bytes()
    honest = [("00000000.json", facts), ("00000000.flac", sound)]
    shard = hostile(tmp_path, honest)
    assert [clip.label for clip, _, _ in read_shard(tmp_path, shard)] == ["clock ticking"]
    shard = hostile(tmp_path, [*honest, (name, trap)])
    with pytest.raises(AudioError, match="neither a row nor a sound"):
        list(read_shard(tmp_path, shard))
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar"}


def test_damaged_shards_and_indexes_are_named(sharded: Path, tmp_path: Path) -> None:
    shard = read_index(sharded)[0]
    with pytest.raises(AudioError, match="missing"):
        list(read_shard(tmp_path, shard))
    (tmp_path / shard.file).write_bytes((sharded / shard.file).read_bytes()[:-1000])
    with pytest.raises(AudioError, match="not the file of the index"):
        list(read_shard(tmp_path, shard))
    with pytest.raises(AudioError, match="no row before"):
        list(read_shard(tmp_path, hostile(tmp_path, [("00000000.flac", b"")])))
    with pytest.raises(AudioError, match="damaged"):
        list(read_shard(tmp_path, hostile(tmp_path, [("00000000.json", b'{"label": 3}')])))
    with pytest.raises(UsageError, match="data shard"):
        read_index(tmp_path)
    document = json.loads((sharded / INDEX).read_text())
    document["shards"][0]["file"] = "../x.tar"
    (tmp_path / INDEX).write_text(json.dumps(document))
    with pytest.raises(UsageError, match="beside their index"):
        read_index(tmp_path)
    with pytest.raises(UsageError, match="split 'train'"):
        read_index(sharded, "dev")


def mixer_of(folder: Path, place: tuple[int, int] = (0, 1)) -> ShardMixer:
    def make(clips: Clips, seed: int) -> Mixer:
        return Mixer(clips, MixingConfig(seconds=0.1), seed)

    return ShardMixer(folder, read_index(folder), 8000, 3, make, place)


def test_a_stream_goes_on_where_it_stopped(sharded: Path) -> None:
    unbroken = mixer_of(sharded)
    drawn = {number: unbroken.draw(number) for number in range(0, 90, 3)}
    resumed = mixer_of(sharded)
    for number in range(45, 90, 3):
        again = resumed.draw(number)
        assert torch.equal(again.sources, drawn[number].sources)
        assert again.texts == drawn[number].texts
    pools = [tuple(shard.file for shard in unbroken.pool(number)) for number in range(90)]
    assert len(set(pools)) > 15, "the pool does not move on"
    assert max(map(len, pools)) == POOL
    # Every shard has had its turn in a round, and rounds differ.
    shards = {shard.file for shard in read_index(sharded)}
    assert set().union(*pools[:60]) == shards


def test_processes_read_shards_of_their_own(sharded: Path) -> None:
    read = []
    for index in range(3):
        mixer = mixer_of(sharded, (index, 3))
        read.append({shard.file for number in range(0, 600, 4) for shard in mixer.pool(number)})
    assert set().union(*read) == {shard.file for shard in read_index(sharded)}
    assert sum(map(len, read)) == len(read_index(sharded)), "a shard was read by two"
    with pytest.raises(UsageError, match="--size"):
        mixer_of(sharded, (0, 99))


def test_training_from_shards_resumes(sharded: Path, config: Path, tmp_path: Path) -> None:
    whole = train(config, sharded, tmp_path / "whole")
    train(config, sharded, tmp_path / "broken", steps=2)
    resumed = train(config, sharded, tmp_path / "broken", resume=True)
    expected, found = load_file(whole), load_file(resumed)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert [entry["step"] for entry in logged(tmp_path / "broken")] == [2, 4]


def test_the_cost_of_training_is_counted(config: Path) -> None:
    cost = estimate.measure(config, DATA, updates=1)
    assert cost.batch == 4
    assert cost.seconds == 0.5
    assert cost.drawing > 0
    assert cost.learning > 0
    network = OpenSep(SMALL)
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    # The first layer and its gradient alone: 3 channels in, 8 out, 4 by 4, on 16 bands and 32 frames.
    assert cost.flops > 2 * 2 * 16 * 32 * 8 * 3 * 16
    doubled = replace(cost, flops=2 * cost.flops)
    machine = estimate.Machine(gpus=4)
    once, twice = (estimate.hours_on(one, 1e6, machine) for one in (cost, doubled))
    assert twice[0] == pytest.approx(2 * once[0])
    assert twice[1] == once[1]
    assert estimate.hours_on(cost, 1e6, estimate.Machine(gpus=8))[0] == pytest.approx(once[0] / 2)


def test_the_paper_estimate_is_what_the_function_says() -> None:
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"
    ]
    costs, machines = [], []
    for _, million, giga, seconds, milli, share in (row for row in rows if row[0].startswith("opensep-")):
        numbers = (float(seconds), float(milli) / 1e3, 1.0, float(giga) * 1e9)
        costs.append(estimate.TrainingCost(round(float(million) * 1e6), 1, *numbers))
        machines.append(estimate.Machine(utilisation=float(share)))
    known = [row for row in rows if row[0] in ("AudioCaps", "FSD50K", "WavCaps", "all three")]
    assert len(known) == 4
    assert len(costs) == 2
    for _, _, hours, *told in known:
        found = []
        for cost, machine in zip(costs, machines, strict=True):
            mixtures = float(hours.replace(",", "")) * 3600 / cost.seconds
            found += estimate.hours_on(cost, mixtures, machine)
        assert [float(cell) for cell in told] == pytest.approx(found, abs=0.006)
    whole = sum(float(row[2].replace(",", "")) for row in known[:3])
    assert whole == pytest.approx(float(known[3][2].replace(",", "")), abs=1)
