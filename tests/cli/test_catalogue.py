"""``zoo list``, ``zoo info`` and ``zoo plugins``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from .conftest import Finished, Table, Zoo

KINDS = "backbone, attention, decoder, explainer"
