"""Attention maps: what they give, and that they leave no trace."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import zoo_core as zoo
from zoo_attention_maps.capture import attend_gradient
from zoo_attention_maps.maps import AttentionByLayer, AttentionMaps
from zoo_core.errors import InputError
from zoo_core.explainability import Explainer, Skipped


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    settings = {"img_size": 64, "depth": 2, "num_classes": 5, **options}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", **settings).eval()
    return model


def images(count: int = 2, size: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def unfused(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
    return copied


def test_the_dictionary_reads_like_one_and_keeps_nothing() -> None:
    maps = AttentionMaps(model=vit()).explain(images())
    assert isinstance(maps, dict)
    assert list(maps) == list(maps.keys()) == ["blocks.0.attn", "blocks.1.attn"]
    assert maps["blocks.0.attn"] is not maps["blocks.0.attn"]
    [(seen, _)] = maps.layers["blocks.0.attn"]._parts
    assert seen.weights is None
    assert seen.query is not None
    assert seen.query.untyped_storage().nbytes() == 2 * 17 * 192 * 4  # not the values beside it
    plain = dict(maps)
    assert type(plain) is type(maps.copy()) is type(copy.deepcopy(maps)) is dict
    for (name, value), other in zip(maps.items(), maps.values(), strict=True):
        assert value.shape == (2, 17, 17)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, other, atol=0, rtol=0)
        torch.testing.assert_close(value, plain[name], atol=0, rtol=0)
    assert maps.get("nothing") is None
    with pytest.raises(KeyError):
        maps["nothing"]


def test_heads_are_merged_or_kept() -> None:
    model, pictures = vit(), images()
    apart = AttentionMaps(model).explain(pictures, heads="none")["blocks.1.attn"]
    assert apart.shape == (2, 3, 17, 17)
    assert AttentionMaps(model).explain(pictures, heads=None)["blocks.1.attn"].equal(apart)
    mean = AttentionMaps(model).explain(pictures)["blocks.1.attn"]
    torch.testing.assert_close(mean, apart.mean(1))
    for heads, merged in (("max", apart.amax(1)), ("min", apart.amin(1))):
        raw = AttentionMaps(model).explain(pictures, heads=heads, normalize=False)
        torch.testing.assert_close(raw["blocks.1.attn"], merged)
        rows = AttentionMaps(model).explain(pictures, heads=heads)["blocks.1.attn"]
        torch.testing.assert_close(rows, merged / merged.sum(-1, keepdim=True))


def test_layers_are_chosen_by_name_or_pattern() -> None:
    model, pictures = vit(depth=3), images(1)
    assert list(AttentionMaps(model).explain(pictures, layers="*.2.*")) == ["blocks.2.attn"]
    two = ["blocks.1.attn", "blocks.0.attn"]
    assert list(AttentionMaps(model).explain(pictures, layers=two)) == sorted(two)
    with pytest.raises(InputError, match=r"no layer with attention fits 'blocks\.7'; they are"):
        AttentionMaps(model).explain(pictures, layers="blocks.7")
    with pytest.raises(InputError, match="heads must be 'mean', 'max', 'min', 'none' or None, not"):
        AttentionMaps(model).explain(pictures, heads="sum")


def test_what_is_known_of_a_layer() -> None:
    model = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=(56, 84), depth=1)
    maps = AttentionMaps(model).explain(torch.randn(1, 3, 56, 84))
    [layer] = maps.layers.values()
    assert (layer.kind, layer.heads, layer.grid, layer.prefix) == ("token", 6, (4, 6), 5)
    assert layer.tokens == 29
    assert repr(layer) == "AttentionLayer('blocks.0.attn', token, heads=6, grid=(4, 6))"


@pytest.mark.parametrize("size", [(224, 224), (200, 248)], ids=str)
@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_windows_are_put_in_place(library: str, size: tuple[int, int]) -> None:
    # Of a shifted layer; where the map is padded to whole windows, what pads is left out.
    torch.manual_seed(0)
    if library == "timm":
        model = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=size, depths=(2, 2, 2, 2)
        )
        names = "layers.0.blocks.0.attn", "layers.0.blocks.1.attn"
    elif library == "torchvision":
        from torchvision.models.swin_transformer import SwinTransformer

        model = SwinTransformer([4, 4], 24, [2, 2], [2, 4], [7, 7])
        names = "features.1.0.attn", "features.1.1.attn"
    else:
        config = transformers.SwinConfig(
            image_size=size, embed_dim=24, depths=[2, 2], num_heads=[2, 4]
        )
        model = transformers.SwinForImageClassification(config)
        start = "swin.encoder.layers.0.blocks"
        names = f"{start}.0.attention.self", f"{start}.1.attention.self"
    maps = AttentionMaps(model).explain(torch.randn(2, 3, *size))
    if library == "transformers":
        names = tuple(list(maps)[:2])  # type: ignore[assignment]
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    for name, shift in zip(names, (0, 3), strict=True):
        layer = maps.layers[name]
        assert (layer.kind, layer.grid, layer.placed) == ("window", (height, width), True)
        whole, apart = maps[name], layer.windows()
        expected = torch.zeros(2, height * width, height * width)
        numbers = torch.arange(1, height * width + 1).reshape(height, width)
        # timm shifts the map before it pads it, the others after.
        if library == "timm":
            numbers = numbers.roll((-shift, -shift), (0, 1))
        numbers = F.pad(numbers, (0, -width % 7, 0, -height % 7))
        if library != "timm":
            numbers = numbers.roll((-shift, -shift), (0, 1))
        number = 0
        for top in range(0, len(numbers), 7):
            for left in range(0, numbers.shape[1], 7):
                window = numbers[top : top + 7, left : left + 7].flatten() - 1
                real = (window >= 0).nonzero()[:, 0]
                here = window[real]
                values = apart[:, number][:, real][:, :, real]
                expected[:, here[:, None], here[None]] = values / values.sum(-1, keepdim=True)
                number += 1
        assert number == apart.shape[1]
        torch.testing.assert_close(whole, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
        ("vit_base_patch16_siglip_224", {"img_size": 64, "depth": 1}),
        ("swin_tiny_patch4_window7_224", {"img_size": 112, "window_size": 7}),
        ("beit_base_patch16_224", {"img_size": 64, "depth": 1}),
        ("cait_xxs24_224", {"img_size": 64, "depth": 1}),
        ("xcit_nano_12_p16_224", {"img_size": 64, "depth": 1}),
        ("pvt_v2_b0", {}),
        ("efficientvit_m0", {}),
    ],
)
def test_gradients_are_those_of_the_unfused_module(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options).double()
    for parameter in model.parameters():  # some heads and scales begin at zero
        nn.init.normal_(parameter, std=0.05)
    size = options.get("img_size", 224)
    pictures = images(2, size).double()
    maps = AttentionMaps(model).explain(pictures, target_class=3, heads="none", gradients=True)
    seen: list[Tensor] = []
    plain = torch.Tensor.softmax

    def record(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(plain(*args, **kwargs))
        return seen[-1]

    with monkeypatch.context() as context:
        context.setattr(torch.Tensor, "softmax", record)
        score = unfused(model).eval()(pictures)[:, 3].sum()
    gradients = torch.autograd.grad(score, seen)
    assert len(gradients) == len(maps)
    for gradient, layer in zip(gradients, maps.layers.values(), strict=True):
        assert gradient.abs().max() > 0
        ((seen_here, run),) = layer._parts
        ours = layer._split(seen_here, run, attend_gradient(seen_here))
        theirs = gradient.reshape(ours.shape)  # pictures, windows, heads
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-6)
    assert maps.gradients is not None
    last = list(maps)[-1]
    assert maps.gradients[last].equal(maps.layers[last].gradient("none"))


def test_keys_shared_by_heads_masks_causality_and_scale() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 32, 8, 8)
            self.kv = nn.Linear(32, 32)
            self.head = nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).mT
            q = x.unflatten(-1, (4, 8)).transpose(1, 2)
            k, v = self.kv(x).unflatten(-1, (2, 2, 8)).permute(2, 0, 3, 1, 4)
            mask = torch.ones(64, 64, dtype=torch.bool)
            mask[:, 5] = False
            a = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True, scale=0.3)
            b = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            c = F.scaled_dot_product_attention(q, k, v, mask.float().log(), enable_gqa=True)
            scores: Tensor = self.head((a + b + c).transpose(1, 2).flatten(2).mean(1))
            return scores

    torch.manual_seed(0)
    model, pictures = Odd(), images()
    maps = AttentionMaps(model).explain(pictures, heads=None)
    assert list(maps) == ["Odd", "Odd#2", "Odd#3"]
    x = model.patches(pictures).flatten(2).mT
    q = x.unflatten(-1, (4, 8)).transpose(1, 2)
    k = model.kv(x).unflatten(-1, (2, 2, 8)).permute(2, 0, 3, 1, 4)[0]
    scores = q @ k.repeat_interleave(2, 1).mT
    hidden = torch.zeros(64)
    hidden[5] = -torch.inf
    later = torch.full((64, 64), -torch.inf).triu(1)
    torch.testing.assert_close(maps["Odd"], (scores * 0.3 + hidden).softmax(-1))
    torch.testing.assert_close(maps["Odd#2"], (scores / 8**0.5 + later).softmax(-1))
    torch.testing.assert_close(maps["Odd#3"], (scores / 8**0.5 + hidden).softmax(-1))
    assert [layer.heads for layer in maps.layers.values()] == [4, 4, 4]


def state(model: nn.Module) -> list[Any]:
    modules = list(model.modules())
    return [
        [module.training for module in modules],
        [[len(v) for k, v in vars(m).items() if "hooks" in k] for m in modules],
        [len(vars(m)) for m in modules],
        [(p.grad, p.requires_grad) for p in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state(),
    ]


@pytest.mark.parametrize("gradients", [False, True])
def test_no_trace_is_left(gradients: bool) -> None:
    model = vit(drop_path_rate=0.3, attn_drop_rate=0.2, proj_drop_rate=0.1).train()
    model.blocks[0].eval()  # type: ignore[operator, index]
    next(model.parameters()).requires_grad_(False)
    before, functions = state(model), dict(vars(F))
    pictures = images()
    kept = pictures.clone()
    maps = AttentionMaps(model).explain(pictures, gradients=gradients)
    torch.testing.assert_close(state(model), before, atol=0, rtol=0)
    assert dict(vars(F)) == functions
    assert pictures.equal(kept)
    assert not pictures.requires_grad
    assert not any(value.requires_grad for value in maps.values())

    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            self.inner(x)
            raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        AttentionMaps().explain(pictures, Fails())
    torch.testing.assert_close(state(model), before, atol=0, rtol=0)
    assert not torch.overrides._get_current_function_mode_stack()


def test_maps_outlive_changes_to_the_model() -> None:
    torch.manual_seed(0)
    model = timm.create_model("beit_base_patch16_224", img_size=64, depth=1)
    maps = AttentionMaps(model).explain(images())
    before = maps["blocks.0.attn"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert maps["blocks.0.attn"].equal(before)


def test_a_model_that_writes_over_its_queries() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)

        def forward(self, x: Tensor) -> Tensor:
            q = self.patches(x).flatten(2).mT
            with torch.no_grad():
                result = F.scaled_dot_product_attention(q, q, q)
                q.zero_()
            return result.mean(1)

    model, pictures = Overwrites(), images()
    q = model.patches(pictures).flatten(2).mT
    expected = (q @ q.mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(AttentionMaps(model).explain(pictures)["Overwrites"], expected)


def inference(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    with torch.inference_mode():
        inside = AttentionMaps(model).explain(pictures.clone(), gradients=True)
        _ = inside["blocks.0.attn"]
    return inside


def no_grad(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    with torch.no_grad():
        return AttentionMaps(model).explain(pictures, gradients=True)


def frozen(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    return AttentionMaps(copy.deepcopy(model).requires_grad_(False)).explain(
        pictures, gradients=True
    )


def channels_last(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = pictures.to(memory_format=torch.channels_last)
    return AttentionMaps(model).explain(pictures, gradients=True)


def in_parallel(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    return AttentionMaps(nn.DataParallel(model)).explain(pictures, gradients=True)


def distributed(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        return AttentionMaps(parallel).explain(pictures, gradients=True)
    finally:
        torch.distributed.destroy_process_group()


def compiled(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    model = torch.compile(copy.deepcopy(model), backend="eager")  # type: ignore[assignment]
    with torch.no_grad():
        model(pictures)
    return AttentionMaps(model).explain(pictures, gradients=True)


def checkpointed(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    model = copy.deepcopy(model)
    model.set_grad_checkpointing()  # type: ignore[operator]
    return AttentionMaps(model).explain(pictures, gradients=True)


def made_in_inference(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    with torch.inference_mode():
        copied = vit()
        copied.load_state_dict(model.state_dict())
    return AttentionMaps(copied).explain(pictures, gradients=True)


def alone(model: nn.Module, pictures: Tensor) -> AttentionByLayer:
    both = [AttentionMaps(model).explain(one[None], gradients=True) for one in pictures]

    class Joined(dict[str, Tensor]):
        gradients: ClassVar = {
            name: torch.cat([one.gradients[name] for one in both]) for name in both[0]
        }

    return Joined({name: torch.cat([one[name] for one in both]) for name in both[0]})  # type: ignore[return-value]


WAYS = [
    inference,
    no_grad,
    frozen,
    channels_last,
    in_parallel,
    distributed,
    compiled,
    checkpointed,
    made_in_inference,
    alone,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_however_it_is_called_it_gives_the_same(
    way: Callable[[nn.Module, Tensor], AttentionByLayer],
) -> None:
    model, pictures = vit(), images()
    expected = AttentionMaps(model).explain(pictures, gradients=True)
    found = way(model, pictures)
    assert list(found) == list(expected)
    assert expected.gradients is not None
    assert found.gradients is not None
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            found.gradients[name], expected.gradients[name], atol=1e-6, rtol=1e-4
        )


@pytest.mark.parametrize("how", ["autocast", "bf16"])
def test_lower_precision_is_near_and_given_in_float32(how: str) -> None:
    model, pictures = vit(), images()
    expected = AttentionMaps(model).explain(pictures)
    if how == "bf16":
        found = AttentionMaps(copy.deepcopy(model).bfloat16()).explain(pictures, gradients=True)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            found = AttentionMaps(model).explain(pictures, gradients=True)
            _ = found["blocks.0.attn"]
    for name in expected:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], atol=3e-3, rtol=0)
        torch.testing.assert_close(found[name].sum(-1), torch.ones(2, 17))


def test_many_pictures_are_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = vit(), images(5)
    expected = AttentionMaps(model).explain(pictures, gradients=True)
    monkeypatch.setattr("zoo_attention_maps.running.pictures_at_once", lambda *_, **__: 2)
    found = AttentionMaps(model).explain(pictures, gradients=True)
    assert len(found.layers["blocks.0.attn"]._parts) == 3
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
        assert found.gradients is not None
        assert expected.gradients is not None
        torch.testing.assert_close(
            found.gradients[name], expected.gradients[name], atol=1e-7, rtol=1e-4
        )


def test_two_threads_explain_one_model() -> None:
    model = vit(depth=4)
    batches = [images(2, seed=seed) for seed in range(4)]
    expected = [AttentionMaps(model).explain(batch, gradients=True) for batch in batches]
    found: list[Any] = [None] * len(batches)
    explainer = AttentionMaps(model)

    def work(number: int) -> None:
        for _ in range(3):
            found[number] = explainer.explain(batches[number], gradients=True)

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, other in zip(found, expected, strict=True):
        for name in other:
            torch.testing.assert_close(mine[name], other[name], atol=1e-6, rtol=0)
            torch.testing.assert_close(
                mine.gradients[name], other.gradients[name], atol=1e-6, rtol=1e-4
            )


def test_transformers_weights_with_either_implementation() -> None:
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    pictures = images(2, 32)
    sdpa = AttentionMaps(model).explain(pictures, heads=None)
    model.set_attn_implementation("eager")
    eager = AttentionMaps(model).explain(pictures, heads=None)
    theirs = model(pictures, output_attentions=True).attentions
    assert len(theirs) == len(sdpa) == len(eager) == 3
    for own, one, other in zip(theirs, sdpa.values(), eager.values(), strict=True):
        torch.testing.assert_close(one, own, atol=1e-6, rtol=0)
        torch.testing.assert_close(other, own, atol=1e-6, rtol=0)


def test_torch_gives_the_same_weights_when_asked() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 32, 8, 8)
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).mT
            mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return mixed.mean(1)

    torch.manual_seed(0)
    model, pictures = Attends().eval(), images()
    found = AttentionMaps(model).explain(pictures, heads=None)["attention"]
    x = model.patches(pictures).flatten(2).mT
    _, weights = model.attention(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(found, weights, atol=1e-6, rtol=0)


def test_the_unified_explainer_runs_it_or_says_why_not() -> None:
    results = Explainer(vit(), methods=["attention", "saliency"]).explain(images(), target_class=0)
    assert {value.shape for value in results["attention"].values()} == {(2, 17, 17)}
    options = {"attention": {"heads": "none", "gradients": True}}
    results = Explainer(vit(), methods=options).explain(images())
    assert results["attention"].gradients["blocks.0.attn"].shape == (2, 3, 17, 17)
    cnn = zoo.build("resnet18", num_classes_classification=3, seed=0)
    skipped = Explainer(cnn, methods=["attention", "attention_rollout"]).explain(images())
    for name in ("attention", "attention_rollout"):
        assert isinstance(skipped[name], Skipped)
        assert "has no attention" in skipped[name].reason


def test_a_model_of_the_zoo_with_two_heads() -> None:
    model = zoo.build(
        "vit_tiny+fpn", num_classes_classification=4, num_classes_segmentation=3,
        image_size=64, seed=0,
    )  # fmt: skip
    maps = AttentionMaps(model).explain(images())
    assert len(maps) == 12
    assert {value.shape for value in maps.values()} == {(2, 17, 17)}


def test_torchscript_is_not_seen_into() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(vit(), images(1))
    with pytest.raises(InputError, match="TorchScript program, into which nobody can see"):
        AttentionMaps(traced).explain(images(1))


def test_flex_attention_is_told_of() -> None:
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        attn_implementation="sdpa",
    )
    model = transformers.ViTForImageClassification(config)
    assert len(AttentionMaps(model).explain(images(1, 32))) == 1
    model.config._attn_implementation = "flex_attention"

    class Unseen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(InputError, match="uses flex_attention, into which nobody can see; set_"):
        AttentionMaps(Unseen()).explain(images(1, 32))


def test_attention_in_a_compiled_function_is_seen() -> None:
    def mix(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.mix = torch.compile(mix, backend="eager")

        def forward(self, x: Tensor) -> Tensor:
            mixed: Tensor = self.mix(self.patches(x).flatten(2).mT)
            return mixed.mean(1)

    model, pictures = Calls(), images()
    with torch.no_grad():
        expected = model(pictures)
        assert AttentionMaps(model).explain(pictures)["Calls"].shape == (2, 64, 64)
        torch.testing.assert_close(model(pictures), expected, atol=0, rtol=0)
