"""The command line. Only this package prints, reads arguments or ends the process.

Commands are imported when they run, so that `lockbuild --help` imports little more than click.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from lockbuild import __version__
from lockbuild.errors import FULL_DISK, LockbuildError, StoreError

__all__ = ["group", "main"]

# Command -> module of this package, and its line in `--help`.
_COMMANDS = {
    "init": ("starting", "Write a first stack file for an upstream repository."),
    "resolve": ("resolving", "Resolve a stack into its lock files."),
    "fetch": ("building", "Bring everything a stack needs into the store."),
    "build": ("building", "Build a stack's packages and fill its wheelhouse."),
    "gate": ("gating", "Judge built wheels: may they enter the wheelhouse?"),
    "check": ("building", "Build again and compare with what the store has."),
    "why-rebuild": ("explaining", "Say why a stack's packages are built again, in full."),
    "diff": ("diffing", "Say how two stacks, locks or revisions differ, and what that builds again."),
    "why": ("graphing", "Say why a package is in a stack: what asks for it, and what requires it."),
    "graph": ("drawing", "Print the graph of a stack's parts, or of its builds."),
    "rebuild": ("rebuilding", "Make a built wheel again from the record in it, and compare."),
    "render": ("imaging", "Write the Dockerfile, and its build context if asked for."),
    "describe": ("describing", "Print a stack's page: what is inside, and how it is run."),
    "image": ("imaging", "Build the image, with networking off."),
    "provenance": ("attesting", "Print where built wheels come from, as in-toto Statements."),
    "notice": (
        "noticing",
        "Print the NOTICE of the image: its parts, their licences, and the texts of these.",
    ),
    "preflight": ("preflighting", "Say whether all is there that the image's command needs."),
    "audit": ("auditing", "Check that what is there is what was locked."),
    "doctor": ("doctoring", "Try every tool that lockbuild needs."),
    "store": ("storing", "Look after the store."),
    "schema": ("resolving", "Print the JSON Schema of a stack file."),
}

_INTERRUPTED = 130


class _Lazy(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lockbuild.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and name the nearest where there is none."""
        nearest = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and nearest:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {nearest[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="lockbuild")
@click.option("--store", metavar="FOLDER", help="Where store objects are kept [env: LOCKBUILD_STORE].")
@click.option(
    "--builder", metavar="NAME", help="Who builds: sandbox or container [env: LOCKBUILD_BUILDER]."
)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cores that builds may use [env: LOCKBUILD_CORES].",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and results.")
@click.option("-v", "--verbose", is_flag=True, help="Say every step, also on a terminal.")
@click.pass_context
def group(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Resolve, build, image and audit CUDA and PyTorch research systems, reproducibly.

    STACK is a folder that holds a stack.toml (stacks/cpu), or its name (cpu).

    Exit codes: 0 done, 1 a bug, 2 stack file or usage wrong, 3 lock missing or stale, 4 cannot be
    resolved, 5 cannot be fetched, 6 a build failed, 7 store damaged or disk full, 8 rendering or image
    failed, 9 audit found errors, 10 a needed tool is absent, 78 the preflight found something missing.
    """
    ctx.obj = options


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is printed is what a file would hold. In a locale that is none of UTF-8 not every name could be printed at all.
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        group.main(prog_name="lockbuild", standalone_mode=False, color=_colour())
        code = 0
    except SystemExit:
        # Click's, once whoever read our output has gone: `lockbuild … | head`.
        code = 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("interrupted: run the same command again, it goes on from there", err=True)
        # Threads that wait for builds are not waited for; the builds end with this process.
        sys.stdout.flush()
        os._exit(_INTERRUPTED)
    except LockbuildError as error:
        _show(error)
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told from a fault
        code = _unforeseen(error)
    sys.exit(code)


def _unforeseen(error: Exception) -> int:
    """Tell of a full disk in words, of all else as the bug that it is; return the exit code."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        place = f" for {error.filename}" if error.filename else ""
        full = StoreError(
            f"no space is left on the disk{place}",
            hint="free some, where the output goes, the stack lies or temporary files do (TMPDIR names another place), "
            "and run the same command again",
        )
        _show(full)
        with suppress(OSError):
            sys.stdout.close()  # what could not be written is not tried again
        return full.exit_code
    import traceback  # noqa: PLC0415 - costs a good part of `--help`

    traceback.print_exception(error)
    click.echo("error: this is a bug in lockbuild; please report it with the lines above", err=True)
    return 1


def _colour() -> bool | None:
    """Return false where NO_COLOR is set, which click does not know; else none: terminals have colour."""
    return False if os.environ.get("NO_COLOR") else None


def _show(error: LockbuildError) -> None:
    _say(f"{click.style('error:', fg='red', bold=True)} {error.message}")
    for line in error.details:
        _say(f"  {line}")
    for line in (error.hint or "").splitlines():
        _say(f"{click.style('hint:', fg='cyan', bold=True)} {line}")


def _say(text: str) -> None:
    click.echo(text, err=True, color=_colour())
