"""timm's attention modules as parts of a recipe."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from timm.layers import create_attn, get_attn
from torch import Tensor, nn
from torch.export import Dim, export

import zoo_core as zoo
from zoo_core.cli import cli
from zoo_core.cli.completion import NameType, RecipeType
from zoo_core.errors import (
    InputError,
    OptionError,
    RecipeError,
    UnknownComponentError,
    WeightsError,
)
from zoo_core.models import MultitaskModel
from zoo_timm.attention import TimmAttention
from zoo_timm.attention_names import MODULES, OPTIONS
from zoo_timm.names import architectures

NAMES = pytest.mark.parametrize("name", MODULES)
SIZES = [(16, 8), (9, 7), (2, 3), (1, 1)]
LEFT_OUT = {"ge", "bottleneck", "bat"}

# Values that are not timm's defaults; switches are turned.
OTHER: dict[str, Any] = {
    "rd_ratio": 0.75,
    "rd_channels": 24,
    "rd_divisor": 36,
    "gate_layer": "tanh",
    "gamma": 0.5,
    "beta": 9,
    "spatial_kernel_size": 3,
    "kernel_size": 5,
    "se_factor": 20,
    "radix": 4,
    "num_heads": 2,
    "dim_head": 12,
    "r": 3,
    "block_size": 4,
    "halo_size": 1,
}


def enlivened(module: nn.Module) -> nn.Module:
    """Give values to the layers that begin at zero too."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, 0.1, 0.5)
        elif parameter.dim() > 1 or not parameter.any():
            nn.init.uniform_(parameter, -0.5, 0.5)
    return module


def lively(name: str, channels: int = 32, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return enlivened(TimmAttention(channels, name, **options))


def test_the_names_are_timms_but_for_those_left_out() -> None:
    known = re.findall(r"attn_type == '(\w+)'", inspect.getsource(get_attn))
    assert set(MODULES) == set(known) - LEFT_OUT
    assert set(known) >= LEFT_OUT
    listed = [spec.name for spec in zoo.list_components("attention", "timm/*")]
    assert sorted(listed) == sorted(f"timm/{name}" for name in MODULES)
    assert not set(MODULES) & set(architectures())


def test_what_is_left_out_is_so_for_the_reason_given() -> None:
    with pytest.raises(TypeError, match="multiple values for argument 'act_layer'"):
        create_attn("ge", 32)
    with pytest.raises(AssertionError, match="A concrete feature size"):
        create_attn("bottleneck", 32)
    bat = create_attn("bat", 32)
    assert bat(torch.randn(2, 32, 14, 7)).shape == (2, 32, 14, 7)
    with pytest.raises(AssertionError):
        bat(torch.randn(2, 32, 14, 8))


@NAMES
def test_the_same_weights_give_timms_result(name: str) -> None:
    ours, theirs = lively(name), create_attn(name, 32)
    theirs.load_state_dict(ours.module.state_dict())
    x = torch.randn(2, 32, 16, 8)
    for training in (True, False):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("size", [(5, 7), (8, 3), (16, 24), (17, 9)])
def test_halo_sees_beyond_a_map_what_timm_sees_there(size: tuple[int, int]) -> None:
    halo = lively("halo")
    x = torch.randn(2, 32, *size)
    height, width = size
    for more in (1, 2):
        sides = [(side + 7) // 8 * 8 + 8 * (more - 1) - side for side in size]
        whole = nn.functional.pad(x, (0, sides[1], 0, sides[0]))
        torch.testing.assert_close(halo(x), halo.module(whole)[..., :height, :width])


@NAMES
@pytest.mark.parametrize("size", SIZES)
def test_shape_and_dtype_are_kept(name: str, size: tuple[int, int]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        module = lively(name).to(dtype)
        x = torch.randn(2, 32, *size, dtype=dtype)
        for training in (True, False):
            result = module.train(training)(x)
            assert (result.shape, result.dtype) == (x.shape, dtype)
            assert result.isfinite().all()


@NAMES
def test_every_parameter_and_the_map_have_a_gradient(name: str) -> None:
    module = lively(name)
    x = torch.randn(2, 32, 9, 7, requires_grad=True)
    module(x).pow(3).sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None for p in module.parameters())
    # The biases of a softmax and of what goes into a batch norm change nothing.
    lost = {"conv_attn.bias", "p.bias", "g.bias", "z.bias"}
    grads = {n.removeprefix("module."): p.grad for n, p in module.named_parameters()}
    assert all(grad.any() for n, grad in grads.items() if n not in lost and grad is not None)


@NAMES
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_a_batch_of_one_is_trained_on_where_the_maths_allow(
    name: str, size: tuple[int, int]
) -> None:
    x = torch.randn(1, 32, *size, requires_grad=True)
    pixel = {"cbam", "lcbam", "lambda", "nl"} if size == (1, 1) else set[str]()
    if name in pixel | {"sk"}:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            lively(name)(x)
        return
    lively(name)(x).square().sum().backward()
    assert x.grad is not None


@NAMES
def test_autocast_and_channels_last_are_close(name: str) -> None:
    module = lively(name).eval()
    x = torch.randn(2, 32, 9, 7)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (module(x) - expected).norm() < 0.03 * expected.norm()
    if name == "lambda":
        with pytest.raises(RuntimeError, match="required rank 4 tensor"):
            module.to(memory_format=torch.channels_last)
    else:
        module.to(memory_format=torch.channels_last)
    result = module(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@NAMES
def test_it_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        module = TimmAttention(32, name)
        assert module(torch.empty(2, 32, 5, 3)).shape == (2, 32, 5, 3)


@NAMES
def test_it_exports_with_batch_height_and_width_open(name: str) -> None:
    module = lively(name).eval()
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(module, (torch.randn(2, 32, 7, 6),), dynamic_shapes=(sides,)).module()
    for batch, size in ((1, (16, 8)), (3, (5, 19)), (2, (1, 1))):
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
    for size in ((6, 8), (5, 3)):
        x = torch.randn(2, 32, *size)
        torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, (_, every) in MODULES.items() for option in every]
)
def test_every_option_makes_another_module(name: str, option: str) -> None:
    value = OTHER.get(option)
    if value is None:
        value = not inspect.signature(get_attn(name)).parameters[option].default
    plain, changed = lively(name, 64), lively(name, 64, **{option: value})
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (plain, changed)]
    if shapes[0] == shapes[1]:
        x = torch.randn(2, 64, 9, 12)
        changed.load_state_dict(plain.state_dict())
        assert not torch.allclose(plain(x), changed(x))
    assert changed(torch.randn(2, 64, 5, 6)).shape == (2, 64, 5, 6)


