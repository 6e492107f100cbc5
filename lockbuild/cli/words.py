"""Numbers in words, as several commands say them."""

from __future__ import annotations

__all__ = ["counted", "in_bytes", "in_time"]


def counted(number: int, what: str) -> str:
    """Return `1 build`, `2 builds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_bytes(size: int) -> str:
    """Return `12.3 MB` of bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def in_time(seconds: float) -> str:
    """Return `1 h 5 min` of seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
