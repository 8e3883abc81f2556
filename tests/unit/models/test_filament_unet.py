from __future__ import annotations

import pytest
import torch

from heliodor.errors import BadInput
from heliodor.models.filament_unet import (
    LATTICE_FIRST_PX,
    LATTICE_STEP_PX,
    OUTPUTS,
    REACH_PX,
    FilamentNetwork,
    check_width,
    tensor_shapes,
)
from heliodor.models.networks import has_finite_weights


def test_the_lattice_is_symmetric_and_as_fine_as_it_says() -> None:
    network = FilamentNetwork(4).eval()
    image = torch.zeros(1, 1, 64, 96)
    with torch.inference_mode():
        out = network(image)
    assert out.shape == (1, OUTPUTS, 64 // LATTICE_STEP_PX, 96 // LATTICE_STEP_PX)
    last = LATTICE_FIRST_PX + LATTICE_STEP_PX * (out.shape[-1] - 1)
    assert last == 96 - 1 - LATTICE_FIRST_PX


def test_a_mirrored_network_sees_a_mirrored_image() -> None:
    # With kernels that are mirrored too, the maps are those of the image, mirrored: no kernel is
    # off center.
    torch.manual_seed(1)
    network = FilamentNetwork(4).eval()
    mirrored = FilamentNetwork(4).eval()
    flipped = {
        key: value.flip(-1) if value.ndim == 4 else value
        for key, value in network.state_dict().items()
    }
    mirrored.load_state_dict(flipped)
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        one, other = network(image), mirrored(image.flip(-1)).flip(-1)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_output_depends_on_pixels_up_to_the_reach_and_no_farther() -> None:
    torch.manual_seed(1)
    network = FilamentNetwork(4).eval()
    image = torch.randn(1, 1, 16, 896, requires_grad=True)
    out = network(image)
    place = 112
    out[0, :, :, place].square().sum().backward()
    assert image.grad is not None
    columns = image.grad[0, 0].abs().sum(dim=0).nonzero()[:, 0]
    middle = LATTICE_FIRST_PX + LATTICE_STEP_PX * place
    farthest = float((columns - middle).abs().max())
    assert REACH_PX - 60 < farthest <= REACH_PX


@pytest.mark.parametrize("width", [0, 3, -2, 100_000])
def test_impossible_widths_are_refused(width: int) -> None:
    with pytest.raises(BadInput, match="must be even"):
        check_width(width)


def test_the_shapes_are_those_of_the_network() -> None:
    network = FilamentNetwork(6)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert tensor_shapes(6) == expected
    assert has_finite_weights(network)
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    assert not has_finite_weights(network)
