# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One base test for every network: shapes, channels, classes, features, save and load, script, trace, export."""

import io

import huggingface_hub
import onnxruntime
import pytest
import timm
import torch

from scripts.errors import InputError
from scripts.networks import CoarseRefined, LESSNet, SegmentationNetwork, SSL4MISUNet, TimmUNet, UNet


class NetworkTests:
    network: type[SegmentationNetwork]
    arguments: dict = {}
    exported_sizes = [(64, 64), (160, 96), (97, 130)]

    def make(self, **arguments):
        torch.manual_seed(0)
        return self.network(**{**self.arguments, **arguments})

    @pytest.mark.parametrize("size", [(64, 64), (97, 130), (33, 64)], ids=str)
    @pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 2), (5, 7)])
    def test_any_size_channels_and_classes(self, size, channels, classes):
        network = self.make(in_channels=channels, out_channels=classes).eval()
        with torch.no_grad():
            logits, features = network(torch.rand(2, channels, *size), return_features=True)
        assert logits.shape == (2, classes, *size)
        assert features.shape[:2] == (2, network.feature_channels)
        assert all(abs(f - s / 4) <= 1 for f, s in zip(features.shape[2:], size))

    def test_every_parameter_learns_and_every_map_is_used(self):
        network = self.make()
        network(torch.rand(2, 3, 64, 64)).square().mean().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        kernels = {n: p.grad.abs().sum((0, 2, 3)) for n, p in network.named_parameters() if p.ndim == 4}
        # timm starts some residual branches of encoders at 0
        assert [n for n, inputs in kernels.items() if not inputs.all() and not n.startswith("encoder.")] == []

    @pytest.mark.parametrize("kind", [True, 1, 2, 3])
    def test_feature_perturbation_touches_only_the_chosen_images(self, kind):
        network = self.make()
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()  # batch statistics would carry the perturbation over
            if isinstance(module, torch.nn.modules.dropout._DropoutNd):
                module.eval()
        image = torch.rand(2, 3, 64, 64)
        kinds = torch.tensor([type(kind)(0), kind])
        plain, dropped = network(image), network(image, feature_dropout=kinds)
        assert torch.allclose(plain[0], dropped[0], atol=1e-5) and not torch.allclose(plain[1], dropped[1], atol=1e-3)
        assert torch.equal(network.eval()(image), network(image, feature_dropout=kinds))

    def test_state_dict_round_trip(self):
        first, second = self.make(), self.network(**self.arguments)
        second.load_state_dict(first.state_dict())
        image = torch.rand(1, 3, 64, 64)
        assert torch.equal(first.eval()(image), second.eval()(image))

    def test_dropout_argument_is_active_in_train_mode_only(self):
        network = self.make(dropout=0.5).eval()
        image = torch.rand(1, 3, 64, 64)
        assert torch.equal(network(image), network(image))
        for module in network.modules():
            if "Dropout" in type(module).__name__:
                module.train()
        assert not torch.equal(network(image), network(image))

    def test_trace_and_export_equal_eager(self):
        network = self.make().eval()
        traced = torch.jit.trace(network, torch.rand(1, 3, 64, 64))
        batch = torch.export.Dim("batch", min=1, max=8)
        exported = torch.export.export(network, (torch.rand(2, 3, 64, 64),), dynamic_shapes=({0: batch},)).module()
        image = torch.rand(3, 3, 64, 64)
        with torch.no_grad():
            assert torch.allclose(traced(image), network(image), atol=1e-4)
            assert torch.allclose(exported(image), network(image), atol=1e-4)

    def test_torchscript_equals_eager_at_any_size(self):
        network = self.make().eval()
        scripted = torch.jit.script(network)
        for size in ((64, 64), (70, 33)):
            image = torch.rand(2, 3, *size)
            with torch.no_grad():
                assert torch.allclose(scripted(image), network(image), atol=1e-4)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
    def test_onnx_equals_eager_at_any_size_and_batch(self):
        network, file = self.make().eval(), io.BytesIO()
        names = {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch", 2: "x", 3: "y"}}}
        torch.onnx.export(network, (torch.rand(2, 3, 96, 64),), file, dynamo=False, opset_version=17, **names)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for size in self.exported_sizes:
            for batch in (1, 3):
                image = torch.rand(batch, 3, *size)
                with torch.no_grad():
                    found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
                    torch.testing.assert_close(found, network(image), atol=1e-4, rtol=0)


class TestLESSNet(NetworkTests):
    network = LESSNet

    def test_budget(self):
        from torch.utils.flop_counter import FlopCounterMode

        network = self.make().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.rand(1, 3, 256, 256))
        assert sum(p.numel() for p in network.parameters()) <= 2.0e6
        assert counter.get_total_flops() / 2 <= 1.0e9

    @pytest.mark.parametrize("classes", [1, 2, 5])
    def test_an_untrained_network_expects_little_foreground_shared_by_its_classes(self, classes):
        bias = self.make(out_channels=classes, foreground=0.1).head.bias
        shares = torch.sigmoid(bias) if classes == 1 else torch.softmax(bias, 0)[1:]
        assert shares.tolist() == pytest.approx([0.1 / len(shares)] * len(shares))

    @pytest.mark.parametrize("backbone", ["mobilevit_xs", "mobilevitv2_050"])
    def test_other_backbones_by_name(self, backbone):
        assert self.make(backbone=backbone)(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)

    def test_pretrained_loads_timm_weights_from_a_file(self, tmp_path):
        torch.manual_seed(1)
        source = timm.create_model("mobilevit_xxs", pretrained=False)
        torch.save(source.state_dict(), tmp_path / "weights.pth")
        encoder = self.make(pretrained=str(tmp_path / "weights.pth")).encoder.state_dict()
        loaded = [k for k in encoder if "stages_0" in k and k.endswith("conv.weight")]
        assert loaded
        for key in loaded:
            assert torch.equal(encoder[key], source.state_dict()[key.replace("stages_", "stages.")])

    def test_pretrained_adapts_the_stem_to_the_channels(self, tmp_path):
        source = timm.create_model("mobilevit_xxs", pretrained=False)
        torch.save(source.state_dict(), tmp_path / "weights.pth")
        assert (
            self.make(pretrained=str(tmp_path / "weights.pth"), in_channels=1)(torch.rand(2, 1, 64, 64)).shape[1] == 2
        )

    def test_bad_pretrained_and_backbone_are_named(self, tmp_path):
        with pytest.raises(InputError, match="pretrained: .*missing.pth is not a file"):
            self.make(pretrained=str(tmp_path / "missing.pth"))
        torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
        with pytest.raises(InputError, match="pretrained: .*other.pth does not hold timm weights of mobilevit_xxs"):
            self.make(pretrained=str(tmp_path / "other.pth"))
        with pytest.raises(InputError, match="backbone: timm has no model 'mobilevit_xxxs'"):
            self.make(backbone="mobilevit_xxxs")
        self.make(pretrained="false")  # as the command line hands it over

    def test_pretrained_without_a_network_is_one_sentence(self, tmp_path, monkeypatch):
        # what HF_HUB_OFFLINE=1 sets, which is read on import; without it the download is tried again for a while
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        told = "weights of mobilevit_xxs could not be downloaded .*: give a file by --network_def#pretrained <file>, or"
        with pytest.raises(InputError, match=told):
            self.make(pretrained="true")


