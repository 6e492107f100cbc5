"""What the tests of extensions share: the GPU, named at the top of the report."""

from __future__ import annotations

import pytest
import torch


def pytest_report_header() -> list[str]:
    """Say what computes."""
    if not torch.cuda.is_available():
        return [f"torch {torch.__version__}: no GPU"]
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return [
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, {name} (compute capability {major}.{minor})"
    ]


@pytest.fixture
def cuda() -> torch.device:
    """The GPU. `make test-gpu` does not start without one; who calls pytest may run what needs none."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch.device("cuda")
