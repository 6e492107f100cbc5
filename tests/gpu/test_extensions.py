"""The compiled extensions on a GPU, forward and gradient, against the references in float64.

Limits are those of float32, whose rounding is u = 6e-8, and of what it does in each computation: see beside them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.gpu.comparing import compare
from tests.gpu.reference import Gaussians, Grid, doubled, encode, nearest, rasterize
from tests.gpu.scenes import camera_of, gaussians_of, uniform, well_inside

if TYPE_CHECKING:
    from torch import Tensor

    from tests.gpu.reference import Camera


# ---- simple-knn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 1000, 1024, 1025, 5000])
def test_nearest_neighbours(cuda: torch.device, count: int) -> None:
    from simple_knn._C import distCUDA2

    points = uniform(count, 3, seed=count, low=-2.0, high=3.0)
    found = distCUDA2(points.float().to(cuda))
    # A difference, a square, two sums of three and a third of it: no more than 8 roundings of u each, in every number by
    # itself, as nothing cancels. Of two neighbours that rounding cannot tell apart, either will do.
    expected = nearest(points)
    compare("distances", found, expected, relative=5e-7, largest=5e-7)
    assert ((found.cpu().double() - expected).abs() / expected).max() <= 5e-7


def test_nearest_neighbours_of_clusters_and_of_points_that_are_one(cuda: torch.device) -> None:
    from simple_knn._C import distCUDA2

    centres = uniform(20, 3, seed=1, low=-100.0, high=100.0).repeat_interleave(100, 0)
    points = (centres + uniform(2000, 3, seed=2, low=-0.5, high=0.5)).float().double()
    compare("clusters", distCUDA2(points.float().to(cuda)), nearest(points), relative=5e-7, largest=5e-7)
    twice = points.repeat(4, 1)
    assert distCUDA2(twice.float().to(cuda)).abs().max() == 0


# ---- diff-gaussian-rasterization -----------------------------------------------------------------------


def drawn(
    gaussians: Gaussians, camera: Camera, cuda: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return colour, radii, depth and alpha from the extension."""
    from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer

    def there(tensor: Tensor) -> Tensor:
        return tensor.float().to(cuda)

    settings = GaussianRasterizationSettings(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=camera.tan_x,
        tanfovy=camera.tan_y,
        bg=there(camera.background),
        scale_modifier=1.0,
        viewmatrix=there(camera.view),
        projmatrix=there(camera.projection),
        sh_degree=int(gaussians.harmonics.shape[1] ** 0.5) - 1,
        campos=there(camera.position),
        prefiltered=False,
        debug=False,
    )
    color, radii, depth, alpha = GaussianRasterizer(settings)(
        means3D=gaussians.means,
        means2D=gaussians.offsets,
        opacities=gaussians.opacities,
        shs=gaussians.harmonics,
        scales=gaussians.scales,
        rotations=gaussians.rotations,
    )
    return color, radii, depth, alpha


def on_gpu(gaussians: Gaussians, cuda: torch.device) -> Gaussians:
    """Return *gaussians* in float32, each tensor a leaf whose gradient is wanted."""
    there = {
        name: one.detach().float().to(cuda).requires_grad_() for name, one in gaussians.tensors.items()
    }
    return replace(gaussians, **there)


# The image itself is good to some u. But where alpha is 1/255 within rounding, a Gaussian counts on one side and does not
# on the other: 0.4 % of a colour in that pixel, which a few of a million pairs of pixel and Gaussian do. No pixel has
# more than two of them by chance, and all together are below 2e-4 of the image.
IMAGE = {"relative": 2e-4, "largest": 2 / 255}

# Gradients are sums over pixels, by atomic additions in any order: 1e-5 for some thousand terms. The extension finds the
# light that is left before each Gaussian by dividing what is left at the end, 1 - alpha, which cancels: where a ten-thousandth
# is left, it is good to 1e-3 only, though few pixels are that dark. Inverses of thin covariances lose a digit or two.
GRADIENT = {"relative": 1e-3, "largest": 5e-3}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("width", "height"), [(101, 75), (64, 48), (17, 130)])
def test_image(cuda: torch.device, degree: int, width: int, height: int) -> None:
    camera = camera_of(width, height)
    scene = well_inside(gaussians_of(300, degree=degree, seed=10 * degree), camera)
    color, radii, depth, alpha = drawn(on_gpu(scene, cuda), camera, cuda)
    expected = rasterize(scene, camera)
    assert radii.cpu().tolist() == expected.radii.tolist()
    assert 30 < (expected.radii > 0).sum() < len(scene.means)
    compare("colour", color, expected.color, **IMAGE)
    compare("depth", depth, expected.depth, **IMAGE)
    compare("alpha", alpha, expected.alpha, **IMAGE)


