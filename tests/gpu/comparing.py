"""Comparing what an extension gives in float32 with its reference in float64, and saying how far off it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compare"]


def compare(name: str, found: Tensor, expected: Tensor, *, relative: float, largest: float) -> None:
    """Print how far *found* is from *expected*, and fail where that is too far.

    Args:
        relative: The norm of the difference, in norms of what is expected.
        largest: The largest difference of any number, in the largest number that is expected.
    """
    found, expected = found.detach().cpu().double(), expected.detach().double()
    assert found.shape == expected.shape, (
        f"{name}: {tuple(found.shape)}, expected {tuple(expected.shape)}"
    )
    assert torch.isfinite(found).all(), f"{name}: not finite"
    norm, most = expected.norm().item(), expected.abs().max().item()
    assert norm > 0, f"{name}: a reference of zeros compares nothing"
    off, worst = (found - expected).norm().item() / norm, (found - expected).abs().max().item() / most
    print(
        f"  {name:<34} relative L2 {off:.1e} (limit {relative:.0e})  largest {worst:.1e} (limit {largest:.0e})"
    )
    assert off <= relative, f"{name}: relative L2 error {off:.3e}, limit {relative:.0e}"
    assert worst <= largest, f"{name}: largest error {worst:.3e} of {most:.3e}, limit {largest:.0e}"
