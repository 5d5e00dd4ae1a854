"""StyleGAN3 against the official networks' vectors, and the filtered leaky ReLU against its definition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import convolve2d
from torch import Tensor, nn

from benchmarks.stylegan2 import measure
from benchmarks.stylegan3 import size_for, textbook
from fse.generators import filtered_activation
from fse.generators.filtered_activation import filtered_leaky_relu
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan3 import StyleGAN3, StyleGAN3Size, SynthesisLayer
from fse.latents import truncate
from fse.refusal import Refusal
from tests.golden.fill import normal
from tests.golden.vectors import Golden

VECTORS = [f"stylegan3_{configuration}_{kind}" for configuration in "tr" for kind in ("64", "256", "256_full")]
KEYS = ["stylegan3_t_1024_keys", "stylegan3_r_1024_keys"]
TINY = StyleGAN3Size(16, 32, 6, z_dim=8, code_dim=8, num_layers=4)


@cache
def official(name: str) -> StyleGAN3:
    golden = Golden(name)
    generator = StyleGAN3(StyleGAN3.size_of(golden.state(), golden.construction))
    generator.load_state_dict(golden.state())
    return generator.requires_grad_(False).eval()


def tiny(size: StyleGAN3Size = TINY, feature_layer: int = 2) -> StyleGAN3:
    torch.manual_seed(0)
    generator = StyleGAN3(size, feature_layer)
    for name, parameter in generator.named_parameters():
        if parameter.ndim == 1 or name.endswith("input.affine.weight"):
            parameter.data += 0.2 * torch.randn_like(parameter)  # biases, and the affine map that begins at zero
    return generator.requires_grad_(False).eval()


def given_input(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(normal(f"input:{name}", shape))


def layers_of(generator: StyleGAN3) -> dict[str, nn.Module]:
    return dict(generator.synthesis.named_children())


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


class TestVectors:
    @pytest.mark.parametrize("name", VECTORS + KEYS)
    def test_names_filters_and_layers(self, name: str) -> None:
        """Of the network that the constructor's arguments describe, without a look at a file."""
        golden, arguments = Golden(name), Golden(name).construction
        known = {key: arguments[key] for key in arguments if key in asdict(TINY)}
        size = StyleGAN3Size(**known | {"resolution": arguments["img_resolution"]})
        with torch.device("meta"):
            generator = StyleGAN3(size)
        assert {key: tuple(value.shape) for key, value in generator.state_dict().items()} == golden.names_and_shapes()
        filters = [key for key in golden.names_and_shapes() if key.endswith("_filter")]
        assert len(filters) == 28
        for key in filters:
            assert torch.equal(generator.state_dict()[key], torch.from_numpy(golden.stored[f"kept/{key}"])), key
        for i, expected in enumerate(arguments["layers"], -1):
            layer = generator.synthesis.get_submodule(expected["name"])
            signal, before = size.signal(i), size.signal(i - 1)
            if i < 0:
                assert [signal.side] * 2 == expected["size"]
                assert (signal.rate, signal.cutoff) == (expected["sampling_rate"], expected["bandwidth"])
                continue
            for side, found in {"in": before, "out": signal}.items():
                assert found.channels == expected[f"{side}_channels"]
                assert found.side == expected[f"{side}_size"]
                assert found.rate == expected[f"{side}_sampling_rate"]
                assert found.cutoff == pytest.approx(expected[f"{side}_cutoff"], rel=1e-12)
                assert found.half_width == pytest.approx(expected[f"{side}_half_width"], rel=1e-12)
            if isinstance(layer, SynthesisLayer):
                assert (layer.up, layer.down) == (expected["up_factor"], expected["down_factor"])
                assert list(layer.padding) == expected["padding"]

    @pytest.mark.parametrize("name", VECTORS)
    def test_outputs(self, name: str) -> None:
        golden, generator = Golden(name), official.__wrapped__(name)
        codes = generator.map(given_input("z", 2, 512))
        golden.check("ws", codes)
        golden.check("ws_trunc0.7", truncate(codes, generator.mean_code, 0.7))
        given = given_input("ws_16", 1, 16, 512)
        with torch.no_grad(), outputs_of(layers_of(generator)) as outputs:
            golden.check("image_from_ws", generator.synthesize(given))
        assert len(outputs) == 16
        for layer, output in outputs.items():
            golden.check(f"mid/{layer}", output)
        if "image_from_z" in golden.stored:
            golden.check("image_from_z", generator.synthesize(codes))
            batch = torch.cat([given, 2 * given_input("ws_16_b", 1, 16, 512)])
            golden.check("image_from_ws_batch2", generator.synthesize(batch))
            generator.synthesis.get_buffer("input.transform").copy_(torch.from_numpy(golden.stored["input_transform"]))
            golden.check("image_from_ws_transformed", generator.synthesize(given))
        checked = {"ws", "ws_trunc0.7", "image_from_ws", *(f"mid/{layer}" for layer in outputs)}
        extra = {"image_from_z", "image_from_ws_batch2", "image_from_ws_transformed"}
        assert set(golden.manifest["outputs"]) in (checked, checked | extra)


