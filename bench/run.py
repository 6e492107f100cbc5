"""Compare lockbuild with other tools on this machine, now. Run by `make bench`.

Each case runs ours and the peer's command in turn and shows the ratio of their times. A goal that is missed
is said, and fails nothing: times belong to a machine. A case that cannot run here says why.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from bench.cases import CASES, Options
from bench.pairs import Absent, Result, table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[CASE]...", nargs=-1, type=click.Choice(list(CASES)))
@click.option("--pairs", default=7, show_default=True, help="Pairs of runs per case.")
@click.option(
    "--slow-pairs", default=7, show_default=True, help="Pairs of runs where the peer may take minutes."
)
@click.option(
    "--limit",
    default=600.0,
    show_default=True,
    metavar="S",
    help="Stop a command after so many seconds.",
)
@click.option("--megabytes", default=500, show_default=True, help="How much is fetched.")
def main(names: tuple[str, ...], pairs: int, slow_pairs: int, limit: float, megabytes: int) -> None:
    """Compare lockbuild with other tools: all cases, or those called CASE."""
    results = []
    for name in names or CASES:
        click.echo(f"{name} …", err=True)
        with tempfile.TemporaryDirectory(prefix="lockbuild-bench-") as folder:
            options = Options(
                work=Path(folder), pairs=pairs, slow_pairs=slow_pairs, limit_s=limit, megabytes=megabytes
            )
            results.append(_shortened(_result(name, options), Path(folder)))
    click.echo(
        f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}\n"
    )
    click.echo(table(results))


def _result(name: str, options: Options) -> Result:
    try:
        return CASES[name](options)
    except Absent as reason:
        return Result(title=name, note=f"not run: {reason}")


def _shortened(result: Result, folder: Path) -> Result:
    """Return *result* with commands as a person would type them: without this machine's folders."""

    def short(text: str) -> str:
        for place, name in ((str(folder), "TMP"), (f"{Path(sys.executable).parent}/", "")):
            text = text.replace(place, name)
        return text

    ours, peer = (
        command and replace(command, shown=short(str(command))) for command in (result.ours, result.peer)
    )
    return replace(result, ours=ours, peer=peer, note=short(result.note))


if __name__ == "__main__":
    main()
