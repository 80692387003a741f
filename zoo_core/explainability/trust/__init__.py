"""How far to trust an explanation: what the model does when what a map points at is changed."""

from zoo_core.explainability.trust.confidence import Confidence as Confidence
from zoo_core.explainability.trust.confidence import average_drop as average_drop
from zoo_core.explainability.trust.pointing import pointing_game as pointing_game
from zoo_core.explainability.trust.removal import Curve as Curve
from zoo_core.explainability.trust.removal import deletion as deletion
from zoo_core.explainability.trust.removal import insertion as insertion
from zoo_core.explainability.trust.removal import road as road
from zoo_core.explainability.trust.sanity import Sanity as Sanity
from zoo_core.explainability.trust.sanity import randomisation_check as randomisation_check
from zoo_core.explainability.trust.scores import score_maps as score_maps
from zoo_core.explainability.trust.stability import sensitivity as sensitivity

__all__ = [
    "Confidence",
    "Curve",
    "Sanity",
    "average_drop",
    "deletion",
    "insertion",
    "pointing_game",
    "randomisation_check",
    "road",
    "score_maps",
    "sensitivity",
]
