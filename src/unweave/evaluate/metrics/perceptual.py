"""Models of hearing: how good a listener would find an estimate, or how much of it would be understood.

All take signals at any rate and resample them to the one that the model was made for. They share one rule for
what means nothing: where an input is silent (a constant is), too short or too long for the model, the value
is NaN. Packages are those of the extra `metrics`.
"""

import functools
import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from unweave.audio import resample
from unweave.errors import ModelError, UsageError
from unweave.evaluate.metrics.signal import check_finite, check_pair

_PESQ_RATE, _PESQ_SHORTEST, _PESQ_LONGEST = 16_000, 0.25, 20.0  # Hz, seconds, seconds
_STOI_RATE, _STOI_FRAME, _STOI_FFT = 10_000, 256, 512  # Hz, samples, samples; frames overlap by half
_STOI_SEGMENT = 30  # frames, 384 ms
_EPSILON = float(torch.finfo(torch.float64).eps)
_VISQOL_RATES = {"audio": 48_000, "speech": 16_000}  # Hz
_VISQOL_SHORTEST = 1.0  # seconds; less leaves no patch of its spectrogram
_DNSMOS_RATE, _DNSMOS_WINDOW, _DNSMOS_SHORTEST = 16_000, 144_160, 1.0  # Hz, samples (9.01 s), seconds
_DNSMOS_SHA256 = {
    "sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    "model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
}

# Of the networks' answers x to listeners' scores: factors of 1, x and x^2, for SIG, BAK, OVRL and P.808.
_DNSMOS_FIT = torch.tensor(
    [
        [0.0052439, -0.39604546, 0.04602535, 0],
        [1.22083953, 1.60915514, 1.11546468, 1],
        [-0.08397278, -0.13166888, -0.06766283, 0],
    ],
    dtype=torch.float64,
)


