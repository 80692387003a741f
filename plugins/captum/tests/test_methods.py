"""captum's methods by the zoo's names: what they take, where they apply, and what they leave."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo_core as zoo
from zoo_captum.explainer import CaptumExplainer
from zoo_captum.methods import METHODS
from zoo_core.errors import InputError, OptionError, UnknownComponentError
from zoo_core.explainability import Explainer, NotApplicableError, Skipped

QUICK: dict[str, Any] = {
    "n_samples": 3, "nt_samples": 2, "n_steps": 3, "feature_mask": 2, "sliding_window_shapes": 16,
}  # fmt: skip


def quick(name: str) -> dict[str, Any]:
    """Options of a method that let it run the model a few times only."""
    chosen = {option: QUICK[option] for option in METHODS[name].options if option in QUICK}
    if name == "internal_influence":  # what averaging follows has one gradient everywhere
        chosen["layer"] = "blocks.0.norm"
    return chosen | ({"n_samples": 12} if name in ("lime", "kernel_shap") else {})


class Block(nn.Module):
    """One ReLU in two places, in place, and a sum without a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.second(self.relu(self.first(x))))
        out += x
        return self.relu(out)


class Small(nn.Module):
    """A small residual network, as real ones are written."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Block(6), Block(6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(F.relu(self.stem(x))))
        return self.head(x.mean((2, 3)))


def make_model() -> nn.Module:
    torch.manual_seed(3)
    model = Small()
    with torch.no_grad():
        model.head.weight.abs_()
    return model


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return make_model()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def state(model: nn.Module) -> dict[str, Any]:
    modules = dict(model.named_modules())
    return {
        "attributes": {name: set(vars(module)) for name, module in modules.items()},
        "hooks": {
            (name, key): list(value)
            for name, module in modules.items()
            for key, value in vars(module).items()
            if "hooks" in key and value is not None
        },
        "training": {name: module.training for name, module in modules.items()},
        "inplace": {name: getattr(module, "inplace", None) for name, module in modules.items()},
        "versions": {name: (id(p), p._version) for name, p in model.named_parameters()},
        "grads": {name: (p.grad, p.requires_grad) for name, p in model.named_parameters()},
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("name", METHODS)
def test_each_method_explains_a_resnet_and_leaves_no_trace(
    model: nn.Module, pictures: Tensor, name: str
) -> None:
    model.train()
    before, given = state(model), pictures.clone()
    explainer = CaptumExplainer(model, name, **quick(name))
    with torch.no_grad():
        values = explainer.explain(pictures, target_class=[3, 1])
    assert state(model) == before
    assert torch.equal(given, pictures)
    assert values.shape == ((2, 32, 48) if METHODS[name].layer else (2, 3, 32, 48))
    assert values.isfinite().all()
    assert values.dtype == torch.float32
    assert not values.requires_grad
    assert (values.flatten(1).std(1) > 0).all()
    # Neither the batch nor what was drawn before change a picture's answer.
    torch.rand(7)
    alone = explainer.explain(pictures[1:], model, 1)
    torch.testing.assert_close(alone, values[1:], rtol=1e-4, atol=1e-5)
    scaled = explainer.explain(pictures[1:], target_class=1, absolute=True, normalize=True)
    expected = alone.abs()
    least, most = expected.min(), expected.max()
    torch.testing.assert_close(scaled, (expected - least) / (most - least), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["deep_lift", "gradient_shap", "lime", "layer_conductance"])
def test_regions_of_segmentation_are_explained(name: str, pictures: Tensor) -> None:
    model = zoo.build(
        "resnet18+linear", num_classes_classification=0, num_classes_segmentation=4, seed=1
    )
    mask = torch.zeros(32, 48)
    mask[8:20, 10:30] = 1
    explainer = CaptumExplainer(model, name, **quick(name))
    found = explainer.explanation(pictures, target_class=[2, 0], region=mask)
    assert (found.facts.task, found.facts.region) == ("segmentation", "mask")
    assert found.values.isfinite().all()
    if name == "deep_lift":
        model.eval()
        with torch.no_grad():
            rise = (model(pictures) - model(torch.zeros_like(pictures)))[[0, 1], [2, 0]] * mask
        torch.testing.assert_close(
            found.values.sum((1, 2, 3)), rise.sum((1, 2)), rtol=1e-3, atol=1e-2
        )


def test_relevance_is_passed_on_through_sums(pictures: Tensor) -> None:
    model: Any = make_model().eval()
    for name, parameter in model.named_parameters():  # biases keep relevance for themselves
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    inputs = pictures.double()
    found = CaptumExplainer(model.double(), "lrp").explain(inputs, target_class=[3, 1])
    with torch.no_grad():
        scores = model(inputs)[[0, 1], [3, 1]]
    torch.testing.assert_close(found.sum((1, 2, 3)), scores, rtol=1e-4, atol=0)


def test_what_does_not_apply_is_said(pictures: Tensor) -> None:
    model = zoo.build("vit_tiny", image_size=(32, 48), num_classes_classification=5, seed=0)
    names = ("deep_lift", "deep_lift_shap", "layer_deep_lift", "lrp", "deconvolution",
             "guided_gradcam", "gradient_shap")  # fmt: skip
    found = Explainer(model, [f"captum/{name}" for name in names]).explain(pictures)
    assert list(found) == [f"captum/{name}" for name in names]
    reasons = [found.skipped[f"captum/{name}"].reason for name in names[:-1]]
    for reason in reasons[:3]:
        assert reason.startswith(
            "captum's DeepLIFT has no rule for something in the model, such as GELU, products or "
            "attention: its values add up to"
        )
    assert reasons[3:] == [
        "captum's LRP has no rule for GELU, LayerNorm",
        "MultitaskModel has no ReLU",
        "captum's guided Grad-CAM takes a layer that gives [B, C, H, W], and "
        "'backbone.blocks.11.norm1' does not",
    ]
    assert found["captum/gradient_shap"].shape == pictures.shape


def test_functions_that_no_rule_is_for_are_named(pictures: Tensor) -> None:
    model = zoo.build(
        "resnet18+unet", num_classes_classification=0, num_classes_segmentation=4, seed=1
    )
    with pytest.raises(NotApplicableError) as caught:
        CaptumExplainer(model, "lrp").explain(pictures)
    assert str(caught.value) == (
        "captum's LRP sees layers only, and the model calls cat, interpolate outside of them"
    )


class Uncopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


def test_a_model_that_cannot_be_copied_is_left_alone(pictures: Tensor) -> None:
    found = Explainer(Uncopied(), ["captum/deep_lift", "captum/feature_ablation"]).explain(pictures)
    reason = found.skipped["captum/deep_lift"].reason
    assert reason.startswith(
        "captum puts hooks into a model, so it gets a copy, and Uncopied cannot be copied: "
    )
    assert "lock" in reason
    assert not isinstance(found["captum/feature_ablation"], Skipped)


def test_an_error_of_the_model_is_its_own_and_nothing_stays(pictures: Tensor) -> None:
    model: Any = make_model()

    class Failing(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Failing.calls += 1
            if Failing.calls > 3:
                raise RuntimeError("no luck")
            return x

    model.blocks.add_module("failing", Failing())
    before = state(model)
    with pytest.raises(RuntimeError, match="no luck"):
        CaptumExplainer(model, "deep_lift").explain(pictures)
    assert state(model) == before


def test_threads_explain_one_model_at_once(model: nn.Module, pictures: Tensor) -> None:
    names = ["deep_lift", "lrp", "deconvolution", "gradient_shap"]
    explainers = [CaptumExplainer(model, name, **quick(name)) for name in names]
    expected = [one.explain(pictures, target_class=1) for one in explainers]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: one.explain(pictures, target_class=1), explainers))
    torch.testing.assert_close(found, expected)


def test_models_of_half_precision_and_of_inference_mode(pictures: Tensor) -> None:
    expected = CaptumExplainer(make_model(), "deep_lift").explain(pictures, target_class=1)
    half = CaptumExplainer(make_model().bfloat16(), "deconvolution").explain(pictures, None, 1)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    with torch.inference_mode():
        model = make_model()
        found = CaptumExplainer(model, "deep_lift").explain(pictures, target_class=1)
    torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = CaptumExplainer(make_model(), "deep_lift").explain(pictures, target_class=1)
    torch.testing.assert_close(found, expected)


def test_options_are_captums() -> None:
    renamed = {"attribution_method"}
    for name, method in METHODS.items():
        kind = getattr(captum.attr, method.captum)
        theirs = {
            **inspect.signature(kind.__init__).parameters,
            **inspect.signature(kind.attribute).parameters,
        }
        for option, about in method.options.items():
            if option == "seed":
                continue
            assert option in theirs, (name, option)
            default = theirs[option].default
            if not about.own and option not in renamed:
                assert about.default == default, (name, option)


def test_the_catalogue_knows_every_option() -> None:
    for name, method in METHODS.items():
        spec = zoo.registry.explainers[f"captum/{name}"]
        assert spec.options is not None
        assert set(spec.options) == {*method.options, "normalize", "absolute"}
        assert spec.summary
        assert all(line and "\n" not in line for line in spec.options.values())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("deep_lift", {"epsilon": 1}, "explainer zoo-captum:captum/deep_lift: captum/deep_lift has "
         "no option 'epsilon'; it has baselines, multiply_by_inputs, eps"),
        ("lrp", {"eps": 1}, "explainer zoo-captum:captum/lrp: captum/lrp has no option 'eps'; it "
         "has none"),
        ("lime", {"n_samples": 0}, "explainer zoo-captum:captum/lime: n_samples of captum/lime "
         "must be a positive whole number, not 0"),
        ("noise_tunnel", {"nt_type": "median"}, "explainer zoo-captum:captum/noise_tunnel: nt_type "
         "of captum/noise_tunnel must be 'smoothgrad' or 'smoothgrad_sq' or 'vargrad', not "
         "'median'"),
        ("gradient_shap", {"seed": -1}, "explainer zoo-captum:captum/gradient_shap: seed of "
         "captum/gradient_shap must be a whole number from 0 to 4294967295, not -1"),
        ("layer_conductance", {"layer": "block"},
         "explainer zoo-captum:captum/layer_conductance: the model has no layer 'block'; did you "
         "mean blocks or blocks.1 or blocks.0?"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(
    model: nn.Module, method: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        Explainer(model, {f"captum/{method}": options})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("deep_lift", {"baselines": torch.zeros(3, 5, 5)},
         "baselines of [3, 5, 5] do not broadcast to [2, 3, 32, 48]"),
        ("gradient_shap", {"baselines": torch.zeros(2, 3, 5, 5)},
         "baselines must be [N, 3, 32, 48], not [2, 3, 5, 5]"),
        ("lime", {"feature_mask": torch.zeros(5, 5, dtype=torch.long)},
         "feature_mask must be [32, 48] or [3, 32, 48], not [5, 5]"),
        ("shapley_values", {"feature_mask": 3},
         "feature_mask of captum/shapley_values has 9 features, whose orders are too many; give 7 "
         "at most, or take captum/shapley_value_sampling"),
        ("kernel_shap", {"feature_mask": 1},
         "feature_mask of captum/kernel_shap must have two features or more"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_pictures_are_refused(
    model: nn.Module, pictures: Tensor, method: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        CaptumExplainer(model, method, **options).explain(pictures, target_class=1)
    assert str(caught.value) == message


def test_unknown_methods_name_near_ones(model: nn.Module) -> None:
    with pytest.raises(UnknownComponentError, match="did you mean captum/deep_lift"):
        Explainer(model, ["captum/deeplift"])
    with pytest.raises(InputError, match="zoo-captum gives no method 'saliency' of captum; it has"):
        CaptumExplainer(model, "saliency")


COMMAND = """
import sys
sys.argv = ["zoo", *{line!r}.split()]
from zoo_core.cli import main
try:
    main()
finally:
    print(sorted({{"torch", "captum", "numpy", "sklearn"}} & {{*sys.modules}}), file=sys.stderr)
"""


@pytest.mark.parametrize("line", ["list explainer captum/*", "info captum/lime"])
def test_the_catalogue_is_light(line: str) -> None:
    code = COMMAND.format(line=line)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "captum/lime" in done.stdout
