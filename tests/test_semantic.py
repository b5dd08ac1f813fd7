"""Semantic metrics against scipy, torch, closed forms, and how they move on real clips."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import soundfile
import torch
from torch import Tensor

from unweave.errors import QueryError, UsageError
from unweave.evaluate.metrics.embedders import Own
from unweave.evaluate.metrics.pretrained import Tagger
from unweave.evaluate.metrics.semantic import (
    afsim,
    clap_audio_score,
    clap_text_score,
    cosine,
    embeddings,
    frechet_audio_distance,
    kl_divergence,
    lpaps,
)
from unweave.signal.mixing import mix_at_snr

DATA = Path(__file__).parent / "data"
RATE = 32_000
SECONDS = 2


class Pairs:
    """A listener whose answer is known: every two samples are a token, a sound's vector is its first four.

    Layer 1 is the tokens, layer 2 their doubles; neither convention of LPAPS hears the doubling.
    """

    name = "pairs"

    def embed_audio(self, samples: Tensor, sample_rate: int) -> Tensor:
        return samples[:4]

    def embed_text(self, text: str) -> Tensor:
        return torch.tensor([float(letter == "a") for letter in text[:4]])

    def layers(self, samples: Tensor, sample_rate: int) -> list[Tensor]:
        tokens = samples.reshape(1, -1, 2)
        return [tokens, 2 * tokens]


def clip(name: str) -> Tensor:
    samples, rate = soundfile.read(DATA / f"{name}.flac", dtype="float32", frames=SECONDS * RATE)
    assert rate == RATE
    return torch.from_numpy(samples)


@pytest.fixture(scope="module")
def own() -> Own:
    return Own()


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """A tagger that has learned nothing, but is sure of everything: logits lie hundreds apart."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=64
    )
    config.num_mel_bins, config.num_labels = 32, 6
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ASTForAudioClassification(config)
        torch.nn.init.normal_(network.classifier.dense.weight, std=40)
    folder = tmp_path_factory.mktemp("models") / "tagger"
    network.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return Tagger(folder)


def test_cosines_are_of_the_right_pairs() -> None:
    """Angles of 0, 60, 90 and 180 degrees, and a gain that does not count."""
    r3 = math.sqrt(3)
    estimates = torch.tensor([[2.0, 0, 0, 0], [1, r3, 0, 0], [0, 5, 0, 0], [-1, 0, 0, 0]])
    references = torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4)
    for metric in (clap_audio_score, afsim):
        found = metric(estimates, references, RATE, Pairs())
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx([1, 0.5, 0, -1], abs=1e-7)
    words = clap_text_score(estimates, ["a...", "a...", ".a..", ".a.."], RATE, Pairs())
    assert words.tolist() == pytest.approx([1, 0.5, 1, 0], abs=1e-7)


def test_shapes_are_kept(own: Own) -> None:
    sounds = torch.stack([clip("dog-barking"), clip("rain")])[:, None].repeat(1, 3, 1)
    sounds[:, 1] = sounds[:, 1].flip(-1)
    assert embeddings(sounds, RATE, own).shape == (2, 3, 384)
    assert embeddings(sounds[0, 0], RATE, own).shape == (384,)
    together = clap_text_score(sounds, ["dog barking", "rain"], RATE, own)
    assert together.shape == (2, 3)
    alone = cosine(own.embed_audio(sounds[1, 1], RATE), own.embed_text("rain"))
    assert together[1, 1].item() == pytest.approx(alone.item(), abs=1e-9)
    for metric in (clap_audio_score, lpaps):
        assert metric(sounds, sounds, RATE, own).shape == (2, 3)


