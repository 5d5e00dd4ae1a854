"""StyleGAN2 and StyleGAN2-ADA against the official networks' vectors; the operators against their definitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, conv_transpose2d, pad

from benchmarks.stylegan2 import measure, textbook
from fse.checkpoints.checkpoint import load_parameters
from fse.checkpoints.network_file import read_network, write_network
from fse.generators.modulated_conv import modulated_conv
from fse.generators.resampling import upfirdn
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.generators.stylegan2_ada import stylegan2_from_ada
from fse.latents import mean_code, sample_z, truncate
from fse.refusal import Refusal
from tests.golden.fill import normal
from tests.golden.vectors import Golden


@cache
def official(name: str, feature_layer: int = 5) -> StyleGAN2:
    """The network of a vector in rosinality's layout."""
    state = Golden(name).state()
    generator = StyleGAN2(StyleGAN2.size_of(state), feature_layer).requires_grad_(False).eval()
    generator.load_state_dict(state)
    return generator


@cache
def official_ada(name: str) -> StyleGAN2:
    golden = Golden(name)
    arguments = {key: value for key, value in golden.construction.items() if key in ADA_ARGUMENTS}
    size, state = stylegan2_from_ada(golden.state(), arguments)
    generator = StyleGAN2(size).requires_grad_(False).eval()
    load_parameters(generator, state, name, "")
    generator.set_mean_code(state["latent_avg"])
    return generator


ADA_ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")


def tiny(feature_layer: int = 3, clamp: float | None = None) -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Size(32, (16, 12, 8, 6), 16, 2, clamp), feature_layer)
    for parameter in generator.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)  # strengths of noise and biases, which begin at zero
    return generator.requires_grad_(False).eval()


