"""What the compiled extensions compute, in plain PyTorch and float64: slow, differentiable, on any device.

Written from the published equations, without any code of upstream's:

- Kerbl, Kopanas, Leimkühler, Drettakis: 3D Gaussian Splatting for Real-Time Radiance Field Rendering (2023),
  "3DGS" below: Gaussians, their projection (5, 6), compositing (2, 3) and the limits of its appendix C.
- Zwicker, Pfister, van Baar, Gross: EWA Splatting (2002): the local affine approximation of a projection (29, 31).
- Müller, Evans, Schied, Keller: Instant Neural Graphics Primitives (2022), "NGP": multiresolution grids and hash (4).

Where an extension does what no equation says, the comment says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

__all__ = [
    "Camera",
    "Gaussians",
    "Grid",
    "Projected",
    "Rendered",
    "encode",
    "nearest",
    "project",
    "rasterize",
    "spherical_harmonics",
]

TILE = 16
"""Pixels: a Gaussian is drawn in whole tiles of this width and height, and nowhere else."""


# ---- nearest neighbours --------------------------------------------------------------------------------


def nearest(points: Tensor, *, count: int = 3, chunk: int = 512) -> Tensor:
    """Return for each point the mean of the squared distances to its *count* nearest neighbours."""
    points = points.double()
    found = []
    for start in range(0, len(points), chunk):
        # Differences, not `cdist`: that one subtracts squares, and cancels.
        part = points[start : start + chunk, None, :] - points[None, :, :]
        squared = part.square().sum(-1)
        rows = torch.arange(len(squared))
        squared[rows, rows + start] = math.inf
        found.append(squared.topk(count, dim=1, largest=False).values.mean(1))
    return torch.cat(found)


# ---- Gaussians -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussians:
    """What is drawn: one row for each."""

    means: Tensor
    """[N, 3], in the world."""
    offsets: Tensor
    """[N, 3], added to the projected means in normalised device coordinates: zeros, for their gradient."""
    opacities: Tensor
    """[N, 1]."""
    scales: Tensor
    """[N, 3]."""
    rotations: Tensor
    """[N, 4], quaternions with the real part first, taken as they are: nobody normalises them."""
    harmonics: Tensor
    """[N, M, 3], coefficients of the colour; M is 1, 4, 9 or 16."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def only(self, chosen: Tensor) -> Gaussians:
        """Return the rows that are *chosen*."""
        return Gaussians(**{name: tensor[chosen] for name, tensor in self.tensors.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Where it is seen from. Matrices are for row vectors: a point is `[x, y, z, 1] @ view`."""

    width: int
    height: int
    tan_x: float
    """Of half the field of view."""
    tan_y: float
    view: Tensor
    """[4, 4], from the world to the camera, which looks along z."""
    projection: Tensor
    """[4, 4], from the world to clip space."""
    position: Tensor
    """[3]."""
    background: Tensor
    """[3], a colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projected:
    """Gaussians on the image plane."""

    chosen: Tensor
    """[K], which of all Gaussians are not behind the camera."""
    centres: Tensor
    """[K, 2], in pixels, whose middles are whole numbers."""
    covariances: Tensor
    """[K, 2, 2]."""
    depths: Tensor
    """[K]."""
    reaches: Tensor
    """[K], three standard deviations along the longer axis, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An image."""

    color: Tensor
    """[3, H, W]."""
    radii: Tensor
    """[N], whole pixels; 0 for what is not drawn."""
    depth: Tensor
    """[1, H, W]."""
    alpha: Tensor
    """[1, H, W]."""


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Return the real spherical harmonics up to *degree* (3 at most) of unit vectors: [N, (degree + 1)²].

    Orthonormal on the sphere, with the Condon-Shortley phase.
    """
    x, y, z = directions.unbind(-1)
    found = [torch.full_like(x, math.sqrt(1 / (4 * math.pi)))]
    if degree >= 1:
        one = math.sqrt(3 / (4 * math.pi))
        found += [-one * y, one * z, -one * x]
    if degree >= 2:
        two = math.sqrt(15 / (4 * math.pi))
        found += [
            two * x * y,
            -two * y * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - (x * x + y * y + z * z)),
            -two * x * z,
            two / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        outer, middle = math.sqrt(35 / (32 * math.pi)), math.sqrt(105 / (4 * math.pi))
        inner = math.sqrt(21 / (32 * math.pi))
        round_ = 4 * z * z - x * x - y * y
        found += [
            -outer * y * (3 * x * x - y * y),
            middle * x * y * z,
            -inner * y * round_,
            math.sqrt(7 / (16 * math.pi)) * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -inner * x * round_,
            middle / 2 * z * (x * x - y * y),
            -outer * x * (x * x - 3 * y * y),
        ]
    return torch.stack(found, -1)


def project(gaussians: Gaussians, camera: Camera) -> Projected:
    """Return *gaussians* on the image plane, those alone that are far enough before the camera."""
    homogeneous = torch.cat([gaussians.means, torch.ones_like(gaussians.means[:, :1])], 1)
    chosen = (homogeneous @ camera.view)[:, 2].gt(0.2).nonzero()[:, 0]
    seen, homogeneous = gaussians.only(chosen), homogeneous[chosen]
    at = (homogeneous @ camera.view)[:, :3]
    clip = homogeneous @ camera.projection
    device = clip[:, :2] / (clip[:, 3:] + 1e-7) + seen.offsets[:, :2]
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    # 3DGS (5, 6): Σ = R S Sᵀ Rᵀ, Σ' = J W Σ Wᵀ Jᵀ; and at least a pixel wide, for which 0.3 stands.
    turned = _rotation(seen.rotations) * seen.scales[:, None, :]
    local = _jacobian(at, camera) @ camera.view[:3, :3].T @ turned
    covariances = local @ local.mT + 0.3 * torch.eye(2, dtype=torch.float64)
    middle = (covariances[:, 0, 0] + covariances[:, 1, 1]) / 2
    longer = middle + (middle.square() - torch.linalg.det(covariances)).clamp(min=0.1).sqrt()
    return Projected(
        chosen=chosen,
        centres=((device + 1) * size - 1) / 2,
        covariances=covariances,
        depths=at[:, 2],
        reaches=3 * longer.sqrt(),
    )


def _rotation(quaternions: Tensor) -> Tensor:
    r, x, y, z = quaternions.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - r * z), 2 * (x * z + r * y)],
        [2 * (x * y + r * z), 1 - 2 * (x * x + z * z), 2 * (y * z - r * x)],
        [2 * (x * z - r * y), 2 * (y * z + r * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _jacobian(at: Tensor, camera: Camera) -> Tensor:
    """Return the derivative of the perspective map, in pixels, at points of the camera's space: [K, 2, 3].

    Points beyond 1.3 times the field of view count as if they were there: the affine approximation is none any more. The
    extension takes where that is as a constant, so gradients do not pass.
    """
    x, y, z = at.unbind(-1)
    rows = []
    zero = torch.zeros_like(z)
    for axis, (value, tangent, size) in enumerate(
        ((x, camera.tan_x, camera.width), (y, camera.tan_y, camera.height))
    ):
        limit, focal = 1.3 * tangent, size / (2 * tangent)
        slope = (value / z).detach()
        held = torch.where(slope.abs() > limit, (slope.clamp(-limit, limit) * z).detach(), value)
        row = [zero, zero, -focal * held / z.square()]
        row[axis] = focal / z
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def rasterize(gaussians: Gaussians, camera: Camera, *, radii: Tensor | None = None) -> Rendered:
    """Return the image of *gaussians*: every pixel and every Gaussian at once.

    Args:
        radii: Those that somebody else has found, where rounding up may have gone another way.
    """
    flat = project(gaussians, camera)
    reach = flat.reaches.detach().ceil() if radii is None else radii[flat.chosen].double()
    tiles = torch.tensor([-(-camera.width // TILE), -(-camera.height // TILE)], dtype=torch.float64)
    first = ((flat.centres.detach() - reach[:, None]) / TILE).trunc().clamp(min=0).minimum(tiles)
    last = (
        ((flat.centres.detach() + reach[:, None] + TILE - 1) / TILE).trunc().clamp(min=0).minimum(tiles)
    )
    drawn = ((last > first).all(1) & (reach > 0)).nonzero()[:, 0]
    drawn = drawn[flat.depths.detach()[drawn].argsort(stable=True)]
    found = torch.zeros(len(gaussians.means), dtype=torch.int64)
    found[flat.chosen[drawn]] = reach[drawn].long()

    rows, columns = torch.meshgrid(
        torch.arange(camera.height, dtype=torch.float64),
        torch.arange(camera.width, dtype=torch.float64),
        indexing="ij",
    )
    pixels = torch.stack([columns, rows], -1).reshape(-1, 1, 2)
    tile = (pixels / TILE).floor()
    covered = ((tile >= first[drawn]) & (tile < last[drawn])).all(-1)
    apart = pixels - flat.centres[drawn]
    distance = torch.einsum("pni,nij,pnj->pn", apart, torch.linalg.inv(flat.covariances[drawn]), apart)
    kept = gaussians.only(flat.chosen[drawn])
    alphas = (kept.opacities[:, 0] * torch.exp(-distance / 2)).clamp(max=0.99)
    alphas = torch.where(covered & (alphas >= 1 / 255), alphas, torch.zeros_like(alphas))
    # 3DGS (3), from front to back, until the next Gaussian would leave less than a ten-thousandth of light.
    passing = torch.cumprod(1 - alphas, 1)
    alphas = torch.where(passing.detach() >= 1e-4, alphas, torch.zeros_like(alphas))
    passing = torch.cumprod(1 - alphas, 1)
    before = torch.cat([torch.ones_like(passing[:, :1]), passing], 1)
    weights = alphas * before[:, :-1]

    shape = (camera.height, camera.width)
    color = weights @ _colors(kept, camera) + before[:, -1:] * camera.background
    return Rendered(
        color=color.T.reshape(3, *shape),
        radii=found,
        depth=(weights @ flat.depths[drawn]).reshape(1, *shape),
        alpha=weights.sum(1).reshape(1, *shape),
    )


def _colors(gaussians: Gaussians, camera: Camera) -> Tensor:
    """Return the colours as seen from the camera: [N, 3]. Half is added, and nothing is darker than black."""
    directions = gaussians.means - camera.position
    directions = directions / directions.norm(dim=1, keepdim=True)
    degree = math.isqrt(gaussians.harmonics.shape[1]) - 1
    basis = spherical_harmonics(directions, degree)
    return (torch.einsum("nm,nmc->nc", basis, gaussians.harmonics) + 0.5).clamp(min=0)


# ---- grids ---------------------------------------------------------------------------------------------

_PRIMES = (1, 2654435761, 805459861, 3674653429, 2097192037)
"""NGP (4); from the fourth dimension on, those of the extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The shape of a multiresolution grid."""

    dimensions: int
    levels: int
    base: int
    """Resolution of the first level."""
    growth: float
    """How much finer each level is than the one before."""
    table: int
    """Entries that a level has at most; a multiple of 8."""
    hashed: bool = True
    """Whether vertices that find no place share entries by their hash; else by repeating the grid."""
    align_corners: bool = False
    """Whether the outermost vertices are at the borders of the unit cube; else half a cell beyond."""
    smooth: bool = False
    """Whether weights are 3t² - 2t³, whose derivative is 0 at every vertex."""

    def scale(self, level: int) -> float:
        """Return how many cells a level has along the unit cube."""
        return self.base * self.growth**level - 1

    def resolution(self, level: int) -> int:
        """Return how many vertices a level has inside the unit cube, along each axis."""
        return math.ceil(self.scale(level)) + 1

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each level's entries begin, and where the last one's end."""
        found = [0]
        for level in range(self.levels):
            side = self.resolution(level) + (0 if self.align_corners else 1)
            wanted = min(self.table, side**self.dimensions)
            found.append(found[-1] + math.ceil(wanted / 8) * 8)
        return tuple(found)

    def entries(self, level: int, vertices: Tensor) -> Tensor:
        """Return which of its entries a level has for *vertices*: [..., D] -> [...]."""
        size = self.offsets[level + 1] - self.offsets[level]
        side = self.resolution(level) + (0 if self.align_corners else 1)
        index, stride = torch.zeros_like(vertices[..., 0]), 1
        for axis in range(self.dimensions):
            if stride > size:
                break
            index = index + vertices[..., axis] * stride
            stride *= side
        if self.hashed and stride > size:
            index = torch.zeros_like(index)
            for axis in range(self.dimensions):
                index = index ^ ((vertices[..., axis] * _PRIMES[axis]) & 0xFFFFFFFF)
        return index % size

    def places(self, level: int, inputs: Tensor) -> Tensor:
        """Return where *inputs* of the unit cube are among the vertices of a level."""
        return inputs * self.scale(level) + (0.0 if self.align_corners else 0.5)


def encode(inputs: Tensor, embeddings: Tensor, grid: Grid) -> Tensor:
    """Return the features of *inputs* in the unit cube, level after level: [B, D] -> [B, levels * C].

    What is outside of the cube has none: zeros.
    """
    inside = ((inputs >= 0) & (inputs <= 1)).all(1, keepdim=True)
    found = []
    for level in range(grid.levels):
        place = grid.places(level, inputs)
        corner = place.detach().floor()
        weight = place - corner
        if grid.smooth:
            weight = weight.square() * (3 - 2 * weight)
        total = torch.zeros(1, dtype=torch.float64)
        for step in product((0, 1), repeat=grid.dimensions):
            far = torch.tensor(step)
            share = torch.where(far.bool(), weight, 1 - weight).prod(1, keepdim=True)
            entries = grid.offsets[level] + grid.entries(level, corner.long().clamp(min=0) + far)
            total = total + share * embeddings[entries]
        found.append(torch.where(inside, total, torch.zeros_like(total)))
    return torch.cat(found, 1)


def doubled(gaussians: Gaussians) -> Gaussians:
    """Return *gaussians* in float64, each tensor a leaf whose gradient is wanted."""
    leaves = {name: one.detach().double().requires_grad_() for name, one in gaussians.tensors.items()}
    return replace(gaussians, **leaves)
