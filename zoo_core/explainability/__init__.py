"""Explaining models: what in a picture speaks for a class.

:class:`Explainer` runs several methods at once. The methods' classes come with plugins and are
found here by name: ``from zoo_core.explainability import GradCAM``. Who writes one derives from
:class:`BaseExplainer`, or from :class:`ModelExplainer` to share the runs of a model with others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.contracts import BaseExplainer as BaseExplainer
from zoo_core.explainability.base import Attribution as Attribution
from zoo_core.explainability.base import ModelExplainer as ModelExplainer
from zoo_core.explainability.explainer import Explainer as Explainer
from zoo_core.explainability.inquiry import Inquiry as Inquiry
from zoo_core.explainability.results import Explanation as Explanation
from zoo_core.explainability.results import Explanations as Explanations
from zoo_core.explainability.results import Facts as Facts
from zoo_core.explainability.results import NotApplicableError as NotApplicableError
from zoo_core.explainability.results import Skipped as Skipped
from zoo_core.explainability.running import explaining as explaining
from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_attention_maps.maps import AttentionMaps as AttentionMaps
    from zoo_captum.explainer import CaptumExplainer as CaptumExplainer
    from zoo_gradcam.ablation import AblationCAM as AblationCAM
    from zoo_gradcam.eigen import EigenCAM as EigenCAM
    from zoo_gradcam.gradient import GradCAM as GradCAM
    from zoo_gradcam.gradient import GradCAMPlusPlus as GradCAMPlusPlus
    from zoo_gradcam.gradient import HiResCAM as HiResCAM
    from zoo_gradcam.gradient import LayerCAM as LayerCAM
    from zoo_gradcam.gradient import XGradCAM as XGradCAM
    from zoo_gradcam.score import ScoreCAM as ScoreCAM
    from zoo_saliency.gradient import InputXGradient as InputXGradient
    from zoo_saliency.gradient import VanillaSaliency as VanillaSaliency
    from zoo_saliency.guided import GuidedBackprop as GuidedBackprop
    from zoo_saliency.occlusion import Occlusion as Occlusion
    from zoo_saliency.path import IntegratedGradients as IntegratedGradients
    from zoo_saliency.rise import RISE as RISE
    from zoo_saliency.smooth import SmoothGrad as SmoothGrad

__getattr__, _class_names = class_getter(__name__, "explainer")


def __dir__() -> list[str]:
    return sorted({*globals(), *_class_names()})
