"""Copies a source and edits the copy: a program for the toolchain's Python, 3.8 or newer.

    python3 -I -c TEXT BASE EDITS

`lockbuild.edits` hands this file's text to the sandbox, so the text is part of the derivation: a
changed letter builds every edited source again. `BASE/inputs/tree`, a folder or an archive, goes to
`BASE/out`, where EDITS (JSON, in order) are applied. Nothing is followed or written outside it. The
first edit that does not fit ends the program with 65 (EX_DATAERR) and says all that is wrong with it.

A patch is applied as strictly as `git apply` does, without fuzz: a hunk goes to the line that its
header names, or else to the only place that has its lines. What begins at a file's first line or
ends without context belongs to the beginning or end of the file.
"""

from __future__ import annotations

import difflib
import json
import operator
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence  # noqa: TC003 - a program of its own needs no such care
from typing import Any, NamedTuple

_WIDTH = 100
_LISTED = 8
_SAID = 24  # fewer lines than a builder repeats when a build fails
_SEARCHED = 5000
# What may follow a backslash in a quoted path, and stands for something else.
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPES.update({b"%03o" % byte: bytes([byte]) for byte in range(256)})
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
# How GNU diff dates a file that is not there, in time zones on either side of Greenwich.
_NEVER = re.compile(rb"[^\t]+\t(1969-12-31|1970-01-01) ")


class Fault(Exception):
    """Why an edit cannot be applied, a line per argument."""


class Hunk(NamedTuple):
    """A hunk of a unified diff; its lines have their ends."""

    header: str
    start: int
    old: list[bytes]
    new: list[bytes]
    to_end: bool


class Diff:
    """What a patch says about one file."""

    def __init__(self, old: str | None, new: str | None) -> None:
        self.old, self.new = old, new
        self.kind = "delete" if new is None else "create" if old is None else "change"
        self.mode = 0
        self.dated_never = False
        self.hunks: list[Hunk] = []


def shown(text: bytes) -> str:
    """Return *text* as one line of a message."""
    line = text.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")
    return f"`{line if len(line) <= _WIDTH else line[: _WIDTH - 1] + '…'}`"


def times(count: int) -> str:
    """Return how often, in words."""
    return "once" if count == 1 else f"{count} times"


def listed(places: Sequence[int]) -> str:
    """Return in words the numbers of lines that *places* count from 0."""
    shortened = [str(place + 1) for place in places[:_LISTED]] + ["…"] * (len(places) > _LISTED)
    return f"{'line' if len(places) == 1 else 'lines'} {', '.join(shortened)}"


def inside(root: str, path: str) -> str:
    """Return where *path* lies below *root*; no link leads there."""
    parts = path.split("/")
    if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise Fault(f"`{path}` is not a path inside the tree")
    for count in range(1, len(parts)):
        parent, name = os.path.join(root, *parts[:count]), "/".join(parts[:count])
        if os.path.islink(parent):
            raise Fault(f"`{path}`: links are not followed, and `{name}` is one")
        if os.path.lexists(parent) and not os.path.isdir(parent):
            raise Fault(f"`{path}`: `{name}` is a file, expected a folder")
    return os.path.join(root, *parts)


def absent(root: str, path: str) -> str:
    """Return that *path* is not there, with the nearest name that is."""
    names = []
    for folder, folders, files in os.walk(root):
        names += [os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *files)]
    names.sort()
    alike = [name for name in names if os.path.basename(name) == os.path.basename(path)]
    nearest = difflib.get_close_matches(path, alike or names, n=1, cutoff=0.0 if alike else 0.6)
    return f"`{path}` is not there" + (f"; the nearest is `{nearest[0]}`" if nearest else "")


def read(root: str, path: str) -> bytes:
    """Return the content of the file *path*."""
    place = inside(root, path)
    if os.path.islink(place):
        raise Fault(f"`{path}` is a link to `{os.readlink(place)}`: edit the file itself")
    if not os.path.lexists(place):
        raise Fault(absent(root, path))
    if not os.path.isfile(place):
        raise Fault(f"`{path}` is a folder, expected a file")
    with open(place, "rb") as stream:
        return stream.read()


