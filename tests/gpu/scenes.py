"""What is computed: points, Gaussians, cameras; the same numbers on every machine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.gpu.reference import TILE, Camera, Gaussians, project

__all__ = ["camera_of", "gaussians_of", "uniform", "well_inside"]


def uniform(*shape: int, seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Return numbers of float32's precision, in float64: both sides compute with the very same ones."""
    numbers = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (low + (high - low) * numbers).float().double()


def camera_of(width: int = 101, height: int = 75) -> Camera:
    """Return a camera that is turned, moved, and whose image is no whole number of tiles."""
    turn, nod = 0.4, -0.25
    about_y = [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
    about_x = [[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]]
    rotation = torch.tensor(about_x, dtype=torch.float64) @ torch.tensor(about_y, dtype=torch.float64)
    shift = torch.tensor([0.2, -0.1, 4.0], dtype=torch.float64)
    tan_x, tan_y, near, far = 0.5, 0.5 * height / width, 0.01, 100.0
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3], view[3, :3] = rotation.T, shift
    lens = torch.zeros(4, 4, dtype=torch.float64)
    lens[0, 0], lens[1, 1], lens[2, 3] = 1 / tan_x, 1 / tan_y, 1.0
    lens[2, 2], lens[3, 2] = far / (far - near), -far * near / (far - near)
    view = view.float().double()
    return Camera(
        width=width,
        height=height,
        tan_x=tan_x,
        tan_y=tan_y,
        view=view,
        projection=(view @ lens).float().double(),
        position=(-shift @ rotation).float().double(),
        background=torch.tensor([0.25, 0.5, 0.125], dtype=torch.float64),
    )


def gaussians_of(count: int, *, degree: int, seed: int, opacity: float = 0.8) -> Gaussians:
    """Return Gaussians around the origin, no more opaque than *opacity*, of which some are out of sight."""
    quaternions = uniform(count, 4, seed=seed + 1)
    quaternions = quaternions / quaternions.norm(dim=1, keepdim=True)
    return Gaussians(
        means=uniform(count, 3, seed=seed, low=-2.0, high=2.0),
        offsets=torch.zeros(count, 3, dtype=torch.float64),
        opacities=uniform(count, 1, seed=seed + 2, low=0.05, high=opacity),
        scales=uniform(count, 3, seed=seed + 3, low=-3.5, high=-1.5).exp().float().double(),
        rotations=quaternions.float().double(),
        harmonics=uniform(count, (degree + 1) ** 2, 3, seed=seed + 4, low=-0.4, high=0.4),
    )


def well_inside(gaussians: Gaussians, camera: Camera, *, margin: float = 0.01) -> Gaussians:
    """Return those of *gaussians* which rounding moves over no border: of radii, of tiles, of what is held or hidden.

    Beyond such a border another number is right, and which one is found is chance.

    Args:
        margin: How far from one, in pixels.
    """
    flat = project(gaussians, camera)
    radius = flat.reaches.ceil()
    edges = torch.cat([flat.centres - radius[:, None], flat.centres + radius[:, None] + TILE - 1], 1)
    near_tile = ((edges / TILE) - (edges / TILE).round()).abs().lt(margin / TILE).any(1)
    near_pixel = (flat.reaches - flat.reaches.round()).abs().lt(margin)
    at = (
        torch.cat([gaussians.means, torch.ones_like(gaussians.means[:, :1])], 1)[flat.chosen]
        @ camera.view
    )
    slopes = at[:, :2] / at[:, 2:3]
    limits = 1.3 * torch.tensor([camera.tan_x, camera.tan_y], dtype=torch.float64)
    near_limit = (slopes.abs() - limits).abs().lt(margin / TILE).any(1)
    doubtful = flat.chosen[near_tile | near_pixel | near_limit | (at[:, 2] - 0.2).lt(margin / TILE)]
    kept = torch.ones(len(gaussians.means), dtype=torch.bool)
    kept[doubtful] = False
    return gaussians.only(kept.nonzero()[:, 0])
