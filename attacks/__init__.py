"""Attacks on the zoo, timm, torchvision and huggingface-hub's mixin, mounted for real.

Run ``python -m attacks`` to mount all of them and to write the table of ``docs/attacks.md``.
"""
