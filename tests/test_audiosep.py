"""AudioSep: the published format in real classes, its text side against laion_clap's, its small twin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from test_resunet import by_rule
from unweave import hub, separators
from unweave.data.manifest import DecodedClips, read_manifest
from unweave.data.mixtures import Mixer, MixingConfig
from unweave.encoders.minilm import MiniLM
from unweave.errors import ModelError, QueryError, UnknownNameError, UsageError
from unweave.evaluate import engines
from unweave.models.resunet import ResUNet, ResUNetConfig, published_config
from unweave.separators.audiosep import AudioSepSeparator
from unweave.train.recipes import train
from unweave.train.recipes.audiosep import AudioSepRecipe, collate, step
from unweave.types import Audio, Query

DATA = Path(__file__).parent / "data"
DIM, LONGEST = 12, 32  # size of the vector, word pieces of the longest text
TINY = ResUNetConfig(sample_rate=4000, fft_size=256, hop=40, widths=(4, 6, 6), condition_dim=DIM)
NOISE = 0.1 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))


def save_tokenizer(folder: Path, *more: str) -> int:
    """RoBERTa's tokenizer with letters for words, in the published format; how many pieces it knows."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizerFast

    letters = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *more, "<mask>"]
    tokenizer = RobertaTokenizerFast(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    tokenizer.save_pretrained(folder)
    return len(letters)


def clap(pieces: int) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """laion_clap's text branch and projection, and a state dict as it has it: sound side and all."""
    from transformers import RobertaConfig, RobertaModel

    sizes = {"vocab_size": pieces, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}
    branch = RobertaModel(RobertaConfig(**sizes, layer_norm_eps=1e-5)).eval()
    projection = nn.Sequential(nn.Linear(16, DIM), nn.ReLU(), nn.Linear(DIM, DIM)).eval()
    for parameter in (*branch.parameters(), *projection.parameters()):
        nn.init.normal_(parameter, std=0.3)  # as first drawn, all texts have nearly the same vector
    names = [f"text_branch.{name}" for name in branch.state_dict()]
    state = dict(zip(names, branch.state_dict().values(), strict=True))
    state |= {f"text_projection.{name}": tensor for name, tensor in projection.state_dict().items()}
    state["text_branch.embeddings.position_ids"] = torch.arange(LONGEST + 2)[None]
    unused = ("audio_branch.bn0.weight", "audio_projection.0.weight", "text_transform.sequential.0.bias")
    state |= dict.fromkeys((*unused, "logit_scale_a", "logit_scale_t"), torch.zeros(3))
    return branch, projection, state


class Published:
    """A checkpoint of AudioSep that has learned nothing, as Lightning writes it, and what is in it."""

    def __init__(self, folder: Path) -> None:
        pieces = save_tokenizer(folder / "roberta-base")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.branch, self.projection, state = clap(pieces)
        self.network = ResUNet(TINY).eval()
        weights = {name: by_rule(name, tuple(one.shape)) for name, one in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        self.state = {f"ss_model.{name}": tensor for name, tensor in weights.items()}
        for kernel in ("stft.conv_real.weight", "istft.conv_imag.weight", "istft.ola_window"):
            self.state[f"ss_model.base.{kernel}"] = torch.zeros(5)
        self.state |= {f"query_encoder.model.{name}": tensor for name, tensor in state.items()}
        self.path = folder / "audiosep_base_4M_steps.ckpt"
        save_checkpoint(self.path, self.state)

    def vector(self, text: str) -> Tensor:
        """(1, D) as laion_clap makes it: padded to the longest text, the padding masked."""
        from transformers import RobertaTokenizerFast

        tokenizer = RobertaTokenizerFast.from_pretrained(self.path.parent / "roberta-base")
        pieces = tokenizer(
            [text], padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.no_grad():
            states = self.branch(pieces["input_ids"], attention_mask=pieces["attention_mask"])
            return nn.functional.normalize(self.projection(states["pooler_output"]), dim=-1)


def save_checkpoint(path: Path, state: dict[str, Tensor], **more: object) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.AdamW([parameter], amsgrad=True)
    parameter.sum().backward()
    optimiser.step()
    facts = {"epoch": 3, "global_step": 4, "pytorch-lightning_version": "2.0.4", "loops": {}, "callbacks": {}}
    torch.save(
        {**facts, "optimizer_states": [optimiser.state_dict()], "lr_schedulers": [{}], "state_dict": state}
        | more,
        path,
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("audiosep"))


@pytest.fixture(scope="module")
def separator(published: Published) -> AudioSepSeparator:
    loaded = separators.load(str(published.path), "cpu")
    assert isinstance(loaded, AudioSepSeparator)
    return loaded


def test_the_network_is_the_published_one() -> None:
    """What the original ResUNet30 answers with weights that anybody can make again; mixture in 16 bit."""
    with np.load(DATA / "audiosep-resunet30.npz") as stored:
        mixture = torch.from_numpy(stored["mixture"].astype(np.float32) / 57_000)
        condition, expected = (torch.from_numpy(stored[name]) for name in ("condition", "expected"))
    network = ResUNet(ResUNetConfig()).eval()
    network.load_state_dict(
        {name: by_rule(name, tuple(one.shape)) for name, one in network.state_dict().items()}
    )
    with torch.inference_mode():
        estimate = network(mixture[None, None], condition[None])[0, 0]
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(estimate[::40], expected, rtol=0, atol=1e-4)


def test_sizes_are_read_off_the_tensors() -> None:
    with torch.device("meta"):
        assert published_config(ResUNet(ResUNetConfig()).state_dict()) == ResUNetConfig()
        assert published_config(ResUNet(TINY).state_dict()) == TINY
    with pytest.raises(ValueError, match=r"base\.bn0\.weight"):
        published_config({})


def test_words_become_the_vector_of_laion_clap(published: Published, separator: AudioSepSeparator) -> None:
    queries = [Query("dog barking"), Query("Rain"), Query("dog", sounds_like="low woof")]
    vectors = separator.encoder.encode(queries)
    expected = torch.cat([published.vector(text) for text in ("dog barking", "Rain", "dog: low woof")])
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(vectors, separator.encoder.encode([Query("rain")]), atol=1e-3)
    with pytest.raises(QueryError, match=f"CLAP reads {LONGEST}"):
        separator.encoder.encode([Query("x" * (LONGEST - 1))])


def test_answers_are_the_networks(published: Published, separator: AudioSepSeparator) -> None:
    before = NOISE.clone()
    stems = separator.separate(NOISE, [Query("rain"), Query("rain", keep=False), Query("dog")])
    assert separator.sample_rate == 4000
    assert torch.equal(NOISE, before), "input was modified"
    for channel in range(2):
        answer = published.network(NOISE[None, None, channel], published.vector("rain")).detach()[0, 0]
        torch.testing.assert_close(stems[0, channel], answer, rtol=0, atol=1e-5)
    assert torch.equal(stems[1], NOISE - stems[0])
    assert (stems[2] - stems[0]).abs().max() > 1e-3, "deaf to the words"
    silent = NOISE * torch.tensor([[1.0], [0.0]])
    assert torch.equal(separator.separate(silent, [Query("rain")])[0, 0], stems[0, 0]), "channels mix"
    assert separator.separate(NOISE[:, :0], [Query("rain")]).shape == (1, 2, 0)
    assert not separator.separate(torch.zeros(1, 7), [Query("rain")]).any()
    with pytest.raises(UsageError, match="channels, time"):
        separator.separate(NOISE[0], [Query("rain")])


def test_a_question_it_cannot_hear_is_refused(separator: AudioSepSeparator) -> None:
    with pytest.raises(QueryError, match="give the query a text"):
        separator.separate(NOISE, [Query(example=Audio(NOISE, 4000))])
    with pytest.raises(QueryError, match="what a sound is not"):
        separator.separate(NOISE, [Query("dog", not_text="wolf")])
    assert separator.told(Query("dog", sounds_like="low woof")) == "dog: low woof"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ss_model.base.after_conv.bias": None}, r"AudioSep's network: .*after_conv\.bias"),
        ({"ss_model.base.bn0.weight": None}, r"no ResUNet without a 'base\.bn0\.weight'"),
        ({"ss_model.base.more": torch.zeros(1)}, r"AudioSep's network: .*base\.more"),
        ({"loss.weight": torch.zeros(1)}, r"AudioSep's network: .*loss\.weight"),
        ({"query_encoder.model.text_branch.pooler.dense.bias": None}, r"RoBERTa: .*pooler\.dense\.bias"),
        ({"query_encoder.model.surprise": torch.zeros(1)}, r"RoBERTa: .*surprise"),
        ({"query_encoder.model.text_projection.2.weight": None}, r"text_projection\.2\.weight' is missing"),
    ],
)
def test_checkpoints_are_read_strictly(
    published: Published, tmp_path: Path, changed: dict[str, Tensor | None], said: str
) -> None:
    state = {name: tensor for name, tensor in (published.state | changed).items() if tensor is not None}
    save_checkpoint(tmp_path / "other.ckpt", state)
    with pytest.raises(ModelError, match=rf"(?s){said}"):
        separators.load(str(tmp_path / "other.ckpt"), "cpu")


def test_what_is_no_checkpoint_is_said(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "given.ckpt"
    with pytest.raises(ModelError, match="no weight file"):
        separators.load(str(path), "cpu")
    path.write_bytes(published.path.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cut short"):
        separators.load(str(path), "cpu")
    save_checkpoint(path, published.state, run_me=Harm())
    with pytest.raises(ModelError, match="tensors and plain values"):
        separators.load(str(path), "cpu")
    torch.save({"model": published.state}, path)
    with pytest.raises(ModelError, match="state_dict"):
        separators.load(str(path), "cpu")
    with pytest.raises(UnknownNameError, match="no model named"):
        separators.load("audiosp", "cpu")


class Harm:
    """What a pickle could run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return (pytest.fail, ("a pickle was run",))


def test_a_missing_tokenizer_is_said(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_checkpoint(tmp_path / "a.ckpt", published.state)
    with pytest.raises(ModelError, match=r"FacebookAI/roberta-base, which .*put its tokenizer\.json into"):
        separators.load(str(tmp_path / "a.ckpt"), "cpu")
    (tmp_path / "roberta-base").mkdir()
    with pytest.raises(ModelError, match=r"is missing or is no tokenizer .*put tokenizer\.json of"):
        separators.load(str(tmp_path / "a.ckpt"), "cpu")
    save_tokenizer(tmp_path / "roberta-base", "one", "more")
    with pytest.raises(ModelError, match=r"knows 263 word pieces, the checkpoint's text encoder 261; put"):
        separators.load(str(tmp_path / "a.ckpt"), "cpu")


def test_the_command_line_and_the_evaluation_take_it(
    published: Published, cli: Callable[..., Any], sound: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ("--model", published.path, "--listener", "none", "-o", tmp_path / "out")
    ran = cli("separate", sound("tones.wav"), "dog", *flags)
    assert ran.code == 0, ran.err
    assert list((tmp_path / "out").rglob("*dog*.wav"))
    found = engines.find(str(published.path))
    assert found.name.startswith("audiosep_base_4M_steps-")
    assert found.parameters == sum(tensor.numel() for tensor in published.state.values())


SMALL = ResUNetConfig(8000, fft_size=256, hop=64, widths=(8, 12, 16), condition_dim=384, level=0.1)
CONFIG = """
recipe = "audiosep"
batch = 2
[model]
sample_rate = 8000
fft_size = 256
hop = 64
widths = [8, 12, 16]
condition_dim = 384
level = 0.1
[mixing]
seconds = 0.5
queries = 2
[loop]
steps = 2
every = 1
"""


def test_a_run_ends_in_weights_that_separate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    train(config, DATA, tmp_path / "run", steps=1)
    path = train(config, DATA, tmp_path / "run", resume=True)

    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged] == [1, 2]
    assert all(entry["loss"] > 0 and entry["skipped"] == 0 for entry in logged)
    with safe_open(path, framework="pt") as opened:
        dtypes = {name: opened.get_tensor(name).dtype for name in opened.keys()}  # noqa: SIM118
    assert {kind for name, kind in dtypes.items() if "running" not in name} == {torch.float16, torch.int64}
    assert dtypes["base.bn0.running_var"] == torch.float32

    separator = separators.load(str(path), "cpu")
    assert isinstance(separator, AudioSepSeparator)
    assert separator.network.config == SMALL
    (plain,) = separator.separate(NOISE, [Query("rain")])
    (quiet,) = separator.separate(NOISE / 1000, [Query("rain")])
    assert plain.abs().max() > 0
    torch.testing.assert_close(quiet * 1000, plain, rtol=0, atol=1e-5)


def test_statistics_survive_what_fp16_cannot_hold(tmp_path: Path) -> None:
    network = ResUNet(SMALL)
    network.base.bn0.running_var.copy_(torch.logspace(-12, 8, 129))
    hub.save(network, tmp_path / "a.safetensors", "audiosep")
    stored = hub.load(ResUNet, ResUNetConfig, tmp_path / "a.safetensors")
    assert torch.equal(stored.base.bn0.running_var, network.base.bn0.running_var)


def test_other_vectors_than_the_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be the text encoder's, 384"):
        AudioSepRecipe(model=TINY)
    hub.save(ResUNet(TINY), tmp_path / "a.safetensors", "audiosep")
    with pytest.raises(ModelError, match=r"wants vectors of 12 numbers, the text encoder gives\s+384"):
        separators.load(str(tmp_path / "a.safetensors"), "cpu")


def test_it_learns_what_is_asked_for(tmp_path: Path) -> None:
    """One batch of real mixtures, two questions about each: the error falls, the separation gets better."""
    clips = DecodedClips(DATA, read_manifest(DATA, "train"), SMALL.sample_rate, tmp_path)
    mixing = MixingConfig(seconds=0.5, sources=(1.0, 0.0, 0.0), queries=2, absent=0.0, kind=0.0)
    batch = collate(Mixer(clips, mixing, seed=1), range(2), MiniLM(), AudioSepRecipe(model=SMALL))
    assert batch["mixture"].shape == batch["target"].shape == (4, 1, 4000)
    torch.testing.assert_close(batch["target"][0] + batch["target"][1], batch["mixture"][0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResUNet(SMALL)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.0)
    found = []
    for _ in range(60):
        losses = step(network, batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        found.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert found[-1]["loss"] < 0.7 * found[0]["loss"]
    assert found[-1]["si_sdr"] < found[0]["si_sdr"] - 4


def test_what_is_above_the_cutoff_is_gone(tmp_path: Path) -> None:
    clips = DecodedClips(DATA, read_manifest(DATA, "train"), 32_000, tmp_path)
    mixing = MixingConfig(seconds=0.5, queries=1, absent=0.0, low_pass=1.0)
    batch = collate(Mixer(clips, mixing, seed=1), range(2), MiniLM(), AudioSepRecipe())
    for name in ("mixture", "target"):
        power = torch.fft.rfft(batch[name]).abs().square()
        assert power[..., 6500:].sum() < 1e-6 * power.sum()  # above 13 kHz; the highest cutoff is 12
