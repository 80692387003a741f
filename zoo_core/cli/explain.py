"""``zoo explain``: what in pictures speaks for a class, as one page."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from zoo_core.cli.completion import completed_names
from zoo_core.cli.options import ModelType, device_option, model_options, ready_model
from zoo_core.cli.predict import _channels, _check_takes_pictures, _found
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import InputError, OptionError, ZooWarning

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zoo_core.explainability import Explainer, Explanations
    from zoo_core.explainability.precision import Precision
    from zoo_core.explainability.report import Shown
    from zoo_core.models import MultitaskModel
    from zoo_core.prediction import Prediction, Ranked

_VIEW: Final = 512
"""Pictures are shown in about so many pixels a side, whatever the model takes."""

_ATTENTION: Final = 8_000_000
"""About how many bytes the attention of all pictures may take in a page."""


class _MethodType(click.ParamType[Any]):
    """The name of an explainer, completed from the catalogue."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        items = completed_names(incomplete, "", "explainer".__eq__)
        if "all".startswith(incomplete):
            items.append(CompletionItem("all", help="every method but those of families"))
        return items


@click.command()
@click.argument("model", metavar="RECIPE_OR_DIR", type=ModelType())
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=_MethodType(),
    metavar="NAME",
    help="A method of zoo list explainer, or all but families such as captum/*. Repeatable.  "
    "[default: grad_cam, saliency, smoothgrad, attention]",
)
@click.option(
    "--target",
    metavar="CLASS",
    help="Name or number of the class to explain.  [default: the model's answer]",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "segmentation"]),
    help="Which head to explain.  [default: classification, if there is that head]",
)
@model_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    default=Path("explanations"),
    show_default=True,
    help="Where the page, pictures and arrays go.",
)
@click.option("--score", is_flag=True, help="Measure how far each map can be trusted.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "full", "bfloat16", "exact"]),
    default="auto",
    show_default=True,
    help="Of methods that run many copies: auto takes scores, and the way back of gradients, in "
    "bfloat16 where the device has units for it and first copies agree; exact runs the model just "
    "as it is.",
)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    model: str,
    images: tuple[str, ...],
    methods: tuple[str, ...],
    target: str | None,
    task: str | None,
    out: Path,
    score: bool,
    precision: Precision,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what in pictures speaks for a class.

    RECIPE_OR_DIR is a recipe, as for build, or the folder of a saved model. IMAGE is a picture, a
    folder of pictures or a quoted glob. Pictures that cannot be read are named and skipped, and
    the exit code is then 1.

    DIR gets index.html, one page that needs no network, and a folder for each picture: a PNG file
    for each method, and the values of all in arrays.safetensors. In segmentation the pixels that
    the model takes for the class are explained.

    \b
    Examples:
      zoo explain resnet50 --pretrained cat.jpg
      zoo explain resnet50.a1_in1k photos/ --target espresso --out explained
      zoo explain my-model 'photos/*.png' --method grad_cam --score
    """
    from zoo_core.catalogue import registry

    for name in methods:
        if name != "all":
            _ = registry.explainers[name]
    ready = ready_model(model, options, device)
    from zoo_core.hardware import keep_freed_memory

    keep_freed_memory()
    _check_takes_pictures(ready, model)
    run = _Run(model, ready, methods, task, target, score, precision, out)
    found = list(_found(images, out))
    run.taken = {path.resolve().parent for path, _ in found}
    problems = []
    hidden = not sys.stderr.isatty()
    with click.progressbar(found, label="pictures", file=sys.stderr, hidden=hidden) as pictures:
        for path, problem in pictures:
            try:
                if problem is not None:
                    raise InputError(problem)
                run.explain(path, min(_ATTENTION // len(found), 2_000_000))
            except InputError as error:
                problems.append(str(error))
    for message in run.warnings:
        click.echo(f"zoo: {message}", err=True)
    for problem in problems:
        click.echo(f"zoo: skipped {problem}", err=True)
    page = run.write_page() if run.results else None
    if as_json:
        echo_json({"page": page and str(page), "pictures": run.results})
    else:
        for result in run.results:
            _echo(result)
        if page is not None:
            click.echo(f"page  {page}")
    if problems:
        ctx.exit(1)


class _Run:
    """One model, explained for one picture after another.

    Attributes:
        results: What is told of each picture, for JSON.
        warnings: What was warned of.
        taken: Folders that nothing is written to.
    """

    def __init__(
        self,
        name: str,
        model: MultitaskModel,
        methods: Sequence[str],
        task: str | None,
        target: str | None,
        score: bool,
        precision: Precision,
        out: Path,
    ) -> None:
        self._name = name
        self._model = model
        self._task = _task(model, task)
        self._class = None if target is None else _class(model, self._task, target)
        self._explainer = _explainer(model, methods)
        self._score = score
        self._precision = precision
        self._out = out
        self._sections: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.taken: set[Path] = set()

    def explain(self, path: Path, attention_bytes: int) -> None:
        """Explain a picture, write its files, and keep its part of the page.

        Raises:
            InputError: If the picture cannot be read or is too narrow.
        """
        from zoo_core.explainability.report import section
        from zoo_core.pictures import read_picture

        picture = read_picture(path, _channels(self._model))
        try:
            shown, scores = self._explained(path, picture)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        self._write(path, shown, scores)
        self._sections.append(
            section(shown, len(self._sections), _summaries(self._explainer), attention_bytes)
        )

    def _explained(self, path: Path, picture: Image) -> tuple[Shown, dict[str, dict[str, float]]]:
        """Give what there is to show of a picture, and how good its maps are."""
        from zoo_core.explainability.report import Shown
        from zoo_core.prediction import predict

        prediction = predict(self._model, picture)
        seen, inputs = _seen(self._model, picture, self._task)
        inputs = inputs.to(next(self._model.parameters()).device)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ZooWarning)
            explanations = self._explainer.explain(
                inputs, None, self._class, task=self._task, precision=self._precision
            )
            scores = self._scores(inputs, explanations) if self._score else {}
        ours = [item.message for item in warned if issubclass(item.category, ZooWarning)]
        notes = list(dict.fromkeys(_of_one_picture(str(message)) for message in ours))
        self.warnings += [f"{path}: {note}" for note in notes]
        shown = Shown(
            name=str(path),
            picture=seen,
            prediction=prediction,
            explanations=explanations,
            target=self._target(explanations, prediction, inputs),
            chosen=self._class is not None,
            notes=notes,
        )
        return shown, scores

    def write_page(self) -> Path:
        """Write the page, and give its path."""
        from zoo_core.explainability.report import page, whole_file

        names = dict.fromkeys(name for result in self.results for name in result["methods"])
        if self._task == "segmentation":
            names = {"segmentation": None, **names}
        scores = {
            result["path"]: {name: one["scores"] for name, one in result["methods"].items()}
            for result in self.results
        }
        text = page(
            f"What {self._name} looks at",
            _facts(self._model, len(self.results), self._task),
            names,
            self._sections,
            scores if self._score else {},
        )
        target = self._out / "index.html"
        with whole_file(target) as partial:
            partial.write_text(text, encoding="utf-8")
        return target

    def _scores(self, inputs: Tensor, explanations: Explanations) -> dict[str, dict[str, float]]:
        from zoo_core.explainability.report import is_map
        from zoo_core.explainability.trust import score_maps

        scores = {}
        for name, values in explanations.items():
            if not is_map(values) or values.shape[-2:] != inputs.shape[-2:]:
                continue
            if not values.isfinite().all():
                continue
            target = explanations.target_class
            found = score_maps(self._model, inputs, values, target, task=self._task)
            scores[name] = {key: float(value[0]) for key, value in found.items()}
        return scores

    def _target(
        self, explanations: Explanations, prediction: Prediction, inputs: Tensor
    ) -> Ranked | None:
        """Give the class that was explained, with its probability or share of the pixels."""
        import torch

        from zoo_core.prediction import Ranked

        if explanations.target_class is None:
            return None
        index = int(explanations.target_class[0])
        if self._task == "segmentation":
            shares = {item.index: item.score for item in prediction.segmentation or ()}
            score = shares.get(index, 0.0)
        else:
            with torch.inference_mode():
                logits: Any = self._model.run(inputs, classification=True, segmentation=False)
            score = float(logits.float().softmax(1)[0, index])
        names = self._model.labels.get(self._task)
        label = names[index] if names else f"class {index}"
        return Ranked(index=index, label=label, score=score)

    def _write(self, path: Path, shown: Shown, scores: Mapping[str, Mapping[str, float]]) -> None:
        from zoo_core.explainability.report import drawn, save_arrays, whole_file

        explanations = shown.explanations
        folder = self._folder(path.stem)
        methods: dict[str, Any] = {}
        for name, values in explanations.items():
            if name in explanations.skipped:
                continue
            facts = explanations.facts[name]
            overlay = None
            picture = drawn(values)
            if picture is not None:
                overlay = folder / f"{_slug(name)}.png"
                with whole_file(overlay) as partial:
                    picture.over(shown.picture).save(partial, "PNG")
            methods[name] = {
                "overlay": overlay and str(overlay),
                "layer": facts.target_layer,
                "details": {key: _plain(value) for key, value in facts.details.items()},
                "scores": scores.get(name, {}),
            }
        target = shown.target
        result: dict[str, Any] = {
            "path": str(path),
            "task": explanations.task,
            "target": target and {**vars(target), "predicted": not shown.chosen},
            "region": explanations.region,
            "classification": _ranked(shown.prediction.classification),
            "segmentation": _ranked(shown.prediction.segmentation),
            "methods": methods,
            "skipped": {name: one.reason for name, one in explanations.skipped.items()},
            "arrays": str(folder / "arrays.safetensors"),
        }
        facts_kept = {key: result[key] for key in ("path", "task", "target", "region", "methods")}
        save_arrays(folder / "arrays.safetensors", explanations, facts_kept)
        self.results.append(result)

    def _folder(self, stem: str) -> Path:
        """Give a folder of the picture's name that is not used yet and holds no picture."""
        number, folder = 1, self._out / _slug(stem)
        while folder.resolve() in self.taken:
            number += 1
            folder = self._out / f"{_slug(stem)}-{number}"
        self.taken.add(folder.resolve())
        return folder


