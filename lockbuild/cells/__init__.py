"""Whether torch, nvcc, host compiler, C library and GPUs of a stack go together. Pure.

Told before anything is built: `findings` asks stack and lock alone, and before there is a lock the stack file. `CHECKS` is
the one table of what is looked at; `tables` has what is known of the versions.
"""

from __future__ import annotations

from lockbuild.cells.judging import CHECKS, findings, refused

__all__ = ["CHECKS", "findings", "refused"]
