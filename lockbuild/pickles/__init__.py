"""What loading a file of weights would import: its pickles are read opcode by opcode, and never loaded.

Pickles are programs, and torch, NumPy and joblib keep theirs in files of many kinds: `files` finds them there,
`opcodes` says what one would import, and `words` which of that is harmless. picklescan and fickling do the like; the
one keeps every opcode of a file in memory with its argument, needs NumPy, and goes by a list of what is bad; the
other takes pickles to pieces for people, and knows torch by importing it.
"""

from __future__ import annotations

from lockbuild.pickles.files import BROKEN, MAY_HOLD, Suspect, suspects, unreadable
from lockbuild.pickles.words import VERSION

__all__ = ["BROKEN", "MAY_HOLD", "VERSION", "Suspect", "suspects", "unreadable"]
