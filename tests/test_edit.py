"""Separate, extract and remove in memory, with small engines whose right answer is known."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from unweave.errors import AudioError, DeviceError, QueryError
from unweave.pipeline import judge
from unweave.pipeline.edit import as_queries, extract, remove, separate
from unweave.pipeline.native import Native
from unweave.types import Audio, Query

BANDS = {"low hum": (0.0, 1000.0), "high whistle": (1000.0, 1e9), "very high": (14_000.0, 1e9)}


class Bands:
    """A fixed band of the spectrum for each known name, mono, at 32 kHz; its phase is upside down."""

    sample_rate = 32_000

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        spectrum = torch.fft.rfft(mixture)
        frequency = torch.fft.rfftfreq(mixture.shape[-1], 1 / self.sample_rate)
        stems = []
        for query in queries:
            low, high = BANDS[query.text]
            mask = ((frequency >= low) & (frequency < high)) == query.keep
            stems.append(-torch.fft.irfft(spectrum * mask, n=mixture.shape[-1]))
        return torch.stack(stems)


class Loud:
    """What is above -20 dBFS belongs to "loud": an answer that depends on the input, sample by sample."""

    sample_rate = 16_000

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        level = torch.nn.functional.max_pool1d(mixture.abs()[None], 801, stride=1, padding=400)[0]
        return torch.stack([mixture * ((level > 0.1) == query.keep) for query in queries])


class Hungry:
    """Runs out of memory."""

    sample_rate = 16_000

    def separate(self, mixture: Tensor, queries: Sequence[Query]) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")


def tone(frequency: float, seconds: float, rate: int, level: float = 0.3) -> Tensor:
    return level * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def street(seconds: float = 3.0, rate: int = 44_100) -> Audio:
    """A hum on the left, a whistle on the right, a little noise on both."""
    noise = 1e-3 * torch.randn(2, round(seconds * rate), generator=torch.Generator().manual_seed(0))
    hum, whistle = tone(220, seconds, rate), tone(3000, seconds, rate)
    return Audio(noise + torch.stack([hum, 0.5 * whistle]), rate)


def ratio_db(reference: Tensor, estimate: Tensor) -> float:
    return float(10 * (reference.square().sum() / (reference - estimate).square().sum()).log10())


@pytest.mark.parametrize("rate", [8000, 22_050, 32_000, 44_100, 96_000])
def test_each_sound_comes_out_at_the_rate_and_place_of_the_recording(rate):
    recording = street(rate=rate)
    hum, whistle, rest = separate(recording, ["low hum", Query("high whistle")], model=Bands())
    for stem in (hum, whistle, rest):
        assert stem.audio.samples.shape == recording.samples.shape
        assert stem.audio.sample_rate == rate
    assert ratio_db(tone(220, 3, rate), hum.audio.samples[0]) > 30
    assert ratio_db(0.5 * tone(3000, 3, rate), whistle.audio.samples[1]) > 30
    assert [stem.query for stem in (hum, whistle, rest)] == [Query("low hum"), Query("high whistle"), None]
    total = hum.audio.samples + whistle.audio.samples + rest.audio.samples
    assert (total - recording.samples).abs().max() < 1e-6
    assert hum.score > 0.7 > whistle.score > 0.15
    assert rest.score == 1.0


@pytest.mark.parametrize("engine", [Bands(), Loud()])
@pytest.mark.parametrize("spans", [(), ((0.5, 1.25), (8.7, 10.0))])
def test_kept_and_removed_are_the_recording(engine, spans):
    recording = street(seconds=11)
    query = Query("low hum", spans=spans)
    kept, removed = extract(recording, query, model=engine), remove(recording, query, model=engine)
    assert kept.sample_rate == removed.sample_rate == recording.sample_rate
    assert kept.samples.abs().max() > 0.1
    assert (kept.samples + removed.samples - recording.samples).abs().max() < 1e-6


def test_outside_its_spans_a_query_is_silent_and_removing_it_changes_nothing():
    recording = street()
    query = Query("low hum", spans=((1.0, 2.0),))
    kept, removed = extract(recording, query, model=Bands()), remove(recording, query, model=Bands())
    outside = torch.ones(recording.samples.shape[1], dtype=torch.bool)
    outside[round(0.97 * 44_100) : round(2.03 * 44_100)] = False
    assert not kept.samples[:, outside].any()
    assert torch.equal(removed.samples[:, outside], recording.samples[:, outside])
    inside = slice(round(1.1 * 44_100), round(1.9 * 44_100))
    assert ratio_db(tone(220, 3, 44_100)[inside], kept.samples[0, inside]) > 25


def test_keep_false_in_separate_is_the_same_as_remove():
    recording = street()
    (stem, rest) = separate(recording, [Query("low hum", keep=False)], model=Bands())
    assert torch.equal(stem.audio.samples, remove(recording, "low hum", model=Bands()).samples)
    assert torch.allclose(rest.audio.samples, extract(recording, "low hum", model=Bands()).samples, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 1023])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_very_short_recordings(length, rate):
    noise = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    stems = separate(Audio(0.1 * noise, rate), ["low hum", "high whistle"], model=Bands())
    assert len(stems) == 3
    total = sum(stem.audio.samples for stem in stems)
    assert total.shape == (2, length)
    assert torch.allclose(total, 0.1 * noise, atol=1e-6)


def test_silence_gives_silence():
    silence = Audio(torch.zeros(1, 30_000), 48_000)
    for stem in separate(silence, ["low hum", Query("b", keep=False)], model=Bands()):
        assert stem.audio.samples.shape == (1, 30_000)
        assert not stem.audio.samples.any()


def test_an_engine_with_inputs_of_its_own_level_sees_the_recording():
    """Loud and quiet seconds take turns; an extract of the loud ones has them and nothing else."""
    rate = 44_100
    wave = tone(440, 4, rate, level=0.5)
    wave[rate : 2 * rate] *= 0.01
    wave[3 * rate :] *= 0.01
    kept = extract(Audio(wave[None], rate), "loud", model=Loud()).samples[0]
    assert ratio_db(wave[: rate - 5000], kept[: rate - 5000]) > 30
    assert kept[rate + 5000 : 2 * rate - 5000].abs().max() < 1e-4


def test_out_of_memory_is_an_error_with_a_remedy():
    with pytest.raises(DeviceError, match=r"2 sounds in 3.0 s .*'cpu'"):
        separate(street(), ["a", "b"], model=Hungry())


def test_what_is_asked_is_checked_at_the_door():
    recording = street(0.1)
    with pytest.raises(QueryError, match=r"\['rain'\]"):
        separate(recording, "rain", model=Bands())
    with pytest.raises(QueryError, match="no query"):
        separate(recording, [], model=Bands())
    with pytest.raises(QueryError, match="'Rain ' is asked twice"):
        separate(recording, ["rain", Query("Rain ")], model=Bands())
    with pytest.raises(QueryError, match="10000"):
        separate(recording, ["a" * 10_000], model=Bands())
    with pytest.raises(QueryError, match="empty"):
        extract(recording, "  ", model=Bands())
    with pytest.raises(QueryError, match="call remove"):
        extract(recording, Query("rain", keep=False), model=Bands())
    with pytest.raises(AudioError, match="NaN"):
        extract(Audio(torch.full((1, 9), math.nan), 8000), "rain", model=Bands())


def test_queries_that_differ_in_anything_are_two():
    clip = Audio(torch.ones(1, 9), 8000)
    queries = [
        "rain",
        Query("rain", not_text="wind"),
        Query("rain", spans=((0, 1),)),
        Query("rain", keep=False),
    ]
    assert len(as_queries([*queries, Query(example=clip)])) == 5
    with pytest.raises(QueryError, match="the same example"):
        as_queries([Query(example=clip), Query(example=clip)])


def test_native_leaves_its_input_alone():
    recording = street(0.5).samples
    before = recording.clone()
    Native(Loud(), 44_100).separate(recording, [Query("a", spans=((0.1, 0.2),)), Query("b", keep=False)])
    assert torch.equal(recording, before)


def test_tally_is_the_same_in_any_pieces():
    mixture = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    stems = torch.stack([0.5 * mixture, mixture * (torch.arange(50_000) < 8000)])
    whole = judge.Tally(2, 16_000)
    whole.add(mixture, stems)
    pieces = judge.Tally(2, 16_000)
    for a, b in zip(mixture.split(777, 1), stems.split(777, 2), strict=True):
        pieces.add(a, b)
    for one, other in zip(whole.verdicts(), pieces.verdicts(), strict=True):
        assert one.share == pytest.approx(other.share)
        assert one.level_dbfs == pytest.approx(other.level_dbfs)
        assert one.peak_dbfs == other.peak_dbfs
    first, second = whole.verdicts()
    assert first.share == pytest.approx(0.25)
    assert second.share == pytest.approx(1.0), "it has all of the first half second"


def test_a_share_of_background_is_not_a_score():
    """Far below the loudest half second even all of the energy says nothing."""
    mixture = torch.cat([torch.ones(1, 8000), torch.full((1, 8000), 1e-4)], dim=1)
    stems = torch.stack([mixture * (torch.arange(16_000) >= 8000)])
    assert judge.shares_of(mixture, stems, 16_000) == [0.0]


def test_silence_has_no_level():
    tally = judge.Tally(1, 16_000)
    tally.add(torch.zeros(1, 100), torch.zeros(1, 1, 100))
    (verdict,) = tally.verdicts()
    assert verdict == judge.Verdict(None, None, 0.0)
    assert not verdict.found
