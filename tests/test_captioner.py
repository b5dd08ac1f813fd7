"""Sentences about recordings: composed ones, and those of published models in their real file format."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from captions import save_chat, save_whisper
from unweave.errors import AudioError, ModelError, UnknownNameError, UsageError
from unweave.language.parse import sources
from unweave.listen.captioner import caption
from unweave.listen.captioners import (
    LONGEST,
    PREFIX,
    Captions,
    ChatCaptioner,
    WhisperCaptioner,
    load,
    windows,
)
from unweave.listen.phrases import clause
from unweave.types import Audio, Heard

DATA = Path(__file__).parent / "data"
RATE = 16_000
NOISE = torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
TONE = torch.sin(torch.arange(2 * RATE) * 0.3) * 0.3
COMMIT = "0" * 40


# --- composed sentences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("dog barking", "a dog barks"),
        ("Rain", "rain falls"),
        ("speech", "someone speaks"),
        ("Male speech, man speaking", "a man speaks"),
        ("people clapping", "people clap"),
        ("children shouting", "children shout"),
        ("egg cracking", "an egg cracks"),
        ("baby crying", "a baby cries"),
        ("cat hissing", "a cat hisses"),
        ("glass breaking", "glass breaks"),
        ("gas hissing", "gas hisses"),
        ("machinery humming", "machinery hums"),
        ("vacuum cleaner cleaning floors", "a vacuum cleaner cleans floors"),
        ("Bark", "a dog barks"),
        ("sneezing", "someone sneezes"),
        ("playing acoustic guitar", "an acoustic guitar plays"),
        ("chopping wood with an axe", "someone chops wood with an axe"),
        ("washing machine", "a washing machine is heard"),
        ("alto saxophone", "an alto saxophone plays"),
        ("car horn", "a car horn is heard"),
        ("ukulele", "a ukulele plays"),
        ("Fire engine, fire truck (siren)", "a fire engine is heard"),
        ("footsteps on gravel", "footsteps on gravel are heard"),
        ("wind noise", "wind noise is heard"),
        ("gun reloading", "gun reloading is heard"),
        ("theorbo", "a theorbo is heard"),
        ("TV static", "TV static is heard"),
        ("狗叫", "狗叫 is heard"),
        ("...", "something is heard"),
    ],
)
def test_names_become_clauses(label: str, told: str) -> None:
    assert clause(label) == told


def at(text: str, score: float, *spans: tuple[float, float]) -> list[Heard]:
    return [Heard(text, score, start, end) for start, end in spans]


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        ([], ""),
        (at("rain", 0.9, (0, 6)), "Rain falls."),
        (
            at("car", 0.7, (15, 20)) + at("rain", 0.6, (0.5, 20)) + at("dog barking", 0.8, (0, 3)),
            "A dog barks while rain falls; later a car passes.",
        ),
        (
            at("speech", 0.9, (0, 5)) + at("dog barking", 0.8, (6, 7)),
            "Someone speaks; then a dog barks.",
        ),
        (
            at("rain", 0.9, (0, 9)) + at("wind", 0.8, (0.1, 9)) + at("thunder", 0.7, (1, 8)),
            "Rain falls while wind blows and thunder rumbles.",
        ),
        # A moment of overlap is no "while".
        (
            at("speech", 0.9, (0, 5)) + at("siren", 0.8, (4.8, 9)),
            "Someone speaks; then a siren wails.",
        ),
        # Bursts in a long sound are simultaneous with it, and two names of one clause are one event.
        (
            at("Bark", 0.5, (2, 2.4)) + at("dog barking", 0.6, (4, 4.4)) + at("rain", 0.9, (0, 6)),
            "Rain falls while a dog barks.",
        ),
        (
            [
                one
                for i, name in enumerate("abcd")
                for one in at(f"{name} bell", 0.9 - i / 10, (3 * i, 3 * i + 2))
            ],
            "A bell rings; then a b bell is heard; then a c bell is heard. Then a d bell is heard.",
        ),
    ],
)
def test_events_become_sentences(heard: list[Heard], told: str) -> None:
    assert caption(heard) == told
    assert caption(reversed(heard)) == told  # whatever the order they are given in


def test_only_the_most_certain_are_told() -> None:
    heard = [Heard(f"{name} bell", score / 10, 0, 5) for score, name in enumerate(("tiny", "big", "old"), 1)]
    assert caption(heard, most=2) == "An old bell is heard while a big bell is heard."
    many = [Heard(f"{chr(97 + i)} bell", 0.5 + i / 100, 20 * i, 20 * i + 1) for i in range(20)]
    told = caption(many)
    assert told.count("bell") == 6
    assert told.startswith("An o bell is heard; later a p bell")
    assert told.count(".") == 2


def test_labels_come_back_out_of_captions() -> None:
    """What a caption was made of is what the parser finds in it: the nouns of nearly all training labels."""
    labels = json.loads((resources.files("unweave.data") / "labels.json").read_text(encoding="utf-8"))
    lost = []
    for label in labels:
        found = " ".join(sources(caption([Heard(label, 0.9, 0, 1)]))).split()
        if label.split()[0][:4] not in [word[:4] for word in found]:
            lost.append(label)
    assert len(labels) == 454
    assert len(lost) < 25, lost  # measured 16: "female singing" became "a woman sings", and the like


def test_three_events_come_back_out_of_a_caption() -> None:
    heard = at("dog barking", 0.9, (0, 3)) + at("rain", 0.8, (0.5, 20)) + at("car horn", 0.7, (15, 16))
    assert sources(caption(heard)) == ("dog barking", "rain falling", "car horn")


# --- windows ---------------------------------------------------------------------------------------------


class Pitch:
    """Names a window by its zero crossings: a captioner whose answer is known beforehand."""

    name, sample_rate = "pitch", 8000

    def sentence(self, window: Tensor) -> str:
        crossings = int((window[1:] * window[:-1] < 0).sum())
        hz = crossings / 2 / (len(window) / self.sample_rate)
        return f"A {'high' if hz > 700 else 'low'} tone."


def tone(hz: float, seconds: float, rate: int = 1000 * 8) -> Tensor:
    return torch.sin(torch.arange(round(seconds * rate)) * (2 * torch.pi * hz / rate) + 0.1) * 0.5


def test_windows_reach_from_start_to_end() -> None:
    rate = 10
    for length, starts in ((5, [0]), (70, [0]), (71, [0, 0.1]), (105, [0, 3.5]), (110, [0, 3.5, 4.0])):
        sound = torch.arange(length, dtype=torch.float32)
        for size in (1, 7, length):
            blocks = [torch.stack([part, part + 2]) for part in sound.split(size)]
            made = list(windows(blocks, rate))
            assert [start for start, _ in made] == pytest.approx(starts)
            for start, window in made:
                first = round(start * rate)
                assert torch.equal(window, sound[first : first + 70] + 1)  # the mean of both channels
    with pytest.raises(AudioError, match="no sound at all"):
        list(windows([], rate))


def test_neighbours_with_one_sentence_are_one_span() -> None:
    sound = torch.cat([tone(300, 14), tone(1000, 14), tone(300, 7)])
    heard = Captions(Pitch()).follow(sound[None].split(999, dim=1), 8000)
    assert heard == [
        Heard("A low tone.", 1.0, 0.0, 17.5),  # the window at 10.5 s is half low and half high
        Heard("A high tone.", 1.0, 14.0, 28.0),
        Heard("A low tone.", 1.0, 24.5, 35.0),
    ]
    assert Captions(Pitch()).hear(Audio(sound[None], 8000)) == heard


def test_silence_has_no_sentence_and_channels_may_differ() -> None:
    hush = torch.zeros(14 * 8000)
    heard = Captions(Pitch()).hear(Audio(torch.cat([tone(300, 7), hush, tone(300, 7)])[None], 8000))
    assert [(one.start, one.end) for one in heard] == [(0.0, 10.5), (17.5, 28.0)]
    assert Captions(Pitch()).hear(Audio(torch.zeros(2, 100), 8000)) == []
    stereo = Captions(Pitch()).hear(Audio(torch.stack([tone(1000, 7), tone(1000, 7)]), 8000))
    assert stereo == [Heard("A high tone.", 1.0, 0.0, 7.0)]  # channels side by side in time would be 14 s


# --- published models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_chat(tmp_path_factory.mktemp("models") / kind, kind)
        return made[kind]

    return folder


def line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def test_whisper_takes_the_most_probable_word_after_its_marks_and_the_style(whisper_folder: Path) -> None:
    """Against one pass of the network per word piece."""
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    network = WhisperForConditionalGeneration.from_pretrained(whisper_folder).eval()
    tokenizer = WhisperTokenizer.from_pretrained(whisper_folder)
    marks = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    style = tokenizer(PREFIX, add_special_tokens=False).input_ids
    begun = [*tokenizer.convert_tokens_to_ids(marks), *style]
    assert tokenizer.decode(style) == PREFIX
    heard = WhisperFeatureExtractor.from_pretrained(whisper_folder)(
        NOISE.numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    ids = list(begun)
    while len(ids) < len(begun) + LONGEST and ids[-1] != tokenizer.eos_token_id:
        with torch.no_grad():
            out = network(input_features=heard.input_features, decoder_input_ids=torch.tensor([ids]))
        ids.append(int(out.logits[0, -1].argmax()))

    mine = WhisperCaptioner(whisper_folder)
    assert mine.sentence(NOISE) == line(tokenizer.decode(ids[len(begun) :], skip_special_tokens=True))
    assert len(mine.sentence(NOISE)) > 3
    assert mine.sentence(NOISE) != mine.sentence(TONE)  # the sound counts
    assert WhisperCaptioner(whisper_folder, prefix="").sentence(NOISE) != mine.sentence(
        NOISE
    )  # and the style
    assert (mine.name, mine.sample_rate) == ("whisper whisper", RATE)


@pytest.mark.parametrize("kind", ["qwen2-audio", "flamingo"])
def test_chats_are_the_published_models(kind: str, chat_folder: Callable[[str], Path]) -> None:
    """Against one pass of the network per word piece, of the processor's own reading of the template."""
    import transformers

    model, processor = {
        "qwen2-audio": ("Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor"),
        "flamingo": ("AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor"),
    }[kind]
    network = getattr(transformers, model).from_pretrained(chat_folder(kind)).eval()
    reads = getattr(transformers, processor).from_pretrained(chat_folder(kind))
    content = [{"type": "audio", "audio": NOISE.numpy()}, {"type": "text", "text": "What is this?"}]
    inputs = reads.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    end = reads.tokenizer.convert_tokens_to_ids("<|im_end|>")
    added: list[int] = []
    while len(added) < LONGEST and (not added or added[-1] != end):
        with torch.no_grad():
            logits = network(**inputs).logits[0, -1]
        added.append(int(logits.argmax()))
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([added[-1:]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])

    mine = ChatCaptioner(kind, chat_folder(kind), prompt="What is this?")
    assert mine.sentence(NOISE) == line(reads.tokenizer.decode(added, skip_special_tokens=True))
    assert len(mine.sentence(NOISE)) > 3
    assert mine.sentence(NOISE) != mine.sentence(TONE)
    assert ChatCaptioner(kind, chat_folder(kind)).sentence(NOISE) != mine.sentence(NOISE)  # the prompt counts


