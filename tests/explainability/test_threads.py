"""Threads that explain one model at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from zoo_core.explainability import Explainer


def test_each_thread_gets_its_own_answer(two_heads: Callable[[], Any]) -> None:
    model = two_heads().train()
    methods = {"grad_cam": {}, "layer_cam": {"target_layer": "backbone.layer2"}, "saliency": {}}
    pictures = [torch.randn(2, 3, 48, 64) for _ in range(4)]
    expected = [
        dict(Explainer(model, methods).explain(batch, target_class=index))
        for index, batch in enumerate(pictures)
    ]
    together = Barrier(len(pictures))

    def work(index: int) -> list[dict[str, Tensor]]:
        explainer = Explainer(model, methods)
        together.wait()
        return [dict(explainer.explain(pictures[index], target_class=index)) for _ in range(4)]

    with ThreadPoolExecutor(len(pictures)) as pool:
        found = list(pool.map(work, range(len(pictures))))
    for answers, right in zip(found, expected, strict=True):
        for answer in answers:
            torch.testing.assert_close(answer, right, rtol=1e-4, atol=1e-6)
    assert all(module.training for module in model.modules())
    assert all(not module._forward_hooks for module in model.modules())