class TestGenerator:
    codes = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))

    def test_attributes(self) -> None:
        with torch.device("meta"):
            generator = StyleGAN3()
        assert isinstance(generator, StyleGenerator)
        assert (generator.num_codes, generator.feature_layer, generator.feature_codes) == (16, 5, 6)
        assert generator.feature_shape == (512, 84, 84)
        signal = generator.size.signal(4)
        assert (signal.rate, round(signal.cutoff, 1), signal.cutoff + signal.half_width) == (64, 12.7, 32)
        assert generator.mean_code.shape == (16, 512)

    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_feature_is_that_of_convolution_k(self, k: int) -> None:
        generator = tiny(feature_layer=k)
        with torch.no_grad(), outputs_of(layers_of(generator)) as outputs:
            picture = generator.synthesize(self.codes)
        feature = generator.feature(self.codes)
        assert feature.shape[1:] == generator.feature_shape
        assert torch.equal(feature, list(outputs.values())[k])
        assert torch.equal(generator.synthesize(self.codes, feature), picture)
        changed = self.codes.clone()
        changed[:, generator.feature_codes :] += 1  # w^{K+2:N} do not reach F, and w^{1:K+1} only through it
        assert torch.equal(generator.feature(changed), feature)
        changed = self.codes.clone()
        changed[:, : generator.feature_codes] += 1
        assert torch.equal(generator.synthesize(changed, feature), picture)

    @pytest.mark.parametrize("k", [0, 5])
    def test_no_such_layer(self, k: int) -> None:
        with pytest.raises(ValueError, match=r"feature_layer must lie in 1\.\.4"):
            tiny(feature_layer=k)

    def test_overwrites_nothing_of_the_callers(self) -> None:
        generator = tiny()
        feature = torch.randn(2, *generator.feature_shape).contiguous(memory_format=torch.channels_last)
        before, codes = feature.clone(), self.codes.clone()
        with torch.no_grad():
            picture = generator.synthesize(codes, feature)
        assert torch.equal(feature, before)
        assert torch.equal(codes, self.codes)
        assert torch.equal(generator.synthesize(codes, feature.contiguous()), picture)

    def test_batch_of_two_equals_two(self) -> None:
        generator = tiny()
        both = generator.synthesize(self.codes)
        torch.testing.assert_close(both, torch.cat([generator.synthesize(one[None]) for one in self.codes]))

    def test_wrong_shapes(self) -> None:
        generator = tiny()
        with pytest.raises(ValueError, match=r"codes must be \(B, 6, 8\)"):
            generator.synthesize(self.codes[:, :5])
        with pytest.raises(ValueError, match="feature must be"):
            generator.synthesize(self.codes, torch.zeros(2, 1, 1, 1))

    @pytest.mark.parametrize("layer", [0, 4, 12, 13])
    @pytest.mark.parametrize("kernel", [1, 3])
    def test_a_layer_keeps_places(self, layer: int, kernel: int) -> None:
        """What lies in the middle of a layer's input lies in the middle of its output, to a hundredth of a sample."""
        size = replace(StyleGAN3Size(64, 4096, 1), conv_kernel=kernel)
        block = SynthesisLayer(size.signal(layer - 1), size.signal(layer), size, critical=layer > 11)
        nn.init.zeros_(block.weight)
        block.weight.data[:, :, kernel // 2, kernel // 2] = 1
        place = torch.arange(size.signal(layer - 1).side) - (size.signal(layer - 1).side - 1) / 2
        spot = (-place.square() / 20).exp()
        with torch.no_grad():
            output = block(torch.outer(spot, spot)[None, None], torch.zeros(1, 512), False)[0, 0]
        for axis in (0, 1):
            mass = output.sum(axis)
            assert (mass * torch.arange(len(mass))).sum() / mass.sum() == pytest.approx((len(mass) - 1) / 2, abs=0.01)

    def test_autocast(self) -> None:
        generator = official("stylegan3_t_64")
        codes = given_input("ws_16", 1, 16, 512)
        with torch.no_grad():
            picture = generator.synthesize(codes)
            for dtype in (torch.bfloat16, torch.float16):
                with torch.autocast("cpu", dtype):
                    half = generator.synthesize(codes)
                bound = {torch.bfloat16: 0.1, torch.float16: 0.01}[dtype]
                assert (half.float() - picture).std() < bound * picture.std()

    def test_compiled(self) -> None:
        generator = tiny(replace(TINY, num_layers=2, num_critical=1), feature_layer=1)
        codes = self.codes[:, :4]
        with torch.no_grad():
            compiled = torch.compile(generator, fullgraph=True)
            torch.testing.assert_close(compiled(codes), generator(codes))

    def test_gradients(self) -> None:
        """Of codes and feature; double precision, first and second order."""
        generator = tiny(replace(TINY, channel_max=2, num_layers=2, num_critical=1, margin_size=1), feature_layer=1)
        generator = generator.double()
        codes = self.codes[:1, :4].double().requires_grad_()
        feature = generator.feature(codes).detach().requires_grad_()

        def measured(codes: Tensor, feature: Tensor) -> Tensor:
            return torch.cat([generator.synthesize(codes, feature), generator.synthesize(codes)]).mean((2, 3))

        assert torch.autograd.gradcheck(measured, (codes, feature), fast_mode=True)
        assert torch.autograd.gradgradcheck(measured, (codes, feature), fast_mode=True)

    def test_trains(self) -> None:
        generator = tiny().requires_grad_()
        generator.synthesize(generator.map(torch.randn(2, 8))).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator.parameters())

    @pytest.mark.parametrize("configuration", ["T", "R"])
    def test_benchmark_compares_like_with_like(self, configuration: str) -> None:
        generator = tiny(replace(size_for(configuration, 32, 256), num_layers=4))
        codes = generator.map(torch.randn(2, 512))
        runs = {f"dense {dense}": partial(textbook, generator, dense=dense) for dense in (True, False)}
        measure({"ours": generator.synthesize, **runs}, codes, repeats=1)


