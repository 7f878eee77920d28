# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Wrappers with several heads: the wrapped network's answer stays what it was, and every head learns."""

import copy

import pytest
import torch

from scripts.errors import InputError
from scripts.networks import LESSNet, MultiScale, SSL4MISUNet, TimmUNet, TwoDecoders, UNet

NETWORKS = {
    "unet": lambda: UNet(3, 4, (8, 8, 16, 16, 32)),
    "lessnet": lambda: LESSNet(3, 4),
    "ssl4mis": lambda: SSL4MISUNet(3, 4, (8, 8, 16, 16, 32), dropout=0.0),
    "timm": lambda: TimmUNet(3, 4),
}
WRAPPERS = {"multi_scale": lambda n: MultiScale(n, 3, 4), "two_decoders": lambda n: TwoDecoders(n, 3)}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]()


@pytest.fixture(params=WRAPPERS)
def wrapper(request, network):
    return WRAPPERS[request.param](network)


def test_the_answer_is_that_of_the_wrapped_network(wrapper, network):
    x = torch.rand(2, 3, 64, 48)
    network.eval()
    wrapper.eval()
    assert torch.equal(wrapper(x), network(x))
    logits, features = wrapper(x, return_features=True)
    assert torch.equal(logits, network(x)) and features.shape[1] == wrapper.feature_channels
    heads, fused = wrapper(x, return_heads=True)
    assert torch.allclose(heads[0], network(x), atol=1e-6)
    assert fused.shape[1] == wrapper.fused_channels and fused.shape[2] in (32, 64)


def test_wrapping_leaves_the_network_alone(network):
    before = copy.deepcopy(network.state_dict())
    for make in WRAPPERS.values():
        wrapped = make(network.train())
        assert wrapped.network is network and all(m.training for m in network.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in wrapped.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("size", [(64, 64), (97, 66)], ids=str)
def test_the_scales_are_those_of_the_decoder(network, size):
    heads, _ = MultiScale(network, 3, 4)(torch.rand(2, 3, *size), return_heads=True)
    assert [head.shape[:2] for head in heads] == [(2, 4)] * 4
    for step, head in enumerate(heads):
        assert all(abs(found - n / 2**step) < 1 for found, n in zip(head.shape[2:], size))


def test_every_parameter_learns_from_the_heads(wrapper):
    heads, _ = wrapper.train()(torch.rand(2, 3, 64, 64), return_heads=True)
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    assert [n for n, p in wrapper.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_second_decoder_has_its_own_weights_and_no_encoder(network):
    wrapper = TwoDecoders(network, 3).eval()
    main, other = wrapper(torch.rand(1, 3, 64, 64), return_heads=True)[0]
    assert main.shape == other.shape and not torch.allclose(main, other)
    own, whole = (sum(p.numel() for p in part.parameters()) for part in (wrapper.second, network))
    assert own < 0.6 * whole


def test_only_the_second_decoder_sees_dropped_maps():
    torch.manual_seed(0)
    wrapper = TwoDecoders(UNet(3, 4, (8, 8, 16, 16, 32)), 3).train()
    for module in wrapper.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    x = torch.rand(1, 3, 64, 64)
    (main, other), (main_again, other_again) = (wrapper(x, return_heads=True)[0] for _ in range(2))
    assert torch.equal(main, main_again) and not torch.equal(other, other_again)


def test_state_dict_round_trip_and_copies(wrapper):
    other = copy.deepcopy(wrapper)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(wrapper.state_dict())
    for a, b in zip(wrapper.eval()(x, return_heads=True)[0], other.eval()(x, return_heads=True)[0]):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", WRAPPERS)
def test_script_trace_and_export_equal_eager(name):
    torch.manual_seed(0)
    wrapper = WRAPPERS[name](NETWORKS["unet"]()).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(wrapper, (torch.rand(2, 3, 64, 64),), dynamic_shapes=({0: batch},)).module()
    traced, x = torch.jit.trace(wrapper, torch.rand(1, 3, 64, 64)), torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        for form in (torch.jit.script(wrapper), traced, exported):
            assert torch.allclose(form(x), wrapper(x), atol=1e-4)


def test_unknown_networks_and_modules_are_named(network):
    with pytest.raises(InputError, match="decoder_maps: not known for TwoDecoders"):
        MultiScale(TwoDecoders(network, 3), 3, 4)
    with pytest.raises(InputError, match="decoder_maps: .* has no module nowhere"):
        MultiScale(network, 3, 4, decoder_maps=["nowhere"])