def given_input(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(normal(f"input:{name}", shape)) * scale


@contextmanager
def outputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the modules in this block, copied before the next layer overwrites them."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        return modules[name].register_forward_hook(lambda _, __, output: kept.update({name: output.clone()}))

    handles = [keep(name) for name in modules]
    yield kept
    for handle in handles:
        handle.remove()


def convolutions(generator: StyleGAN2) -> dict[str, nn.Module]:
    return {"conv1": generator.conv1} | {f"convs.{i}": conv for i, conv in enumerate(generator.convs)}


def rgb_layers(generator: StyleGAN2) -> dict[str, nn.Module]:
    return {"to_rgb1": generator.to_rgb1} | {f"to_rgbs.{i}": layer for i, layer in enumerate(generator.to_rgbs)}


class TestRosinality:
    @pytest.mark.parametrize("side", [64, 256, 1024])
    def test_names_and_shapes(self, side: int) -> None:
        golden = Golden(f"stylegan2_rosinality_{side}")
        with torch.device("meta"):
            state = StyleGAN2(StyleGAN2Size(side)).state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == golden.names_and_shapes()

    @pytest.mark.parametrize("side", [64, 256])
    def test_pictures(self, side: int) -> None:
        name = f"stylegan2_rosinality_{side}"
        golden, generator = Golden(name), official(name)
        codes = generator.map(given_input("z", 2, 512))
        golden.check("w", codes[:, 0])
        golden.check("image_from_z", generator.synthesize(codes))
        mean = given_input("truncation_latent", 1, 512, scale=0.1)
        golden.check("image_from_z_trunc0.7", generator.synthesize(truncate(codes, mean, 0.7)))
        golden.check("image_mix_z0_z1_inject4", generator.synthesize(torch.cat([codes[:1, :4], codes[1:, 4:]], 1)))

    @pytest.mark.parametrize("side", [64, 256])
    def test_every_layer(self, side: int) -> None:
        name = f"stylegan2_rosinality_{side}"
        golden, generator = Golden(name), official(name)
        codes = given_input(f"wplus_{generator.num_codes}", 1, generator.num_codes, 512)
        with torch.no_grad(), outputs_of(convolutions(generator) | rgb_layers(generator)) as outputs:
            golden.check("image_from_wplus", generator.synthesize(codes))
        for k, layer in enumerate(convolutions(generator), 1):
            golden.check(f"feat/{k:02}/{layer}", outputs[layer])
        for layer in rgb_layers(generator):
            golden.check(f"rgb/{layer}", outputs[layer])

    def test_1024(self) -> None:
        golden = Golden("stylegan2_rosinality_1024")
        generator = official.__wrapped__("stylegan2_rosinality_1024")
        with torch.no_grad():
            picture = generator.synthesize(given_input("wplus_18", 1, 18, 512))
        golden.check("image_from_wplus", picture)
        golden.check("image_pooled_256", adaptive_avg_pool2d(picture, 256))


class TestFeatureReplacement:
    golden = Golden("stylegan2_fse_feature_replace_64")
    codes = given_input("wplus_10", 1, 10, 512)
    features: ClassVar = {
        3: given_input("feature_8", 1, 512, 8, 8, scale=0.6),
        4: given_input("feature_16", 1, 512, 16, 16, scale=0.6),
        5: given_input("feature_16", 1, 512, 16, 16, scale=0.6),
        6: given_input("feature_32", 1, 512, 32, 32, scale=0.6),
    }

    @pytest.mark.parametrize("k", [3, 4, 5, 6])
    def test_picture(self, k: int) -> None:
        generator = official("stylegan2_rosinality_64", k)
        self.golden.check(f"image_k{k}_scale1.0", generator.synthesize(self.codes, self.features[k]))

    @pytest.mark.parametrize("scale", [0.0, 0.5])
    def test_scale(self, scale: float) -> None:
        """The official training's ramp is a blend of the feature with the generator's own."""
        generator = official("stylegan2_rosinality_64")
        blend = (1 - scale) * generator.feature(self.codes) + scale * self.features[5]
        self.golden.check(f"image_k5_scale{scale}", generator.synthesize(self.codes, blend))

    def test_features(self) -> None:
        generator = official("stylegan2_rosinality_64")
        with torch.no_grad(), outputs_of({"input": generator.input} | convolutions(generator)) as outputs:
            generator.synthesize(self.codes, self.features[5])
        for k, output in enumerate(outputs.values()):
            self.golden.check(f"return_features/{k}", output)

    def test_edit(self) -> None:
        generator = official("stylegan2_rosinality_64")
        edited = self.codes + given_input("edit_direction_10", 1, 10, 512, scale=0.3)
        feature = self.features[5] + generator.feature(edited) - generator.feature(self.codes)
        self.golden.check("edit/feature", feature)
        self.golden.check("edit/image", generator.synthesize(edited, feature))

    def test_hfgi(self) -> None:
        """HFGI's conditions are a feature at K = 8."""
        golden, generator = Golden("hfgi_generator_64"), official("stylegan2_rosinality_64", 8)
        golden.check("image_no_conditions", generator.synthesize(self.codes))
        scale, shift = (given_input(f"cond_{name}", 1, 512, 64, 64, scale=0.3) for name in ("scale", "shift"))
        feature = generator.feature(self.codes) * (1 + scale) + shift
        with torch.no_grad(), outputs_of(convolutions(generator)) as outputs:
            golden.check("image_conditions", generator.synthesize(self.codes, feature))
        golden.check("last_feature_conditions", outputs["convs.7"])

    @pytest.mark.parametrize("k", [0, 9])
    def test_no_such_layer(self, k: int) -> None:
        with pytest.raises(ValueError, match=r"feature_layer must lie in 1\.\.8"):
            StyleGAN2(StyleGAN2Size(64, (1,) * 5), k)


class TestADA:
    @pytest.mark.parametrize("name", ["stylegan2_ada_64_map8", "stylegan2_ada_64_map2"])
    def test_vectors(self, name: str) -> None:
        golden, generator = Golden(name), official_ada(name)
        codes = generator.map(given_input("z", 2, 512))
        golden.check("ws", codes)
        golden.check("ws_trunc0.7_cutoff4", truncate(codes, generator.mean_code, 0.7, cutoff=4))
        golden.check("image_from_z", generator.synthesize(codes))
        codes = given_input("ws_10", 1, 10, 512)
        golden.check("image_from_ws_nonoise", generator.synthesize(codes, noise=[torch.zeros(1)] * 9))
        layers = convolutions(generator) | rgb_layers(generator)
        own_rgb = {f"own {layer}": module.conv for layer, module in rgb_layers(generator).items()}
        with torch.no_grad(), outputs_of(layers | own_rgb) as outputs:
            golden.check("image_from_ws", generator.synthesize(codes))
        if "mid/b4.conv1" not in golden.stored:
            return
        for k, layer in enumerate(convolutions(generator)):
            golden.check(f"mid/b{4 << (k + 1) // 2}.conv{int(k % 2 == 0)}", outputs[layer])
        for level, (layer, module) in enumerate(rgb_layers(generator).items()):
            golden.check(f"rgb/b{4 << level}", outputs[layer])
            golden.check(f"mid/b{4 << level}.torgb", outputs[f"own {layer}"] + module.bias)

    def test_clamp(self) -> None:
        """Trained files have ``conv_clamp`` 256: of every layer's output, and of every level's RGB before the sum."""
        generator = tiny(clamp=0.5)
        codes = 3 * torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), outputs_of(convolutions(generator) | rgb_layers(generator)) as outputs:
            generator.synthesize(codes)
        for layer in (*convolutions(generator), "to_rgb1"):
            assert outputs[layer].abs().max() == 0.5
        assert outputs["to_rgbs.2"].abs().max() > 0.5
        arguments = {"c_dim": 0, "synthesis_kwargs": {"conv_clamp": 256}, "class_name": "Generator"}
        size, _ = stylegan2_from_ada(Golden("stylegan2_ada_64_map2").state(), arguments)
        assert size == StyleGAN2Size(64, (512, 512, 512, 512, 256), 512, 2, 256, raw_weights=True)
        flat = {"conv_clamp": 256, "channel_base": 16384, "fused_modconv_default": "inference_only"}  # stylegan3's
        assert stylegan2_from_ada(Golden("stylegan2_ada_64_map2").state(), flat)[0] == size

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"c_dim": 10}, "c_dim=10, not 0"),
            ({"synthesis_kwargs": {"architecture": "resnet"}}, "architecture='resnet', not 'skip'"),
            ({"mapping_kwargs": {"lr_multiplier": 1}}, "lr_multiplier=1, not 0.01"),
            ({"magnitude_ema_beta": 0.999}, "magnitude_ema_beta=0.999, an argument that StyleGAN2-ADA does not have"),
            ({"synthesis_kwargs": {"conv_clamp": "all"}}, "conv_clamp='all'"),
            ({"architecture": "resnet"}, "architecture='resnet', not 'skip'"),
        ],
    )
    def test_other_arguments(self, arguments: dict[str, object], named: str) -> None:
        with pytest.raises(Refusal, match=named):
            stylegan2_from_ada(Golden("stylegan2_ada_64_map2").state(), arguments)

    @pytest.mark.parametrize(
        "name",
        [
            "mapping.embed.weight",
            "synthesis.b4.conv0.weight",
            "synthesis.b12.conv0.weight",
            "synthesis.b32.skip.weight",
            "synthesis.b32.torgb.noise_const",
            "synthesis.b32.conv1.magnitude",
            "synthesis.b256.conv1.weight",
        ],
    )
    def test_strange_tensors(self, name: str) -> None:
        with pytest.raises(Refusal, match="has no place"):
            stylegan2_from_ada(Golden("stylegan2_ada_64_map2").state() | {name: torch.zeros(512, 512)}, {})

    def test_missing_tensor(self) -> None:
        state = Golden("stylegan2_ada_64_map2").state()
        del state["synthesis.b8.conv0.weight"]
        with pytest.raises(Refusal, match=r"convs\.0\.conv\.weight is missing"):
            stylegan2_from_ada(state, {})