def _explainer(model: MultitaskModel, methods: Sequence[str]) -> Explainer:
    from zoo_core.explainability import Explainer

    if not methods:
        return Explainer(model)
    return Explainer(model, "all" if "all" in methods else list(dict.fromkeys(methods)))


def _task(model: MultitaskModel, asked: str | None) -> str:
    heads = {"classification": model.classifier, "segmentation": model.decoder}
    there = [task for task, head in heads.items() if head is not None]
    if asked is not None and asked not in there:
        raise OptionError(f"--task {asked}: the model has a head for {there[0]} alone")
    return asked or there[0]


def _class(model: MultitaskModel, task: str, asked: str) -> int:
    """Give the number of a class that is named by its name, in any case, or by its number."""
    labels = model.labels.get(task, ())
    folded = [label.casefold() for label in labels]
    wanted = asked.strip().casefold()
    exact = [index for index, label in enumerate(labels) if label == asked]
    same = exact or [index for index, label in enumerate(folded) if label == wanted]
    if len(same) == 1:
        return same[0]
    if same:
        numbers = " and ".join(map(str, same))
        raise OptionError(f"--target {asked!r}: classes {numbers} are called so; give a number")
    count = getattr(model, f"num_classes_{task}")
    if re.fullmatch(r"[+-]?\d+", wanted):
        if 0 <= int(wanted) < count:
            return int(wanted)
        raise OptionError(f"--target {asked}: the model's classes are 0 to {count - 1}")
    if not labels:
        raise OptionError(
            f"--target {asked!r}: the model's {count} classes have no names; give a number"
        )
    words = re.escape(wanted)
    near = [label for label in labels if re.search(rf"\b{words}\b", label.casefold())]
    near = near or [labels[folded.index(one)] for one in get_close_matches(wanted, folded, 3)]
    near = list(dict.fromkeys(near))[:6]
    hint = f"; did you mean {', '.join(near)}?" if near else "; give one of its names or a number"
    raise OptionError(f"--target {asked!r}: the model has no such class{hint}")


