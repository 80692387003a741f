"""The contracts of the catalogue and of each kind."""

from __future__ import annotations

from typing import ClassVar

from zoo_core.testing import (
    AttentionTests,
    BackboneTests,
    CatalogueTests,
    DecoderTests,
    ExplainerTests,
)


class TestCatalogue(CatalogueTests):
    distribution = "birdhouse"


class TestConvMixer(BackboneTests):
    component = "convmixer"
    options: ClassVar[dict[str, int]] = {"width": 32, "depth": 4, "kernel_size": 5}


class TestSRM(AttentionTests):
    component = "srm"


class TestLRASPP(DecoderTests):
    component = "lraspp"
    options: ClassVar[dict[str, int]] = {"channels": 16}


class TestVarGrad(ExplainerTests):
    component = "vargrad"
    options: ClassVar[dict[str, int]] = {"num_samples": 5}
