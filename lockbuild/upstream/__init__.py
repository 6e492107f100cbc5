"""An upstream repository read as text: what it says of its environment, and a first stack file out of that.

Pure: nothing of upstream's is run, and nothing is asked of disk or network. `lockbuild.init` brings the files.
"""

from __future__ import annotations

from lockbuild.upstream.draft import Upstream, draft
from lockbuild.upstream.reading import is_aside, is_read, pointer_of, read_text, submodule_findings

__all__ = [
    "Upstream",
    "draft",
    "is_aside",
    "is_read",
    "pointer_of",
    "read_text",
    "submodule_findings",
]