def pesq(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    """Quality of speech by the wide-band PESQ, ITU-T P.862.2: a listening score, 1.02 to 4.64.

    Always the wide-band model at 16 kHz, so that values compare; the narrow-band one of ITU-T P.862 gives
    other, higher ones. The level of either signal does not matter.

    Args:
        estimate: (..., T) speech.
        reference: (..., T), same shape.
        sample_rate: Hz of both.

    Returns:
        (...) float64, 4.64 for a perfect estimate; NaN where a signal is silent, shorter than 0.25 s or
        longer than 20 s, or where no utterance is found in the reference. The ITU's code has room for 50
        utterances and writes past it; 20 s cannot hold more. Cut what is longer.

    Raises:
        UsageError: the shapes differ, or a sample is NaN or infinite.
        ModelError: the package `pesq` is not installed.
    """
    package = _import("pesq")

    def score(degraded: Tensor, clean: Tensor) -> float:
        if not _PESQ_SHORTEST <= len(clean) / _PESQ_RATE <= _PESQ_LONGEST:
            return torch.nan
        try:
            return float(package.pesq(_PESQ_RATE, clean.numpy(), degraded.numpy(), "wb"))
        except (package.NoUtterancesError, package.BufferTooShortError):
            return torch.nan

    return _pairwise(score, estimate, reference, sample_rate, _PESQ_RATE)


def stoi(estimate: Tensor, reference: Tensor, sample_rate: int, extended: bool = False) -> Tensor:
    """How much of speech is understood: STOI, or with `extended` ESTOI. Higher is better, 1 is perfect.

    Taal, Hendriks, Heusdens and Jensen, "An Algorithm for Intelligibility Prediction of Time-Frequency
    Weighted Noisy Speech", IEEE TASLP 2011; Jensen and Taal, "An Algorithm for Predicting the Intelligibility
    of Speech Masked by Modulated Noise Maskers", IEEE/ACM TASLP 2016. Levels and polarity do not matter.

    Args:
        estimate: (..., T) speech.
        reference: (..., T), same shape.
        sample_rate: Hz of both; resampled to 10 kHz.
        extended: ESTOI, which compares whole spectra and suits noise that comes and goes.

    Returns:
        (...) float64, a mean of correlations; NaN where a signal is silent, or where fewer than 30 frames
        (0.4 s) of the reference lie within 40 dB of its loudest.

    Raises:
        UsageError: the shapes differ, or a sample is NaN or infinite.
    """

    def score(degraded: Tensor, clean: Tensor) -> float:
        return _intelligibility(degraded.double(), clean.double(), extended)

    return _pairwise(score, estimate, reference, sample_rate, _STOI_RATE)


def visqol(
    estimate: Tensor, reference: Tensor, sample_rate: int, mode: Literal["audio", "speech"] = "audio"
) -> Tensor:
    """Quality by ViSQOL v3: similarity of gammatone spectrograms as a listening score, 1 to 5.

    Chinen, Lim, Skoglund, Gureev, O'Gorman and Hines, "ViSQOL v3: An Open Source Production Ready Objective
    Speech and Audio Metric", QoMEX 2020. It levels the estimate to the reference and takes out the delay
    between the two, so neither counts; the level of the reference does, as it decides what can be heard.
    Scores of speech come from the exponential fit of the original program; the lattice network that its later
    releases use by default gives other, often lower ones.

    Not for several threads of one process at once; use processes.

    Args:
        estimate: (..., T).
        reference: (..., T), same shape.
        sample_rate: Hz of both.
        mode: "audio" for any sound, at 48 kHz; "speech" at 16 kHz, where silences of the reference are left
            out.

    Returns:
        (...) float64, about 4.73 ("audio") or 5 ("speech") for a perfect estimate; NaN where a signal is
        silent or shorter than 1 s, or where nothing is left after the delay was taken out.

    Raises:
        UsageError: the shapes differ, a sample is NaN or infinite, or there is no such mode.
        ModelError: the package `visqol-python` is not installed.
    """
    if mode not in _VISQOL_RATES:
        raise UsageError(f"ViSQOL has the modes {' and '.join(map(repr, _VISQOL_RATES))}, got {mode!r}")
    rate = _VISQOL_RATES[mode]
    model = _visqol(mode)

    def score(degraded: Tensor, clean: Tensor) -> float:
        if len(clean) < _VISQOL_SHORTEST * rate:
            return torch.nan
        try:
            found = model.measure_from_arrays(clean.double().numpy(), degraded.double().numpy(), rate)
        except ValueError:  # shifted so far that too little is left of the estimate
            return torch.nan
        return float(found.moslqo)

    with _quiet("visqol"):
        return _pairwise(score, estimate, reference, sample_rate, rate)


@dataclass(frozen=True, eq=False)
class Dnsmos:
    """Listening scores, 1 to 5, higher is better; (...) float64 each, NaN where there is nothing to hear."""

    signal: Tensor  # SIG, how natural the speech is
    background: Tensor  # BAK, how little the background intrudes
    overall: Tensor  # OVRL
    p808: Tensor  # overall quality as asked for by ITU-T P.808, from a network of its own


def dnsmos(estimate: Tensor, sample_rate: int) -> Dnsmos:
    """Quality of speech without a reference, as networks trained on listeners' answers predict it.

    Reddy, Gopal and Cutler, "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to
    Evaluate Noise Suppressors", ICASSP 2022, and the P.808 model of their ICASSP 2021 paper; the networks
    come with the package `speechmos`. Every 9.01 s from each second on are scored and averaged; shorter
    speech is doubled until it is long enough. All but P.808 depend on the level: quieter speech scores lower.

    Args:
        estimate: (..., T) speech, full scale = 1.
        sample_rate: Hz; resampled to 16 kHz.

    Returns:
        Four scores per signal, NaN where it is silent or shorter than 1 s.

    Raises:
        UsageError: a sample is NaN or infinite.
        ModelError: the packages `speechmos` and `onnxruntime` are not installed, or the networks are damaged.
    """
    check_finite(estimate, "estimate")
    heard = resample(estimate.detach().cpu().float(), sample_rate, _DNSMOS_RATE)
    audible = ~_silent(estimate).cpu() & (heard.shape[-1] >= _DNSMOS_SHORTEST * _DNSMOS_RATE)
    scores = torch.full((*estimate.shape[:-1], 4), torch.nan, dtype=torch.float64)
    for index in audible.nonzero().tolist():
        scores[tuple(index)] = _listen(heard[tuple(index)])
    return Dnsmos(*scores.to(estimate.device).unbind(-1))


def _pairwise(
    score: Callable[[Tensor, Tensor], float], estimate: Tensor, reference: Tensor, rate: int, wanted: int
) -> Tensor:
    """`score` of every pair of signals at `wanted` Hz, in the shape of the leading axes; NaN for silence."""
    check_pair(estimate, reference)
    audible = (~(_silent(estimate) | _silent(reference))).cpu()
    degraded, clean = (resample(one.detach().cpu().float(), rate, wanted) for one in (estimate, reference))
    found = torch.full(estimate.shape[:-1], torch.nan, dtype=torch.float64)
    for index in map(tuple, audible.nonzero().tolist()):
        found[index] = score(degraded[index].contiguous(), clean[index].contiguous())
    return found.to(estimate.device)


def _silent(samples: Tensor) -> Tensor:
    """(..., T) -> (...), whether there is nothing but a constant."""
    return (samples == samples[..., :1]).all(-1)


def _intelligibility(degraded: Tensor, clean: Tensor, extended: bool) -> float:
    """(E)STOI of (T,) signals at 10 kHz, float64; equation numbers are those of the two papers."""
    window = torch.hann_window(_STOI_FRAME + 2, periodic=False, dtype=torch.float64)[1:-1]
    if len(clean) <= _STOI_FRAME:
        return torch.nan
    frames = _stoi_frames(clean) * window
    level = 20 * (torch.linalg.vector_norm(frames, dim=-1) + _EPSILON).log10()
    loud = level > level.max() - 40
    bands = []
    for samples in (clean, degraded):
        kept = _overlap_add((_stoi_frames(samples) * window)[loud])
        if len(kept) < _STOI_FRAME + 1:
            return torch.nan
        power = torch.fft.rfft(_stoi_frames(kept) * window, _STOI_FFT).abs().square()
        bands.append((power @ _third_octaves().T).sqrt())  # (N, 15)
    if len(bands[0]) < _STOI_SEGMENT:
        return torch.nan
    x, y = (band.unfold(0, _STOI_SEGMENT, 1) for band in bands)  # (J, 15, 30)
    if extended:
        x, y = (_unit(_unit(one, -1), -2) for one in (x, y))  # equations 5 and 6 of 2016
        return float((x * y).sum((1, 2)).mean() / _STOI_SEGMENT)
    gain = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    y = y * gain / (torch.linalg.vector_norm(y, dim=-1, keepdim=True) + _EPSILON)
    # No part of the estimate counts as more than 15 dB worse than the clean one: equation 3 of 2011.
    y = torch.minimum(y, x * (1 + 10 ** (15 / 20)))
    return float((_unit(x, -1) * _unit(y, -1)).sum(-1).mean())


def _stoi_frames(samples: Tensor) -> Tensor:
    """(T,) -> (N, 256); as in the authors' program, a frame that ends with the last sample is not used."""
    return samples[:-1].unfold(0, _STOI_FRAME, _STOI_FRAME // 2)


def _overlap_add(frames: Tensor) -> Tensor:
    halves = frames.unflatten(-1, (2, -1))
    joined = frames.new_zeros(len(frames) + 1, halves.shape[-1])
    joined[:-1] += halves[:, 0]
    joined[1:] += halves[:, 1]
    return joined.flatten()


def _unit(values: Tensor, dim: int) -> Tensor:
    """Without their mean, and of length 1, along `dim`; what does not vary becomes 0."""
    centred = values - values.mean(dim, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(centred, dim=dim, keepdim=True)
    return centred / (length + _EPSILON)


@functools.cache
def _third_octaves() -> Tensor:
    """(15, 257) of 0 and 1: the FFT bins of third-octave bands from 150 Hz on."""
    bins = torch.arange(_STOI_FFT // 2 + 1, dtype=torch.float64) * _STOI_RATE / _STOI_FFT
    edges = 150 * 2 ** ((2 * torch.arange(16, dtype=torch.float64) - 1) / 6)
    nearest = (bins - edges[:, None]).abs().argmin(-1)
    order = torch.arange(len(bins))
    return ((order >= nearest[:-1, None]) & (order < nearest[1:, None])).double()


@functools.cache
def _visqol(mode: str) -> Any:
    with _quiet("visqol"):
        model = _import("visqol", "visqol-python").VisqolApi()
        # Never the lattice network: scores must not depend on what else is installed.
        model.create(mode=mode, use_lattice_model=False)
    return model


def _listen(speech: Tensor) -> Tensor:
    """(T,) at 16 kHz -> (4,) mean scores of all windows: SIG, BAK, OVRL, P.808."""
    while len(speech) < _DNSMOS_WINDOW:
        speech = speech.repeat(2)
    # As the published program counts them, which leaves out a last window that just fits.
    count = int(len(speech) // _DNSMOS_RATE - _DNSMOS_WINDOW / _DNSMOS_RATE) + 1
    windows = speech.unfold(0, _DNSMOS_WINDOW, _DNSMOS_RATE)[:count]
    quality, overall = _dnsmos_network("sig_bak_ovr.onnx"), _dnsmos_network("model_v8.onnx")
    found: list[Tensor] = []
    for window in windows:  # one by one: all at once would take memory without being faster
        (raw,) = quality.run(None, {"input_1": window[None].numpy()})
        (p808,) = overall.run(None, {"input_1": _dnsmos_features(window)[None].numpy()})
        found.append(torch.tensor([*raw[0], p808[0][0]], dtype=torch.float64))
    answers = torch.stack(found)  # (windows, 4)
    constant, linear, square = _DNSMOS_FIT
    scores: Tensor = constant + linear * answers + square * answers.square()
    return scores.mean(0)


def _dnsmos_features(window: Tensor) -> Tensor:
    """(144160,) samples -> (900, 120) levels of mel bands, 0 at 40 dB below the loudest, at least -1."""
    frame = 321
    spectrum = torch.stft(
        window[:-160].double(),
        frame,
        hop_length=160,
        window=torch.hann_window(frame, dtype=torch.float64),
        pad_mode="constant",
        return_complex=True,
    )
    power = (_mel_bands(120, frame) @ spectrum.abs().square()).clamp(min=1e-10)
    level = (10 * (power / power.max()).log10()).clamp(min=-80)
    return ((level + 40) / 40).T.float()


def _mel_bands(count: int, fft_size: int) -> Tensor:
    """(count, fft_size // 2 + 1) triangles of equal area on Slaney's mel scale, 0 Hz to half of 16 kHz."""
    # Linear below 1000 Hz, which is 15 mel; above it 27 mel are a factor of 6.4.
    top = 15 + 27 * math.log(8) / math.log(6.4)
    mel = torch.linspace(0, top, count + 2, dtype=torch.float64)
    hertz = torch.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * _DNSMOS_RATE / fft_size
    width = hertz.diff()[:, None]
    rising = (bins - hertz[:-2, None]) / width[:-1]
    falling = (hertz[2:, None] - bins) / width[1:]
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (hertz[2:] - hertz[:-2])[:, None]


def check() -> None:
    """That every package of this file is there, before any work.

    Raises:
        ModelError: one is not; the message says what to install.
    """
    for package, module in (("pesq", "pesq"), ("visqol-python", "visqol"), ("onnxruntime", "onnxruntime")):
        _import(module, package)
    if importlib.util.find_spec("speechmos") is None:
        raise _missing("speechmos")


@functools.cache
def _dnsmos_network(name: str) -> Any:
    runtime = _import("onnxruntime")
    # Importing speechmos itself would ask for librosa and more; only its files are of use.
    spec = importlib.util.find_spec("speechmos")
    if spec is None or spec.origin is None:
        raise _missing("speechmos")
    path = Path(spec.origin).parent / "dnsmos_models" / name
    from unweave.hub import file_sha256

    if not path.exists() or file_sha256(path) != _DNSMOS_SHA256[name]:
        raise ModelError(
            f"{path} is missing or is not the published network (sha256 {_DNSMOS_SHA256[name][:12]}...); "
            f"run: pip install --force-reinstall speechmos"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _import(module: str, package: str = "") -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise _missing(package or module) from error


def _missing(package: str) -> ModelError:
    return ModelError(f"{package} is not installed; run: pip install 'unweave[metrics]'")


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """What `logger` and its children say, and warnings, are dropped for the length of a block."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
