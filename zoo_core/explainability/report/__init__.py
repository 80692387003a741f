"""Explanations as pictures, arrays and one page that opens anywhere, without a network."""

from __future__ import annotations

from zoo_core.explainability.report.arrays import save_arrays as save_arrays
from zoo_core.explainability.report.files import whole_file as whole_file
from zoo_core.explainability.report.overlays import Drawn as Drawn
from zoo_core.explainability.report.overlays import drawn as drawn
from zoo_core.explainability.report.overlays import is_map as is_map
from zoo_core.explainability.report.page import page as page
from zoo_core.explainability.report.section import Shown as Shown
from zoo_core.explainability.report.section import section as section