def test_scores_fall_as_another_sound_gets_in(own: Own) -> None:
    rain, saxophone = clip("rain"), clip("alto-saxophone")
    estimates = torch.stack([mix_at_snr(saxophone, rain, snr_db)[0] for snr_db in (30.0, 10.0, 0.0, -10.0)])
    references = saxophone.expand_as(estimates)
    audio = clap_audio_score(estimates, references, RATE, own)
    text = clap_text_score(estimates, ["alto saxophone"] * 4, RATE, own)
    apart = {kind: lpaps(estimates, references, RATE, own, kind) for kind in ("channels", "tokens")}
    assert (audio.diff() < 0).all()
    assert text[0] > text[3] + 0.1
    assert all((distances.diff() > 0).all() for distances in apart.values())
    assert clap_audio_score(saxophone, saxophone, RATE, own).item() == pytest.approx(1, abs=1e-9)
    assert lpaps(saxophone, saxophone, RATE, own).item() == 0


def test_lpaps_in_both_conventions() -> None:
    """Tokens (3, 4) and (0, 1) against (3, 4) and (1, 0), worked out by hand, twice for the two layers."""
    estimate, reference = torch.tensor([3.0, 4, 0, 1]), torch.tensor([3.0, 4, 1, 0])
    # Unit tokens: equal, and at a right angle, which is 2 apart. Mean over the tokens.
    channels = lpaps(estimate, reference, RATE, Pairs(), "channels")
    assert channels.item() == pytest.approx(2 * (0 + 2) / 2)
    # Unit channels: (3, 0)/3 and (4, 1)/sqrt(17) against (3, 1)/sqrt(10) and (4, 0)/4; |a - b|^2 = 2 - 2 cos.
    expected = ((2 - 2 * 3 / math.sqrt(10)) + (2 - 2 * 4 / math.sqrt(17))) / 2
    tokens = lpaps(estimate, reference, RATE, Pairs(), "tokens")
    assert tokens.item() == pytest.approx(2 * expected)
    assert lpaps(estimate * 9, reference, RATE, Pairs()).item() == pytest.approx(channels.item())
    assert lpaps(-reference, reference, RATE, Pairs()).item() == pytest.approx(8)  # as far as it goes