def test_image_of_what_is_opaque(cuda: torch.device) -> None:
    # Alpha ends at 0.99, and light at a ten-thousandth.
    camera = camera_of()
    scene = gaussians_of(500, degree=1, seed=70)
    scene = well_inside(replace(scene, opacities=torch.ones_like(scene.opacities)), camera)
    color, _, depth, alpha = drawn(on_gpu(scene, cuda), camera, cuda)
    expected = rasterize(scene, camera)
    compare("colour", color, expected.color, **IMAGE)
    compare("depth", depth, expected.depth, **IMAGE)
    compare("alpha", alpha, expected.alpha, **IMAGE)


@pytest.mark.parametrize("output", ["color", "depth", "alpha", "all"])
@pytest.mark.parametrize("degree", [0, 3])
def test_gradient_of_an_image(cuda: torch.device, degree: int, output: str) -> None:
    camera = camera_of()
    # No opacity at which alpha ends at 0.99: the extension lets gradients pass there, and autograd none.
    scene = well_inside(gaussians_of(200, degree=degree, seed=30 + degree, opacity=0.9), camera)
    given, exact = on_gpu(scene, cuda), doubled(scene)
    names = ("color", "depth", "alpha") if output == "all" else (output,)
    found = dict(zip(("color", "radii", "depth", "alpha"), drawn(given, camera, cuda), strict=True))
    expected = rasterize(exact, camera)
    weights = {name: uniform(*getattr(expected, name).shape, seed=50 + len(name)) for name in names}
    sum((getattr(expected, name) * weight).sum() for name, weight in weights.items()).backward()
    sum((found[name] * weight.float().to(cuda)).sum() for name, weight in weights.items()).backward()
    for name, tensor in exact.tensors.items():
        gradient = getattr(given, name).grad
        assert gradient is not None, name
        if tensor.grad is None:
            # Depth and alpha do not hang on colours.
            assert gradient.abs().max() == 0, name
        else:
            compare(f"d {output} / d {name}", gradient, tensor.grad, **GRADIENT)


# ---- gridencoder ---------------------------------------------------------------------------------------

GRIDS = [
    Grid(dimensions=dimensions, levels=6, base=16, growth=growth, table=table, hashed=hashed, align_corners=align, smooth=smooth)
    for dimensions, table in ((2, 2**12), (3, 2**14))
    for growth, hashed, align, smooth in (
        (2.0, True, False, False),
        (2.0, True, True, True),
        (2.0, False, False, True),
        (2.0, False, True, False),
        (1.38191, True, False, False),
        (1.38191, False, False, True),
    )
]  # fmt: skip

# A place among 512 vertices is rounded to 3e-5 of a cell, along each axis, and features change by 2 from one vertex to the
# next, by half as much again where weights are smooth. Atomic additions of some hundred terms are far below that.
FEATURES = {"relative": 2e-4, "largest": 1e-3}


def inside(grid: Grid, count: int, *, margin: float = 1e-3) -> Tensor:
    """Return points of [-1, 1] that rounding moves into no other cell, and that float32 maps to the unit cube exactly."""
    numbers = (uniform(count, grid.dimensions, seed=grid.dimensions) * 2**19).round() / 2**19
    kept = torch.ones(count, dtype=torch.bool)
    for level in range(grid.levels):
        places = grid.places(level, (numbers + 1) / 2)
        kept &= ((places - places.round()).abs() > margin).all(1)
    return numbers[kept]


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_features_and_their_gradients(cuda: torch.device, grid: Grid, channels: int) -> None:
    from gridencoder import GridEncoder

    encoder = GridEncoder(
        input_dim=grid.dimensions,
        num_levels=grid.levels,
        level_dim=channels,
        per_level_scale=grid.growth,
        base_resolution=grid.base,
        log2_hashmap_size=grid.table.bit_length() - 1,
        gridtype="hash" if grid.hashed else "tiled",
        align_corners=grid.align_corners,
        interpolation="smoothstep" if grid.smooth else "linear",
    ).to(cuda)
    assert encoder.offsets.tolist() == list(grid.offsets)
    tables = uniform(grid.offsets[-1], channels, seed=7)
    encoder.embeddings.data.copy_(tables.float())
    numbers = inside(grid, 4000)
    assert len(numbers) > 3000
    numbers[0] = 1.5  # outside: zeros, and no gradient

    given = numbers.float().to(cuda).requires_grad_()
    exact, tables = numbers.clone().requires_grad_(), tables.requires_grad_()
    found, expected = encoder(given, bound=1), encode((exact + 1) / 2, tables, grid)
    compare("features", found, expected, **FEATURES)
    assert found[0].abs().max() == 0
    weights = uniform(*expected.shape, seed=8)
    (expected * weights).sum().backward()
    (found * weights.float().to(cuda)).sum().backward()
    assert exact.grad is not None
    assert tables.grad is not None
    assert given.grad is not None
    compare("d features / d tables", encoder.embeddings.grad, tables.grad, **FEATURES)
    compare("d features / d inputs", given.grad, exact.grad, **FEATURES)
