"""Several methods at once, as the catalogue has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core.errors import InputError, OptionError, UnknownComponentError, ZooWarning
from zoo_core.explainability import (
    BaseExplainer,
    Explainer,
    Explanations,
    GradCAM,
    NotApplicableError,
    Skipped,
    SmoothGrad,
    VanillaSaliency,
)

from .conftest import Unruly

FROM_ONE_PASS = (
    "grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "eigen_cam",
    "saliency", "input_x_gradient",
)  # fmt: skip


def test_results_are_those_of_each_method_alone(
    two_heads: Callable[[], Any], pictures: Tensor
) -> None:
    model = two_heads()
    explainer = Explainer(
        model=model, methods={"grad_cam": {}, "saliency": {}, "smoothgrad": {"num_samples": 3}}
    )
    with torch.no_grad():
        explanations = explainer.explain(pictures, target_class=[0, 1, 2])
    assert isinstance(explanations, Explanations)
    assert list(explanations) == ["grad_cam", "saliency", "smoothgrad"]
    assert explanations["grad_cam"].shape == (3, 32, 48)
    assert explanations["smoothgrad"].shape == (3, 3, 32, 48)
    for name, alone in (
        ("grad_cam", GradCAM(model)),
        ("saliency", VanillaSaliency(model)),
        ("smoothgrad", SmoothGrad(model, num_samples=3)),
    ):
        expected = alone.explain(pictures, target_class=[0, 1, 2])
        torch.testing.assert_close(explanations[name], expected)
        assert explanations.facts[name].target_class.tolist() == [0, 1, 2]
    assert explanations.task == "classification"
    assert explanations.target_class.tolist() == [0, 1, 2]
    assert explanations.facts["grad_cam"].target_layer == "attention.4.0"
    assert explanations.facts["smoothgrad"].details["num_samples"] == 3


def test_segmentation_is_recorded(two_heads: Callable[[], Any], pictures: Tensor) -> None:
    explainer = Explainer(two_heads(), ["eigen_cam", "saliency"])
    explanations = explainer.explain(pictures, task="segmentation")
    assert (explanations.task, explanations.region) == ("segmentation", "predicted")
    assert explanations["eigen_cam"].shape == (3, 32, 48)
    again = explainer.explain(pictures, task="segmentation", region=(3, 4), target_class=1)
    assert (again.region, again.target_class.tolist()) == ("pixel", [1, 1, 1])


def test_one_pass_serves_all_that_take_one(unruly: Unruly, pictures: Tensor) -> None:
    explainer = Explainer(unruly, FROM_ONE_PASS)
    assert not explainer.explain(pictures, target_class=1).skipped  # which finds the layer
    passes: list[int] = []
    backward: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        passes.append(len(output))
        output.register_hook(lambda gradient: backward.append(len(gradient)))

    unruly.head.register_forward_hook(count)
    explanations = explainer.explain(pictures, target_class=1)
    assert list(explanations) == list(FROM_ONE_PASS)
    assert (passes, backward) == ([3], [3])


def test_several_layers_share_a_pass_too(unruly: Unruly, pictures: Tensor) -> None:
    layers = {"grad_cam": "body.0", "hires_cam": "stem.1", "layer_cam": "body.2"}
    methods = {name: {"target_layer": layer} for name, layer in layers.items()}
    explainer = Explainer(unruly, {**methods, "saliency": {}})
    found = explainer.explain(pictures, target_class=1)
    passes: list[int] = []
    unruly.head.register_forward_hook(lambda *_: passes.append(1))
    again = explainer.explain(pictures, target_class=1)
    assert len(passes) == 1
    for name, layer in layers.items():
        alone = Explainer(unruly, {name: {"target_layer": layer}}).explain(pictures, target_class=1)
        torch.testing.assert_close(found[name], alone[name])
        torch.testing.assert_close(again[name], alone[name])
        assert found.facts[name].target_layer == layer


class Users(BaseExplainer):
    """As the contract has it: no constructor, three arguments."""

    def explain(self, inputs: Tensor, model: nn.Module, target_class: int) -> Tensor:  # type: ignore[override]
        assert isinstance(target_class, int)
        assert not model.training
        return (
            model(inputs)[:, target_class, None, None].expand(-1, *inputs.shape[2:]) * inputs[:, 0]
        )


class Each(BaseExplainer):
    """With a class for each picture."""

    def explain(self, inputs: Tensor, model: nn.Module, target_class: Tensor) -> Tensor:  # type: ignore[override]
        return inputs * (1 + target_class[:, None, None, None])


class Broken(BaseExplainer):
    def explain(self, inputs: Tensor, model: nn.Module, target_class: int) -> Tensor:  # type: ignore[override]
        raise RuntimeError("no luck")


class Elsewhere(BaseExplainer):
    def explain(self, inputs: Tensor, model: nn.Module, target_class: int) -> Tensor:  # type: ignore[override]
        raise NotApplicableError("it is for other models")


def test_explainers_of_users_work(unruly: Unruly, pictures: Tensor) -> None:
    explainer = Explainer(unruly, ["saliency", Users(), GradCAM(), Elsewhere()])
    explanations = explainer.explain(pictures, target_class=1)
    assert list(explanations) == ["saliency", "Users", "grad_cam", "Elsewhere"]
    assert not explanations["Users"].requires_grad
    unruly.eval()
    with torch.no_grad():
        expected = unruly(pictures)[:, 1, None, None] * pictures[:, 0]
    torch.testing.assert_close(explanations["Users"], expected)
    assert explanations["Elsewhere"] == Skipped("it is for other models")
    assert explanations.skipped == {"Elsewhere": Skipped("it is for other models")}
    assert "Elsewhere" not in explanations.facts
    named = Explainer(unruly, {"mine": Each()}).explain(pictures, target_class=[2, 0, 1])["mine"]
    torch.testing.assert_close(named, pictures * torch.tensor([3, 1, 2])[:, None, None, None])
    predicted = Explainer(unruly, [Each()]).explain(pictures)["Each"]
    if unruly(pictures).argmax(1).unique().numel() > 1:
        classes = unruly(pictures).argmax(1)
        torch.testing.assert_close(predicted, pictures * (1 + classes[:, None, None, None]))


def test_a_named_method_that_fails_raises(unruly: Unruly, pictures: Tensor) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        Explainer(unruly, [Broken()]).explain(pictures)


def test_what_does_not_apply_is_skipped_with_the_reason() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh()).eval()
    pictures = torch.randn(2, 3, 4, 4)
    explanations = Explainer(model, ["grad_cam", "guided_backprop", "saliency"]).explain(pictures)
    assert explanations.skipped == {
        "grad_cam": Skipped("no layer of Sequential gives a map of the picture"),
        "guided_backprop": Skipped("Sequential has no ReLU"),
    }
    assert explanations["saliency"].shape == (2, 3, 4, 4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_a_compiled_program_is_explained_as_far_as_it_can_be(pictures: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    traced: Any = torch.jit.trace(model, pictures)
    found = Explainer(traced, ["grad_cam", "saliency"]).explain(pictures, target_class=1)
    torch.testing.assert_close(found["saliency"], VanillaSaliency(model).explain(pictures, None, 1))
    assert isinstance(found["grad_cam"], Skipped)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let methods that sample draw less by default."""
    from zoo_saliency.rise import RISE
    from zoo_saliency.smooth import SmoothGrad

    monkeypatch.setattr(RISE.__init__, "__defaults__", (None, 4, 7, 0.5, 0, None))
    monkeypatch.setattr(SmoothGrad.__init__, "__defaults__", (None, 2, 0.15, 0, None))


