"""Recipes: ``backbone[+attention…][+decoder]``, each part ``[dist:]name[.tag][@levels]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from zoo_core.catalogue import Registry
from zoo_core.errors import OptionError, RecipeError, UnknownComponentError
from zoo_core.spec import Spec

_PART = re.compile(
    r"(?P<name>(?:[A-Za-z0-9][\w.-]*:)?[A-Za-z0-9_][\w/-]*)"
    r"(?:\.(?P<tag>[\w-]+))?"
    r"(?:@(?P<levels>last|all|[0-9]{1,9}(?:,[0-9]{1,9})*))?"
)

# Given by the composition: the shapes that parts have to agree on, and where weights come from.
WIRED: Final = {
    "backbone": {"in_channels", "pretrained", "image_size", "pooled"},
    "attention": {"in_channels"},
    "decoder": {"backbone_channels", "output_channels"},
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of a recipe, with what was asked of it.

    Attributes:
        spec: The component.
        tag: Tag of the weights asked for, or ``None``.
        levels: Where an attention stands: ``last``, ``all`` or numbers from 1, shallow to deep.
        options: Constructor arguments beside those of the spec.
    """

    spec: Spec
    tag: str | None = None
    levels: str = "last"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def canonical(self) -> str:
        """The part as a recipe writes it, with its qualified name."""
        tag = f".{self.tag}" if self.tag else ""
        levels = f"@{self.levels}" if self.levels != "last" else ""
        return f"{self.spec.qualified_name}{tag}{levels}"

    def placed(self, count: int) -> list[int]:
        """Give the levels, from 1, on a backbone of ``count`` maps.

        Raises:
            RecipeError: If the backbone has no such level.
        """
        if self.levels == "last":
            return [count]
        if self.levels == "all":
            return list(range(1, count + 1))
        levels = sorted({int(level) for level in self.levels.split(",")})
        for level in levels:
            if not 1 <= level <= count:
                raise RecipeError(
                    f"{self.spec.name}@{self.levels}: there is no level {level}; the backbone has "
                    f"levels 1 (shallow) to {count} (deep)"
                )
        return levels


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A backbone, attentions in their order, and perhaps a decoder."""

    backbone: Part
    attention: tuple[Part, ...] = ()
    decoder: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts in the order of the recipe."""
        return (self.backbone, *self.attention, *((self.decoder,) if self.decoder else ()))

    @property
    def canonical(self) -> str:
        """The recipe with qualified names, which means the same whatever else is installed."""
        return "+".join(part.canonical for part in self.parts)


def parse(text: str, registry: Registry) -> Recipe:
    """Read a recipe, kinds told from the catalogue.

    Raises:
        RecipeError: If it is malformed, or a part is of the wrong kind or in the wrong place.
        UnknownComponentError: If no installed plugin gives a part.
        AmbiguousComponentError: If two plugins give a part.
    """
    if not text.strip():
        raise RecipeError("the recipe is empty; write one such as 'resnet50+cbam+unet'")
    parts: list[Part] = []
    start = 0
    for piece in text.split("+"):
        position = start + len(piece) - len(piece.lstrip()) + 1
        parts.append(_part(piece.strip(), f"at character {position} of {text!r}", parts, registry))
        start += len(piece) + 1
    decoder = parts[-1] if parts[-1].spec.kind == "decoder" else None
    attention = parts[1:-1] if decoder else parts[1:]
    recipe = Recipe(backbone=parts[0], attention=tuple(attention), decoder=decoder)
    _check_levels(recipe)
    return recipe


def _part(piece: str, where: str, before: list[Part], registry: Registry) -> Part:
    match = _PART.fullmatch(piece)
    if not match:
        found = f"{piece!r}" if piece else "nothing"
        raise RecipeError(
            f"{found} {where} is no part of a recipe; a part is [distribution:]name[.tag][@levels],"
            f" levels being last, all or numbers such as 1,3"
        )
    kinds = ("attention", "decoder") if before else ("backbone",)
    spec = _component(match["name"], where, kinds, registry)
    if before and before[-1].spec.kind == "decoder":
        raise RecipeError(
            f"{spec.kind} {spec.name!r} {where} stands after the decoder "
            f"{before[-1].spec.name!r}; the order is backbone+attention+decoder, one decoder last"
        )
    if match["tag"]:
        _check_tag(spec, match["tag"], where, registry)
    if match["levels"] and spec.kind != "attention":
        raise RecipeError(
            f"'@{match['levels']}' {where}: only an attention has levels, and {spec.name!r} is a "
            f"{spec.kind}"
        )
    levels = match["levels"] or "last"
    if levels not in ("last", "all"):
        levels = ",".join(map(str, sorted({int(level) for level in levels.split(",")})))
    return Part(spec=spec, tag=match["tag"], levels=levels)


def _component(name: str, where: str, kinds: tuple[str, ...], registry: Registry) -> Spec:
    wanted = registry.of_kind(*kinds)
    try:
        return wanted[name]
    except UnknownComponentError as error:
        others = registry.candidates(name)
        if not others:
            message = str(error).replace(repr(name), f"{name!r} {where}", 1)
            raise UnknownComponentError(message) from None
        here = (
            "the first part is a backbone"
            if kinds == ("backbone",)
            else ("only the first part is a backbone, and attentions and a decoder follow")
        )
        raise RecipeError(f"{name!r} {where} is of kind {others[0].kind}; {here}") from None


