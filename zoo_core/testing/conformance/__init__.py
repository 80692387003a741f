"""The rules that components keep, one module for each kind.

They are applied by ``zoo check``, by the test classes of :mod:`zoo_core.testing`, and by
``pytest --zoo-check``.
"""
