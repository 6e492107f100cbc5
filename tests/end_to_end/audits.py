"""What an audit says of every stack of these tests, as none is what a careful team would ship."""

from __future__ import annotations

__all__ = ["EXPECTED", "UNASKED"]

EXPECTED = frozenset({"licence-unknown", "moving-archive", "never-checked"})
"""Their own packages tell no licence, their Debian packages come from an archive without snapshots, and not everything
has been built twice."""

UNASKED = frozenset(
    {
        *("vulnerability", "vulnerability-database-old", "vulnerability-not-looked-up"),
        *("gone-upstream", "yanked"),
    }
)
"""What cannot be looked up, as none of these tests names a database or asks a network."""
