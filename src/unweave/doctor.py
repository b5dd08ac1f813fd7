"""Is this installation in order: versions, device, codecs, weights, and a second of real work."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import unweave
from unweave import console, hub
from unweave.errors import AudioError, ModelError

PACKAGES = ("torch", "numpy", "soundfile", "av", "soxr", "safetensors", "transformers", "typer")
# What recordings usually come in, by the name of FFmpeg's decoder.
DECODERS = ("aac", "ac3", "alac", "amrnb", "flac", "mp3", "opus", "vorbis", "wmav2")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str  # what was found, or what is wrong and what to do
    exit_code: int = 0  # what a command would have ended with


def examine(model: str, device: str) -> Iterator[Check]:
    """Look at everything, the quick things first; whatever is wrong is a finding, nothing is raised.

    Args:
        model: name or file of the weights to try.
        device: "auto", "cpu", ...
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        (
            "unweave",
            lambda: f"{unweave.__version__}, Python {platform.python_version()}, {platform.platform()}",
        ),
        ("packages", _packages),
        ("sound files", _libraries),
        ("codecs", _codecs),
        ("threads", _threads),
        ("device", lambda: _device(device)),
        *((f"weights {name}", lambda name=name: _weights(name)) for name in hub.WEIGHTS),
        ("text encoder", _text_encoder),
        ("knowledge", _knowledge),
        ("self-test", lambda: _self_test(model, device)),
    ]
    for name, look in checks:
        try:
            yield Check(name, True, look())
        except Exception as error:  # whatever it is, it is what the user came to find out
            detail = f"{type(error).__name__}: {console.message_of(error)}"
            yield Check(name, False, detail, console.exit_code(error))


def _packages() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)


def _libraries() -> str:
    import av
    import soundfile

    version = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return f"libsndfile {soundfile.__libsndfile_version__}, FFmpeg libavcodec {version}"


def _codecs() -> str:
    import av

    missing = [name for name in DECODERS if name not in av.codecs_available]
    if missing:
        raise AudioError(f"PyAV cannot decode {', '.join(missing)}; run: pip install --force-reinstall av")
    return f"{', '.join(DECODERS)}"


def _threads() -> str:
    import torch

    return f"{torch.get_num_threads()} of {os.cpu_count()} processors; change it with --threads"


def _device(name: str) -> str:
    from unweave.separators import choose_device

    chosen, why = choose_device(name)
    return f"{chosen} ({why})"


def _weights(name: str) -> str:
    weights = hub.find(name)
    path = hub.path_of(weights)
    return f"verified, sha256 {weights.sha256[:12]}..., {path.stat().st_size / 1e6:.1f} MB"


def _text_encoder() -> str:
    from unweave.encoders import minilm

    minilm.folder()
    return f"all-MiniLM-L6-v2 verified, sha256 {minilm.SHA256[:12]}..."


def _knowledge() -> str:
    from unweave.language import knowledge

    return f"how {knowledge.verified():,} names sound"


def _self_test(model: str, device: str) -> str:
    import torch

    from unweave.pipeline.edit import separate
    from unweave.separators import load
    from unweave.types import Audio

    separator = load(model, device)
    time_axis = torch.arange(44_100) / 44_100
    noise = torch.randn(2, 44_100, generator=torch.Generator().manual_seed(0))
    second = Audio((880 * torch.pi * time_axis).sin() * 0.1 + noise * 0.01, 44_100)
    separate(second, ["a tone"], model=separator)  # the first call also pays for setting up
    started = time.perf_counter()
    stems = separate(second, ["a tone", "noise"], model=separator)
    seconds = time.perf_counter() - started
    off = (torch.stack([stem.audio.samples for stem in stems]).sum(0) - second.samples).abs().max().item()
    if not off < 1e-4:  # NaN included
        raise ModelError(f"two tracks and the rest differ from the recording by {off:.1g}; try --device cpu")
    return f"{seconds:.2f} seconds per second of sound for two queries, tracks add up to {off:.0e}"
