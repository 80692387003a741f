"""Recipes and options: what is read, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from zoo_core import registry
from zoo_core.errors import OptionError, RecipeError, UnknownComponentError, UsageError
from zoo_core.grammar import parse, with_options


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("resnet50", "zoo-resnet:resnet50"),
        ("resnet50+cbam+unet", "zoo-resnet:resnet50+zoo-cbam:cbam+zoo-unet:unet"),
        (" resnet50 + unet ", "zoo-resnet:resnet50+zoo-unet:unet"),
        ("zoo-resnet:resnet18+cbam@last+unet", "zoo-resnet:resnet18+zoo-cbam:cbam+zoo-unet:unet"),
        ("Zoo_ResNet:resnet18", "zoo-resnet:resnet18"),
        ("resnet18+cbam@all+unet", "zoo-resnet:resnet18+zoo-cbam:cbam@all+zoo-unet:unet"),
        ("resnet18+cbam@1,3+cbam+unet",
         "zoo-resnet:resnet18+zoo-cbam:cbam@1,3+zoo-cbam:cbam+zoo-unet:unet"),
        ("resnet18+cbam@03,1,1+unet",
         "zoo-resnet:resnet18+zoo-cbam:cbam@1,3+zoo-unet:unet"),
        ("resnet50.tv_in1k+unet", "zoo-resnet:resnet50.tv_in1k+zoo-unet:unet"),
        ("timm/resnet50.a1_in1k", "zoo-timm:timm/resnet50.a1_in1k"),
        ("zoo-timm:timm/vit_small_patch14_dinov2+unet",
         "zoo-timm:timm/vit_small_patch14_dinov2+zoo-unet:unet"),
    ],
)  # fmt: skip
def test_a_recipe_has_one_canonical_form(text: str, canonical: str) -> None:
    recipe = parse(text, registry)
    assert recipe.canonical == canonical
    assert parse(recipe.canonical, registry) == recipe


REFUSED = [
    ("", RecipeError, "the recipe is empty; write one such as 'resnet50+cbam+unet'"),
    ("resnet50+", RecipeError, "nothing at character 10 of 'resnet50+' is no part of a recipe; "
     "a part is [distribution:]name[.tag][@levels], levels being last, all or numbers such as 1,3"),
    ("resnet50++unet", RecipeError, "nothing at character 10 of 'resnet50++unet' is no part"),
    ("resnet50+cb am", RecipeError, "'cb am' at character 10 of 'resnet50+cb am' is no part"),
    ("resnet50+cbam@", RecipeError, "'cbam@' at character 10 of 'resnet50+cbam@' is no part"),
    ("resnet50+cbam@x", RecipeError, "'cbam@x' at character 10 of 'resnet50+cbam@x' is no part"),
    ("resnet51", UnknownComponentError,
     "unknown backbone 'resnet51' at character 1 of 'resnet51'; did you mean resnet50"),
    ("resnet50+ cbm", UnknownComponentError, "unknown attention or decoder 'cbm' at character 11 "
     "of 'resnet50+ cbm'; did you mean cbam or bam?"),
    ("efficientnet_lite0", UnknownComponentError, "did you mean timm/efficientnet_lite0?"),
    ("timm/resnet5o", UnknownComponentError, "did you mean timm/resnet50"),
    ("timm/", UnknownComponentError, "'zoo list timm/*' shows the names that begin so"),
    ("nobody:resnet50", UnknownComponentError, "unknown backbone 'nobody:resnet50' at character 1"),
    ("unet+resnet50", RecipeError, "'unet' at character 1 of 'unet+resnet50' is of kind decoder; "
     "the first part is a backbone"),
    ("resnet50+resnet18", RecipeError, "'resnet18' at character 10 of 'resnet50+resnet18' is of "
     "kind backbone; only the first part is a backbone, and attentions and a decoder follow"),
    ("resnet50+unet+cbam", RecipeError, "attention 'cbam' at character 15 of 'resnet50+unet+cbam' "
     "stands after the decoder 'unet'; the order is backbone+attention+decoder, one decoder last"),
    ("resnet50+unet+unet", RecipeError, "decoder 'unet' at character 15"),
    ("resnet50@all", RecipeError, "'@all' at character 1 of 'resnet50@all': only an attention has "
     "levels, and 'resnet50' is a backbone"),
    ("resnet50+cbam@5+unet", RecipeError, "cbam@5: there is no level 5; the backbone has levels 1 "
     "(shallow) to 4 (deep)"),
    ("resnet50+cbam@0+unet", RecipeError, "there is no level 0"),
    ("resnet50+cbam@1", RecipeError, "cbam@1: without a decoder only the last level is read; add a "
     "decoder or leave '@1' away"),
    ("resnet50+cbam@all", RecipeError, "without a decoder only the last level is read"),
    ("resnet50.nope", RecipeError, "'resnet50' at character 1 of 'resnet50.nope' has no weights "
     "'nope'; it has a1_in1k, tv_in1k, a1h_in1k, tv2_in1k"),
    ("timm/efficientnet_lite0.nope", RecipeError, "has no weights 'nope'; it has ra_in1k"),
    ("resnet50+cbam.x", RecipeError, "'.x' at character 10 of 'resnet50+cbam.x': attention 'cbam' "
     "has no pretrained weights"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error", "message"), REFUSED)
def test_a_wrong_recipe_is_refused(text: str, error: type[UsageError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse(text, registry)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_level_may_be_named_last_without_a_decoder() -> None:
    assert parse("resnet50+cbam@4", registry).attention[0].placed(4) == [4]
    with pytest.raises(RecipeError, match="there is no level 5"):
        parse("resnet50+cbam@5", registry)


def test_options_reach_their_part_by_role_and_by_name() -> None:
    recipe = parse("resnet18+cbam@1+cbam+unet", registry)
    full = with_options(
        recipe,
        backbone={"output_stride": 16},
        attention=[{"reduction": 8}, {}],
        named={"unet": {"atrous": True}},
    )
    assert [dict(part.options) for part in full.parts] == [
        {"output_stride": 16}, {"reduction": 8}, {}, {"atrous": True},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("resnet18+cbam", {"attention": {"reductoin": 8}},
         "attention 'cbam' has no option 'reductoin'; did you mean 'reduction'?"),
        ("resnet18+cbam", {"attention": {"x": 8}},
         "attention 'cbam' has no option 'x'; it has reduction"),
        ("resnet18", {"backbone": {"depth": 50}}, "backbone 'resnet18': 'depth' is what makes it "
         "'resnet18' (depth=18) and cannot be changed"),
        ("resnet18", {"backbone": {"in_channels": 1}}, "backbone 'resnet18': 'in_channels' is set "
         "for the whole model, with in_channels=… or --in-channels"),
        ("resnet18+cbam", {"named": {"cbam": {"in_channels": 1}}},
         "attention 'cbam': 'in_channels' follows from the composition"),
        ("resnet18+cbam", {"attention": {"reduction": 8}, "named": {"cbam": {"reduction": 4}}},
         "attention 'cbam': 'reduction' is given by role and by name"),
        ("resnet18+cbam", {"attention": 5}, "attention= takes a dict of options, or a list"),
        ("resnet18+cbam", {"attention": [5]}, "attention= takes a dict of options, or a list"),
        ("resnet18", {"decoder": {"atrous": True}},
         "options for a decoder, but 'zoo-resnet:resnet18' has none"),
        ("resnet18", {"attention": [{"reduction": 8}]},
         "options for 1 attentions, but 'zoo-resnet:resnet18' has 0"),
        ("resnet18", {"named": {"cbam": {}}},
         "options for 'cbam' in 'zoo-resnet:resnet18': it has resnet18"),
        ("resnet18+cbam@1+cbam+unet", {"named": {"cbam": {}}},
         "stands there twice: address it by role"),
        ("resnet18+cbam@1+cbam+unet", {"attention": {"reduction": 8}}, "has 2 attentions; give a "
         "list with the options of each, or address one by its name"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(recipe: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        with_options(parse(recipe, registry), **options)
    assert message in str(caught.value)