class TestSizeOf:
    @pytest.mark.parametrize("name", VECTORS + KEYS)
    def test_from_shapes_alone(self, name: str) -> None:
        golden = Golden(name)
        tensors = {key: torch.empty(shape, device="meta") for key, shape in golden.names_and_shapes().items()}
        size = StyleGAN3.size_of(tensors)
        assert size == StyleGAN3.size_of(tensors, golden.construction)
        assert size.resolution == golden.construction["img_resolution"]

    def test_arguments_that_leave_no_trace(self) -> None:
        size = replace(TINY, conv_clamp=None, output_scale=0.5, first_stopband=5.0)
        state = tiny(size).state_dict()
        assert StyleGAN3.size_of(state, {**asdict(size), "c_dim": 0, "img_channels": 3}) == size
        assert StyleGAN3.size_of(state) != size

    @pytest.mark.parametrize(
        ("name", "shape", "reason"),
        [
            ("synthesis.L4_16_3.weight", (1, 2, 1, 1), "has shape"),
            ("synthesis.L4_16_3.weight", None, "L3_16_2.weight has shape"),
            ("synthesis.L1_36_4.weight", None, "L1_36_4.weight is missing"),
            ("synthesis.input.weight", None, "is missing"),
            ("mapping.w_avg", (8, 8), "has shape"),
            ("mapping.fc0.weight", None, "is missing"),
        ],
    )
    def test_other_networks(self, name: str, shape: tuple[int, ...] | None, reason: str) -> None:
        state = tiny().state_dict()
        assert name in state
        if shape is None:
            del state[name]
        else:
            state[name] = torch.zeros(shape)
        with pytest.raises(Refusal, match=reason):
            StyleGAN3.size_of(state)

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({"c_dim": 10}, "c_dim is 10"),
            ({"channel_base": 64}, r"synthesis\.L0_36_6|is missing"),
            ({"mapping_kwargs": {"num_layers": 2, "lr_multiplier": 1}}, "lr_multiplier is 1"),
            ({"conv_clamp": "all"}, "conv_clamp='all', no positive number"),
            ({"first_stopband": -1}, "first_stopband=-1, no positive number"),
            ({"channel_max": None}, "channel_max=None, no positive number"),
            ({"first_cutoff": float("inf")}, "cannot be built|is missing"),
            ({"last_stopband_rel": float("nan")}, "no positive number"),
            ({"num_critical": 1.5}, "num_critical"),
            ({"filter_size": 2.5}, "filter_size"),
            ({"num_critical": 4}, "num_critical"),
            ({"filter_size": 10**9}, "filter_size"),
            ({"margin_size": 3}, "is missing"),
        ],
    )
    def test_arguments_of_another_network(self, arguments: dict[str, Any], reason: str) -> None:
        with pytest.raises(Refusal, match=reason):
            StyleGAN3.size_of(tiny().state_dict(), arguments)

    def test_too_few_layers(self) -> None:
        state = {name: tensor for name, tensor in tiny().state_dict().items() if "L1_" not in name}
        state = {
            name: tensor for name, tensor in state.items() if not name.startswith(("synthesis.L2", "synthesis.L3"))
        }
        state["synthesis.L1_16_3.weight"] = state.pop("synthesis.L4_16_3.weight")
        with pytest.raises(Refusal, match=r"num_critical must lie in 1\.\.0"):
            StyleGAN3.size_of(state)

    def test_no_stylegan3(self) -> None:
        with pytest.raises(Refusal, match=r"synthesis\.L0_\.\.\. is missing"):
            StyleGAN3.size_of({"synthesis.b4.const": torch.zeros(4)})

    @pytest.mark.parametrize("resolution", [8, 48])
    def test_impossible_resolutions(self, resolution: int) -> None:
        with pytest.raises(ValueError, match="power of two"):
            StyleGAN3Size(resolution)


