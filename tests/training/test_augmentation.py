from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from genreclf.audio import MFCC, Chroma, Mel, MelFrames, Precomputed
from genreclf.errors import InputError
from genreclf.training.augmentation import (
    NoiseShiftMask,
    SegmentEqualiseMask,
    check_augmentation,
)

SILENCE = -80.0


def ramp(count: int = 4000) -> torch.Tensor:
    """Clips (count, 2, 20) that rise from -60 to 0 with time."""
    return torch.linspace(-60, 0, 20).expand(count, 2, 20)


def test_a_quarter_each() -> None:
    torch.manual_seed(0)
    before = ramp()
    after = NoiseShiftMask(SILENCE, noise=0.001, shift=0.3, mask_min=0, mask_max=0)(before)
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
    after = NoiseShiftMask(SILENCE, noise=0, shift=0.1, mask_min=0, mask_max=0)(before)
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
    change = NoiseShiftMask(SILENCE, noise=0.01, shift=0, mask_min=0, mask_max=0)(before) - before
    noisy = change[(change != 0).any(dim=2).any(dim=1)]
    assert abs(len(noisy) / len(before) - 0.5) < 0.03
    assert abs(noisy.std() - 0.01 * 60) < 0.01


@pytest.mark.parametrize("unchanged", [0.0, 0.4, 1.0])
def test_the_share_of_unchanged_clips(unchanged: float) -> None:
    torch.manual_seed(0)
    before = ramp(4000)
    augment = NoiseShiftMask(
        SILENCE, noise=1e-4, shift=0.5, mask_min=0, mask_max=0, unchanged=unchanged
    )
    after = augment(before)
    noisy = ((after[:, 0] - after[:, 1]) != 0).any(dim=1)  # both bins are alike without noise
    shifted = ((after - before).abs() > 2).flatten(1).any(dim=1)
    still = (1 - unchanged) / 3 / 21  # a shift of 0 of -10 to 10 frames
    shares = [float((noisy & shifted).float().mean()), float((noisy & ~shifted).float().mean())]
    shares += [float((~noisy & shifted).float().mean())]
    expected = [(1 - unchanged) / 3 - still, (1 - unchanged) / 3 + still]
    assert shares == pytest.approx([*expected, expected[0]], abs=0.03)


def test_every_strongly_augmented_copy_is_changed_a26() -> None:
    """A26: an extra copy without a change would only repeat its track; the scripts left a quarter.

    The published scripts decide by two coin flips, and `scripts_strong` repeats what they did.
    """
    torch.manual_seed(0)
    before = torch.linspace(-60, 0, 200).expand(2000, 16, 200)
    for option, share in (("strong", 0.0), ("standard", 0.25), ("scripts_strong", 0.25)):
        with initialize_config_module("genreclf.conf", version_base="1.3"):
            config = compose("config", [f"augmentation@oversampling.augmentation={option}"])
        copies = instantiate(config.oversampling.augmentation, silence=SILENCE)(before)
        same = (copies == before).flatten(1).all(dim=1).float().mean()
        assert float(same) == pytest.approx(share, abs=0.03 if share else 0)


