"""timm's architectures, run for real; most on the meta device, where only shapes are computed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torch import Tensor, nn
from torch.export import Dim, export

import zoo_timm
from zoo_core.contracts import Features
from zoo_core.errors import InputError, WeightsError
from zoo_timm.model import TimmBackbone
from zoo_timm.names import architectures, weight_tags
from zoo_timm.sizes import Sizing, find_sizing, on_grid
from zoo_timm.taps import choose_taps, lay_out
from zoo_timm.weights import weights_entry

# One a family, and one for each way of taking sizes.
ARCHITECTURES = [
    "resnet18",
    "efficientnet_lite0",
    "mobilenetv3_small_100",
    "convnext_atto",
    "regnetx_002",
    "vgg11",
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "pvt_v2_b0",
    "mvitv2_tiny",
    "coatnet_pico_rw_224",
    "mixer_s32_224",
    "maxvit_tiny_tf_224",
    "hrnet_w18_small",
    "inception_v3",
    "levit_128s",
    "xcit_nano_12_p16_224",
    "caformer_s18",
    "qwen3_vit_88m_enc",
    "vit_so400m_patch14_siglip_384",
]
SIZES = [(224, 224), (237, 251), (97, 64)]
CNNS = ["resnet18", "efficientnet_lite0", "convnext_atto"]
SMALL = ["resnet18", "efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"]


def test_the_names_are_those_of_timm() -> None:
    assert architectures() == sorted(timm.list_models())


def test_the_tags_are_those_of_timm_with_the_default_first() -> None:
    for name in timm.list_models():
        cfgs = get_arch_pretrained_cfgs(name).values()
        tags = [cfg.tag for cfg in cfgs if cfg.tag and cfg.has_weights]
        assert list(weight_tags(name)) == tags, name
        if tags:
            assert get_pretrained_cfg(name).tag == tags[0]


def test_an_unknown_name_has_no_tags() -> None:
    assert weight_tags("resnet0") == ()


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, zoo_timm\n"
        "source, _ = zoo_timm.zoo_sources()\n"
        "assert len(source.names()) > 1000\n"
        "assert source.tags('vit_base_patch16_clip_quickgelu_224')\n"
        "assert source.spec('resnet18').kwargs == {'model_name': 'resnet18'}\n"
        "print(sorted({'torch', 'numpy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_source_describes_its_components() -> None:
    source, _ = zoo_timm.zoo_sources()
    spec = source.spec("resnet18")
    assert (spec.kind, spec.name, spec.target) == ("backbone", "timm/resnet18", source.target)
    assert spec.options == {}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_maps_of_any_size_on_the_grid(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        backbone = TimmBackbone(name).eval()
        schedule = backbone.get_channel_schedule()
        for height, width in SIZES:
            picture = torch.empty(2, 3, height, width)
            maps, pooled = backbone.forward_features(picture)
            expected = [
                (2, channels, *size)
                for channels, size in zip(
                    schedule, on_grid((height, width), schedule.strides), strict=True
                )
            ]
            assert [tuple(tapped.shape) for tapped in maps] == expected
            assert [tuple(tapped.shape) for tapped in backbone(picture)] == expected
            assert pooled.shape == (2, backbone.pooled_channels)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_channels_strides_and_tensors_are_those_of_timm(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name)
        plain = timm.create_model(name)
    schedule = backbone.get_channel_schedule()
    infos = [(info["num_chs"], info["reduction"]) for info in plain.feature_info]
    assert list(zip(schedule, schedule.strides, strict=True)) == [
        infos[tap] for tap in choose_taps([stride for _, stride in infos])
    ]

    own, all_of_timm = set(backbone.model.state_dict()), set(plain.state_dict())
    classifier = {key for key in all_of_timm if key.startswith(f"{backbone.classifier}.")}
    assert own <= all_of_timm
    assert all_of_timm - own == classifier | set(backbone.left_out)
    assert f"{backbone.first_conv}.weight" in own
    if backbone.classifier:
        assert plain.get_submodule(backbone.classifier).in_features == backbone.pooled_channels


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("in_channels", [3, 5])
def test_numbers_are_those_of_timm(name: str, in_channels: int) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, in_chans=in_channels).eval()
    backbone = TimmBackbone(name, in_channels=in_channels).eval()
    report = backbone.model.load_state_dict(plain.state_dict(), strict=False)
    assert not report.missing_keys
    picture = torch.randn(2, in_channels, 224, 224)
    with torch.no_grad():
        maps, pooled = backbone.forward_features(picture)
        indices = choose_taps([info["reduction"] for info in plain.feature_info])
        _, expected = plain.forward_intermediates(picture, indices=indices)
        vector = plain.forward_head(plain.forward_features(picture), pre_logits=True)
        again = backbone(picture)
    for tapped, same, right in zip(maps, again, expected, strict=True):
        torch.testing.assert_close(tapped, right, atol=1e-5, rtol=0)
        torch.testing.assert_close(same, right, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, vector, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "caformer_s18", "shvit_s1"])
def test_the_classifier_reads_the_pooled_vector(name: str) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name).eval()
    backbone = TimmBackbone(name).eval()
    backbone.model.load_state_dict(plain.state_dict(), strict=False)
    picture = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        pooled = backbone.forward_features(picture).pooled
        logits = plain.get_submodule(backbone.classifier)(pooled)
        torch.testing.assert_close(logits, plain(picture), atol=1e-5, rtol=1e-5)


def test_of_two_classifiers_neither_is_the_one() -> None:
    with torch.device("meta"):
        backbone = TimmBackbone("deit_tiny_distilled_patch16_224")
    assert backbone.classifier is None
    assert {"head.weight", "head_dist.weight"} <= set(backbone.left_out)


def test_a_model_of_one_size_resizes_in_and_out() -> None:
    backbone = TimmBackbone("mixer_s32_224").eval()
    picture = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        native = backbone(picture)
        blown_up = backbone(nn.functional.interpolate(picture, scale_factor=2, mode="nearest"))
        _, expected = backbone.model.forward_intermediates(picture, indices=[1, 3, 5, 7])
    for tapped, right, bigger in zip(native, expected, blown_up, strict=True):
        torch.testing.assert_close(tapped, right)
        assert bigger.shape[-2:] == (14, 14)


@pytest.mark.parametrize(
    ("name", "asked", "built"),
    [
        ("coatnet_pico_rw_224", (300, 200), (320, 224)),
        ("nest_tiny", (300, 200), (304, 304)),
        ("efficientformer_l1", 320, (224, 224)),
    ],
)
def test_a_model_of_one_size_is_made_for_the_size_asked_for(
    name: str, asked: int | tuple[int, int], built: tuple[int, int]
) -> None:
    seen: list[Tensor] = []
    with torch.device("meta"), torch.no_grad():
        backbone = TimmBackbone(name, image_size=asked).eval()
        first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        backbone(torch.empty(1, 3, 300, 200))
    assert seen[0].shape[-2:] == built


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "efficientnet_lite0",
        "mobilenetv3_small_100",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "swin_tiny_patch4_window7_224",
        "levit_128s",
        "vgg11",
    ],
)
def test_without_the_pooled_vector_maps_alone_train_every_parameter(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name, pooled=False)
        maps = backbone(torch.empty(2, 3, 224, 224))
        sum(tapped.sum() for tapped in maps).backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    assert backbone.pooled_channels == maps[-1].shape[1]
    with pytest.raises(InputError, match="pooled=True"):
        backbone.forward_features(torch.empty(2, 3, 224, 224))


def test_what_is_left_out_is_told() -> None:
    with torch.device("meta"):
        backbone = TimmBackbone("efficientnet_lite0", pooled=False)
    assert "conv_head.weight" in backbone.left_out
    assert "classifier.weight" not in backbone.left_out
    assert backbone.classifier == "classifier"


def test_a_model_of_one_size_is_known_even_where_meta_tensors_do_not_show_it() -> None:
    backbone = TimmBackbone("mvitv2_tiny").eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 256, 250))
    assert [tapped.shape[-2:] for tapped in maps] == [(64, 63), (32, 32), (16, 16), (8, 8)]


def test_a_stem_for_rgb_only_gets_its_three_channels() -> None:
    with torch.device("meta"), torch.no_grad():
        backbone = TimmBackbone("csatv2", in_channels=4).eval()
        assert len(backbone(torch.empty(1, 4, 256, 256))) == 4


def test_construction_draws_only_what_the_model_draws() -> None:
    torch.manual_seed(0)
    timm.create_model("vit_tiny_patch16_224")
    expected = torch.rand(1)
    torch.manual_seed(0)
    TimmBackbone("vit_tiny_patch16_224")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", CNNS)
def test_a_cnn_exports_with_batch_height_and_width_open(name: str) -> None:
    backbone = TimmBackbone(name).eval()
    sides = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = export(backbone, (torch.randn(2, 3, 96, 128),), dynamic_shapes=(sides,))
    with torch.no_grad():
        for size in ((75, 110), (64, 96), (33, 64)):
            picture = torch.randn(3, 3, *size)
            torch.testing.assert_close(program.module()(picture), backbone(picture))


class _Both(nn.Module):
    def __init__(self, backbone: TimmBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Features:
        return self.backbone.forward_features(x)


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("resnet18", marks=pytest.mark.long),
        "efficientnet_lite0",
        pytest.param("convnext_atto", marks=pytest.mark.long),
        "mixer_s32_224",
    ],
)
def test_it_compiles_without_a_break(name: str) -> None:
    model = _Both(TimmBackbone(name).eval())
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((64, 96), (75, 110)):
            picture = torch.randn(2, 3, *size)
            torch.testing.assert_close(compiled(picture), model(picture))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1", "no architecture 'resnet1'; did you mean resnet18"),
        ("convnext_tiny_in22ft1k", "renamed 'convnext_tiny_in22ft1k' to 'convnext_tiny'"),
    ],
)
def test_an_unknown_architecture_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TimmBackbone(name)


def test_wrong_arguments_and_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="in_channels must be at least 1, not 0"):
        TimmBackbone("resnet18", in_channels=0)
    with pytest.raises(InputError, match=r"image_size must be positive, not \(0, 3\)"):
        TimmBackbone("resnet18", image_size=(0, 3))
    with torch.device("meta"):
        backbone = TimmBackbone("resnet18")
        with pytest.raises(InputError, match=r"takes \[B, 3, H, W\], not \[1, 4, 64, 64\]"):
            backbone(torch.empty(1, 4, 64, 64))


def test_taps_are_the_last_of_each_stride_or_four_even_steps() -> None:
    assert choose_taps([2, 4, 4, 8, 16, 16, 32]) == [0, 2, 3, 5, 6]
    assert choose_taps([16] * 12) == [2, 5, 8, 11]
    assert choose_taps([14] * 3) == [0, 1, 2]


def test_tokens_are_laid_out_row_by_row() -> None:
    tokens = torch.arange(2 * 6 * 5.0).reshape(2, 6, 5)
    (laid,) = lay_out([tokens], (16, 24), [8])
    assert laid.shape == (2, 5, 2, 3)
    assert torch.equal(laid[1, :, 1, 0], tokens[1, 3])


def test_sizing_pads_where_that_gives_the_grid_and_else_resamples() -> None:
    def floored(size: tuple[int, int]) -> list[tuple[int, int]]:
        return [(size[0] // 8, size[1] // 8)]

    def off_grid(size: tuple[int, int]) -> list[tuple[int, int]] | None:
        return [((size[0] - 3) // 8, (size[1] - 3) // 8)] if min(size) > 20 else None

    def one_size(size: tuple[int, int]) -> list[tuple[int, int]] | None:
        return [(4, 4)] if size == (32, 32) else None

    assert find_sizing(floored, [8], (32, 32)) == Sizing(unit=8, minimum=8)
    assert find_sizing(off_grid, [8], (32, 32)) == Sizing(unit=1, minimum=24, on_grid=False)
    assert find_sizing(one_size, [8], (32, 32)) is None


def test_weights_are_described_as_timm_does() -> None:
    entry = weights_entry("resnet50", "tv_in1k")
    assert (entry.component, entry.tag) == ("timm/resnet50", "tv_in1k")
    assert entry.repository == "timm/resnet50.tv_in1k"
    assert (entry.classes, entry.labels) == (1000, "imagenet-1k")
    assert entry.licence == "bsd-3-clause"
    assert (entry.revision, entry.sha256) == (None, None)
    assert entry.preprocessing.size == (224, 224)
    assert (entry.preprocessing.crop, entry.preprocessing.interpolation) == (0.875, "bilinear")
    squashed = weights_entry("coat_lite_medium_384", "in1k").preprocessing
    assert (entry.preprocessing.crop_mode, squashed.crop_mode) == ("center", "squash")


def test_the_default_weights_are_those_of_the_first_tag() -> None:
    entry = weights_entry("vit_base_patch16_224")
    assert entry.tag == weight_tags("vit_base_patch16_224")[0]
    assert weights_entry("vit_small_patch14_dinov2", "lvd142m").classes is None
    assert weights_entry("vit_base_patch16_224", "augreg_in21k").labels is None


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("resnet50", "a1_in2k", "no weights 'a1_in2k'; it has a1_in1k"),
        ("gcvit_xxtiny", None, "'in1k' of 'timm/gcvit_xxtiny' are not on the Hugging Face Hub"),
        ("resnet0", None, "no weights of 'timm/resnet0'"),
    ],
)
def test_weights_that_are_not_there_are_refused(name: str, tag: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        weights_entry(name, tag)


def test_all_weights_of_timm_can_be_described_but_those_that_are_not_on_the_hub() -> None:
    def described(name: str, tag: str) -> str:
        try:
            return weights_entry(name, tag).filename
        except WeightsError as error:
            return str(error)

    told = [described(name, tag) for name in architectures() for tag in weight_tags(name)]
    assert told.count("model.safetensors") > 1500
    others = {text for text in told if text != "model.safetensors"}
    assert all(text.endswith("are not on the Hugging Face Hub") for text in others)


def test_weights_that_are_pickles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(get_pretrained_cfg("resnet50.a1_in1k"), hf_hub_filename="pytorch_model.bin")
    monkeypatch.setattr("zoo_timm.weights.get_arch_pretrained_cfgs", lambda name: {name: config})
    with pytest.raises(WeightsError) as caught:
        weights_entry("resnet50")
    assert str(caught.value) == (
        "weights 'a1_in1k' of 'timm/resnet50' are in pytorch_model.bin of timm/resnet50.a1_in1k; "
        "only .safetensors files are read"
    )


def test_every_name_is_found_whichever_module_registers_it() -> None:
    timm_spec = find_spec("timm")
    assert timm_spec is not None
    assert timm_spec.origin is not None
    sources = Path(timm_spec.origin).parent.rglob("*.py")
    registered = sum(
        line.startswith("@register_model")
        for file in sources
        for line in file.read_text().splitlines()
    )
    assert registered == len(architectures())


def test_a_model_of_one_size_takes_half_precision() -> None:
    backbone = TimmBackbone("test_coatnet").eval()
    x = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        whole, half = backbone(x), backbone.bfloat16()(x.bfloat16())
    for one, other in zip(half, whole, strict=True):
        assert one.dtype == torch.bfloat16
        assert one.shape == other.shape
        assert (one - other).abs().max() < 0.1 * other.abs().max()
