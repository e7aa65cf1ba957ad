import pytest
import torch

from genreclf.augmentation import NoiseAndShift

SILENCE = -80.0


def ramp(count: int = 4000) -> torch.Tensor:
    """Clips (count, 2, 20) that rise from -60 to 0 with time."""
    return torch.linspace(-60, 0, 20).expand(count, 2, 20)


def test_a_quarter_each() -> None:
    torch.manual_seed(0)
    before = ramp()
    after = NoiseAndShift(SILENCE, noise=0.001, shift=0.3)(before)
    noisy = ((after[:, 0] - after[:, 1]) != 0).any(dim=1)  # both bins are alike without noise
    shifted = ((after - before).abs() > 2).flatten(1).any(dim=1)  # a frame is 3.2, noise 0.06
    quarters = [
        (noisy == has_noise) & (shifted == has_shift)
        for has_noise in (False, True)
        for has_shift in (False, True)
    ]
    shares = [float(quarter.float().mean()) for quarter in quarters]
    none_moved = 0.25 / 13  # a shift of 0 of -6 to 6 frames
    expected = [0.25 + none_moved, 0.25 - none_moved] * 2
    assert shares == pytest.approx(expected, abs=0.03)


def test_a_shift_moves_and_fills_with_silence() -> None:
    torch.manual_seed(0)
    before = ramp(200)
    after = NoiseAndShift(SILENCE, noise=0, shift=0.1)(before)
    expected = {
        tuple(row)
        for by in (-2, -1, 0, 1, 2)
        for row in [
            torch.cat(
                [
                    torch.full((max(by, 0),), SILENCE),
                    before[0, 0, max(-by, 0) : 20 - max(by, 0)],
                    torch.full((max(-by, 0),), SILENCE),
                ]
            ).tolist()
        ]
    }
    assert {tuple(row.tolist()) for row in after[:, 0]} == expected


def test_noise_is_a_share_of_the_range() -> None:
    torch.manual_seed(0)
    before = ramp()
    change = NoiseAndShift(SILENCE, noise=0.01, shift=0)(before) - before
    noisy = change[(change != 0).any(dim=2).any(dim=1)]
    assert abs(len(noisy) / len(before) - 0.5) < 0.03
    assert abs(noisy.std() - 0.01 * 60) < 0.01


def test_the_seed_decides() -> None:
    augment = NoiseAndShift(SILENCE)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(ramp(16)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