class TestUNet(NetworkTests):
    network = UNet
    arguments = {"channels": (8, 8, 16, 16, 32)}
    exported_sizes = [(64, 64), (160, 96), (112, 128)]  # multiples of 16: MONAI pads odd maps behind a Python `if`

    def test_default_is_the_peers_size(self):
        assert sum(p.numel() for p in UNet().parameters()) == pytest.approx(1.95e6, rel=0.01)


class TestSSL4MISUNet(NetworkTests):
    network = SSL4MISUNet
    arguments = {"channels": (8, 8, 16, 16, 32), "dropout": 0.0}

    def test_default_is_the_published_size_with_dropout_growing_with_depth(self):
        network = SSL4MISUNet(1, 4)
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.81e6, rel=0.005)
        drops = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
        assert drops == [0.05, 0.1, 0.2, 0.3, 0.5]


class TestTimmUNet(NetworkTests):
    network = TimmUNet
    arguments = {"widths": (32, 16, 16, 8, 8)}

    def test_the_default_is_light(self):
        assert sum(p.numel() for p in TimmUNet().parameters()) <= 1.1e6

    def test_other_backbones_by_name(self):
        assert self.make(backbone="mobilenetv3_small_100")(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)


class TestCoarseRefined(NetworkTests):
    exported_sizes = TestUNet.exported_sizes

    @staticmethod
    def network(in_channels=3, out_channels=2, dropout=0.0):
        inner = UNet(in_channels, out_channels, (8, 8, 16, 16, 32))
        wrapped = CoarseRefined(inner, in_channels, out_channels, width=8, dropout=dropout)
        torch.nn.init.normal_(wrapped.correct.weight)  # as if trained: the refinement is seen in the output
        return wrapped

    @pytest.mark.parametrize("make", [UNet, LESSNet, SSL4MISUNet, TimmUNet])
    def test_any_network_starts_as_itself_and_gives_both_heads(self, make):
        torch.manual_seed(0)
        inner = make(3, 4)
        wrapped, image = CoarseRefined(inner, 3, 4).eval(), torch.rand(2, 3, 70, 49)
        with torch.no_grad():
            refined, coarse, refinement = wrapped(image, return_heads=True)
            assert torch.equal(refined, inner(image)) and torch.equal(wrapped(image), refined)
        assert coarse.shape == (2, 4, 70, 49) and refinement.shape == (2, wrapped.refined_channels, 70, 49)

    def test_the_wrapper_is_small(self):
        inner = LESSNet()
        before = sum(p.numel() for p in inner.parameters())
        assert sum(p.numel() for p in CoarseRefined(inner).parameters()) - before < 0.02 * before


def test_pretrained_weights_reach_the_stem_and_the_blocks_for_grey_images(tmp_path):
    source = timm.create_model("mobilevit_xxs", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    made = LESSNet(in_channels=1, pretrained=str(tmp_path / "weights.pth")).encoder.state_dict()
    given = {key.replace("stages.", "stages_"): value for key, value in source.state_dict().items()}
    for key, value in made.items():
        expected = given[key].sum(1, keepdim=True) if key == "stem.conv.weight" else given[key]
        torch.testing.assert_close(value, expected)