def test_what_features_declare_is_what_augmentation_needs_a23(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A23: no decibels are added to chroma, and no cepstral coefficients transposed."""
    augment = SegmentEqualiseMask()
    for features in (Mel(), MelFrames(), Mel(on_device=True)):
        check_augmentation(augment, features)
    chroma = r"unit is 'dB', .*chroma is .*: set augmentation.gain=0 augmentation.equaliser=0, or"
    with pytest.raises(InputError, match=chroma):
        check_augmentation(augment, Chroma())
    mfcc = "bin_axis is 'frequency', .*mfcc is 'coefficient': set a.transpose=0, or choose another"
    with pytest.raises(InputError, match=mfcc):
        check_augmentation(SegmentEqualiseMask(gain=0, equaliser=0), MFCC(), "a")
    for features in (Chroma(), MFCC(), Mel(), Precomputed()):
        check_augmentation(plain(segment=0.5, masks=1), features)
        check_augmentation(NoiseShiftMask(SILENCE), features)
        check_augmentation(torch.nn.Identity(), features)
    assert not caplog.text
    check_augmentation(augment, Precomputed())
    assert "features=precomputed declare no unit, which augmentation needs to be 'dB': this is" in (
        caplog.text
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["augmentation=segment"],
        ["augmentation@oversampling.augmentation=segment", "oversampling.genres=[Rock]"],
    ],
)
def test_a_mismatch_is_refused_before_anything_is_decoded_a23(
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    """A23: both for the tracks and for the extra copies."""
    with pytest.raises(SystemExit):
        command("train", "data=folder", f"data.root={music}", "features=chroma", *arguments)
    assert "augmentation needs features whose unit is 'dB'" in capsys.readouterr().err
    assert not list(tmp_path.glob("stores/*.h5"))


def test_the_seed_decides() -> None:
    augment = NoiseShiftMask(SILENCE)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(ramp(16)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_noise_in_the_features_own_unit() -> None:
    """As the published scripts add it: 0.01 dB, whatever the range."""
    torch.manual_seed(0)
    before = ramp()
    augment = NoiseShiftMask(
        SILENCE, noise=0.01, noise_unit="value", shift=0, mask_min=0, mask_max=0
    )
    change = augment(before) - before
    noisy = change[(change != 0).any(dim=2).any(dim=1)]
    assert abs(noisy.std() - 0.01) < 2e-4


def test_all_but_the_first_quarter_lose_a_band() -> None:
    torch.manual_seed(0)
    before = torch.zeros(4000, 100, 8)
    after = NoiseShiftMask(SILENCE, noise=0, shift=0, mask_min=0.02, mask_max=0.05)(before)
    masked = (after == SILENCE).all(dim=2)
    widths = masked.sum(dim=1)
    assert ((after == SILENCE).any(dim=2) == masked).all()  # whole bins
    assert set(widths.tolist()) == {0, 2, 3, 4, 5}
    assert abs(float((widths == 0).float().mean()) - 0.25) < 0.02
    starts = masked.float().diff(dim=1).clamp(min=0).sum(dim=1) + masked[:, 0]
    assert starts.max() == 1  # one band
    assert masked.any(dim=0).all()  # everywhere


def test_every_clip_loses_one_bin_at_least() -> None:
    torch.manual_seed(0)
    after = NoiseShiftMask(SILENCE, noise=1, mask_min=0.02, mask_max=0.05)(torch.zeros(200, 12, 20))
    assert set((after == SILENCE).all(dim=2).sum(dim=1).tolist()) == {0, 1}


def test_gaps_of_another_value_and_silence_by_bin() -> None:
    torch.manual_seed(0)
    rising = ramp(200) - 100
    loud = NoiseShiftMask(SILENCE, noise=0, shift=0.3, mask_max=0, mask_min=0, fill=0.0)(rising)
    assert set(loud[loud > -90].tolist()) == {0.0}
    by_bin = NoiseShiftMask([-900.0, 5.0], noise=0, shift=0.3, mask_max=0, mask_min=0)(rising)
    assert set(by_bin[:, 0][by_bin[:, 0] < -200].tolist()) == {-900.0}
    assert set(by_bin[:, 1][by_bin[:, 1] > -90].tolist()) == {5.0}


@pytest.mark.parametrize(
    "arguments",
    [
        *({"noise": -1}, {"shift": 1}, {"mask_max": 1}, {"mask_min": 0.2}),
        *({"noise_unit": "dB"}, {"fill": "loud"}, {"unchanged": 1.1}),
    ],
)
def test_impossible_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match="augmentation"):
        NoiseShiftMask(SILENCE, **arguments)


def plain(**changed: float) -> SegmentEqualiseMask:
    """Nothing but what is asked for."""
    nothing = {"segment": 1, "transpose": 0, "gain": 0, "equaliser": 0, "masks": 0}
    return SegmentEqualiseMask(**nothing | changed)  # pyright: ignore[reportArgumentType]


def test_nothing_asked_for_changes_nothing() -> None:
    torch.testing.assert_close(plain()(ramp(3)), ramp(3))


def test_segments_are_stretches_of_each_clip_at_its_own_place() -> None:
    torch.manual_seed(0)
    clips = torch.arange(20.0).expand(500, 3, 20)
    segments = plain(segment=0.5)(clips)
    assert segments.shape == (500, 3, 10)
    first = segments[:, :1, :1]
    torch.testing.assert_close(segments, first + torch.arange(10.0).expand_as(segments))
    assert set(first.flatten().tolist()) == set(range(11))


def test_bins_move_together_and_the_edge_is_repeated() -> None:
    torch.manual_seed(0)
    clips = torch.arange(10.0)[None, :, None].expand(500, 10, 4)
    moved = plain(transpose=2)(clips)
    expected = {tuple(min(max(i + by, 0), 9) for i in range(10)) for by in range(-2, 3)}
    assert {tuple(clip[:, 0].tolist()) for clip in moved} == expected
    torch.testing.assert_close(moved, moved[:, :, :1].expand_as(moved))


def test_gain_is_even_and_the_equaliser_smooth() -> None:
    torch.manual_seed(0)
    clips = torch.zeros(4000, 51, 2)
    gain = plain(gain=4)(clips)
    torch.testing.assert_close(gain, gain[:, :1, :1].expand_as(gain))
    assert float(gain[:, 0, 0].std()) == pytest.approx(4, rel=0.05)
    curve = plain(equaliser=3)(clips)[:, :, 0]
    assert curve[:, ::10].std(dim=0).tolist() == pytest.approx([3] * 6, rel=0.05)
    bends = curve.diff(n=2).abs().amax(dim=0)
    assert set((bends > 1e-3).nonzero().flatten().tolist()) == {9, 19, 29, 39}  # bin 10, ...


def test_masks_are_bands_of_bins_and_frames_with_the_mean() -> None:
    torch.manual_seed(0)
    clips = torch.rand(2000, 16, 24)
    masked = plain(masks=1, mask_bins=0.25, mask_frames=0.5)(clips)
    changed = masked != clips
    bins, frames = changed.all(dim=2), changed.all(dim=1)  # whole bands of either kind
    torch.testing.assert_close(changed, bins[:, :, None] | frames[:, None, :])
    assert set(bins.sum(dim=1).tolist()) == set(range(5))
    assert set(frames.sum(dim=1).tolist()) == set(range(13))
    assert bool(bins[:, 0].any() and bins[:, 15].any() and frames[:, 23].any())
    mean = clips.mean(dim=(1, 2), keepdim=True).expand_as(clips)
    torch.testing.assert_close(masked[changed], mean[changed])


@pytest.mark.parametrize(
    "setting", [{"segment": 0}, {"segment": 1.5}, {"mask_bins": -0.1}, {"gain": -1}, {"masks": -1}]
)
def test_impossible_segments_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(InputError, match="augmentation: "):
        plain(**setting)