def definition(
    x: NDArray[np.float64],
    up_filter: NDArray[np.float64],
    down_filter: NDArray[np.float64],
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    gain: float,
    slope: float,
    clamp: float | None,
) -> NDArray[np.float64]:
    """Of one channel: zero insertion, padding or cropping, full convolution, activation, convolution, decimation."""
    up_filter, down_filter = (k if k.ndim == 2 else np.outer(k, k) for k in (up_filter, down_filter))
    spread = np.zeros((len(x) * up, x.shape[1] * up))
    spread[::up, ::up] = x
    left, right, above, below = padding
    room = np.pad(spread, 50)
    room = room[50 - above : len(room) - 50 + below, 50 - left : room.shape[1] - 50 + right]
    y = convolve2d(room, up_filter, mode="valid") * up**2
    y = np.where(y > 0, y, slope * y) * gain
    if clamp is not None:
        y = y.clip(-clamp, clamp)
    return convolve2d(y, down_filter, mode="valid")[::down, ::down]


class TestFilteredLeakyReLU:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), tiled=st.booleans())
    def test_definition(self, data: st.DataObject, tiled: bool) -> None:
        """Also when the work is cut into tiles of few rows and channels, as it is for large pictures on a CPU."""
        up, down = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([1, 2, 3]))
        up_taps, down_taps = data.draw(st.integers(up, 9)), data.draw(st.integers(1, 7))
        sides, padding = [], []
        for _ in range(2):
            side = data.draw(st.integers(1 + (up_taps + down_taps) // up, 20))
            least = max(up_taps + down_taps - 1 - side * up, -5)  # so that at least one sample comes out
            before = data.draw(st.integers(min(least, up_taps - 1), up_taps - 1))
            padding += [before, data.draw(st.integers(min(max(least - before, -5), up_taps - 1), up_taps - 1))]
            sides.append(side)
        width, height = sides
        batch, channels = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        x, bias = random.standard_normal((batch, channels, height, width)), random.standard_normal(channels)
        shapes = [taps if data.draw(st.booleans()) else (taps, taps) for taps in (up_taps, down_taps)]
        up_filter, down_filter = (random.standard_normal(shape) / np.prod(shape) for shape in shapes)
        gain, slope = data.draw(st.sampled_from([1.0, 2**0.5])), data.draw(st.sampled_from([0.2, 1.0]))
        clamp = data.draw(st.sampled_from([None, 0.5, 256]))
        pads = (padding[0], padding[1], padding[2], padding[3])

        parts = [torch.from_numpy(np.asarray(part)) for part in (x, up_filter, down_filter, bias)]
        with pytest.MonkeyPatch.context() as patch:
            if tiled:
                patch.setattr(filtered_activation, "TILE_BYTES", 100)
                patch.setattr(filtered_activation, "TILE_CHANNELS", 2)
            with torch.set_grad_enabled(not tiled):
                y = filtered_leaky_relu(*parts, up=up, down=down, padding=pads, gain=gain, slope=slope, clamp=clamp)
        for sample in range(batch):
            for channel in range(channels):
                expected = definition(
                    x[sample, channel] + bias[channel], up_filter, down_filter, up, down, pads, gain, slope, clamp
                )
                np.testing.assert_allclose(y[sample, channel].numpy(), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("clamp", [None, 0.7])
    def test_gradients(self, clamp: float | None) -> None:
        random = torch.Generator().manual_seed(0)
        shapes = [(1, 2, 4, 3), (4,), (3, 3), (2,)]
        parts = [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
        activation = partial(filtered_leaky_relu, up=2, down=2, padding=(2, 1, 1, -1), clamp=clamp)
        assert torch.autograd.gradcheck(activation, parts)
        assert torch.autograd.gradgradcheck(activation, parts)