@pytest.mark.parametrize("kind", ["whisper", "qwen2-audio", "flamingo"])
def test_captions_of_a_recording(kind: str, whisper_folder: Path, chat_folder: Callable[[str], Path]) -> None:
    captions = load(f"{kind}:{whisper_folder if kind == 'whisper' else chat_folder(kind)}")
    samples, rate = soundfile.read(DATA / "street.flac", dtype="float32", always_2d=True)
    street = Audio(torch.from_numpy(samples.T.copy()), rate)
    torch.manual_seed(1)
    heard = captions.hear(street)
    torch.manual_seed(2)
    assert captions.hear(street) == heard  # nothing is drawn, although the settings ask for draws
    assert heard
    assert heard[0].start == 0
    assert heard[-1].end == pytest.approx(street.duration)
    assert all(one.text and one.score == 1 for one in heard)
    shortest = captions.hear(Audio(torch.full((1, 1), 0.5), 8000))  # one sample
    assert all(one.end == 1 / 8000 for one in shortest)


def test_what_is_missing_or_wrong_is_said(whisper_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'whisper'"):
        load("wisper:x")
    with pytest.raises(UsageError, match="whisper wants its weights: whisper:FOLDER"):
        load("whisper")
    with pytest.raises(ModelError, match=r"no folder '.*nowhere'"):
        load(f"flamingo:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="wants the commit to use, 40 hexadecimal digits, got None"):
        load("qwen2-audio:Qwen/Qwen2-Audio-7B-Instruct")
    with pytest.raises(UsageError, match="got 'main'; branches move"):
        load("qwen2-audio:Qwen/Qwen2-Audio-7B-Instruct@main")
    with pytest.raises(ModelError, match="MS-CLAP is not in transformers"):
        load("clapcap:x")
    with pytest.raises(ModelError, match="cannot read a WhisperFeatureExtractor"):
        load(f"whisper:{tmp_path}")
    with pytest.raises(ModelError, match="Qwen2Audio"):  # and nothing of its 7 billion parameters is built
        load(f"qwen2-audio:{whisper_folder}")
    odd = tmp_path / "a@b"
    odd.mkdir()
    with pytest.raises(ModelError, match="cannot read"):  # a folder with an @ is a folder
        load(f"whisper:{odd}")


def test_offline_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot read a WhisperFeatureExtractor from some/captioner"):
        load(f"whisper:some/captioner@{COMMIT}")


def test_pickles_and_gaps_are_refused(whisper_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    weights = load_file(whisper_folder / "model.safetensors")
    shutil.copytree(whisper_folder, tmp_path / "pickle")
    (tmp_path / "pickle" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pickle" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot read a WhisperForConditionalGeneration"):
        load(f"whisper:{tmp_path / 'pickle'}")
    shutil.copytree(whisper_folder, tmp_path / "less")
    less = {name: tensor for name, tensor in weights.items() if name != "model.encoder.conv1.weight"}
    save_file(less, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors .*conv1\.weight"):
        load(f"whisper:{tmp_path / 'less'}")
