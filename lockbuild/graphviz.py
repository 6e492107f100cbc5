"""Drawing graphs with graphviz, a program of the machine."""

from __future__ import annotations

from lockbuild.errors import UsageError
from lockbuild.process import clean_env, need_tool, run

__all__ = ["svg"]


def svg(dot: str) -> str:
    """Return the picture that graphviz makes of *dot*, a text in its language.

    Raises:
        ToolMissing: There is no graphviz.
        UsageError: It does not take the text.
    """
    program = need_tool("dot", purpose="drawing a graph as SVG")
    # Fonts are found by fontconfig, which wants a home.
    ended = run([program, "-Tsvg"], env=clean_env("HOME", "XDG_CACHE_HOME"), stdin=dot)
    if ended.returncode:
        raise UsageError("graphviz cannot draw the graph", details=tuple(ended.stderr.splitlines()))
    return ended.stdout
