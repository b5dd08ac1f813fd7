"""The transform pair: an identity for every length, and torch's own transform where that one exists."""

import pytest
import torch

from unweave.signal.stft import istft, stft


@pytest.mark.parametrize("length", [0, 1, 2, 511, 512, 513, 1023, 1024, 2047, 2048, 2049, 33_333])
@pytest.mark.parametrize(("fft_size", "hop"), [(2048, 512), (3528, 882), (1024, 300), (512, 170)])
def test_inverse_returns_every_length(length: int, fft_size: int, hop: int) -> None:
    samples = torch.rand(2, 3, length, generator=torch.Generator().manual_seed(length)) * 2 - 1

    spectrum = stft(samples, fft_size, hop)
    back = istft(spectrum, length, fft_size, hop)

    assert spectrum.shape == (2, 3, fft_size // 2 + 1, 1 + length // hop)
    assert back.shape == samples.shape
    assert torch.allclose(back, samples, rtol=0, atol=1e-6)


def test_agrees_with_torch() -> None:
    samples = torch.rand(3, 10_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    window = torch.hann_window(2048)

    ours = stft(samples)
    theirs = torch.stft(samples, 2048, 512, window=window, pad_mode="constant", return_complex=True)
    altered = ours * torch.rand(ours.shape, generator=torch.Generator().manual_seed(1))

    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.allclose(
        istft(altered, 10_000), torch.istft(altered, 2048, 512, window=window, length=10_000), atol=1e-5
    )


def test_no_signals_give_no_spectra() -> None:
    spectrum = stft(torch.zeros(0, 5000))
    assert spectrum.shape == (0, 1025, 10)
    assert istft(spectrum, 5000).shape == (0, 5000)


def test_double_precision_is_kept() -> None:
    samples = torch.rand(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(istft(stft(samples), 5000), samples, rtol=0, atol=1e-14)


def test_gradients_pass_after_use_in_inference_mode() -> None:
    """A size used by no other test, so that its window is made inside inference mode."""
    with torch.inference_mode():
        stft(torch.zeros(100), 1800, 450)
    samples = torch.ones(3000, requires_grad=True)
    istft(stft(samples, 1800, 450), 3000, 1800, 450).sum().backward()
    assert samples.grad is not None
    assert torch.allclose(samples.grad, torch.ones(3000), atol=1e-5)
