"""What holds for all modules: shapes, gradients, export, refusals, composition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

import zoo_core as zoo
from zoo_attention.channel import EfficientChannelAttention, SqueezeExcitation
from zoo_attention.context import GlobalContext, NonLocal
from zoo_attention.spatial import BAM, ConcurrentSqueezeExcitation, CoordinateAttention, SimAM
from zoo_core import Attention
from zoo_core.errors import InputError, OptionError
from zoo_core.models import MultitaskModel
from zoo_core.targets import component_class

CLASSES: dict[str, Callable[..., Attention]] = {
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "scse": ConcurrentSqueezeExcitation,
    "coord": CoordinateAttention,
    "simam": SimAM,
    "bam": BAM,
    "gc": GlobalContext,
    "nonlocal": NonLocal,
}
NAMES = pytest.mark.parametrize("name", CLASSES)
SIZES = [(6, 10), (7, 5), (2, 3), (1, 9), (1, 1)]


def enlivened(module: nn.Module) -> nn.Module:
    """Give values to the layers that begin at zero too."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, 0.1, 0.5)  # no hidden layer of one channel is cut off
        elif parameter.dim() > 1 or not parameter.any():
            nn.init.uniform_(parameter, -0.5, 0.5)
    return module


def lively(name: str, channels: int = 32, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return enlivened(CLASSES[name](channels, **options))


def test_the_catalogue_gives_these_classes_and_all_their_options() -> None:
    given = {spec.name: spec for spec in zoo.list_components("attention")}
    for name, cls in CLASSES.items():
        assert component_class(given[name]) is cls
        assert given[name].provider == "zoo-attention"
        known = set(cls(8).constructor_arguments) - {"in_channels"}
        assert set(given[name].options or {}) == known


@NAMES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 5, 32])
def test_shape_and_dtype_are_kept(name: str, size: tuple[int, int], channels: int) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        module = lively(name, channels).to(dtype)
        x = torch.randn(2, channels, *size, dtype=dtype)
        for training in (True, False):
            result = module.train(training)(x)
            assert (result.shape, result.dtype) == (x.shape, dtype)
            assert result.isfinite().all()
            assert not torch.equal(result, x) or name in ("gc", "nonlocal")


@NAMES
@pytest.mark.parametrize("channels", [7, 32])
def test_every_parameter_and_the_map_have_a_gradient(name: str, channels: int) -> None:
    module = lively(name, channels)
    x = torch.randn(2, channels, 5, 11, requires_grad=True)
    module(x).pow(3).sum().backward()
    without = [n for n, p in module.named_parameters() if p.grad is None or p.grad.norm() < 1e-4]
    assert not without
    assert x.grad is not None
    assert x.grad.isfinite().all()