def _check_tag(spec: Spec, tag: str, where: str, registry: Registry) -> None:
    if spec.kind != "backbone":
        raise RecipeError(f"'.{tag}' {where}: {spec.kind} {spec.name!r} has no pretrained weights")
    tags = registry.tags_of(spec)
    if tag not in tags:
        there = f"it has {', '.join(tags)}" if tags else "it has none"
        raise RecipeError(f"{spec.name!r} {where} has no weights {tag!r}; {there}")


def _check_levels(recipe: Recipe) -> None:
    count = len(recipe.backbone.spec.channels)
    for part in recipe.attention:
        reaches_head = part.levels == "last"
        if count:
            reaches_head = part.placed(count) == [count]
        if recipe.decoder is None and not reaches_head:
            raise RecipeError(
                f"{part.spec.name}@{part.levels}: without a decoder only the last level is read; "
                f"add a decoder or leave '@{part.levels}' away"
            )


def with_options(
    recipe: Recipe,
    *,
    backbone: Mapping[str, Any] | None = None,
    attention: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    decoder: Mapping[str, Any] | None = None,
    named: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """Give the recipe with options for its parts, by role or by a part's plain name.

    Raises:
        OptionError: If there is no such part, or the part has no such option.
    """
    if isinstance(attention, Mapping) and len(recipe.attention) > 1:
        raise OptionError(
            f"{recipe.canonical!r} has {len(recipe.attention)} attentions; give a list with the "
            f"options of each, or address one by its name"
        )
    if attention is not None and not isinstance(attention, Iterable):
        raise OptionError(f"attention= takes a dict of options, or a list of them: {attention!r}")
    attentions = [attention] if isinstance(attention, Mapping) else list(attention or ())
    if not all(isinstance(options, Mapping) for options in attentions):
        raise OptionError(f"attention= takes a dict of options, or a list of them: {attention!r}")
    if len(attentions) > len(recipe.attention):
        raise OptionError(
            f"options for {len(attentions)} attentions, but {recipe.canonical!r} has "
            f"{len(recipe.attention)}"
        )
    if decoder and not recipe.decoder:
        raise OptionError(f"options for a decoder, but {recipe.canonical!r} has none")
    attentions += [{}] * (len(recipe.attention) - len(attentions))
    roles = {"backbone": backbone or {}, "decoder": decoder or {}, **(named or {})}
    for role, given in roles.items():
        if not isinstance(given, Mapping):
            raise OptionError(f"{role}= takes a dict of options, not {given!r}")
    by_name = dict(named or {})
    for name in by_name:
        count = [part.spec.name for part in recipe.parts].count(name)
        if count != 1:
            have = ", ".join(part.spec.name for part in recipe.parts)
            problem = "stands there twice: address it by role" if count else f"it has {have}"
            raise OptionError(f"options for {name!r} in {recipe.canonical!r}: {problem}")

    def filled(part: Part, options: Mapping[str, Any] | None) -> Part:
        by_role, by_own_name = dict(options or {}), by_name.get(part.spec.name, {})
        for option in by_role.keys() & by_own_name.keys():
            raise OptionError(
                f"{part.spec.kind} {part.spec.name!r}: {option!r} is given by role and by name"
            )
        merged = {**part.options, **by_role, **by_own_name}
        check_options(part.spec, merged)
        return replace(part, options=merged)

    return Recipe(
        backbone=filled(recipe.backbone, backbone),
        attention=tuple(map(filled, recipe.attention, attentions)),
        decoder=filled(recipe.decoder, decoder) if recipe.decoder else None,
    )


def check_options(spec: Spec, options: Mapping[str, Any]) -> None:
    """Refuse options that the catalogue knows to be wrong.

    Raises:
        OptionError: Naming the option and those there are.
    """
    for name in options:
        if not isinstance(name, str):
            raise OptionError(
                f"{spec.kind} {spec.name!r}: an option has a name, and {name!r} is none"
            )
        if name in WIRED.get(spec.kind, ()):
            flag = name.replace("_", "-")
            how = f"is set for the whole model, with {name}=… or --{flag}"
            if spec.kind != "backbone" or name == "pooled":
                how = "follows from the composition"
            raise OptionError(f"{spec.kind} {spec.name!r}: {name!r} {how}")
        if name in spec.kwargs:
            raise OptionError(
                f"{spec.kind} {spec.name!r}: {name!r} is what makes it {spec.name!r} "
                f"({name}={spec.kwargs[name]!r}) and cannot be changed"
            )
        if spec.options is not None and name not in spec.options:
            raise unknown_option(spec, name, spec.options)


def unknown_option(spec: Spec, name: str, known: Iterable[str]) -> OptionError:
    """Give the error for an option that a component does not have."""
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(name, names, 1)
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else (f"it has {', '.join(names)}" if names else "it has none")
    )
    return OptionError(f"{spec.kind} {spec.name!r} has no option {name!r}; {hint}")
