"""Published captioners, through transformers: what they say of a recording of any length, window by window.

Whisper trained to caption, Qwen2-Audio and Audio Flamingo 3. Each hears a window of seconds; a whole file is
heard through windows of 7 s, one every 3.5 s. Published code for such models crops a long file at random or
reads the channels one after the other as if they were time; here every second is heard, channels are
averaged, and words are chosen greedily, so that the same recording always gets the same sentences.

The captioner of OpenSep, MS-CLAP's, is not in transformers and its weights are published as a pickle only.
"""

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from unweave.audio import resample
from unweave.encoders.published import network, read, title
from unweave.errors import AudioError, ModelError, UnknownNameError, UsageError
from unweave.types import Audio, Heard

WINDOW, HOP = 7.0, 3.5  # seconds
SILENT = 2.0**-15  # one step of 16 bits: a window without a sample above it is not worth a sentence
LONGEST = 64  # word pieces of a sentence
PROMPT = "Describe the sounds in this recording in one short sentence."
PREFIX = "clotho > caption: "  # the style of the sentence, as the captioners made of Whisper were trained
_SHORTEST = 0.1  # seconds; feature extractors stumble over less, which silence behind it mends


class Describer(Protocol):
    """A short sound to a sentence."""

    name: str  # of the model and its weights
    sample_rate: int  # Hz it hears at

    def sentence(self, window: Tensor) -> str:
        """(T,) float32 at `sample_rate`, up to `WINDOW` seconds -> a sentence, always the same one."""
        ...


class WhisperCaptioner:
    """Whisper trained to caption, `WhisperForConditionalGeneration`.

    Kadlčík et al., "A Whisper transformer for audio captioning trained with synthetic captions and transfer
    learning", DCASE 2023: the decoder is started with Whisper's own marks and a style in words. Audio is
    followed by silence up to the 30 s that Whisper hears. Implements `Describer`.

    Args:
        source: a folder that holds config, safetensors, tokenizer and feature extractor, or a hub name.
        revision: the commit on the hub; none for a folder.
        device: as torch names it.
        prefix: the style; "" for a model that was trained without.

    Raises:
        ModelError: the files are missing, damaged, or of another model.
        UsageError: a hub name without a commit.
    """

    def __init__(
        self, source: str | Path, revision: str | None = None, device: str = "cpu", prefix: str = PREFIX
    ) -> None:
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

        self._listener = read(WhisperFeatureExtractor, source, revision)
        self._tokenizer = read(WhisperTokenizer, source, revision, language="en", task="transcribe")
        self._model = network(WhisperForConditionalGeneration, source, revision, device).float()
        self.name, self.device = title("whisper", source, revision), device
        self.sample_rate = int(self._listener.sampling_rate)
        style = self._tokenizer(prefix, add_special_tokens=False)["input_ids"] if prefix else []
        self._start = torch.tensor([[*self._tokenizer.prefix_tokens, *style]], device=device)

    def sentence(self, window: Tensor) -> str:
        """As `Describer` says."""
        heard = self._listener(window.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        inputs = {"input_features": heard["input_features"].to(self.device), "decoder_input_ids": self._start}
        return _words(self._tokenizer, _written(self._model, inputs, self._start.shape[1]))


class ChatCaptioner:
    """A language model that hears, asked to describe: Qwen2-Audio or Audio Flamingo 3.

    Chu et al., "Qwen2-Audio technical report", 2024; Goel et al., "Audio Flamingo 3", 2025. The question is
    put through the chat template that lies beside the weights. Implements `Describer`.

    Args:
        kind: "qwen2-audio" or "flamingo".
        source: a folder that holds config, safetensors and processor files, or a hub name.
        revision: the commit on the hub; none for a folder.
        device: as torch names it; the weights stay in the type they were saved in.
        prompt: what is asked of every window, after it.

    Raises:
        ModelError: the files are missing, damaged, or of another model, or transformers is too old.
        UsageError: a hub name without a commit.
    """

    def __init__(
        self,
        kind: str,
        source: str | Path,
        revision: str | None = None,
        device: str = "cpu",
        prompt: str = PROMPT,
    ) -> None:
        import transformers

        model, processor = _CHATS[kind]
        if not hasattr(transformers, model):
            raise ModelError(f"this transformers has no {model}; run: pip install 'transformers>=5'")
        self._processor = read(getattr(transformers, processor), source, revision)
        self._model = network(getattr(transformers, model), source, revision, device, dtype="auto")
        self.name, self.device, self.prompt = title(kind, source, revision), device, prompt
        self.sample_rate = int(self._processor.feature_extractor.sampling_rate)

    def sentence(self, window: Tensor) -> str:
        """As `Describer` says."""
        sound = window.numpy()
        content = [{"type": "audio", "audio": sound}, {"type": "text", "text": self.prompt}]
        words = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        inputs = self._processor(
            text=[words], audio=[sound], sampling_rate=self.sample_rate, return_tensors="pt"
        ).to(self.device, self._model.dtype)  # the type of the floating-point ones only
        ids = _written(self._model, dict(inputs), inputs["input_ids"].shape[1])
        return _words(self._processor.tokenizer, ids)


_CHATS = {
    "qwen2-audio": ("Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor"),
    "flamingo": ("AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor"),
}


class Captions:
    """A listener that hears in sentences: a `Describer`, moved over the whole recording.

    >>> [round(start, 1) for start, _ in windows([torch.zeros(2, 180)], 10)]
    [0.0, 3.5, 7.0, 10.5, 11.0]
    """

    def __init__(self, describer: Describer) -> None:
        self.describer = describer

    def hear(self, audio: Audio) -> list[Heard]:
        """Sentences in the order of time; silence is an empty list."""
        return self.follow([audio.samples], audio.sample_rate)

    def follow(self, blocks: Iterable[Tensor], sample_rate: int) -> list[Heard]:
        """Sentences in the order of time, of a recording of any length; memory holds a window and a block.

        Neighbouring windows with the same sentence become one span. A captioner does not say how sure it is,
        so every score is 1.

        Args:
            blocks: (C, any T) float32 each, in order.
            sample_rate: Hz of `blocks`.

        Raises:
            AudioError: there is not a single sample.
        """
        found: list[Heard] = []
        latest = ""  # what the window before said; "" where it was silent
        for start, window in windows(blocks, sample_rate):
            text = self._sentence(window, sample_rate)
            end = start + len(window) / sample_rate
            if text and _same(text, latest):
                found[-1] = Heard(found[-1].text, 1.0, found[-1].start, end)
            elif text:
                found.append(Heard(text, 1.0, start, end))
            latest = text
        return found

    def _sentence(self, window: Tensor, sample_rate: int) -> str:
        if float(window.abs().max()) <= SILENT:
            return ""
        sound = resample(window, sample_rate, self.describer.sample_rate)
        short = round(_SHORTEST * self.describer.sample_rate) - len(sound)
        return self.describer.sentence(pad(sound, (0, max(0, short))))


def windows(blocks: Iterable[Tensor], sample_rate: int) -> Iterator[tuple[float, Tensor]]:
    """Where each window starts, in seconds, and its samples (T,), the mean of the channels.

    All windows are full, the last one ends with the recording; a recording shorter than a window is one.

    Raises:
        AudioError: there is not a single sample.
    """
    size, hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
    before, held, start = torch.zeros(0), torch.zeros(0), 0
    for block in blocks:
        held = torch.cat([held, block.mean(0)])
        while len(held) > size:  # the last window is known at the end only
            yield start / sample_rate, held[:size]
            before, held, start = held[:hop].clone(), held[hop:], start + hop
    if not len(held):
        raise AudioError("a captioner was given no sound at all; give it a recording of at least one sample")
    last = torch.cat([before, held])[-size:]
    yield (start + len(held) - len(last)) / sample_rate, last


def joined(heard: Iterable[Heard]) -> str:
    """All sentences as one text, in the order of time, each once.

    >>> joined([Heard("a dog barks", 1, 0, 7), Heard("Rain falls.", 1, 3, 9), Heard("A dog barks", 1, 7, 14)])
    'A dog barks. Rain falls.'
    """
    sentences: list[str] = []
    for one in heard:
        if not any(_same(one.text, told) for told in sentences):
            sentences.append(one.text[0].upper() + one.text[1:])
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in sentences)