@NAMES
def test_more_reduction_than_channels_leaves_a_hidden_channel(name: str) -> None:
    if name in ("eca", "simam"):
        assert "reduction" not in CLASSES[name](8).constructor_arguments
        return
    module = lively(name, 8, reduction=64)
    module(torch.randn(2, 8, 5, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@NAMES
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_a_batch_of_one_is_trained_on_where_the_maths_allow(
    name: str, size: tuple[int, int]
) -> None:
    module = lively(name)
    x = torch.randn(1, 32, *size, requires_grad=True)
    if name == "bam" or (name == "nonlocal" and size == (1, 1)):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            module(x)
        return
    module(x).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@NAMES
def test_autocast_is_close_to_float32(name: str) -> None:
    module = lively(name).eval()
    x = torch.randn(2, 32, 9, 7)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(x)
    assert result.dtype == torch.float32
    assert (result - expected).norm() < 0.02 * expected.norm()


@NAMES
def test_channels_last_gives_the_same(name: str) -> None:
    module = lively(name).eval()
    x = torch.randn(2, 32, 9, 7)
    expected = module(x)
    result = module.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(result, expected)


@NAMES
def test_it_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        module = CLASSES[name](16)
        assert module(torch.empty(2, 16, 5, 3)).shape == (2, 16, 5, 3)
    assert all(parameter.is_meta for parameter in module.parameters())


@NAMES
def test_it_exports_with_batch_height_and_width_open(name: str) -> None:
    module = lively(name).eval()
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(module, (torch.randn(2, 32, 7, 6),), dynamic_shapes=(sides,)).module()
    smallest = (3, 4) if name == "nonlocal" else (1, 1)
    for batch, size in ((1, (12, 33)), (3, (5, 4)), (2, smallest)):
        x = torch.randn(batch, 32, *size)
        torch.testing.assert_close(program(x), module(x))


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@NAMES
def test_it_compiles_without_a_break(name: str) -> None:
    module = lively(name).eval()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for size in ((6, 8), (5, 3), (1, 1)):
        x = torch.randn(2, 32, *size)
        torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        *(
            (name, {"in_channels": 0}, f"in_channels of {cls.__name__} must be a positive whole ")
            for name, cls in CLASSES.items()
        ),
        *(
            (name, {"reduction": 2.5}, f"reduction of {CLASSES[name].__name__} must be a positive")
            for name in ("se", "scse", "coord", "bam", "gc", "nonlocal")
        ),
        ("se", {"reduction": True}, "SqueezeExcitation must be a positive whole number, not True"),
        ("eca", {"kernel_size": 4}, "of EfficientChannelAttention must be odd, not 4"),
        ("eca", {"kernel_size": -1}, "of EfficientChannelAttention must be a positive whole"),
        ("simam", {"e_lambda": 0}, "e_lambda of SimAM must be a positive number, not 0"),
        ("simam", {"e_lambda": "x"}, "e_lambda of SimAM must be a positive number, not 'x'"),
        ("simam", {"e_lambda": float("nan")}, "must be a positive number, not nan"),
        ("bam", {"dilation": 0}, "dilation of BAM must be a positive whole number, not 0"),
        ("nonlocal", {"subsample": 0}, "subsample of NonLocal must be a positive whole number"),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CLASSES[name](**{"in_channels": 16, **arguments})


def test_wrong_options_are_refused_by_name() -> None:
    with pytest.raises(OptionError, match="'se' has no option 'reductio'; did you mean 'reduction"):
        zoo.build("resnet18+se", se={"reductio": 8})
    with pytest.raises(OptionError, match="zoo-attention:bam: dilation of BAM must be a positive"):
        zoo.build("resnet18+bam", bam={"dilation": 0})


def build(recipe: str, **options: Any) -> MultitaskModel:
    return zoo.build(
        recipe,
        num_classes_classification=3,
        num_classes_segmentation=2,
        seed=0,
        **{"decoder": {"decoder_channels": (16, 8)}, **options},
    )


def saved_and_loaded(model: MultitaskModel, folder: Path) -> None:
    x = torch.randn(2, 3, 70, 50)
    model.eval()
    with torch.no_grad():
        model.save_pretrained(folder)
        loaded = MultitaskModel.from_pretrained(folder)
        expected, found = model(x), loaded(x)
    for head in ("classification", "segmentation"):
        assert torch.equal(found[head], expected[head])


@NAMES
def test_it_composes_trains_and_comes_back(name: str, tmp_path: Path) -> None:
    model = build(f"resnet18+{name}@all+unet")
    assert [type(model.attention[level][0]) for level in "1234"] == [CLASSES[name]] * 4
    enlivened(model.attention)
    outputs = model(torch.randn(2, 3, 70, 50))
    assert outputs["classification"].shape == (2, 3)
    assert outputs["segmentation"].shape == (2, 2, 70, 50)
    sum(output.square().mean() for output in outputs.values()).backward()
    without = [n for n, p in model.attention.named_parameters() if p.grad is None]
    assert not without
    saved_and_loaded(model, tmp_path)


def test_several_in_a_row_stand_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    model = build("resnet18+se+eca@2,4+unet", attention=[{"reduction": 8}, {"kernel_size": 7}])
    placed = {level: [type(m) for m in modules] for level, modules in model.attention.items()}
    assert placed == {
        "2": [EfficientChannelAttention],
        "4": [SqueezeExcitation, EfficientChannelAttention],
    }
    first, second = model.attention["4"]
    assert first.mlp[0].out_channels == 512 // 8
    x = torch.randn(1, 512, 3, 2)
    torch.testing.assert_close(model.attention["4"](x), second(first(x)))
    saved_and_loaded(model, tmp_path)


def test_the_unet_refines_its_skips_with_it(tmp_path: Path) -> None:
    decoder = {"decoder_channels": (16, 8), "skip_attention": "scse"}
    model = build("resnet18+unet", decoder=decoder)
    assert model.decoder is not None
    skips = [m for m in model.decoder.modules() if isinstance(m, ConcurrentSqueezeExcitation)]
    assert [skip.constructor_arguments["in_channels"] for skip in skips] == [16, 8, 8]
    saved_and_loaded(model, tmp_path)


def test_a_model_of_all_exports_whole() -> None:
    model = build("resnet18+se@1+eca@2+scse@2+coord@3+simam@3+bam@4+gc@4+nonlocal@4+unet").eval()
    enlivened(model.attention)
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(model, (torch.randn(2, 3, 96, 128),), dynamic_shapes=(sides,)).module()
    x = torch.randn(1, 3, 110, 75)
    expected: dict[str, Tensor] = model(x)
    for head, value in program(x).items():
        torch.testing.assert_close(value, expected[head], atol=1e-4, rtol=1e-4)
