"""Make a listener's numbers mean what they say: calibration and thresholds, on groups that it never heard.

``python -m unweave.train.calibrate RUN/weights.safetensors --data ROOT``

Mixtures of one to three sources, of the training groups that were held out from training
(`recipes.split_groups`), unaltered. Two logistic regressions turn logits into probabilities, for frames and
for stretches of 4 s, over all training labels; then threshold and the handicap of names never trained on are
those with the best label F1 when all names that are known may be given, and the reach of a name is the one
with the best F1 over frames. Written beside the weights, as .json, with a reliability table.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unweave import hub
from unweave.data.manifest import DecodedClips, cache_folder, read_manifest
from unweave.data.mixtures import Labels, Mixer, MixingConfig, Mixture, known_labels
from unweave.encoders.minilm import MiniLM
from unweave.evaluate.metrics.openworld import label_f1, similarity_by
from unweave.listen.tagger import Calibration, Impression, Tagger
from unweave.models import channels_last
from unweave.models.listener import ListenerConfig, ListenerNetwork, pooled
from unweave.train.recipes import split_groups
from unweave.train.recipes.listener import active

PLAIN = MixingConfig(
    seconds=4.08,
    sources=(0.5, 0.5),
    alone=1 / 3,
    queries=1,
    gain_db=5.0,
    speed=0.0,
    low_pass=0.0,
    tilt_db=0.0,
    reverb=0.0,
)
THRESHOLDS = (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
HANDICAPS = (2.0, 4.0, 6.0)
REACHES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SAME = 0.6  # similarity in the text space from which a label counts as right


def calibrate(weights: Path, data: Path, count: int = 600, seed: int = 0) -> dict[str, Any]:
    """Fit on `count` mixtures of the manifest in `data`; what the .json beside the weights says."""
    network = channels_last(hub.load(ListenerNetwork, ListenerConfig, weights))
    encoder = MiniLM()
    bare = Tagger(network, encoder, Calibration())
    _, clips = split_groups(read_manifest(data, "train"))
    mixer = Mixer(DecodedClips(data, clips, bare.sample_rate, cache_folder()), PLAIN, seed)
    scenes = [mixer.draw(number) for number in range(count)]
    impressions = [bare.follow([scene.sources.sum(0)[None]], bare.sample_rate) for scene in scenes]
    true = [[mixer.labels.names[one] for one in scene.labels] for scene in scenes]
    frame, whole, reach = _observed(bare, impressions, scenes, true)
    fitted = Calibration(frame=_logistic(*frame), whole=_logistic(*whole), reach=reach)
    best, f1 = _best(Tagger(network, encoder, fitted), impressions, true)
    return {
        "calibration": dataclasses.asdict(best),
        "fitted_on": f"{count} mixtures of {len(clips)} clips with {len(mixer.labels.names)} labels, "
        f"training groups that were held out, seed {seed}; the F1 is the best of "
        f"{len(THRESHOLDS) * len(HANDICAPS)} settings on the same mixtures",
        "label_f1": f1,
        "reliability": {
            "frame": _reliability(*frame, fitted.frame),
            "whole": _reliability(*whole, fitted.whole),
        },
    }


@torch.no_grad()
def _observed(
    tagger: Tagger, impressions: list[Impression], scenes: list[Mixture], true: list[list[str]]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], float]:
    """Logits, and whether the label sounded, of frames and of whole scenes; what is open is left out. And the
    reach with the best F1 over frames of the labels that are there."""
    labels = Labels(known_labels())
    names = tuple(labels.names)
    frames, whole, found = [], [], torch.zeros(len(REACHES), 3)
    for impression, scene, row in zip(impressions, scenes, true, strict=True):
        mine = [labels.number[name] for name in row]
        heard = active(scene.sources, tagger.network.config)
        logits = torch.logit(tagger.probabilities(impression, names).double(), eps=1e-12)[:, : heard.shape[1]]
        truth = torch.zeros(logits.shape)
        truth[labels.overlap[mine].any(0)] = torch.nan
        truth[mine] = heard
        known = ~truth.isnan()
        frames.append((logits[known], truth[known]))
        there = torch.where((truth == 1).any(1), 1.0, torch.where((truth == 0).all(1), 0.0, torch.nan))
        sure = ~there.isnan()
        whole.append((pooled(logits)[sure], there[sure]))
        for number, reach in enumerate(REACHES):
            said = logits[mine] >= logits[mine].amax(1, keepdim=True) - reach
            counts = (said & (heard == 1), said & (heard == 0), ~said & (heard == 1))
            found[number] += torch.tensor([float(one.sum()) for one in counts])
    right, wrong, missed = found.unbind(1)
    best = int((2 * right / (2 * right + wrong + missed)).argmax())
    return _joined(frames), _joined(whole), REACHES[best]


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([logits for logits, _ in pairs]), torch.cat([truth for _, truth in pairs]).double()


def _logistic(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """Slope and offset of the maximum likelihood (Platt, 1999)."""
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(parameters[0] * logits + parameters[1], truth)
        loss.backward()
        return loss

    optimiser.step(closure)
    slope, offset = parameters.detach().tolist()
    return round(slope, 4), round(offset, 4)


def _reliability(logits: Tensor, truth: Tensor, fitted: tuple[float, ...]) -> list[dict[str, float]]:
    """In ten bins of probability: how many, what was said, and how often it was so."""
    said = torch.sigmoid(fitted[0] * logits + fitted[1])
    rows = []
    for low in range(10):
        here = (said >= low / 10) & (said < (low + 1) / 10 if low < 9 else said <= 1)
        if here.any():
            rows.append(
                {
                    "count": int(here.sum()),
                    "said": round(float(said[here].mean()), 4),
                    "observed": round(float(truth[here].mean()), 4),
                }
            )
    return rows


def _best(
    fitted: Tagger, impressions: list[Impression], true: list[list[str]]
) -> tuple[Calibration, dict[str, float]]:
    """The threshold and handicap with the best F1 over all names, and that F1 by number of sources."""
    similarity = similarity_by(fitted.encoder)
    found: dict[Calibration, list[float]] = {}
    for handicap in HANDICAPS:
        for threshold in THRESHOLDS:
            calibration = dataclasses.replace(fitted.calibration, stranger=handicap, threshold=threshold)
            tagger = Tagger(fitted.network, fitted.encoder, calibration)
            found[calibration] = [
                label_f1(sorted({one.text for one in tagger.heard(impression)}), labels, similarity, SAME).f1
                for impression, labels in zip(impressions, true, strict=True)
            ]
            print(f"handicap {handicap} threshold {threshold}: F1 {_mean(found[calibration]):.3f}")
    best = max(found, key=lambda one: _mean(found[one]))
    by_count: dict[int, list[float]] = {}
    for f1, labels in zip(found[best], true, strict=True):
        by_count.setdefault(len(labels), []).append(f1)
    return best, {str(count): round(_mean(values), 3) for count, values in sorted(by_count.items())}


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def main() -> None:
    """Parse, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = calibrate(options.weights, options.data, options.count, options.seed)
    target = options.weights.with_suffix(".json")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(target)
    print(target)


if __name__ == "__main__":
    main()