def load(spec: str, device: str = "cpu") -> Captions:
    """A captioner by the name that a command line gives it.

    Args:
        spec: KIND:FOLDER or KIND:OWNER/NAME@COMMIT; kinds are whisper, qwen2-audio and flamingo.
        device: as torch names it.

    Raises:
        UnknownNameError: there is no such kind.
        ModelError: its files are missing or damaged, or it is MS-CLAP.
        UsageError: no folder or name, or a hub name without a commit.
    """
    kind, _, place = spec.partition(":")
    if "clap" in kind.lower():
        raise ModelError(
            "the captioner of MS-CLAP is not in transformers, and its weights are published as a pickle, "
            "which is never read here; use whisper, qwen2-audio or flamingo"
        )
    if kind not in ("whisper", *_CHATS):
        raise UnknownNameError("captioner", kind, ["events", "whisper", *_CHATS])
    if not place:
        raise UsageError(
            f"the captioner {kind} wants its weights: {kind}:FOLDER, or {kind}:OWNER/NAME@COMMIT on the hub"
        )
    source, at, commit = place.rpartition("@")
    if not at or Path(place).is_dir():
        source, commit = place, ""
    if kind == "whisper":
        return Captions(WhisperCaptioner(source, commit or None, device))
    return Captions(ChatCaptioner(kind, source, commit or None, device))


@torch.no_grad()
def _written(model: Any, inputs: dict[str, Any], begun: int) -> list[int]:
    """The word pieces that `model` adds to the `begun` first ones, each the most probable one."""
    from transformers import GenerationMixin

    settings = copy.deepcopy(model.generation_config)
    # Settings that came with the weights may ask for draws, or for a length that the prompt is part of.
    settings.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None)
    settings.update(max_length=None, max_new_tokens=LONGEST, num_return_sequences=1, forced_decoder_ids=None)
    # Whisper's own `generate` is made for transcripts: it chooses the first word pieces itself.
    ids = GenerationMixin.generate(model, generation_config=settings, **inputs)
    added: list[int] = ids[0, begun:].tolist()
    return added


def _words(tokenizer: Any, ids: list[int]) -> str:
    """One line of printable text."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _same(one: str, other: str) -> bool:
    return one.rstrip(" .!?").casefold() == other.rstrip(" .!?").casefold()