class TestGenerator:
    codes = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(1))

    def test_is_a_style_generator(self) -> None:
        assert isinstance(tiny(), StyleGenerator)

    def test_textbook(self) -> None:
        """The benchmark's other side, on the same codes; ``measure`` exits where the pictures differ."""
        generator = tiny()
        measure({"textbook": partial(textbook, generator), "ours": generator.synthesize}, self.codes, repeats=1)
        with pytest.raises(SystemExit, match="another picture"):
            measure({"ours": generator.synthesize, "scaled": lambda c: generator(c) * 1.001}, self.codes, repeats=1)

    @pytest.mark.parametrize("k", range(1, 7))
    def test_feature_is_that_of_convolution_k(self, k: int) -> None:
        generator = tiny(k)
        with torch.no_grad(), outputs_of(convolutions(generator)) as outputs:
            picture = generator.synthesize(self.codes)
        feature = generator.feature(self.codes)
        assert feature.shape[1:] == generator.feature_shape
        assert torch.equal(feature, list(outputs.values())[k - 1])
        assert torch.equal(generator.synthesize(self.codes, feature), picture)

    @pytest.mark.parametrize("k", [2, 3])
    def test_overwrites_nothing_of_the_callers(self, k: int) -> None:
        generator = tiny(k)
        feature = torch.randn(2, *generator.feature_shape).contiguous(memory_format=torch.channels_last)
        state = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
        before, codes = feature.clone(), self.codes.clone()
        with torch.enable_grad():
            expected = generator.synthesize(codes, feature)
        with torch.no_grad():
            assert torch.equal(generator.synthesize(codes, feature), expected)
            generator.feature(codes)
        assert torch.equal(feature, before)
        assert torch.equal(codes, self.codes)
        assert all(torch.equal(tensor, state[name]) for name, tensor in generator.state_dict().items())

    def test_noise(self) -> None:
        generator = tiny()
        picture, feature = generator.synthesize(self.codes), generator.feature(self.codes)
        stored = list(generator.noises.buffers())
        assert torch.equal(generator.synthesize(self.codes, noise=stored), picture)
        fresh = generator.fresh_noise(torch.Generator().manual_seed(2), batch=2)
        assert [tuple(noise.shape) for noise in fresh] == [(2, *noise.shape[1:]) for noise in stored]
        again = generator.fresh_noise(torch.Generator().manual_seed(2), batch=2)
        assert all(torch.equal(one, other) for one, other in zip(fresh, again, strict=True))
        assert (generator.synthesize(self.codes, noise=fresh) - picture).abs().mean() > 0.01
        assert not torch.equal(generator.feature(self.codes, noise=fresh), feature)
        with pytest.raises(ValueError, match="shorter"):
            generator.synthesize(self.codes, noise=fresh[:-1])

    def test_mean_code(self) -> None:
        generator = tiny()
        mean = mean_code(generator, sample_z(0, 1000, 16))
        generator.set_mean_code(mean)
        assert torch.equal(generator.mean_code, mean.expand(8, 16))
        generator.set_mean_code(self.codes[0])
        assert torch.equal(generator.mean_code, self.codes[0])
        assert "mean_code" not in generator.state_dict()

    def test_autocast(self) -> None:
        generator = official("stylegan2_rosinality_64")
        codes = given_input("wplus_10", 1, 10, 512)
        with torch.no_grad():
            picture = generator.synthesize(codes)
            for dtype in (torch.bfloat16, torch.float16):
                with torch.autocast("cpu", dtype):
                    half = generator.synthesize(codes)
                assert half.dtype == torch.float32
                assert (half - picture).square().mean() < (1e-3 if dtype is torch.bfloat16 else 1e-5) * picture.var()

    def test_compiled(self) -> None:
        generator = StyleGAN2(StyleGAN2Size(8, (4, 3), 16, 1), feature_layer=1)
        codes = self.codes[:, :4]
        feature = generator.feature(codes).detach()
        with torch.no_grad():
            compiled = torch.compile(generator, fullgraph=True)
            torch.testing.assert_close(compiled(codes, feature), generator(codes, feature))

    def test_gradients(self) -> None:
        """Of codes, feature and noise; double precision, first and second order."""
        generator = StyleGAN2(StyleGAN2Size(8, (3, 2), 4, 1), feature_layer=1).double().requires_grad_(False)
        noise = [torch.randn(1, 1, *n.shape[2:]).double().requires_grad_() for n in generator.noises.buffers()]
        for parameter in generator.parameters():
            if parameter.shape == (1,):
                parameter.fill_(0.3)
        codes = torch.randn(2, 4, 4).double().requires_grad_()
        feature = torch.randn(2, *generator.feature_shape).double().requires_grad_()

        def picture(codes: Tensor, feature: Tensor, *noise: Tensor) -> Tensor:
            return generator.synthesize(codes, feature, noise=noise).mean((2, 3))

        assert torch.autograd.gradcheck(picture, (codes, feature, *noise))
        assert torch.autograd.gradgradcheck(picture, (codes, feature, *noise))

    def test_trains(self) -> None:
        generator = tiny().requires_grad_()
        generator.synthesize(generator.map(torch.randn(2, 16))).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator.parameters())

    def test_size_survives(self, tmp_path: Path) -> None:
        generator = tiny()
        assert StyleGAN2.size_of(generator.state_dict()) == generator.size
        write_network(tmp_path / "g.safetensors", generator, {})
        assert read_network(tmp_path / "g.safetensors", StyleGAN2).size == generator.size

    @pytest.mark.parametrize(("resolution", "channels"), [(4, ()), (48, ()), (2048, ()), (64, (8, 8))])
    def test_impossible_sizes(self, resolution: int, channels: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"resolution must be|levels"):
            StyleGAN2Size(resolution, channels)

    @pytest.mark.parametrize(
        ("name", "tensor", "reason"),
        [
            ("input.input", None, "missing"),
            ("conv1.conv.modulation.weight", None, "missing"),
            ("convs.0.conv.weight", None, "missing"),
            ("input.input", torch.zeros(16), r"has shape \(16,\)"),
            ("input.input", torch.zeros(1, 0, 4, 4), r"has shape \(1, 0, 4, 4\)"),
            ("convs.2.conv.weight", torch.zeros(1, 8, 11, 3, 3), r"has shape \(1, 8, 11, 3, 3\)"),
            ("style.2.weight", torch.zeros(4, 4), r"has shape \(4, 4\)"),
        ],
    )
    def test_other_networks(self, name: str, tensor: Tensor | None, reason: str) -> None:
        state = tiny().state_dict()
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
        with pytest.raises(Refusal, match=f"{name} (is )?{reason}"):
            StyleGAN2.size_of(state)

    def test_too_large(self) -> None:
        state = tiny().state_dict()
        for i in range(6, 18, 2):
            state[f"convs.{i}.conv.weight"] = torch.zeros(1, 6, 6, 3, 3)
        with pytest.raises(Refusal, match=r"8\.\.1024, not 2048"):
            StyleGAN2.size_of(state)