def test_lpaps_of_a_network_by_loops(own: Own) -> None:
    dog, rain = clip("dog-barking"), clip("rain")
    total = {"channels": 0.0, "tokens": 0.0}
    for found, true in zip(own.layers(dog, RATE), own.layers(rain, RATE), strict=True):
        a, b = found[0].double().numpy(), true[0].double().numpy()  # tokens, channels
        rows = [x / np.linalg.norm(x) - y / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
        total["channels"] += np.mean([row @ row for row in rows])
        rows = [x / np.linalg.norm(x) - y / np.linalg.norm(y) for x, y in zip(a.T, b.T, strict=True)]
        total["tokens"] += np.mean([row @ row for row in rows])
    for kind, expected in total.items():
        assert lpaps(dog, rain, RATE, own, kind).item() == pytest.approx(expected, rel=1e-9)
    assert total["channels"] != pytest.approx(total["tokens"], rel=0.05)


def test_kl_agrees_with_scipy_and_torch_in_its_direction(tagger: Tagger) -> None:
    dog, rain = clip("dog-barking"), clip("rain")
    true, found = tagger.tags(rain, RATE) / 50, tagger.tags(dog, RATE) / 50

    class Unsure:
        """The same tagger, its logits divided by fifty, so that scipy's probabilities do not underflow."""

        name, labels = "unsure", tagger.labels

        def tags(self, samples: Tensor, sample_rate: int) -> Tensor:
            return (tagger.tags(samples, sample_rate) / 50).log_softmax(0)

    p, q = true.softmax(0), found.softmax(0)
    ours = kl_divergence(dog, rain, RATE, Unsure()).item()
    assert ours == pytest.approx(scipy.stats.entropy(p.numpy(), q.numpy()), rel=1e-9)
    assert ours == pytest.approx(torch.nn.functional.kl_div(q.log(), p, reduction="sum").item(), rel=1e-9)
    other = scipy.stats.entropy(q.numpy(), p.numpy())
    assert kl_divergence(rain, dog, RATE, Unsure()).item() == pytest.approx(other, rel=1e-9)
    assert abs(ours - other) > 0.01 * ours  # so that the direction is tested


def test_kl_needs_no_epsilon(tagger: Tagger) -> None:
    """Where one tag has all the probability, the divergence is the difference of two logarithms."""
    sounds = [clip(name) for name in ("dog-barking", "rain", "speech", "alto-saxophone")]
    pairs = [(a, b) for a in sounds for b in sounds if a is not b]
    found = torch.stack([kl_divergence(a, b, RATE, tagger) for a, b in pairs])
    assert bool(found.isfinite().all())
    assert found.max() > 20  # with 1e-6 added to each probability 13.8 would be the most
    for (a, b), value in zip(pairs, found, strict=True):
        true = tagger.tags(b, RATE)
        top = int(true.argmax())
        if true[top].exp() > 1 - 1e-12:
            assert value.item() == pytest.approx((true - tagger.tags(a, RATE))[top].item(), rel=1e-6)
    assert kl_divergence(sounds[0], sounds[0], RATE, tagger).item() == 0


def exactly(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """(count, D) points whose own mean and covariance are these, to rounding."""
    size = len(mean)
    draw = torch.Generator().manual_seed(seed)
    points = torch.randn(count, size, generator=draw, dtype=torch.float64)
    points = points - points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(points.mT.cov())).mT
    return white @ torch.linalg.cholesky(covariance).mT + mean


def test_fad_of_known_gaussians() -> None:
    zero, shift = torch.zeros(2).double(), torch.tensor([3.0, -1.0]).double()
    one = torch.tensor([[2.0, 0.8], [0.8, 1.0]]).double()
    two = torch.tensor([[0.5, -0.3], [-0.3, 4.0]]).double()
    # For 2 x 2 matrices the trace of the root has a closed form, whether they commute or not.
    product = one @ two
    shared = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = (10 + one.trace() + two.trace() - 2 * shared).item()
    found = frechet_audio_distance(exactly(shift, one, 50, 0), exactly(zero, two, 80, 1))
    assert found.item() == pytest.approx(expected, rel=1e-9)
    # Of diagonal ones: the squared distance of means plus that of standard deviations.
    wide, thin = torch.diag(torch.tensor([9.0, 4.0])).double(), torch.diag(torch.tensor([1.0, 16.0])).double()
    found = frechet_audio_distance(exactly(shift, wide, 30, 2), exactly(zero, thin, 40, 3))
    assert found.item() == pytest.approx(10 + (3 - 1) ** 2 + (2 - 4) ** 2, rel=1e-9)


def test_fad_agrees_with_scipy_on_real_sounds(own: Own) -> None:
    sets = []
    for name in ("rain", "speech"):
        pieces = clip(name).unfold(0, 8000, 1400)  # 41 quarter seconds
        vectors = embeddings(pieces, RATE, own)
        turn = torch.randn(384, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sets.append(vectors @ turn)  # 8 dimensions, so that the covariances are regular
    a, b = (each.numpy() for each in sets)
    c, d = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(c @ d).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root)
    assert frechet_audio_distance(*sets).item() == pytest.approx(expected, rel=1e-6)


def test_fad_with_fewer_sounds_than_dimensions() -> None:
    """Exact for the singular covariances: two points span a line, and a shift is its squared length."""
    a = torch.tensor([3.0, 0, 0, 4]).double()
    b = torch.tensor([1.0, 2, 2, 0]).double()
    line = frechet_audio_distance(torch.stack([a, -a]), torch.stack([b, -b]))
    # C = 2 a a', D = 2 b b': tr((C D)^(1/2)) = 2 |a . b|
    assert line.item() == pytest.approx(2 * 25 + 2 * 9 - 2 * 2 * 3, rel=1e-9)
    points = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    assert frechet_audio_distance(points, points).item() == pytest.approx(0, abs=1e-6)
    assert frechet_audio_distance(points + 0.5, points).item() == pytest.approx(40 / 4, abs=1e-5)


def test_fad_grows_with_noise_on_real_sounds(own: Own) -> None:
    pieces = torch.cat([clip(name).unfold(0, 16_000, 12_000) for name in ("dog-barking", "speech", "rain")])
    pieces = pieces[pieces.square().sum(-1) > 0]
    clean = embeddings(pieces, RATE, own)
    noise = torch.randn(pieces.shape, generator=torch.Generator().manual_seed(0))
    level = pieces.square().mean(-1, keepdim=True).sqrt()
    distances = [
        frechet_audio_distance(
            embeddings(pieces + noise * level * 10 ** (-snr_db / 20), RATE, own), clean
        ).item()
        for snr_db in (40, 25, 10, -5)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 3 * distances[0] > 0


def test_silence(own: Own, tagger: Tagger) -> None:
    """A silent reference means nothing; a silent estimate is a poor one, and it counts."""
    dog = clip("dog-barking")
    silence = torch.zeros_like(dog)
    estimates, references = (
        torch.stack([dog, silence, dog, silence]),
        torch.stack([dog, dog, silence, silence]),
    )
    similar = (clap_audio_score(estimates, references, RATE, own), afsim(estimates, references, RATE, own))
    distant = (lpaps(estimates, references, RATE, own), kl_divergence(estimates, references, RATE, tagger))
    for found in (*similar, *distant):
        assert found.isnan().tolist() == [False, False, True, True]
    assert all(found[1] < found[0] - 0.1 for found in similar)
    assert all(found[1] > found[0] for found in distant)
    words = clap_text_score(torch.stack([dog, silence]), ["dog barking"] * 2, RATE, own)
    assert bool(words.isfinite().all())
    assert clap_audio_score(silence + 1e-9, dog, RATE, own).isfinite().item()


def test_what_makes_no_sense_is_refused(own: Own, tagger: Tagger) -> None:
    dog = clip("dog-barking")
    broken = dog.clone()
    broken[5] = torch.inf
    metrics = ((clap_audio_score, own), (afsim, own), (lpaps, own), (kl_divergence, tagger))
    for metric, listener in metrics:
        with pytest.raises(UsageError, match="64000"):
            metric(dog[:-1], dog, RATE, listener)
        with pytest.raises(UsageError, match=r"estimate.* NaN or infinit"):
            metric(broken, dog, RATE, listener)
        with pytest.raises(UsageError, match=r"reference.* NaN or infinit"):
            metric(dog, broken, RATE, listener)
        with pytest.raises(UsageError, match="are empty"):
            metric(dog[:0], dog[:0], RATE, listener)
    with pytest.raises(UsageError, match=r"estimate.* NaN or infinit"):
        clap_text_score(broken[None], ["dog"], RATE, own)
    with pytest.raises(UsageError, match="got 1 texts"):
        clap_text_score(torch.stack([dog, dog]), ["dog"], RATE, own)
    with pytest.raises(QueryError, match="is empty"):
        clap_text_score(dog[None], [" "], RATE, own)
    with pytest.raises(UsageError, match="'channels' or 'tokens', got 'time'"):
        lpaps(dog, dog, RATE, own, "time")


def test_sets_that_fad_cannot_compare() -> None:
    with pytest.raises(UsageError, match=r"got \(3, 4\) and \(3, 5\)"):
        frechet_audio_distance(torch.ones(3, 4), torch.ones(3, 5))
    with pytest.raises(UsageError, match="got 1 and 3"):
        frechet_audio_distance(torch.ones(1, 4), torch.ones(3, 4))
    with pytest.raises(UsageError, match=r"reference.* NaN or infinit"):
        frechet_audio_distance(torch.ones(3, 4), torch.full((3, 4), torch.nan))
