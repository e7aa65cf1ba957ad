import pytest
import torch

from genreclf.training import normalisation


@pytest.fixture
def batches() -> list[torch.Tensor]:
    """Two batches of clips with 3 bins: uneven means, the last bin constant."""
    torch.manual_seed(0)
    clips = torch.randn(12, 3, 50) * torch.tensor([5.0, 0.1, 0.0])[:, None]
    clips += torch.tensor([-40.0, 3.0, 7.0])[:, None]
    return [clips[:8], clips[8:]]


def test_none_changes_nothing(batches: list[torch.Tensor]) -> None:
    assert normalisation.keep_features(batches)(batches[0]) is batches[0]


def test_per_bin_has_mean_0_and_deviation_1_over_the_training_part(
    batches: list[torch.Tensor],
) -> None:
    normalised = normalisation.fit_per_bin(batches)(torch.cat(batches))
    torch.testing.assert_close(normalised.mean(dim=(0, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    deviations = normalised.std(dim=(0, 2), correction=0)
    torch.testing.assert_close(deviations, torch.tensor([1.0, 1, 0]), atol=1e-4, rtol=0)


def test_unit_range_spans_0_to_1_over_the_training_part(batches: list[torch.Tensor]) -> None:
    normalised = normalisation.fit_unit_range(batches)(torch.cat(batches))
    assert (normalised.min(), normalised.max()) == (0, 1)
    higher = normalisation.fit_unit_range(batches)(torch.cat(batches) + 100)
    assert higher.max() > 1  # nothing is cut off


def test_constant_features_can_be_normalised() -> None:
    batches = [torch.full((2, 3, 4), -905.1)]
    for fit in (normalisation.fit_per_bin, normalisation.fit_unit_range):
        assert (fit(batches)(batches[0] + 1).abs() < 2).all()  # no tiny scale