class TestModulatedConv:
    @pytest.mark.parametrize("up", [False, True])
    @pytest.mark.parametrize("demodulate", [False, True])
    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize("scale", [1.0, 1e-4])
    def test_definition(self, up: bool, demodulate: bool, kernel: int, scale: float) -> None:
        """A kernel for each sample, in double precision; a style of 1e-4 lets the epsilon count."""
        if up and kernel == 1:
            kernel = 2
        torch.manual_seed(0)
        x, weight = torch.randn(2, 5, 6, 7).double(), torch.randn(4, 5, kernel, kernel).double()
        style = (torch.randn(2, 5) * scale).double()
        expected = []
        for sample, factors in zip(x, style, strict=True):
            own = weight * factors[:, None, None]
            if demodulate:
                own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if up:
                expected.append(conv_transpose2d(sample, own.transpose(0, 1), stride=2))
            else:
                expected.append(conv2d(sample, own, padding=kernel // 2))
        for layout in (torch.contiguous_format, torch.channels_last):
            result = modulated_conv(
                x.contiguous(memory_format=layout),
                weight,
                style,
                demodulate=demodulate,
                gain=1.5,
                padding=0 if up else kernel // 2,
                up=up,
            )
            torch.testing.assert_close(result, 1.5 * torch.stack(expected))

    @pytest.mark.parametrize("up", [False, True])
    @pytest.mark.parametrize("demodulate", [False, True])
    @pytest.mark.parametrize("kernel", [1, 2])
    def test_gradients(self, up: bool, demodulate: bool, kernel: int) -> None:
        torch.manual_seed(0)
        inputs = [
            torch.randn(*shape).double().requires_grad_() for shape in ((2, 2, 3, 2), (2, 2, kernel, kernel), (2, 2))
        ]

        def convolve(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
            return modulated_conv(x, weight, style, demodulate=demodulate, up=up)

        assert torch.autograd.gradcheck(convolve, inputs)
        assert torch.autograd.gradgradcheck(convolve, inputs)

    def test_stays_in_the_range_of_half_precision(self) -> None:
        """Raw weights and strong styles, whose products leave it at once."""
        torch.manual_seed(0)
        x, weight, style = 200 * torch.randn(1, 512, 4, 4), torch.randn(8, 512, 3, 3), 300 * torch.randn(1, 512)
        exact = modulated_conv(x, weight, style, padding=1)
        with torch.autocast("cpu", torch.float16):
            half = modulated_conv(x.half(), weight, style, padding=1)
        assert half.dtype == torch.float16
        assert (half - exact).abs().max() < 0.01 * exact.std()


def upfirdn_by_definition(
    x: Tensor, kernel: Tensor, up: int, down: int, padding: tuple[int, int, int, int], gain: float
) -> Tensor:
    full = x.new_zeros(*x.shape[:2], x.shape[2] * up, x.shape[3] * up)
    full[:, :, ::up, ::up] = x
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    full = pad(full, padding).flatten(0, 1)[:, None]
    return conv2d(full, kernel.flip((0, 1))[None, None] * gain).unflatten(0, x.shape[:2])[:, :, 0, ::down, ::down]


class TestResampling:
    @given(
        st.tuples(*[st.integers(1, 8)] * 2),
        st.one_of(st.tuples(st.integers(1, 12)), st.tuples(st.integers(1, 6), st.integers(1, 12))),
        *[st.integers(1, 4)] * 2,
        st.tuples(*[st.integers(-4, 13)] * 4),
    )
    @settings(max_examples=200, deadline=None)
    def test_definition(
        self, sides: tuple[int, int], taps: tuple[int, ...], up: int, down: int, padding: tuple[int, int, int, int]
    ) -> None:
        height, width = sides[0] * up + sum(padding[2:]), sides[1] * up + sum(padding[:2])
        assume(height >= taps[0] and width >= taps[-1])
        assume(sides[0] * up + min(padding[2:]) > 0 and sides[1] * up + min(padding[:2]) > 0)
        torch.manual_seed(0)
        x, kernel = torch.randn(2, 3, *sides).double(), torch.randn(taps).double()
        result = upfirdn(x, kernel, up=up, down=down, padding=padding, gain=1.7)
        torch.testing.assert_close(result, upfirdn_by_definition(x, kernel, up, down, padding, 1.7))

    @pytest.mark.parametrize("taps", [(3,), (2, 3)])
    @pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (4, 2)])
    def test_gradients(self, taps: tuple[int, ...], up: int, down: int) -> None:
        torch.manual_seed(0)
        inputs = [torch.randn(2, 2, 3, 4).double().requires_grad_(), torch.randn(taps).double().requires_grad_()]

        def resample(x: Tensor, kernel: Tensor) -> Tensor:
            return upfirdn(x, kernel, up=up, down=down, padding=(2, 1, -1, 3))

        assert torch.autograd.gradcheck(resample, inputs)
        assert torch.autograd.gradgradcheck(resample, inputs)

    def test_keeps_single_precision_under_autocast(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            assert upfirdn(torch.randn(1, 3, 8, 8), torch.ones(4) / 4, up=2).dtype == torch.float32


def test_truncation() -> None:
    codes, mean = torch.randn(2, 5, 4), torch.randn(4)
    assert torch.equal(truncate(codes, mean, 0.0), mean.expand(2, 5, 4))
    torch.testing.assert_close(truncate(codes, mean, 1.0), codes)
    cut = truncate(codes, mean.expand(5, 4), 0.3, cutoff=2)
    assert torch.equal(cut[:, 2:], codes[:, 2:])
    torch.testing.assert_close(cut[:, :2] - mean, 0.3 * (codes[:, :2] - mean))
