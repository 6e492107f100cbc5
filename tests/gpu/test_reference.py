"""The references themselves: against loops, analysis and finite differences. Needs torch, and no GPU."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tests.gpu.reference import (
    Camera,
    Gaussians,
    Grid,
    doubled,
    encode,
    nearest,
    project,
    rasterize,
    spherical_harmonics,
)
from tests.gpu.scenes import camera_of, gaussians_of, uniform

# ---- nearest neighbours --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 5, 60])
def test_nearest_is_what_a_loop_over_all_pairs_finds(count: int) -> None:
    points = uniform(count, 3, seed=count)
    expected = []
    for one in range(count):
        others = sorted(
            sum((a - b) ** 2 for a, b in zip(points[one].tolist(), points[other].tolist(), strict=True))
            for other in range(count)
            if other != one
        )
        expected.append(sum(others[:3]) / 3)
    assert nearest(points, chunk=7).tolist() == pytest.approx(expected, rel=1e-13)


def test_nearest_of_four_corners_and_of_points_that_are_one() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    assert nearest(corners)[0].item() == pytest.approx((1 + 4 + 9) / 3)
    assert nearest(torch.ones(5, 3)).tolist() == [0.0] * 5


# ---- Gaussians -----------------------------------------------------------------------------------------


def test_harmonics_are_orthonormal_on_the_sphere() -> None:
    # Gauss-Legendre in z, evenly in the angle: exact for polynomials of degree 6.
    nodes = torch.tensor(
        [0.2386191860831969, 0.6612093864662645, 0.9324695142031521], dtype=torch.float64
    )
    shares = torch.tensor(
        [0.4679139345726910, 0.3607615730481386, 0.1713244923791704], dtype=torch.float64
    )
    z, share = torch.cat([nodes, -nodes]), torch.cat([shares, shares])
    angles = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    side = (1 - z.square()).sqrt()
    directions = torch.stack(
        [
            torch.outer(side, angles.cos()),
            torch.outer(side, angles.sin()),
            z[:, None].expand(-1, len(angles)),
        ],
        -1,
    ).reshape(-1, 3)
    basis = spherical_harmonics(directions, 3)
    weights = (share[:, None] * (2 * math.pi / 12)).expand(-1, len(angles)).reshape(-1)
    products = torch.einsum("n,ni,nj->ij", weights, basis, basis)
    assert torch.allclose(products, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_covariance_is_that_of_the_perspective_map_s_derivative() -> None:
    camera = camera_of()
    some = doubled(gaussians_of(20, degree=0, seed=3))
    flat = project(some, camera)
    slopes = (_to_camera(some.means[flat.chosen], camera)[:, :2] / flat.depths[:, None]).abs()
    limits = torch.tensor([1.3 * camera.tan_x, 1.3 * camera.tan_y], dtype=torch.float64)
    for row in (slopes < limits).all(1).nonzero()[:, 0].tolist():
        which = flat.chosen[row]

        def pixel(point: Tensor) -> Tensor:
            clip = torch.cat([point, point.new_ones(1)]) @ camera.projection
            size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
            return ((clip[:2] / clip[3] + 1) * size - 1) / 2

        derivative = torch.autograd.functional.jacobian(pixel, some.means[which])
        axes = _turned(some.rotations[which]) * some.scales[which]
        expected = derivative @ axes @ axes.T @ derivative.T + 0.3 * torch.eye(2, dtype=torch.float64)
        assert torch.allclose(flat.covariances[row], expected, rtol=1e-6)


def _to_camera(points: Tensor, camera: Camera) -> Tensor:
    return torch.cat([points, torch.ones_like(points[:, :1])], 1) @ camera.view


def _turned(quaternion: Tensor) -> Tensor:
    """Return the rotation of a unit quaternion: q v q⁻¹ for each axis."""
    real, vector = quaternion[0], quaternion[1:]
    columns = []
    for axis in torch.eye(3, dtype=torch.float64):
        twice = 2 * torch.linalg.cross(vector, axis)
        columns.append(axis + real * twice + torch.linalg.cross(vector, twice))
    return torch.stack(columns, 1)


def test_image_is_what_a_loop_from_front_to_back_gives() -> None:
    camera = replace(camera_of(), width=37, height=21)
    some = doubled(gaussians_of(40, degree=1, seed=5))
    some = replace(some, opacities=(some.opacities * 1.2).detach())
    image, flat = rasterize(some, camera), project(some, camera)
    order = sorted(range(len(flat.chosen)), key=lambda row: flat.depths[row].item())
    directions = some.means - camera.position
    directions = directions / directions.norm(dim=1, keepdim=True)
    basis = spherical_harmonics(directions, 1)
    colors = ((basis[:, :, None] * some.harmonics).sum(1) + 0.5).clamp(min=0)
    for row, column in product(range(0, 21, 4), range(0, 37, 5)):
        light, color, depth = 1.0, torch.zeros(3, dtype=torch.float64), 0.0
        for one in order:
            which = int(flat.chosen[one])
            reach = math.ceil(flat.reaches[one].item())
            x, y = flat.centres[one].tolist()
            if not _covers(x, reach, column, 37) or not _covers(y, reach, row, 21):
                continue
            apart = torch.tensor([column - x, row - y], dtype=torch.float64)
            power = -0.5 * (apart @ torch.linalg.solve(flat.covariances[one], apart)).item()
            alpha = min(0.99, some.opacities[which].item() * math.exp(power))
            if alpha < 1 / 255:
                continue
            if light * (1 - alpha) < 1e-4:
                break
            color += light * alpha * colors[which].detach()
            depth += light * alpha * flat.depths[one].item()
            light *= 1 - alpha
        color += light * camera.background
        assert image.color[:, row, column].tolist() == pytest.approx(color.tolist(), abs=1e-12)
        assert image.depth[0, row, column].item() == pytest.approx(depth, abs=1e-12)
        assert image.alpha[0, row, column].item() == pytest.approx(1 - light, abs=1e-12)


def _covers(centre: float, reach: int, pixel: int, size: int) -> bool:
    tiles = math.ceil(size / 16)
    first = min(tiles, max(0, int((centre - reach) / 16)))
    last = min(tiles, max(0, int((centre + reach + 15) / 16)))
    return first <= pixel // 16 < last


def test_what_is_behind_the_camera_or_beside_the_image_has_no_radius() -> None:
    camera = camera_of()
    some = gaussians_of(3, degree=0, seed=1)
    before = camera.position + 4 * camera.view[:3, 2]
    behind = camera.position - 4 * camera.view[:3, 2]
    beside = before + 60 * camera.view[:3, 0]
    some = doubled(replace(some, means=torch.stack([before, behind, beside])))
    assert (rasterize(some, camera).radii > 0).tolist() == [True, False, False]


def test_gradient_of_an_image_is_that_of_finite_differences() -> None:
    camera = replace(camera_of(), width=18, height=17)
    some = doubled(gaussians_of(5, degree=3, seed=8))
    names = list(some.tensors)

    def image(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = rasterize(Gaussians(**dict(zip(names, tensors, strict=True))), camera)
        return found.color, found.depth, found.alpha

    assert gradcheck(image, tuple(some.tensors.values()), eps=1e-7, atol=1e-5, rtol=1e-4)


# ---- grids ---------------------------------------------------------------------------------------------

GRIDS = [
    Grid(dimensions=dimensions, levels=3, base=4, growth=2.0, table=table, hashed=hashed, align_corners=align, smooth=smooth)
    for dimensions, table in ((2, 64), (3, 128))
    for hashed, align, smooth in product((False, True), repeat=3)
]  # fmt: skip

each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)


def _tables(grid: Grid, channels: int = 2) -> Tensor:
    return uniform(grid.offsets[-1], channels, seed=2)


@each_grid
def test_features_are_what_a_loop_over_corners_gives(grid: Grid) -> None:
    inputs, tables = uniform(9, grid.dimensions, seed=4).abs(), _tables(grid)
    found = encode(inputs, tables, grid)
    for point, features in zip(inputs.tolist(), found, strict=True):
        for level in range(grid.levels):
            expected = torch.zeros(2, dtype=torch.float64)
            scale = grid.base * 2**level - 1
            place = [value * scale + (0 if grid.align_corners else 0.5) for value in point]
            for step in product((0, 1), repeat=grid.dimensions):
                share = 1.0
                for value, far in zip(place, step, strict=True):
                    part = value - math.floor(value)
                    part = part * part * (3 - 2 * part) if grid.smooth else part
                    share *= part if far else 1 - part
                vertex = [math.floor(value) + far for value, far in zip(place, step, strict=True)]
                expected += share * tables[grid.offsets[level] + _entry(grid, level, vertex)]
            assert features[2 * level : 2 * level + 2].tolist() == pytest.approx(
                expected.tolist(), abs=1e-14
            )


def _entry(grid: Grid, level: int, vertex: list[int]) -> int:
    size = grid.offsets[level + 1] - grid.offsets[level]
    side = math.ceil(grid.base * 2**level) + (0 if grid.align_corners else 1)
    if side**grid.dimensions <= size:
        return sum(value * side**axis for axis, value in enumerate(vertex))
    if grid.hashed:
        primes = (1, 2654435761, 805459861)
        mixed = 0
        for value, prime in zip(vertex, primes, strict=False):
            mixed ^= value * prime % 2**32
        return mixed % size
    # Axes count until the grid is larger than its table.
    known = [axis for axis in range(grid.dimensions) if side**axis <= size]
    return int(sum(vertex[axis] * side**axis for axis in known) % size)


@each_grid
def test_features_of_a_constant_table_are_that_constant(grid: Grid) -> None:
    inputs = uniform(50, grid.dimensions, seed=6).abs()
    found = encode(inputs, torch.full((grid.offsets[-1], 1), 7.0, dtype=torch.float64), grid)
    assert torch.allclose(found, torch.full_like(found, 7.0), rtol=1e-14)


def test_vertices_of_a_level_with_room_have_entries_of_their_own() -> None:
    for grid in GRIDS:
        side = grid.resolution(0) + (0 if grid.align_corners else 1)
        vertices = torch.tensor(list(product(range(side), repeat=grid.dimensions)))
        assert len(vertices) <= grid.offsets[1]
        assert len(set(grid.entries(0, vertices).tolist())) == len(vertices)


def test_hash_spreads_neighbours() -> None:
    grid = next(grid for grid in GRIDS if grid.hashed and grid.dimensions == 3)
    corners = torch.tensor(list(product((3, 4), repeat=3)))
    entries = grid.entries(2, corners).tolist()
    assert all(one != other for one, other in combinations(entries, 2))


def test_outside_of_the_cube_there_is_nothing() -> None:
    inputs = torch.tensor([[-0.1, 0.5], [0.5, 1.1], [0.5, 0.5]], dtype=torch.float64)
    found = encode(inputs, torch.ones(GRIDS[0].offsets[-1], 2, dtype=torch.float64), GRIDS[0])
    assert found.abs().sum(1).gt(0).tolist() == [False, False, True]


@each_grid
def test_gradient_of_features_is_that_of_finite_differences(grid: Grid) -> None:
    inputs = (0.05 + 0.9 * uniform(4, grid.dimensions, seed=9).abs()).requires_grad_()
    tables = _tables(grid, 1).requires_grad_()
    assert gradcheck(
        lambda *given: encode(given[0], given[1], grid), (inputs, tables), eps=1e-7, atol=1e-6
    )
