from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from heliodor.errors import BadInput
from heliodor.models.layers import Convolution, PReLU, Residual
from heliodor.models.networks import (
    NETWORKS,
    Network,
    build_network,
    conv31,
    conv63,
    conv127,
    resnet8,
    resnet16,
    tensor_shapes,
)
from helpers.networks import scrambled

FIELDS = {"conv31": 31, "conv63": 63, "conv127": 127, "resnet8": 71, "resnet16": 91}
STRIDES = {"conv31": 4, "conv63": 8, "conv127": 16, "resnet8": 4, "resnet16": 4}
#: Channels of the last layer, in those of the first.
CHANNELS = {"conv31": 4, "conv63": 8, "conv127": 16, "resnet8": 4, "resnet16": 4}
names = st.sampled_from(sorted(NETWORKS))
dropouts = st.sampled_from([0.0, 0.5])
sizes = st.tuples(st.integers(0, 12), st.integers(0, 12))
seeds = st.integers(0, 2**32 - 1)


def image_for(network: Network, more: tuple[int, int], seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    field = network.receptive_field
    return torch.randn(1, 1, field + more[0], field + more[1], generator=random)


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    width=st.integers(1, 3),
    dropout=dropouts,
    norm=st.booleans(),
    more=sizes,
    seed=seeds,
)
def test_every_dense_score_is_that_of_the_crop_centred_there(
    name: str, width: int, dropout: float, norm: bool, more: tuple[int, int], seed: int
) -> None:
    network = scrambled(name, width, seed, dropout, norm)
    image = image_for(network, more, seed)
    field = network.receptive_field
    with torch.inference_mode():
        dense = network(image, dense=True)
        assert dense.shape == (1, 1 + more[0], 1 + more[1])
        crops = image[0, 0].unfold(0, field, 1).unfold(1, field, 1).reshape(-1, 1, field, field)
        single = network(crops)
    assert single.shape == (len(crops), 1, 1)
    scale = max(1.0, float(single.abs().max()))
    torch.testing.assert_close(dense.flatten(), single.flatten(), rtol=0, atol=2e-5 * scale)


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    dropout=dropouts,
    more=st.tuples(st.integers(0, 33), st.integers(0, 33)),
    seed=seeds,
)
def test_strided_scores_are_some_of_the_dense_ones(
    name: str, dropout: float, more: tuple[int, int], seed: int
) -> None:
    network = scrambled(name, 2, seed, dropout)
    image = image_for(network, more, seed)
    with torch.inference_mode():
        dense, strided = network(image, dense=True), network(image)
    s = network.stride
    assert s == STRIDES[name]
    assert strided.shape == (1, more[0] // s + 1, more[1] // s + 1)
    scale = max(1.0, float(dense.abs().max()))
    torch.testing.assert_close(strided, dense[:, ::s, ::s], rtol=0, atol=2e-5 * scale)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["plain", "residual"]), st.integers(1, 2), st.integers(1, 4)),
        min_size=1,
        max_size=4,
    ),
    more=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    seed=seeds,
)
def test_any_stack_of_layers_has_a_dense_twin(
    kinds: list[tuple[str, int, int]], more: tuple[int, int], seed: int
) -> None:
    """The twin is a law of the layers, not of the stacks that happen to be built."""
    layers: list[Convolution | Residual] = []
    channels = 1
    for kind, stride, half in kinds:
        outputs = channels if kind == "residual" and half % 2 else 3
        layers.append(
            Residual(channels, outputs, stride, dilation=(half + 1) // 2)
            if kind == "residual"
            else Convolution(channels, outputs, 2 * half - 1, stride, prelu=True)
        )
        channels = outputs
    network = Network("any", list(layers), channels).eval()
    image = image_for(network, more, seed)
    with torch.inference_mode():
        dense, strided = network(image, dense=True), network(image)
        assert dense.shape == (1, 1 + more[0], 1 + more[1])
        s = network.stride
        torch.testing.assert_close(strided, dense[:, ::s, ::s], rtol=1e-4, atol=1e-4)
        crop = image[:, :, more[0] :, more[1] :]
        torch.testing.assert_close(network(crop)[0, 0, 0], dense[0, -1, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("dense", [False, True])
def test_the_receptive_field_is_what_changes_the_output(
    name: str, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = scrambled(name).double()
    # Smooth activations, or a small change may hide behind a ReLU that is off.
    monkeypatch.setattr(torch, "relu_", nn.functional.softplus)
    for module in network.modules():
        for child, part in module.named_children():
            if isinstance(part, nn.ReLU):
                setattr(module, child, nn.Softplus())
    field = network.receptive_field
    assert field == FIELDS[name]
    border = network.stride
    side = field + 2 * border
    image = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    # The output whose crop begins at (border, border).
    at = border if dense else 1
    output = network(image, dense=dense)[0, at, at]
    (gradient,) = torch.autograd.grad(output, image)
    seen = torch.nonzero(gradient[0, 0])
    assert seen.min(dim=0).values.tolist() == [border, border]
    assert seen.max(dim=0).values.tolist() == [border + field - 1] * 2

    # The same by perturbation: an edge pixel of the crop counts, the one beside it does not.
    before = network(image, dense=dense)[0, at, at].item()
    first, last = border, border + field - 1
    for row, column, inside in (
        (first, first, True),
        (first, last, True),
        (last, first, True),
        (last, last, True),
        (first - 1, first, False),
        (first, first - 1, False),
        (last + 1, last, False),
        (last, last + 1, False),
    ):
        changed = image.detach().clone()
        changed[0, 0, row, column] += 100
        after = network(changed, dense=dense)[0, at, at].item()
        assert (after != before) == inside, (row, column)


def test_conv31_is_the_network_of_the_paper() -> None:
    network = conv31()
    shapes = {
        name: tuple(weight.shape)
        for name, weight in network.named_parameters()
        if name.endswith("conv.weight") or name.startswith("classifier")
    }
    assert list(shapes.values()) == [
        (32, 1, 7, 7),
        (64, 32, 5, 5),
        (128, 64, 5, 5),
        (1, 128, 1, 1),
        (1,),
    ]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.stride for m in convolutions] == [(2, 2), (2, 2), (1, 1), (1, 1)]
    assert [m.padding for m in convolutions] == [(0, 0)] * 4
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(PReLU) == 3
    assert nn.ReLU not in kinds
    # The number of the reference program's conv31 with 32 units.
    assert sum(p.numel() for p in network.parameters()) == 258_148


@pytest.mark.parametrize(("build_it", "depth"), [(conv31, 3), (conv63, 4), (conv127, 5)])
def test_the_plain_networks_are_one_family(
    build_it: Callable[[int, float], Network], depth: int
) -> None:
    network = build_it(2, 0.0)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size[0] for m in convolutions] == [7, *[5] * (depth - 1), 1]
    assert [m.stride[0] for m in convolutions] == [*[2] * (depth - 1), 1, 1]
    assert [m.out_channels for m in convolutions] == [*(2 * 2**i for i in range(depth)), 1]
    assert network.stride == 2 ** (depth - 1)
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(PReLU) == depth


def test_resnet8_has_the_layers_of_the_reference() -> None:
    network = resnet8()
    u = 32
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    convolutions = [shape for shape in shapes.values() if len(shape) == 4]
    assert convolutions == [
        (u, 1, 7, 7),
        (u, u, 3, 3),
        (u, u, 3, 3),
        (u, u, 3, 3),
        (2 * u, u, 3, 3),
        (2 * u, u, 1, 1),
        (2 * u, 2 * u, 3, 3),
        (2 * u, 2 * u, 3, 3),
        (4 * u, 2 * u, 5, 5),
        (1, 4 * u, 1, 1),
    ]
    # The reference's 328 801 come with a bias a convolution and no normalization; its
    # projection, like ours, has none.
    biases = u + 2 * u + (u + 2 * u) + 4 * u + 4 * u + 1
    weights = sum(math.prod(shape) for shape in convolutions)
    assert weights + biases == 328_801
    normalised = sum(2 * m.num_features for m in network.modules() if type(m) is nn.BatchNorm2d)
    assert sum(p.numel() for p in network.parameters()) == weights + normalised + 1
    strides = [m.stride[0] for m in network.modules() if isinstance(m, nn.Conv2d)]
    dilations = [m.dilation[0] for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [2, 1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert dilations == [1, 1, 2, 1, 2, 1, 1, 2, 1, 1]


def test_resnet16_has_the_layers_of_the_reference() -> None:
    network = resnet16()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    projections = [m for m in convolutions[:-1] if m.kernel_size == (1, 1)]
    stack = [m for m in convolutions if m not in projections]
    # The classifier is a convolution here, as it is there; the reference counts it.
    assert [m.kernel_size[0] for m in stack] == [7, *[3] * 14, 5, 1]
    assert [m.stride[0] for m in stack] == [1, 1, 2, *[1] * 7, 2, *[1] * 6]
    assert [m.out_channels for m in stack] == [32] * 10 + [64] * 5 + [128, 1]
    assert {m.dilation for m in stack} == {(1, 1)}
    assert [(m.in_channels, m.out_channels) for m in projections] == [(32, 64)]
    # As with resnet8, the reference's 458 145 have a bias a convolution and no normalization.
    weights = sum(m.weight.numel() for m in convolutions)
    assert weights + sum(m.out_channels for m in stack) == 458_145


def test_a_residual_block_normalises_after_the_sum() -> None:
    block = Residual(2, 2, dilation=2).eval()
    with torch.no_grad():
        block.conv1.weight.zero_()
        block.norm1.running_mean = torch.tensor([1.0, -1.0])
        block.norm1.weight.fill_(2.0)
    x = torch.randn(1, 2, 9, 9)
    inner = x[:, :, 3:-3, 3:-3] - torch.tensor([1.0, -1.0])[None, :, None, None]
    expected = torch.relu(2 * inner)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("prior", [1e-4, 0.01, 0.2, 0.9])
def test_an_untrained_network_predicts_the_prior(name: str, prior: float) -> None:
    torch.manual_seed(3)
    network = build_network(name, 8)
    network.set_prior_bias(prior)
    field = network.receptive_field
    chance = torch.sigmoid(network(torch.randn(64, 1, field, field))).mean().item()
    odds, expected = chance / (1 - chance), prior / (1 - prior)
    assert 0.7 < odds / expected < 1.4


@pytest.mark.parametrize(("name", "parameters"), [("resnet8", 328_801), ("resnet16", 458_145)])
def test_without_normalisation_the_reference_has_as_many_parameters(
    name: str, parameters: int
) -> None:
    network = build_network(name, norm=False)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("norm", [True, False])
def test_shapes_are_those_of_the_network_that_is_built(name: str, norm: bool) -> None:
    state = torch.get_rng_state()
    expected = tensor_shapes(name, 3, norm)
    assert torch.equal(torch.get_rng_state(), state)
    built = build_network(name, 3, norm=norm).state_dict()
    assert expected == {key: tuple(tensor.shape) for key, tensor in built.items()}
    assert (
        max(map(math.prod, tensor_shapes("conv127", 1024, norm).values())) == 25 * 2**27
    )  # at no cost


@pytest.mark.parametrize("name", ["", "conv32", "Conv31", "../conv31"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(BadInput, match="one of conv31, conv63, conv127, resnet8, resnet16"):
        build_network(name)


@pytest.mark.parametrize("width", [0, -1, 1025, 10**9])
def test_impossible_widths(width: int) -> None:
    with pytest.raises(BadInput, match=f"not {width}"):
        build_network("conv31", width)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0, math.nan, math.inf])
def test_impossible_dropouts(dropout: float) -> None:
    with pytest.raises(BadInput, match=f"less than 1, not {dropout:g}"):
        build_network("conv31", 4, dropout)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_dropout_is_no_part_of_a_network_that_scores(name: str) -> None:
    plain, other = scrambled(name, 2), build_network(name, 2, dropout=0.7)
    # A model trained with dropout loads without, and the other way round.
    assert list(plain.state_dict()) == list(other.state_dict())
    other.load_state_dict(plain.state_dict())
    image = image_for(plain, (5, 3), 0)
    with torch.inference_mode():
        other.train()(torch.cat([image, -image]))  # and an update in between does no harm
        other.load_state_dict(plain.state_dict())
        other.eval()
        for dense in (True, False):
            assert torch.equal(other(image, dense), plain(image, dense))


@pytest.mark.parametrize("own", [True, False])
def test_dropout_sets_its_share_to_zero_and_keeps_the_mean(own: bool) -> None:
    torch.manual_seed(0)
    network = build_network("conv31", 2, dropout=0.4).train()
    if own:
        network.set_dropout_generator(torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    dropped = network.dropout(torch.ones(100, 100))
    assert torch.equal(torch.get_rng_state(), before) == own
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert dropped.max().item() == pytest.approx(1 / 0.6)
    # Every layer's features, the last ones among them.
    inputs: list[Tensor] = []
    network.dropout.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    features = network.features(torch.randn(16, 1, 31, 31))
    assert [len(x[0]) for x in inputs] == [2, 4, 8]
    assert 0.2 < (features == 0).float().mean().item() < 0.6


def test_the_same_generator_drops_the_same_features() -> None:
    network = build_network("conv31", 2, dropout=0.4).train()
    crops = torch.randn(8, 1, 31, 31)

    def scores(seed: int) -> Tensor:
        network.set_dropout_generator(torch.Generator().manual_seed(seed))
        out: Tensor = network(crops)
        return out

    assert torch.equal(scores(1), scores(1))
    assert not torch.equal(scores(1), scores(2))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_built_networks_know_their_name_and_finiteness(name: str) -> None:
    network = build_network(name, 1)
    assert (network.name, network.is_finite()) == (name, True)
    for value in (math.nan, math.inf):
        network.get_buffer("layers.0.norm.running_var").fill_(value)
        assert not network.is_finite()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_features_are_what_the_classifier_weighs(name: str) -> None:
    network = scrambled(name, 2)
    image = image_for(network, (network.stride, 2 * network.stride), 0)
    with torch.inference_mode():
        features = network.features(image)
        assert features.shape == (1, 2 * CHANNELS[name], 2, 3)
        weight, bias = network.classifier.weight[0, :, 0, 0], network.classifier.bias
        assert bias is not None
        by_hand = torch.einsum("c,nchw->nhw", weight, features) + bias
        torch.testing.assert_close(network(image), by_hand, rtol=1e-4, atol=1e-4)


def test_dense_scores_are_the_same_in_one_pass_and_in_a_batch() -> None:
    network = scrambled("conv31")
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 1, 40, 33), np.float32))
    with torch.inference_mode():
        together = network(images, dense=True)
        apart = torch.cat([network(image[None], dense=True) for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
