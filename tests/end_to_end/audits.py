"""What an audit says of every stack of these tests, as none is what a careful team would ship."""

from __future__ import annotations

__all__ = ["EXPECTED"]

EXPECTED = frozenset({"moving-archive", "never-checked"})
"""Their Debian packages come from an archive without snapshots, and not everything has been built twice."""
