"""Whether every backbone goes with every attention and every decoder.

``python -m matrix`` tries the native components and writes ``docs/matrix.md``;
``python -m matrix timm`` tries every architecture that timm lists, which takes an hour or so on two
cores, and writes ``docs/matrix-timm.md``.
"""
