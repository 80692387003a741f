"""The rules as test classes, and as items of ``pytest --zoo-check``."""

from __future__ import annotations

import pytest

import zoo_core.testing
from zoo_core.testing.conformance.book import rules_of
from zoo_core.testing.conformance.cases import BackboneTests, CatalogueTests, ExplainerTests

from .breaking import Coarse
from .sound import Slope

pytest_plugins = ["pytester"]

COUNT = len(rules_of("catalogue") + rules_of("explainer"))


class TestSaliency(ExplainerTests):
    component = "saliency"


class TestRise(ExplainerTests):
    component = "rise"
    options = {"num_masks": 8, "absolute": True}  # noqa: RUF012  # as an author writes it


class TestOwnClass(ExplainerTests):
    component = Slope


class TestCatalogue(CatalogueTests):
    distribution = "zoo-timm"


def test_every_rule_is_a_test() -> None:
    for group, cls in (("explainer", ExplainerTests), ("backbone", BackboneTests)):
        names = [name for name in vars(cls) if name.startswith("test_")]
        assert names == [f"test_{rule.name}" for rule in rules_of(group)]
        assert [vars(cls)[name].__doc__ for name in names] == [
            f"{rule.summary}." for rule in rules_of(group)
        ]
    names = [name for name in vars(CatalogueTests) if name.startswith("test_")]
    assert names == [
        f"test_{rule.name}" for group in ("plugin", "catalogue") for rule in rules_of(group)
    ]


def test_all_classes_are_offered() -> None:
    for kind in ("Attention", "Backbone", "Catalogue", "Decoder", "Explainer"):
        assert f"{kind}Tests" in zoo_core.testing.__all__
        assert isinstance(getattr(zoo_core.testing, f"{kind}Tests"), type)


def test_a_broken_rule_fails_its_test() -> None:
    class Tests(ExplainerTests):
        component = Coarse

    with pytest.raises(zoo_core.ZooError) as caught:
        Tests().test_maps()  # type: ignore[attr-defined]
    assert str(caught.value) == (
        "expected 3×32×40 or 3×3×32×40 for pictures 3×3×32×40; found 3×3×16×20 (in Coarse); to "
        "mend it, give one value a pixel, resized to the pictures' size, without adding up the "
        "batch"
    )


def test_a_rule_that_does_not_apply_is_skipped() -> None:
    class Tests(ExplainerTests):
        component = Slope

    with pytest.raises(pytest.skip.Exception, match="its constructor takes no model"):
        Tests().test_own_model()  # type: ignore[attr-defined]


def test_items_of_a_component(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--zoo-check", "saliency", "-v", "-k", "maps or targets")
    result.assert_outcomes(
        passed=2, deselected=len(rules_of("catalogue") + rules_of("explainer")) - 2
    )
    result.stdout.fnmatch_lines(["zoo-check::zoo-saliency:saliency::maps PASSED*"])


def test_items_beside_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_own(): pass")
    result = pytester.runpytest_inprocess("--zoo-check", "saliency", "-k", "own or summary")
    result.assert_outcomes(
        passed=3, deselected=len(rules_of("catalogue") + rules_of("explainer")) - 2
    )


def test_an_unknown_name_ends_the_run(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--zoo-check", "zoo-salency")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown component 'zoo-salency'; *zoo-saliency?"])
