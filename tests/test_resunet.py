"""The network of AudioSep: compared once, whole, with the published implementation, and guarded by traces."""

import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from unweave.models.resunet import ResUNet, ResUNetConfig, complex_mask, official_name

TINY = ResUNetConfig(fft_size=128, hop=20, widths=(4, 6, 6), condition_dim=5)


def by_rule(key: str, shape: tuple[int, ...]) -> Tensor:
    """Weights that anybody can make again: the name of a tensor seeds it."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    draw = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    if key.endswith("running_var"):
        values = 0.5 + draw.rand(*shape)
    elif key.endswith("running_mean"):
        values = 0.1 * draw.randn(*shape)
    elif len(shape) >= 2:
        values = draw.randn(*shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 0.8 + 0.4 * draw.rand(*shape)
    else:
        values = 0.05 * draw.randn(*shape)
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture
def network() -> ResUNet:
    network = ResUNet(TINY).eval()
    state = {key: by_rule(key, tuple(tensor.shape)) for key, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    return network


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def unit(batch: int, seed: int = 1) -> Tensor:
    return torch.nn.functional.normalize(noise(batch, TINY.condition_dim, seed=seed), dim=1)


def say_always(network: ResUNet, *logits: float) -> ResUNet:
    """The same mask for every bin and frame, whatever is heard."""
    with torch.no_grad():
        network.base.after_conv.weight.zero_()
        network.base.after_conv.bias.copy_(torch.tensor(logits))
    return network


def test_is_as_large_as_the_published_network() -> None:
    network = ResUNet(ResUNetConfig())
    learned = sum(parameter.numel() for parameter in network.parameters())
    bins, window = 1025, 2048
    fourier = 2 * bins * window + 2 * window * window  # parameters there, though frozen
    assert learned == 26_447_941
    assert learned + fourier == 39_034_949
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert shapes["base.bn0.running_var"] == (1025,)
    assert shapes["base.decoder_block1.conv1.weight"] == (384, 384, 1, 2)
    assert shapes["base.decoder_block3.conv_block2.shortcut.weight"] == (256, 512, 1, 1)
    assert shapes["base.conv_block7a.conv_block1.conv2.weight"] == (384, 384, 3, 3)
    assert shapes["film.conv_block7a->conv_block1->beta2.weight"] == (384, 512)
    assert shapes["film.decoder_block6->conv_block2->beta1.bias"] == (64,)
    assert len(shapes) == 327


def test_published_checkpoint_loads_strictly(network: ResUNet) -> None:
    published = {f"ss_model.{key}": tensor for key, tensor in network.state_dict().items()}
    for kernel in (
        "stft.conv_real.weight",
        "stft.conv_imag.weight",
        "istft.conv_real.weight",
        "istft.ola_window",
    ):
        published[f"ss_model.base.{kernel}"] = torch.zeros(1)
    published["query_encoder.model.text_projection.0.weight"] = torch.zeros(1)

    state = {name: tensor for key, tensor in published.items() if (name := official_name(key))}

    fresh = ResUNet(TINY).eval()
    fresh.load_state_dict(state)
    mixture = noise(1, 1, 700)
    assert torch.equal(fresh(mixture, unit(1)), network(mixture, unit(1)))
    assert official_name("ss_model.base.after_conv2.bias") == "base.after_conv2.bias"  # refused by the load
    with pytest.raises(RuntimeError, match="after_conv2"):
        fresh.load_state_dict({**state, "base.after_conv2.bias": torch.zeros(3)})
    with pytest.raises(RuntimeError, match=r"decoder_block2\.bn2"):
        fresh.load_state_dict({k: v for k, v in state.items() if "decoder_block2.bn2" not in k})


def test_output_has_not_moved(network: ResUNet) -> None:
    """Measured when the full network agreed with the published one to 3e-7."""
    estimate = network(noise(2, 1, 2001), unit(2)).detach()
    energy = estimate.square().sum((1, 2))
    assert energy.tolist() == pytest.approx([556.6193, 567.5638], rel=1e-4)
    assert estimate[0, 0, [0, 1000, 2000]].tolist() == pytest.approx(
        [0.233845, -0.829787, -0.556855], abs=1e-5
    )


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 129, 1001])
def test_every_length_is_kept_and_answered_twice_the_same(network: ResUNet, length: int) -> None:
    mixture, query = noise(2, 1, length), unit(2)
    before = mixture.clone()
    estimate = network(mixture, query)
    assert estimate.shape == mixture.shape
    assert torch.isfinite(estimate).all()
    assert torch.equal(estimate, network(mixture, query))
    assert torch.equal(mixture, before), "input was modified"
    # Neither the company in a batch nor its size changes an answer.
    torch.testing.assert_close(network(mixture[1:], query[1:]), estimate[1:], rtol=0, atol=1e-5)


def test_listens_to_the_query(network: ResUNet) -> None:
    mixture = noise(1, 1, 2001)
    one, other = network(mixture, unit(1, seed=1)), network(mixture, unit(1, seed=2))
    assert (one - other).square().mean() > 1e-3 * one.square().mean()


def test_open_mask_gives_the_mixture_back(network: ResUNet) -> None:
    time = torch.arange(801)
    mixture = (time * 0.3).sin() + 0.1
    estimate = say_always(network, 20, 9, 0)(mixture[None, None], unit(1))[0, 0]
    torch.testing.assert_close(estimate[64:-64], mixture[64:-64], rtol=0, atol=1e-3)


def test_highest_bin_is_left_out(network: ResUNet) -> None:
    """Of a tone there, a Hann window smears enough into the next bin to bring a third of it back."""
    tone = (torch.arange(801) * torch.pi).cos()
    estimate = say_always(network, 20, 9, 0)(tone[None, None], unit(1))[0, 0]
    torch.testing.assert_close(estimate[128:-128], tone[128:-128] / 3, rtol=0, atol=0.02)


def test_mask_turns_the_phase_forward_and_halves_the_level(network: ResUNet) -> None:
    time = torch.arange(801) * 0.5
    say_always(network, 0, 0, 9)  # half the level, a quarter of a turn
    estimate = network(time.cos()[None, None], unit(1))[0, 0]
    torch.testing.assert_close(estimate[64:-64], -0.5 * time.sin()[64:-64], rtol=0, atol=2e-3)


def test_mask_is_never_above_one_and_closed_where_nothing_points() -> None:
    logits = 5 * noise(2, 3, 64, 7)
    logits[0, 1:, 3, 2] = 0
    mask = complex_mask(logits)
    assert mask.shape == (2, 65, 7)
    assert mask.abs().max() <= 1 + 1e-6
    assert mask[0, 3, 2] == 0
    assert not mask[:, -1].any()
    opened = logits[1, 0].sigmoid()
    torch.testing.assert_close(mask[1, :-1].abs(), opened)


def test_silence_stays_silence_and_can_be_learned_from(network: ResUNet) -> None:
    silence = torch.zeros(2, 1, 500)
    assert not network(silence, unit(2)).any()
    network.train()
    (network(silence, unit(2)) - 0.1).abs().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_two_tones_are_learned_apart() -> None:
    """Every learned part takes part: the query alone says which of two tones to keep."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # constructors of torch draw from the global generator
        network = ResUNet(TINY)
    time = torch.arange(1000)
    tones = torch.stack([(time * 0.3).sin(), (time * 1.3).sin()])[:, None]  # (2, 1, T)
    mixture, queries = tones.sum(0).expand(2, 1, -1), torch.eye(2, TINY.condition_dim)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        loss = (network(mixture, queries) - tones).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    before = (mixture - tones).abs().mean()
    assert loss < 0.3 * before
    idle = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    published = [
        ("base", "bn2.weight"),
        ("base", "bn2.bias"),
        ("film", "beta2.weight"),
        ("film", "beta2.bias"),
    ]
    blocks = ("decoder_block1", "decoder_block2", "decoder_block3")
    joined = {"base": ".", "film": "->"}
    assert idle == {f"{part}.{block}{joined[part]}{leaf}" for block in blocks for part, leaf in published}


@pytest.mark.parametrize(
    ("waveform", "condition", "says"),
    [((1, 2, 900), (1, 5), "waveform"), ((900,), (1, 5), "waveform"), ((2, 1, 900), (1, 5), r"\(2, 5\)")],
)
def test_other_shapes_are_refused(
    network: ResUNet, waveform: tuple[int, ...], condition: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        network(torch.zeros(waveform), torch.zeros(condition))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"widths": ()}, "widths"),
        ({"fft_size": 1022}, "multiple of 128"),
        ({"hop": 1025}, "1024"),
        ({"hop": 0}, "hop"),
    ],
)
def test_impossible_shapes_of_the_network_are_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ResUNetConfig(**given)  # type: ignore[arg-type]
