"""Which metrics there are, in which sets they are asked for, and how each is computed for all of an item.

The set "signal" is always measured. The others take longer or need packages of the extra `metrics`, so they
are computed only when asked for.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unweave.evaluate.headline import headline

Values = dict[str, Tensor]  # by metric, (Q,) float64, NaN where it means nothing; or (Q, D) embeddings


@dataclass(frozen=True)
class Metric:
    """How a metric is shown."""

    title: str
    unit: str
    better: int  # 1: more is better, -1: less is better, 0: neither
    of: Literal["present", "absent", "all"] = "present"  # queries whose answers it is averaged over
    percent: bool = False  # a share
    heard: bool = False  # depends on what listens, so its name is said beside it


@dataclass(frozen=True, eq=False)
class Answers:
    """What one system answered about one mixture."""

    estimates: Tensor  # (Q, C, T)
    sources: Tensor  # (Q, C, T), silence where a query asks for what is not there
    mixture: Tensor  # (C, T)
    rivals: Tensor  # (Q, Q) bool, whether source r is another sound than the one query q asks for
    texts: tuple[str, ...]  # Q queries
    sample_rate: int  # Hz
    rest: Tensor | None = None  # (C, T), sources that no query asks for, together
    embedder: str = "own"  # what semantic metrics listen with, see `listener`

    @property
    def present(self) -> Tensor:
        """(Q,) bool, whether what a query asks for is there."""
        return self.sources.flatten(1).any(1)


DEFINITIONS = 2  # of everything below; raised when a metric is added or means something else
METRICS: dict[str, Metric] = {
    "si_sdri": Metric("SI-SDRi", "dB", 1),
    "sdri": Metric("SDRi", "dB", 1),
    "si_sdr": Metric("SI-SDR", "dB", 1),
    "sdr": Metric("SDR", "dB", 1),
    "wrong_target": Metric("wrong target", "%", -1, percent=True),
    "attenuation_db": Metric("absent, below mixture", "dB", 1, of="absent"),
    "sum_error_db": Metric("sum error", "dB", 0, of="all"),
    "multi_resolution_stft": Metric("multi-resolution STFT distance", "", -1),
    "unisep_stft_distance": Metric("STFT distance (UniSep)", "10 dB", -1),
    "log_spectral_distance": Metric("LSD", "10 dB", -1),
    "audioldm_lsd": Metric("LSD (audioldm_eval)", "10 dB", -1),
    "mel_psnr": Metric("mel-PSNR", "dB", 1),
    "mel_distance": Metric("mel distance", "dB", -1),
    "delay_samples": Metric("delay", "samples", 0),
    "bss_sdr": Metric("BSS Eval SDR", "dB", 1),
    "bss_sir": Metric("BSS Eval SIR", "dB", 1),
    "bss_sar": Metric("BSS Eval SAR", "dB", 1),
    "pesq": Metric("PESQ", "", 1),
    "stoi": Metric("STOI", "", 1),
    "estoi": Metric("ESTOI", "", 1),
    "visqol": Metric("ViSQOL audio", "", 1),
    "visqol_speech": Metric("ViSQOL speech", "", 1),
    "dnsmos_signal": Metric("DNSMOS SIG", "", 1),
    "dnsmos_background": Metric("DNSMOS BAK", "", 1),
    "dnsmos_overall": Metric("DNSMOS OVRL", "", 1),
    "dnsmos_p808": Metric("DNSMOS P.808", "", 1),
    "clap_text": Metric("CLAP-T", "", 1, heard=True),
    "clap_audio": Metric("CLAP-A", "", 1, heard=True),
    "afsim": Metric("AFSim", "", 1, heard=True),
    "lpaps": Metric("LPAPS (channels)", "", -1, heard=True),
    "kl_divergence": Metric("KL of tags", "nats", -1, heard=True),
}


def _signal(answers: Answers) -> Values:
    return headline(answers.estimates, answers.sources, answers.mixture, answers.rivals, answers.rest)


def _spectral(answers: Answers) -> Values:
    from unweave.evaluate.metrics import openworld, spectral

    rate = answers.sample_rate
    return _paired(
        answers,
        {
            "multi_resolution_stft": spectral.multi_resolution_stft,
            "unisep_stft_distance": spectral.unisep_stft_distance,
            "log_spectral_distance": functools.partial(spectral.log_spectral_distance, sample_rate=rate),
            "audioldm_lsd": functools.partial(spectral.audioldm_lsd, sample_rate=rate),
            "mel_psnr": functools.partial(spectral.mel_psnr, sample_rate=rate),
            "mel_distance": functools.partial(spectral.mel_distance, sample_rate=rate),
            "delay_samples": openworld.delay_samples,
        },
    )


def _bss(answers: Answers) -> Values:
    """BSS Eval compares with all sources at once, so those that were asked for have to be different ones."""
    from unweave.evaluate.metrics.bss import bss_eval

    there, count = answers.present, len(answers.estimates)
    found = torch.full((3, count), torch.nan, dtype=torch.float64)
    others = ~torch.eye(count, dtype=torch.bool) & there[:, None] & there[None, :]
    if there.any() and bool((answers.rivals | ~others).all()):
        estimates, sources = answers.estimates[there], answers.sources[there]
        if answers.rest is not None:  # interferes as well, though nobody asks for it
            estimates = torch.cat([estimates, torch.zeros_like(estimates[:1])])
            sources = torch.cat([sources, answers.rest[None]])
        channels = [
            bss_eval(estimates[:, channel], sources[:, channel]) for channel in range(len(answers.mixture))
        ]
        values = torch.stack([torch.stack([one.sdr, one.sir, one.sar]) for one in channels]).mean(0)
        found[:, there] = values[:, : int(there.sum())]
    return dict(zip(("bss_sdr", "bss_sir", "bss_sar"), found, strict=True))


def _perceptual(answers: Answers) -> Values:
    from unweave.evaluate.metrics import perceptual

    rate = answers.sample_rate
    found = _paired(
        answers,
        {
            "pesq": functools.partial(perceptual.pesq, sample_rate=rate),
            "stoi": functools.partial(perceptual.stoi, sample_rate=rate),
            "estoi": functools.partial(perceptual.stoi, sample_rate=rate, extended=True),
            "visqol": functools.partial(perceptual.visqol, sample_rate=rate, mode="audio"),
            "visqol_speech": functools.partial(perceptual.visqol, sample_rate=rate, mode="speech"),
        },
    )
    heard = perceptual.dnsmos(answers.estimates[answers.present], rate)
    for name, values in vars(heard).items():
        found[f"dnsmos_{name}"] = _placed(values.mean(1), answers.present)
    return found


def _semantic(answers: Answers) -> Values:
    """All that the embedder can do: words, sounds, layers, tags; and its embeddings, for the FAD of a run."""
    from unweave.evaluate.metrics import semantic

    there, rate, heard_by = answers.present, answers.sample_rate, listener(answers.embedder)
    if not there.any():
        return {}
    estimates, sources = answers.estimates[there].mean(1), answers.sources[there].mean(1)
    found: Values = {}
    if hasattr(heard_by, "embed_audio"):
        heard, true = (semantic.embeddings(one, rate, heard_by) for one in (estimates, sources))
        # The same cosine has another name where an audio language model listens (HSM-TSS).
        name = "afsim" if answers.embedder.startswith("flamingo") else "clap_audio"
        found = {name: semantic.cosine(heard, true), "heard": heard, "true": true}
    if hasattr(heard_by, "embed_text"):
        texts = [text for text, one in zip(answers.texts, there.tolist(), strict=True) if one]
        found["clap_text"] = semantic.clap_text_score(estimates, texts, rate, heard_by)
    if hasattr(heard_by, "layers"):
        found["lpaps"] = semantic.lpaps(estimates, sources, rate, heard_by)
    if hasattr(heard_by, "tags"):
        found["kl_divergence"] = semantic.kl_divergence(estimates, sources, rate, heard_by)
    return {name: _placed(values, there) for name, values in found.items()}


SETS: dict[str, Callable[[Answers], Values]] = {
    "signal": _signal,
    "spectral": _spectral,
    "bss": _bss,
    "perceptual": _perceptual,
    "semantic": _semantic,
}
ONCE = ("cost",)  # measured once for each engine, and not item by item


def _paired(answers: Answers, metrics: dict[str, Callable[[Tensor, Tensor], Tensor]]) -> Values:
    """Metrics of estimate and source, channels averaged, of what is there."""
    there = answers.present
    estimates, sources = answers.estimates[there], answers.sources[there]
    return {name: _placed(metric(estimates, sources).mean(1), there) for name, metric in metrics.items()}


def _placed(values: Tensor, there: Tensor) -> Tensor:
    """Values of the queries that are `there`, among NaN for the others."""
    found = torch.full((len(there), *values.shape[1:]), torch.nan, dtype=torch.float64)
    found[there] = values.double().cpu()
    return found


@functools.lru_cache(maxsize=1)
def listener(named: str) -> Any:
    """What semantic metrics listen with, loaded once; it has some of the protocols of `metrics.embedders`.

    Args:
        named: a kind, "own"; or with its files, "clap=FOLDER"; or with a hub name and the commit to take,
            "clap=laion/clap-htsat-unfused@COMMIT".

    Raises:
        UnknownNameError: no such kind.
        UsageError: a hub name without a commit.
        ModelError: its files are missing.
    """
    from unweave.evaluate.metrics import embedders

    kind, _, source = named.partition("=")
    name, _, revision = source.rpartition("@")
    if not name or Path(source).exists():  # a folder may have an @ in its name
        return embedders.load(kind, source or None)
    return embedders.load(kind, name, revision)