def test_options_are_all_explained() -> None:
    assert {option for _, given in MODULES.values() for option in given} == set(OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ge"}, "zoo-timm gives no attention 'ge' of timm; it has se, ese, eca, ecam, "),
        ({"name": "se", "in_channels": 0}, "in_channels of timm/se must be a positive whole numb"),
        ({"name": "ese", "rd_ratio": 0.5}, "'rd_ratio'; it has add_maxpool, gate_layer$"),
        ({"name": "nl", "block_size": 7}, "timm/nl has no option 'block_size'; it has rd_ratio, "),
        ({"name": "se", "rd_ratio": 0}, "rd_ratio of timm/se must be a positive number, not 0"),
        ({"name": "se", "rd_channels": 2.5}, "must be a positive whole number, not 2.5"),
        ({"name": "se", "bias": "no"}, "bias of timm/se must be true or false, not 'no'"),
        ({"name": "ela", "kernel_size": 4}, "must be an odd positive whole number, not 4"),
        ({"name": "se", "gate_layer": "sigmod"}, "must be the name of one of timm's activations, "),
        ({"name": "se", "gate_layer": ""}, "such as hard_sigmoid, not ''"),
        ({"name": "sk", "in_channels": 7}, "timm/sk needs a multiple of 2 channels here, not 7"),
        ({"name": "splat", "radix": 3}, "timm/splat needs a multiple of 3 channels here, not 32"),
        ({"name": "halo", "in_channels": 12}, "timm/halo needs a multiple of 8 channels here, not"),
        ({"name": "lambda", "num_heads": 5}, "timm/lambda needs a multiple of 5 channels here"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TimmAttention(**{"in_channels": 32, **arguments})


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (
            "resnet18+timm/se",
            {"rd_rato": 1},
            "has no option 'rd_rato'; did you mean 'rd_ratio'",
        ),
        ("resnet18+timm/se", {"name": "eca"}, "'name' is what makes it 'timm/se' .* cannot be"),
        (
            "resnet18+timm/ela",
            {"kernel_size": 2},
            "zoo-timm:timm/ela: kernel_size of timm/ela",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(
    recipe: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        zoo.build(recipe, attention=options)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("timm/eca+unet", "'timm/eca' at character 1 .* is of kind attention; the first part is a"),
        ("resnet18+timm/resnet18", "'timm/resnet18' at character 10 .* is of kind backbone"),
        ("resnet18+timm/eca.in1k", "attention 'timm/eca' has no pretrained weights"),
        ("resnet18+timm/ecca", "unknown attention or decoder 'timm/ecca' .* did you mean timm/e"),
    ],
)
def test_recipes_that_mix_up_kinds_are_refused(recipe: str, message: str) -> None:
    with pytest.raises((RecipeError, UnknownComponentError), match=message):
        zoo.build(recipe)


def test_an_attention_has_no_weights_though_backbones_of_its_prefix_do() -> None:
    spec = zoo.registry.attention["timm/eca"]
    source = zoo.registry.source_of(spec)
    assert source is not None
    assert (source.kind, source.weights) == ("attention", "")
    assert zoo.registry.tags_of(spec) == []
    with pytest.raises(WeightsError, match="'timm/eca' has no pretrained weights"):
        zoo.registry.find_weights("timm/eca")
    assert zoo.registry.source_of(zoo.registry.backbones["timm/resnet18"]) is not None


def build(recipe: str, **options: Any) -> MultitaskModel:
    return zoo.build(
        recipe,
        num_classes_classification=3,
        num_classes_segmentation=2,
        seed=0,
        **{"decoder": {"decoder_channels": (16, 8)}, **options},
    )


def test_all_compose_train_and_come_back(tmp_path: Path) -> None:
    parts = [f"timm/{name}@{2 + place % 3}" for place, name in enumerate(MODULES)]
    model = build("+".join(["resnet18", *parts, "unet"]))
    with torch.no_grad():
        for parameter in model.attention.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    x = torch.randn(2, 3, 70, 50)
    sum(output.square().mean() for output in model(x).values()).backward()
    assert all(parameter.grad is not None for parameter in model.attention.parameters())
    model.eval().save_pretrained(tmp_path)
    loaded = MultitaskModel.from_pretrained(tmp_path)
    with torch.no_grad():
        expected, found = model(x), loaded(x)
    for head in ("classification", "segmentation"):
        assert torch.equal(found[head], expected[head])
        assert found[head].std() > 0


def test_it_stands_beside_our_own_and_on_skips(tmp_path: Path) -> None:
    model = build(
        "timm/resnet18+eca@5+timm/eca@5+unet",
        decoder={"decoder_channels": (16, 8), "skip_attention": "timm/se"},
        **{"timm/eca": {"gamma": 1}},
    )
    ours, theirs = model.attention["5"]
    assert theirs.constructor_arguments == {"in_channels": 512, "name": "eca", "gamma": 1}
    assert (ours.conv.kernel_size, theirs.module.conv.kernel_size) == ((5,), (11,))
    assert model.decoder is not None
    on_skips = [m for m in model.decoder.modules() if isinstance(m, TimmAttention)]
    assert [skip.constructor_arguments["name"] for skip in on_skips] == ["se"] * 4
    model.eval().save_pretrained(tmp_path)
    x = torch.randn(1, 3, 64, 96)
    expected: dict[str, Tensor] = model(x)
    for head, value in MultitaskModel.from_pretrained(tmp_path)(x).items():
        torch.testing.assert_close(value, expected[head])


def told(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_knows_them() -> None:
    listed = told("list", "timm/eca*")
    assert re.search(r"timm/eca +attention +efficient channel attention, of timm", listed)
    assert re.search(r"timm/eca_resnet33ts +backbone", listed)
    assert "timm/ecaresnet" not in told("list", "attention", "timm/eca*")
    assert "timm/* " in told("list", "backbone")
    shown = told("info", "timm/se")
    assert "zoo-timm:timm/se" in shown
    assert "option rd_ratio" in shown
    built = told("build", "resnet18+timm/se+unet", "--set", "timm/se.rd_ratio=0.25", "--json")
    assert '"timm/se@4"' in built


def test_the_shell_completes_them() -> None:
    context, parameter = click.Context(cli), click.Argument(["recipe"])

    def completed(kind: RecipeType | NameType, begun: str) -> set[str]:
        return {item.value for item in kind.shell_complete(context, parameter, begun)}

    begun = "resnet50+timm/ec"
    assert completed(RecipeType(), begun) == {"resnet50+timm/eca", "resnet50+timm/ecam"}
    assert completed(RecipeType(), "resnet50+timm/eca@all+timm/hal") == {
        "resnet50+timm/eca@all+timm/halo"
    }
    assert "timm/eca" not in completed(RecipeType(), "timm/eca")
    assert completed(NameType(), "timm/eca_n") == {f"timm/eca_nfnet_l{n}" for n in range(4)}
    assert completed(NameType(), "timm/ecam") == {"timm/ecam"}


def test_the_catalogue_imports_neither_timm_nor_torch() -> None:
    check = (
        "import sys, zoo_core as zoo; zoo.list_components('attention', 'timm/*');"
        "assert not {'timm', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
