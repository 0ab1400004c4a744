"""Muon for weight matrices, convolution kernels included, and AdamW for the rest, behind one small interface.

Muon orthogonalises each matrix's update, which makes every direction of it learn at the same pace (Jordan et al.
2024, https://kellerjordan.github.io/posts/muon/); scaled to AdamW's step size (Liu et al. 2025, arXiv:2502.16982),
so both share one learning rate. PyTorch's Muon takes matrices only: a kernel [out, in, h, w] is seen as [out, in * h * w].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class MuonAdam:
    """One optimizer for named parameters; those whose name holds a word of ``keep_adam`` stay with AdamW."""

    def __init__(self, named: Iterable[tuple[str, Any]], rate: float, keep_adam: tuple[str, ...] = ()) -> None:
        import torch

        flat, rest = [], []
        self._pairs: list[tuple[Any, Any]] = []
        for name, parameter in named:
            if parameter.ndim < 2 or any(word in name for word in keep_adam):
                rest.append(parameter)
                continue
            matrix = torch.nn.Parameter(parameter.detach().view(len(parameter), -1))  # both share their numbers
            self._pairs.append((parameter, matrix))
            flat.append(matrix)
        self.rate = rate
        self._muon = torch.optim.Muon(flat, lr=rate, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self._adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)

    def step(self, scale: float) -> None:
        """Update with ``scale`` times the learning rate and forget the gradients."""
        for parameter, matrix in self._pairs:
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
            parameter.grad = None
        for optimizer in (self._muon, self._adam):
            for group in optimizer.param_groups:
                group["lr"] = self.rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
