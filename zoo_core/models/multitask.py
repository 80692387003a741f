"""One backbone, classification and segmentation heads."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor, nn

from zoo_core.contracts import Backbone, ChannelSchedule, Decoder
from zoo_core.errors import ContractError, InputError, SavedModelError

if TYPE_CHECKING:
    from zoo_core.grammar import Recipe
    from zoo_core.manifest import Preprocessing
    from zoo_core.weights import LoadReport

Placement = nn.Module | Iterable[nn.Module] | Mapping[int, nn.Module | Iterable[nn.Module]]


class MultitaskModel(nn.Module, ModelHubMixin, library_name="zoo-core", tags=["zoo"]):
    """A backbone with a classification head, a segmentation decoder, or both.

    Called with pictures ``[B, C, H, W]``, it gives the logits of its one head, or a dict of both:
    ``"classification"`` ``[B, num_classes_classification]`` and ``"segmentation"``
    ``[B, num_classes_segmentation, H, W]``. Called with a batch, a mapping with ``"image"``, it
    runs only the branches whose targets (``"label"``, ``"mask"``) the batch has, or every branch
    if it has neither.

    Classification reads the backbone's pooled vector or, where an attention stands on the last
    level, the average of the attended map.

    Args:
        backbone: Gives the maps.
        attention: A module, or several in a row, on the last level; or a mapping from level,
            1 being the shallowest, to the module or modules on it.
        decoder: Turns maps into segmentation logits.
        num_classes_classification: Classes of the classification head; ``None`` or 0: no head.
        num_classes_segmentation: Classes that the decoder gives; ``None`` or 0: no decoder.

    Attributes:
        classifier: The classification head, ``None`` without one.
        recipe: What the model was composed from; ``None`` if it was put together by hand.
        load_report: What became of the weights that ``zoo.build`` or :meth:`from_pretrained`
            loaded; ``None`` if there were none. A backbone constructed with ``pretrained=True``
            has a report of its own.
        preprocessing: How pictures become inputs; ``None`` if nothing was said.
        labels: Class names of each head that has them:
            ``{"classification": ("cat", "dog")}``.
        weights_source: The pretrained weights that the model began with, as it says when it is
            saved; ``None`` if nothing is known of them.
        licence: The licence of those weights; ``None`` if it is not known.

    Raises:
        ContractError: If a part is not of its kind.
        InputError: If the parts do not fit together, or there is no head.
    """

    def __init__(
        self,
        backbone: Backbone,
        attention: Placement | None = None,
        decoder: Decoder | None = None,
        num_classes_classification: int | None = None,
        num_classes_segmentation: int | None = None,
    ) -> None:
        super().__init__()
        _check_kind(backbone, "backbone", Backbone)
        schedule = ChannelSchedule(backbone.get_channel_schedule())
        classes = _class_count("num_classes_classification", num_classes_classification)
        self.num_classes_classification = classes
        self.num_classes_segmentation = _class_count(
            "num_classes_segmentation", num_classes_segmentation
        )
        self.backbone = backbone
        self.attention = _placed(attention, schedule)
        self.attends_last = str(len(schedule)) in self.attention
        self.decoder = decoder
        self._check_heads(schedule)
        self.classifier = nn.Linear(self.head_channels, classes) if classes else None
        self.recipe: Recipe | None = None
        self.load_report: LoadReport | None = None
        self.preprocessing: Preprocessing | None = None
        self.labels: dict[str, tuple[str, ...]] = {}
        self.weights_source: str | None = backbone.weights_source
        self.licence: str | None = backbone.licence

    def _check_heads(self, schedule: ChannelSchedule) -> None:
        classes = self.num_classes_segmentation
        if self.decoder is None:
            if classes:
                raise InputError(
                    f"num_classes_segmentation is {classes}, but there is no decoder; give one"
                )
            if not self.num_classes_classification:
                raise InputError(
                    "the model has no head; give num_classes_classification, or a decoder and "
                    "num_classes_segmentation"
                )
            dead = [level for level in self.attention if level != str(len(schedule))]
            if dead:
                raise InputError(
                    f"attention on level {', '.join(dead)} is read by no head; without a decoder "
                    f"only the last level, {len(schedule)}, is"
                )
            return
        _check_kind(self.decoder, "decoder", Decoder)
        last = str(len(schedule))
        for level in self.attention:
            pooled = level == last and self.num_classes_classification
            if not (pooled or self.decoder.reads(int(level))):
                read = [str(n + 1) for n in range(len(schedule)) if self.decoder.reads(n + 1)]
                raise InputError(
                    f"attention on level {level} is read by no head; "
                    f"{type(self.decoder).__name__} reads {', '.join(read)}"
                )
        given = _argument(self.decoder, "output_channels")
        if not classes:
            here = f", here num_classes_segmentation={given}" if given else ""
            raise InputError(f"a decoder needs num_classes_segmentation{here}")
        if given is not None and given != classes:
            raise InputError(
                f"num_classes_segmentation is {classes}, but the decoder gives {given} channels"
            )
        channels = _argument(self.decoder, "backbone_channels")
        if channels is not None and tuple(channels) != tuple(schedule):
            raise InputError(
                f"the decoder is for maps of {list(channels)} channels, but the backbone gives "
                f"{list(schedule)}; make it from backbone.get_channel_schedule()"
            )

    @property
    def head_channels(self) -> int:
        """Length of the vector that the classification head reads."""
        if self.attends_last:
            return self.backbone.get_channel_schedule()[-1]
        return self.backbone.pooled_channels

    def forward(self, inputs: Tensor | Mapping[str, Any]) -> Tensor | dict[str, Tensor]:
        """Give the logits of the heads; see the class.

        Raises:
            InputError: If the input's shape or type is wrong, or the batch asks for a head that
                the model does not have.
        """
        if isinstance(inputs, Mapping):
            return self._forward_batch(inputs)
        return self.run(inputs, self.classifier is not None, self.decoder is not None)

    def _forward_batch(self, batch: Mapping[str, Any]) -> Tensor | dict[str, Tensor]:
        if "image" not in batch:
            has = ", ".join(map(repr, batch.keys())) or "nothing"
            raise InputError(f"the batch has no 'image', only {has}")
        label = batch.get("label") is not None
        mask = batch.get("mask") is not None
        if label and self.classifier is None:
            raise InputError("the batch has a 'label', but the model has no classification head")
        if mask and self.decoder is None:
            raise InputError("the batch has a 'mask', but the model has no segmentation head")
        if not label and not mask:
            return self.forward(batch["image"])
        return self.run(batch["image"], label, mask)

    def run(
        self, images: Tensor, classification: bool, segmentation: bool
    ) -> Tensor | dict[str, Tensor]:
        """Give the logits of the named branches, a tensor for one and a dict for both."""
        self._check_images(images)
        pooled: Tensor | None = None
        if classification and not self.attends_last:
            maps, pooled = self.backbone.forward_features(images)
        else:
            maps = self.backbone(images)
        maps = self._attended(maps, every_level=segmentation)
        outputs: dict[str, Tensor] = {}
        if classification and self.classifier is not None:
            vector = maps[-1].mean((-2, -1)) if pooled is None else pooled
            outputs["classification"] = self.classifier(vector)
        if segmentation and self.decoder is not None:
            size = (images.shape[-2], images.shape[-1])
            outputs["segmentation"] = self.decoder(maps, output_size=size)
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        return outputs

    def _attended(self, maps: list[Tensor], *, every_level: bool) -> list[Tensor]:
        attended = list(maps)
        for level, module in self.attention.items():
            index = int(level) - 1
            if every_level or index == len(maps) - 1:
                attended[index] = module(attended[index])
        return attended

    def _check_images(self, images: Tensor) -> None:
        channels = _argument(self.backbone, "in_channels")
        expected = f"images [B, {channels or 'C'}, H, W] of floating point"
        if not isinstance(images, Tensor):
            raise InputError(f"the model takes {expected}, not {type(images).__name__}")
        fits = images.dim() == 4 and (channels is None or images.shape[1] == channels)
        if not fits or not images.is_floating_point():
            given = f"{list(map(int, images.shape))} of {images.dtype}"
            raise InputError(f"the model takes {expected}, not {given}")

    def save_pretrained(self, save_directory: str | PathLike[str], **options: Any) -> str | None:
        """Write a folder that :meth:`from_pretrained` reads without a network.

        It holds ``config.json``, ``model.safetensors`` and, unless there is one already, a model
        card. What the folder held before stays until all is written beside it. ``options`` are
        those of huggingface-hub's ``ModelHubMixin.save_pretrained``.

        Raises:
            SavedModelError: If a part is a module that no plugin gives, or was changed after it
                was constructed; if a value is not finite; or if labels, preprocessing or licence
                cannot be. Nothing is written then.
        """
        from zoo_core.saved.card import card_options
        from zoo_core.saved.saving import check_folder, check_savable, staged

        folder = Path(save_directory)
        card = card_options(options.pop("model_card_kwargs", None), folder.resolve().name)
        push, repo_id = options.pop("push_to_hub", False), options.pop("repo_id", None)
        if options.pop("config", None) is not None or (options and not push):
            raise SavedModelError(
                f"save_pretrained cannot use {', '.join(options) or 'config'}: the configuration "
                f"is the model's own, and other options are for push_to_hub=True"
            )
        check_folder(folder)
        check_savable(self)
        with staged(folder) as aside:
            super().save_pretrained(aside, model_card_kwargs=card)
        if not push:
            return None
        return self.push_to_hub(repo_id or folder.resolve().name, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        from zoo_core.saved.saving import write

        write(self, save_directory)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        num_classes_classification: int | None = None,
        num_classes_segmentation: int | None = None,
        seed: int | None = None,
        **unknown: Any,
    ) -> MultitaskModel:
        """Load a saved model, in eval mode, from a folder or a repository of the Hub.

        A folder is read without a network. Of a repository, the cache is used as far as it can
        be; the Hub is asked which commit a branch is at, and where it cannot be reached the one
        in the cache is used, with a warning. :attr:`load_report` tells of every tensor.

        Args:
            pretrained_model_name_or_path: The folder, or ``owner/name``.
            force_download: Download what is in the cache too.
            token: Who asks the Hub; by default whom ``hf auth login`` named, ``False`` nobody.
            cache_dir: The folder of the cache.
            local_files_only: Use the cache only.
            revision: A branch, a tag or a commit of the repository.
            num_classes_classification: Classes of the classification head: a head of other
                classes than the file's is replaced, and 0 leaves it away. By default it stays.
            num_classes_segmentation: Classes of the segmentation head, likewise.
            seed: Fixes the initial weights of replaced heads, as it does in ``zoo.build``.
            **unknown: None; other options are refused by name.

        Raises:
            SavedModelError: If it cannot be had, is no saved model, was changed since it was
                saved, needs a plugin that is missing, or cannot have such heads.
            InputError: If a number of classes or the seed is none.
        """
        from zoo_core.saved.saving import check_name

        name = str(pretrained_model_name_or_path)
        for option in unknown:
            parameters = list(inspect.signature(MultitaskModel.from_pretrained).parameters)
            known = ", ".join(parameters[1:-1])
            raise SavedModelError(f"from_pretrained has no option {option!r}; it has {known}")
        if not (name and Path(name).is_dir()):
            check_name(name)
        return cls._from_pretrained(
            model_id=name,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            num_classes_classification=num_classes_classification,
            num_classes_segmentation=num_classes_segmentation,
            seed=seed,
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> MultitaskModel:
        from zoo_core.saved.restoring import Heads
        from zoo_core.saved.saving import read_folder, read_hub

        heads = Heads(
            classification=model_kwargs.get("num_classes_classification"),
            segmentation=model_kwargs.get("num_classes_segmentation"),
            seed=model_kwargs.get("seed"),
        )
        if Path(model_id).is_dir():
            return read_folder(Path(model_id), heads)
        return read_hub(
            model_id,
            heads,
            revision="main" if revision is None else revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save the model to a repository of the Hub, and give the address of the commit.

        Args:
            repo_id: ``owner/name``, or the name of a repository of one's own.
            **options: Those of huggingface-hub's ``ModelHubMixin.push_to_hub``; a ``branch`` that
                there is not yet is begun.

        Raises:
            SavedModelError: If the model cannot be saved, or the Hub does not take it.
        """
        from zoo_core.saved.pushing import push_model

        return push_model(self, super().push_to_hub, repo_id, options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Give the model card that is saved beside the weights.

        Args:
            *args: None.
            **kwargs: ``repo_id``, what the snippet of the card loads.
        """
        from zoo_core.saved.card import card_options, model_card

        return model_card(self, **card_options(kwargs, "my-model"))


def _check_kind(module: object, what: str, contract: type) -> None:
    if not isinstance(module, contract):
        raise ContractError(
            f"the {what} must be a zoo_core.{contract.__name__}, not {type(module).__name__}"
        )


def _argument(module: nn.Module, name: str) -> Any:
    return getattr(module, "constructor_arguments", {}).get(name)


def _class_count(what: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value or None
    raise InputError(f"{what} must be a whole number from 0, not {value!r}")


def _placed(attention: Placement | None, schedule: ChannelSchedule) -> nn.ModuleDict:
    last = len(schedule)
    if attention is None:
        attention = {}
    elif not isinstance(attention, Mapping):
        attention = {last: attention}
    placed = nn.ModuleDict()
    for level in sorted(attention):
        if not isinstance(level, int) or not 1 <= level <= last:
            raise InputError(f"attention on level {level!r}; levels go from 1 to {last}")
        given = attention[level]
        if not isinstance(given, nn.Module | Iterable):
            raise ContractError(f"an attention must be a module, not {type(given).__name__}")
        modules = [given] if isinstance(given, nn.Module) else list(given)
        for module in modules:
            _check_attention(module, level, schedule)
        if modules:
            placed[str(level)] = nn.Sequential(*modules)
    return placed


def _check_attention(module: object, level: int, schedule: ChannelSchedule) -> None:
    if not isinstance(module, nn.Module):
        raise ContractError(f"an attention must be a module, not {type(module).__name__}")
    channels = _argument(module, "in_channels")
    if channels is not None and channels != schedule[level - 1]:
        raise InputError(
            f"{type(module).__name__} is for {channels} channels, but level {level} of "
            f"{list(schedule)} has {schedule[level - 1]}; attention={{level: module}} chooses "
            f"another level"
        )