def write(root: str, path: str, content: bytes) -> None:
    """Write the file *path* and the folders above it."""
    place = inside(root, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as stream:
        stream.write(content)


def remove(root: str, path: str) -> None:
    """Remove the file *path* and, as git does, the folders that are empty without it."""
    place = inside(root, path)
    os.unlink(place)
    while os.path.dirname(place) != root and not os.listdir(os.path.dirname(place)):
        place = os.path.dirname(place)
        os.rmdir(place)


def copy(origin: str, place: str) -> None:
    """Copy a file, a link as it is, or a folder; of the mode, only whether a file can be run counts."""
    mode = os.lstat(origin).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(origin), place)
    elif stat.S_ISDIR(mode):
        os.makedirs(place, exist_ok=True)
        for name in os.listdir(origin):
            copy(os.path.join(origin, name), os.path.join(place, name))
    elif stat.S_ISREG(mode):
        shutil.copyfile(origin, place)
        os.chmod(place, 0o755 if mode & stat.S_IXUSR else 0o644)
    else:
        raise Fault(f"`{origin}` is neither a file, a folder nor a link")


def folder_of(base: str, name: str) -> str:
    """Return the folder with the files of an input: itself, or its archive's, unpacked."""
    place = os.path.join(base, "inputs", name)
    if os.path.isdir(place):
        return place
    folder = tempfile.mkdtemp(dir=os.path.join(base, "source"))
    with open(place, "rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    if zipped:
        shutil.unpack_archive(place, folder, "zip")
    else:
        subprocess.run(["tar", "--extract", "--no-same-owner", "-C", folder, "-f", place], check=True)
    # An sdist holds one folder, whose name is not always its file's.
    names = os.listdir(folder)
    only = os.path.join(folder, names[0]) if len(names) == 1 else folder
    return only if os.path.isdir(only) and not os.path.islink(only) else folder


# ---- substitute and graft ---------------------------------------------------------------------------


def substitute(base: str, edit: dict[str, Any]) -> Iterator[str]:
    """Replace a text that must be there so many times."""
    root, path = os.path.join(base, "out"), edit["file"]
    old, new, content = edit["old"].encode(), edit["new"].encode(), read(root, path)
    lines = [content.count(b"\n", 0, found.start()) for found in re.finditer(re.escape(old), content)]
    if len(lines) != edit["count"]:
        found = f"there {times(len(lines))} ({listed(lines)})" if lines else "not there"
        fault = f"`{path}`: the text is {found}, expected {times(edit['count'])}"
        raise Fault(fault, f"text: {shown(old)}", *([] if lines else _instead(content, old, new)))
    write(root, path, content.replace(old, new))
    yield f"`{path}`: replaced {times(len(lines))}, {listed(lines)}"


def _instead(content: bytes, old: bytes, new: bytes) -> Iterator[str]:
    """Yield what is there instead of *old*."""
    if new and new in content:
        place = content.count(b"\n", 0, content.index(new))
        yield f"the new text is there already, {listed([place])}"
    if old.replace(b"\r\n", b"\n") in content.replace(b"\r\n", b"\n"):
        ends = "CRLF" if b"\r\n" in content else "LF"
        yield f"it is there with other line ends: the file's are {ends}"
    elif b" ".join(old.split()) in b" ".join(content.split()):
        yield "it is there with other white space"
    else:
        lines = content.decode("utf-8", "backslashreplace").split("\n")[:_SEARCHED]
        first = next((line for line in old.decode().split("\n") if line.strip()), old.decode())
        short = [line for line in lines if len(line) <= 4 * _WIDTH]
        for near in difflib.get_close_matches(first, short, n=1):
            yield f"the nearest is {listed([lines.index(near)])}: {shown(near.encode())}"


def graft(base: str, edit: dict[str, Any]) -> Iterator[str]:
    """Copy a file or folder of another source into this one."""
    source, root = folder_of(base, f"grafts/{edit['source']}"), os.path.join(base, "out")
    name, take, put = edit["source"], edit["take"], edit["put"]
    origin, place = source if take == "." else inside(source, take), inside(root, put)
    if not os.path.lexists(origin):
        raise Fault(f"in source `{name}`, {absent(source, take)}")
    if os.path.islink(origin):
        raise Fault(f"in source `{name}`, `{take}` is a link to `{os.readlink(origin)}`")
    if os.path.lexists(place) and not edit["replace"]:
        raise Fault(f"`{put}` is there already; with `replace = true` the graft takes its place")
    if edit["replace"] and not os.path.lexists(place):
        raise Fault(f"nothing to replace: {absent(root, put)}")
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    elif edit["replace"]:
        os.unlink(place)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    copy(origin, place)
    yield f"`{take}` of `{name}` is now `{put}`"


# ---- reading a patch --------------------------------------------------------------------------------


def named(field: bytes, strip: int) -> str | None:
    """Return the path in a header, without its first *strip* parts; none where it has no more."""
    name = field
    if field[:1] == field[-1:] == b'"' and len(field) > 1:
        name = re.sub(rb"\\([0-7]{3}|.)", lambda found: _ESCAPES.get(found[1], found[1]), field[1:-1])
    return os.fsdecode(b"/".join(name.split(b"/")[strip:])) or None


def _header(field: bytes, strip: int) -> str | None:
    """Return the path after `---` or `+++`; none for a file that is not there."""
    name = field.partition(b"\t")[0]
    if name == b"/dev/null":
        return None
    if (path := named(name, strip)) is None:
        raise Fault(f"the patch names {shown(name)}, from which `strip = {strip}` leaves nothing")
    return path


def _git_diff(field: bytes, strip: int) -> Diff:
    """Return the diff that `diff --git` opens; later headers name files that it leaves in doubt."""
    for space in re.finditer(rb" ", field):
        old, new = named(field[: space.start()], strip), named(field[space.end() :], strip)
        if old is not None and old == new:
            return Diff(old, new)
    return Diff("", "")


def _extended(diff: Diff, line: bytes, strip: int) -> None:
    """Take one of git's further headers."""
    if renamed := re.fullmatch(rb"rename (from|to) (.+)", line):
        # These paths never have the prefixes `a/` and `b/`.
        path = named(renamed[2], max(0, strip - 1))
        diff.kind = "rename"
        diff.old, diff.new = (path, diff.new) if renamed[1] == b"from" else (diff.old, path)
        return
    if line.startswith(b"copy "):
        # A copy is of the file as it was before the patch, which may have changed it by now.
        raise Fault("the patch copies a file: make it with `git diff --no-renames`")
    if found := re.fullmatch(rb"(old|new|new file|deleted file) mode (\d+)", line):
        if not found[2].startswith(b"100"):
            mode = found[2].decode()
            raise Fault(f"`{diff.new}` has mode {mode}: a link or submodule, expected a file")
        diff.kind = {b"new file": "create", b"deleted file": "delete"}.get(found[1], diff.kind)
        diff.mode = int(found[2], 8) & 0o777 if found[1].startswith(b"new") else 0
    elif line == b"GIT binary patch" or re.fullmatch(rb"Binary files .* differ", line):
        raise Fault(f"the patch has binary content for `{diff.new}`, expected text: use a graft")


def parse(content: bytes, strip: int) -> list[Diff]:
    """Return what a unified diff says, file by file; what stands around is passed over."""
    lines = re.findall(rb"[^\n]*\n", content if content.endswith(b"\n") else content + b"\n")
    diffs: list[Diff] = []
    at, open_header, after_hunk = 0, False, False
    while at < len(lines):
        line = lines[at].rstrip(b"\r\n")
        following = lines[at + 1] if at + 1 < len(lines) else b""
        at += 1
        if line.startswith(b"diff --git "):
            diffs.append(_git_diff(line[11:], strip))
            open_header = True
        elif line.startswith(b"--- ") and following.startswith(b"+++ "):
            old, new = _header(line[4:], strip), _header(following.rstrip(b"\r\n")[4:], strip)
            if not open_header:
                diffs.append(Diff(old, new))
            elif diffs[-1].kind == "change":
                diffs[-1].old, diffs[-1].new = old, new
            diffs[-1].dated_never = bool(_NEVER.match(following))
            open_header = False
            at += 1
        elif line.startswith(b"@@") and diffs:
            hunk, at = _hunk(lines, at - 1)
            diffs[-1].hunks.append(hunk)
            if diffs[-1].dated_never and not hunk.new:
                diffs[-1].kind = "delete"
        elif open_header or line.startswith(b"Binary files "):
            _extended(diffs[-1] if diffs else Diff("?", "?"), line, strip)
        elif after_hunk and line[:1] in {b" ", b"+", b"-"} and line.rstrip() != b"--":
            raise Fault(f"line {at} of the patch goes beyond what its hunk's header says: {shown(line)}")
        after_hunk = line.startswith(b"@@")
    return diffs


def _hunk(lines: list[bytes], at: int) -> tuple[Hunk, int]:
    """Return the hunk whose header is at *at*, and where it ends."""
    header = _HUNK.match(lines[at])
    if not header:
        raise Fault(f"line {at + 1} of the patch is no hunk's header: {shown(lines[at].rstrip())}")
    left = {b"-": int(header[2] or 1), b"+": int(header[4] or 1)}
    sides: dict[bytes, list[bytes]] = {b"-": [], b"+": []}
    begun, last = at + 1, b""
    taken: list[bytes] = []
    while any(left.values()) or b"".join(lines[at + 1 : at + 2]).startswith(b"\\"):
        at += 1
        line = lines[at] if at < len(lines) else b""
        # Editors that trim lines leave nothing of an empty one.
        sign = b" " if line in {b"\n", b"\r\n"} else line[:1]
        if sign == b"\\" and last:
            for side in taken:
                sides[side][-1] = sides[side][-1].rstrip(b"\n")
            continue
        taken = [b"-", b"+"] if sign == b" " else [sign]
        if any(left.get(side, 0) == 0 for side in taken):
            raise Fault(f"the hunk on line {begun} of the patch has not the lines its header counts")
        for side in taken:
            left[side] -= 1
            sides[side].append(line if line[:1] != sign else line[1:])
        last = sign
    return Hunk(header[0].decode(), int(header[1]), sides[b"-"], sides[b"+"], last != b" "), at + 1


# ---- applying a patch -------------------------------------------------------------------------------


def patch(base: str, edit: dict[str, Any]) -> Iterator[str]:
    """Apply a unified diff."""
    with open(os.path.join(base, "inputs/patches", edit["input"]), "rb") as stream:
        diffs = parse(stream.read(), edit["strip"])
    if not diffs:
        raise Fault("it holds no unified diff")
    faults: list[str] = []
    for diff in diffs:
        try:
            yield _apply(os.path.join(base, "out"), diff)
        except Fault as fault:
            faults += fault.args
    if faults:
        raise Fault(*faults)


def _apply(root: str, diff: Diff) -> str:
    """Make the change to one file, and say what was done."""
    path = (diff.old if diff.kind == "delete" else diff.new) or ""
    origin = (diff.old or "") if diff.kind == "rename" else path
    if not path or not origin:
        raise Fault("the patch has a part of which no file's name is left: see `strip`")
    place = inside(root, path)
    missing = diff.kind == "change" and [hunk.start for hunk in diff.hunks] == [0]
    if diff.kind in {"create", "rename"} and os.path.lexists(place):
        raise Fault(f"`{path}` is there already, expected to {diff.kind} it")
    created = diff.kind == "create" or (missing and not os.path.lexists(place))
    before = b"" if created else read(root, origin)
    after, moved = _patched(path, before, diff.hunks)
    if diff.kind == "delete":
        if after:
            raise Fault(f"`{path}` holds more than what the patch deletes: {shown(after)}")
        remove(root, path)
        return f"`{path}` deleted"
    mode = 0o644 if created else stat.S_IMODE(os.lstat(inside(root, origin)).st_mode)
    write(root, path, after)
    os.chmod(place, 0o755 if (diff.mode or mode) & stat.S_IXUSR else 0o644)
    if diff.kind == "rename":
        remove(root, origin)
    return f"`{path}` {'created' if created else 'changed'}{moved}"


def _patched(path: str, before: bytes, hunks: list[Hunk]) -> tuple[bytes, str]:
    """Return the content after all *hunks*, and in words which of them were found elsewhere."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", before)
    after: list[bytes] = []
    faults: list[str] = []
    moved, done = "", 0
    for number, hunk in enumerate(hunks, 1):
        wanted = max(hunk.start - 1, 0)
        fits = _fits(lines, hunk.old, hunk, done)
        at = wanted if wanted in fits and not moved else fits[0] if len(fits) == 1 else -1
        if at < 0 or (not hunk.old and lines):
            faults.append(f"`{path}`: hunk {number} of {len(hunks)}, `{hunk.header}`, does not apply")
            faults += (f"  {line}" for line in _why_not(lines, hunk, wanted, done, fits))
            continue
        if at != wanted:
            moved += f", hunk {number} at line {at + 1} instead of {hunk.start}"
        after += (*lines[done:at], *hunk.new)
        done = at + len(hunk.old)
    if faults:
        raise Fault(*faults)
    return b"".join((*after, *lines[done:])), moved


def _fits(lines: list[bytes], block: list[bytes], hunk: Hunk, done: int) -> list[int]:
    """Return where *block* may stand for the old lines of *hunk*, at or after *done*."""
    last = len(lines) - len(block)
    first = max(done, last) if hunk.to_end else done
    stop = min(last, 0) if hunk.start <= 1 else last
    return [at for at in range(first, stop + 1) if lines[at : at + len(block)] == block]


def _why_not(lines: list[bytes], hunk: Hunk, wanted: int, done: int, fits: list[int]) -> Iterator[str]:
    """Yield what is there instead of a hunk's old lines."""
    if not hunk.old:
        yield "it has no context to find its place by: make the patch with `diff -u` or `git diff`"
        return
    if fits:
        yield f"not at line {wanted + 1}, but its lines are there {times(len(fits))}: {listed(fits)}"
        return
    if hunk.new and (made := _fits(lines, hunk.new, hunk, done)):
        yield f"what it makes is there already, {listed(made)}"
    ended = [[line.rstrip(b"\r\n") for line in block] for block in (lines, hunk.old)]
    if _fits(ended[0], ended[1], hunk, done):
        yield "only line ends differ (CRLF, LF, or none at the end of the file)"
        return
    if anywhere := _fits(lines, hunk.old, hunk._replace(start=2, to_end=False), done):
        end = "beginning" if hunk.start <= 1 else "end"
        yield f"its lines are at {listed(anywhere)}, expected at the {end} of the file"
        return
    size = len(hunk.old)
    places = range(done, max(done, len(lines) - 1) + 1)
    same = {at: sum(map(operator.eq, lines[at : at + size], hunk.old)) for at in places}
    best = max(same, key=lambda at: (same[at], -abs(at - wanted)))
    yield f"the nearest place is line {best + 1}, where {same[best]} of its {size} lines are"
    there = [*lines[best : best + size], *[b""] * size]
    different = [n for n in range(size) if there[n] != hunk.old[n]]
    for n in different[: _LISTED // 2]:
        expected, found = (shown(line.rstrip(b"\n")) for line in (hunk.old[n], there[n]))
        yield f"line {best + n + 1}: expected {expected}, found {found if there[n] else 'the end of the file'}"


# ---- the program ------------------------------------------------------------------------------------


def main(base: str, edits: list[dict[str, Any]]) -> int:
    """Copy the tree, apply *edits* in order, and return the exit code."""
    kinds = {"graft": graft, "patch": patch, "substitute": substitute, "tree": tree}
    for number, edit in enumerate([{"kind": "tree"}, *edits]):
        label = f"edit {number} of {len(edits)}, {edit['kind']}" if number else "the tree"
        label += f" `{edit['input']}`" if "input" in edit else ""
        try:
            say([f"{label}: {line}" for line in kinds[edit["kind"]](base, edit)])
        except Fault as fault:
            said = [f"error: {label}: {fault.args[0]}", *(f"  {line}" for line in fault.args[1:])]
            more = len(said) - _SAID
            say([*said[:_SAID], f"  … and {more} lines more"] if more > 0 else said)
            return os.EX_DATAERR
    return 0


def tree(base: str, _: dict[str, Any]) -> Iterator[str]:
    """Copy the tree to where it is edited."""
    copy(folder_of(base, "tree"), os.path.join(base, "out"))
    yield "copied"


def say(lines: Sequence[str]) -> None:
    """Write *lines* to the build's log, whatever is in them."""
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