def _seen(model: MultitaskModel, picture: Image, task: str) -> tuple[Image, Tensor]:
    """Give what the model sees of a picture, to look at and as its input ``[1, C, H, W]``."""
    from dataclasses import replace

    from zoo_core.pictures import prepare, prepare_whole, to_picture

    assert model.preprocessing is not None
    made = prepare if task == "classification" else prepare_whole
    inputs = made(picture, model.preprocessing)
    height, width = model.preprocessing.size
    times = max(1, round(_VIEW / math.sqrt(inputs[0].numel())))
    channels = len(inputs)
    plain = replace(
        model.preprocessing,
        size=(times * height, times * width),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    return to_picture(made(picture, plain)).convert("RGB"), inputs[None]


def _summaries(explainer: Explainer) -> dict[str, str]:
    from zoo_core.catalogue import registry

    return {name: registry.explainers[name].summary for name in explainer.explainers}


def _facts(model: MultitaskModel, count: int, task: str) -> list[str]:
    from zoo_core import __version__

    pictures = "one picture" if count == 1 else f"{count} pictures"
    report = model.load_report
    facts = [f"{task.capitalize()} of {pictures}, explained by zoo {__version__}."]
    if model.recipe is not None:
        facts.append(f"Recipe: {model.recipe.canonical}.")
    if report is not None:
        facts.append(f"Weights: {report.lines()[0]}.")
    else:
        facts.append("The model's weights are random or of unknown origin.")
    return facts


def _of_one_picture(message: str) -> str:
    """Leave out which picture of its batch a warning is about, where there is but one."""
    return message.replace(" of picture 0", "").removeprefix("picture 0: ")


def _slug(name: str) -> str:
    """Give a name that a file may have everywhere."""
    return re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "picture"


def _plain(value: object) -> object:
    """Give a value as JSON knows it."""
    if isinstance(value, str | int | float | bool | None):
        return value
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else str(value)


def _ranked(ranking: list[Ranked] | None) -> list[dict[str, Any]] | None:
    return None if ranking is None else [vars(item) for item in ranking]


def _echo(result: dict[str, Any]) -> None:
    click.secho(result["path"], bold=True)
    target = result["target"]
    if target is not None:
        whose = "the model's answer" if target["predicted"] else "as asked"
        click.echo(f"  explained: {target['label']} ({target['index']}), {whose}")
    for name, reason in result["skipped"].items():
        click.echo(f"  left out: {name}: {reason}")
    scored = {name: one["scores"] for name, one in result["methods"].items() if one["scores"]}
    if scored:
        header = list(next(iter(scored.values())))
        rows = [
            [f"  {name}", *(f"{value:.3f}" for value in one.values())]
            for name, one in scored.items()
        ]
        echo_table(["  method", *header], rows, " ".join(header))
    folder = Path(result["arrays"]).parent
    count = len(result["methods"])
    click.echo(f"  {count} {'method' if count == 1 else 'methods'} in {folder}")