@pytest.mark.usefixtures("quick")
def test_all_runs_every_installed_method(unruly: Unruly, pictures: Tensor) -> None:
    explanations = Explainer(unruly, "all").explain(pictures[:1], target_class=1)
    assert list(explanations) == [spec.name for spec in zoo.list_components(kind="explainer")]
    for name, values in explanations.items():
        if isinstance(values, Tensor):
            assert values.shape in ((1, 32, 48), (1, 3, 32, 48)), name
            assert values.isfinite().all()
    assert {
        *FROM_ONE_PASS,
        "occlusion",
        "rise",
    } <= explanations.keys() - explanations.skipped.keys()


def test_all_goes_on_where_one_method_fails(
    unruly: Unruly, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer = Explainer(unruly, ["saliency"])
    explainer.explainers["broken"] = Broken()
    explainer._options["broken"] = {}
    explainer._all = True
    with pytest.warns(ZooWarning, match="broken: it failed: RuntimeError: no luck"):
        explanations = explainer.explain(pictures, target_class=1)
    assert explanations["broken"] == Skipped("it failed: RuntimeError: no luck")
    assert explanations["saliency"].shape == pictures.shape


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        (["grad_cm"], UnknownComponentError, "unknown explainer 'grad_cm'; did you mean grad_cam"),
        (["saliency", "saliency"], InputError, "the method 'saliency' is named twice"),
        ({"smoothgrad": {"samples": 3}}, OptionError, "samples"),
        ({"smoothgrad": {"num_samples": 0}}, OptionError, "num_samples of SmoothGrad must be a "
         "positive whole number, not 0"),
        ([3], InputError, "methods are names, explainers or a mapping from names to options, not"),
        ({"grad_cam": {"target_layer": "layer9"}}, OptionError, "the model has no layer 'layer9'"),
    ],
)  # fmt: skip
def test_wrong_methods_are_refused(
    unruly: Unruly, methods: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        Explainer(unruly, methods)
    assert message in str(caught.value)


def test_wrong_arguments_are_refused(unruly: Unruly, pictures: Tensor) -> None:
    with pytest.raises(InputError, match=r"model must be a torch\.nn\.Module, not NoneType"):
        Explainer(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="explain of Explainer has no option 'normalize'; it has"):
        Explainer(unruly, ["saliency"]).explain(pictures, normalize=True)
    with pytest.raises(InputError, match="target_class must be from 0 to 4 for this model, not 9"):
        Explainer(unruly, ["grad_cam", "saliency"]).explain(pictures, target_class=9)
    options = {"saliency": {"normalize": True, "absolute": True}}
    values = Explainer(unruly, options).explain(pictures)["saliency"]
    assert (float(values.min()), float(values.max())) == (0, 1)


def test_what_the_catalogue_says_of_options_is_what_the_classes_take() -> None:
    import inspect

    from zoo_core.targets import component_class

    for spec in zoo.list_components(kind="explainer"):
        kind: Any = component_class(spec)
        taken = {*inspect.signature(kind).parameters} - {"model"} | {*kind.options}
        assert set(spec.options or ()) == taken, spec.name
        assert kind.name == spec.name
