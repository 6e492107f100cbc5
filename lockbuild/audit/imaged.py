"""Is what an image holds what was locked, in every layer of it?"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lockbuild.audit.drift import build_paths
from lockbuild.audit.forbidden import LICENSED
from lockbuild.audit.leaks import secret_name, secrets_said, veiled
from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.dockerfile import BILL_LABEL
from lockbuild.dockerfile.steps import asks_network
from lockbuild.findings import Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lockbuild.audit.compared import Difference, PackageDrift
    from lockbuild.audit.rules import ImageContents, Subject
    from lockbuild.findings import Level
    from lockbuild.image.manifests import LayeredImage

__all__ = ["LOCK_LABEL", "RULES", "files_found", "image_of", "set_by"]

_SHOWN = 5
_MANY = 8
_LONGEST = 160
LOCK_LABEL = "io.lockbuild.lock"
_FREE_LABELS = frozenset({"io.lockbuild.context", BILL_LABEL})
"""What `lockbuild image` adds to the labels of the Dockerfile."""


def image_of(subject: Subject) -> ImageContents:
    """Return the image that is looked into.

    Raises:
        Skip: There is none.
    """
    if subject.image is None:
        raise Skip(subject.no_image or "there is no image yet: `lockbuild image`")
    return subject.image


# ---- packages --------------------------------------------------------------------------------------


def _of_packages(image: ImageContents, found: Iterable[PackageDrift]) -> Iterator[Found]:
    for one in found:
        where = f" (/{one.path})" if one.path else ""
        facts = (("file", f"/{one.path}"),) if one.path else ()
        yield Found(one.name, f"{one.message}{where}", layer=_layer(image, one.layer), facts=facts)


def _image_packages(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    yield from _of_packages(image, image.drift.python)


def _image_debs(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    yield from _of_packages(image, image.drift.debs)


def _image_conda(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    yield from _of_packages(image, image.drift.conda)


# ---- files -----------------------------------------------------------------------------------------


def files_found(check: str, subject: Subject) -> Iterator[Found]:
    """Yield what *check* says of files: each by itself, but of many below one folder a few and a count."""
    image = image_of(subject)
    if image.expected.absent and not (check == LICENSED and image.expected.placed):
        raise Skip(image.expected.absent[0])
    groups: dict[tuple[int | None, str], list[Difference]] = defaultdict(list)
    for one in image.drift.files:
        if one.check == check:
            top = "/".join(one.path.split("/")[:-1][:2])
            groups[one.layer, top].append(one)
    for (layer, top), found in groups.items():
        shown = found if len(found) <= _MANY else found[:_SHOWN]
        for one in shown:
            yield Found(
                f"/{one.path}", one.message, layer=_layer(image, layer), facts=(("way", one.way),)
            )
        if more := len(found) - len(shown):
            yield Found(
                f"/{top}",
                f"{more:,} more files like these",
                layer=_layer(image, layer),
                facts=(("more", str(more)),),
            )


def _layer(image: ImageContents, number: int | None) -> str:
    if number is None:
        return ""
    layer = image.image.layers[number]
    return replace(layer, instruction=veiled(layer.instruction)).label


# ---- the configuration -----------------------------------------------------------------------------


def _image_lock(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    found = dict(image.image.labels).get(LOCK_LABEL, "absent")
    if found != f"sha256:{subject.lock.digest}":
        yield Found(
            image.reference,
            f"label {LOCK_LABEL} is {found}, the lock's digest sha256:{subject.lock.digest}",
            layer=set_by(image.image, "LABEL", LOCK_LABEL),
        )


def _image_labels(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    wanted = {name: text for name, text in image.expected.settings.labels if name != LOCK_LABEL}
    found = {
        name: text
        for name, text in image.image.labels
        if name != LOCK_LABEL and (name in wanted or name not in _FREE_LABELS)
    }
    yield from _settings(image, "LABEL", found, wanted)


def _image_env(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    found, wanted = dict(image.image.env), dict(image.expected.settings.env)
    times = Counter(name for name, _ in image.image.env)
    for name in sorted(name for name, count in times.items() if count > 1):
        values = [_veiled(name, value) for key, value in image.image.env if key == name]
        yield Found(
            name,
            f"is set {times[name]} times: {', then '.join(values[:_SHOWN])}",
            layer=set_by(image.image, "ENV", name),
        )
        found.pop(name)
        wanted.pop(name, None)
    yield from _settings(image, "ENV", found, wanted)


def _settings(
    image: ImageContents, instruction: str, found: Mapping[str, str], wanted: Mapping[str, str]
) -> Iterator[Found]:
    for name in sorted({*found, *wanted}):
        if found.get(name) == wanted.get(name):
            continue
        value = "is not set" if name not in found else f"is {_veiled(name, found[name])}"
        locked = (
            "the lock has none" if name not in wanted else f"the lock has {_veiled(name, wanted[name])}"
        )
        yield Found(name, f"{value}, {locked}", layer=set_by(image.image, instruction, name))


def _veiled(name: str, value: str) -> str:
    return "(not shown)" if secret_name(name) or secrets_said(value) else f"`{value}`"


def set_by(image: LayeredImage, instruction: str, name: str) -> str:
    """Return the instruction that set a variable, label or other part of the configuration last."""
    below = 0
    said = ""
    for step in image.history:
        below = step.layer or below
        words = step.text.split()
        if words[:1] == [instruction] and any(
            word.partition("=")[0].strip('"') == name for word in words
        ):
            said = f"configuration, above layer {below}: {instruction} {name}"
    return said or "configuration"


def _image_settings(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    found, wanted = image.image, image.expected.settings
    for instruction, there, locked in (
        ("USER", found.user, wanted.user),
        ("WORKDIR", found.workdir, wanted.workdir),
        ("ENTRYPOINT", shlex.join(found.entrypoint), shlex.join(wanted.entrypoint)),
        ("CMD", shlex.join(found.command), shlex.join(wanted.command)),
    ):
        if there != locked:
            yield Found(
                instruction,
                f"is `{veiled(there)}`, the lock has `{locked}`",
                layer=_last(image.image, instruction),
            )
    for instruction, there in found.further:
        yield Found(
            instruction,
            f"is `{veiled(there)[:_LONGEST]}`, the lock has none",
            layer=_last(image.image, instruction),
        )


def _last(image: LayeredImage, instruction: str) -> str:
    below, said = 0, ""
    for step in image.history:
        below = step.layer or below
        if step.text.split()[:1] == [instruction]:
            said = f"configuration, above layer {below}: {veiled(step.text)}"
    return said or "configuration"


def _image_user(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    user = image.image.user.partition(":")[0]
    if user in ("", "0", "root"):
        yield Found("USER", f"is `{image.image.user or 'root'}`", layer=_last(image.image, "USER"))


# ---- what nobody means to leave --------------------------------------------------------------------


def _image_secrets(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    for name, value in image.image.env:
        if seen := secrets_said(value):
            yield Found(name, f"holds {', '.join(seen)}", layer=set_by(image.image, "ENV", name))
    for instruction, text in (
        ("ENTRYPOINT", shlex.join(image.image.entrypoint)),
        ("CMD", shlex.join(image.image.command)),
        *image.image.further,
    ):
        if seen := secrets_said(text):
            yield Found(instruction, f"holds {', '.join(seen)}", layer=_last(image.image, instruction))
    for step in image.image.history:
        if seen := secrets_said(step.text):
            number = str(step.layer) if step.layer else "configuration"
            word = veiled(step.text).split()[0]
            yield Found(f"history {word}", f"holds {', '.join(seen)}", layer=number)
    yield from files_found("image-secrets", subject)


def _image_build_paths(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    for file, number, path in build_paths(image.image):
        yield Found(f"/{file.path}", f"names `{path}`", layer=_layer(image, number))


def _image_network(subject: Subject) -> Iterator[Found]:
    image = image_of(subject)
    for step in image.image.history:
        if asks_network(step.text):
            number = f"{step.layer}: " if step.layer else ""
            text = veiled(step.text)[:_LONGEST]
            yield Found("history", text, layer=f"{number}{text}")


def _rule(
    check: str, what: str, why: str, *, level: Level = "error", mend: str = "`lockbuild image`"
) -> Check:
    return Check(id=check, level=level, what=what, why=why, mend=mend, about="image")


def _of_files(check: str, what: str, why: str, *, mend: str = "`lockbuild image`") -> Rule:
    return Rule(_rule(check, what, why, mend=mend), partial(files_found, check))


_RUNS = "what runs must be what was resolved"
_ANOTHER = "a file that was changed is another program"
_ANEW = "`lockbuild image`, from a context without it: a later layer takes nothing back"

RULES = (
    Rule(
        _rule("image-packages", "the image's Python packages are those of the lock", _RUNS),
        _image_packages,
    ),
    _of_files(
        "image-package-files",
        "every file of the image's Python packages is the one of the locked wheel",
        _ANOTHER,
    ),
    Rule(
        _rule("image-debs", "the image's Debian packages are those of the lock", _RUNS),
        _image_debs,
    ),
    _of_files(
        "image-base-files",
        "every file of the image's base is the one of the locked root file system, with its owner and mode",
        _ANOTHER,
    ),
    _of_files(
        "image-sources",
        "the image has every file of its sources as the lock and its edits make it",
        _ANOTHER,
    ),
    _of_files(
        "image-assets",
        "the image's weights and other data are those of the lock",
        "other weights give other results",
    ),
    Rule(
        _rule("image-conda", "the image's conda packages are those of the lock", _RUNS),
        _image_conda,
    ),
    _of_files(
        "image-conda-files", "every file of the image's conda packages is the locked one", _ANOTHER
    ),
    _of_files(
        "image-own-files",
        "what the Dockerfile itself makes is as it was made: environment, user and preflight",
        "who changes the preflight or the list of users changes what runs, and as whom",
    ),
    _of_files(
        "image-extra",
        "no layer holds a file that the lock does not bring",
        "what nobody locked, nobody answers for: no licence, no version, no origin",
        mend="declare it in the stack as a source, asset or package, then `lockbuild image`",
    ),
    _of_files(
        LICENSED,
        "no layer holds data that whoever runs the image has to bring along",
        "its licence lets nobody pass it on, and a layer that deletes it ships it all the same",
        mend=_ANEW,
    ),
    _of_files(
        "image-setuid",
        "no file gives rights of others that the base does not have",
        "who may run such a file becomes somebody else: root, most often",
        mend=_ANEW,
    ),
    Rule(
        _rule(
            "image-secrets",
            "no layer and no setting holds a key, a token or a password",
            "whoever can pull the image can read all of its layers",
            mend=f"revoke it, for it is known; then {_ANEW}",
        ),
        _image_secrets,
    ),
    _of_files(
        "image-leftovers",
        "no layer holds wheels, packages, caches or folders that only building needs",
        "they make the image larger, and whoever finds them installs them",
        mend=_ANEW,
    ),
    Rule(
        _rule(
            "image-build-paths",
            "no file beyond the lock names folders of the machine that built it",
            "it says who built it and where, and works nowhere else",
            level="warning",
        ),
        _image_build_paths,
    ),
    Rule(
        _rule(
            "image-env",
            "the image's environment variables are those of the lock, each once",
            "they decide which code runs, and how",
        ),
        _image_env,
    ),
    Rule(
        _rule(
            "image-labels",
            "the image's labels say what the lock says",
            "whoever asks an image what it is must get a true answer",
        ),
        _image_labels,
    ),
    Rule(
        _rule(
            "image-settings",
            "the image's user, folder, entry point and command are those of the lock; it sets no health check,"
            " `ONBUILD`, shell, volumes, ports or way to stop",
            "they decide what runs, and as whom",
        ),
        _image_settings,
    ),
    Rule(
        _rule(
            "image-user",
            "the image is run by a user of its own",
            "who breaks out of a container as root is root outside",
            level="warning",
            mend="`image.user` of the stack",
        ),
        _image_user,
    ),
    Rule(
        _rule(
            "image-network",
            "no step of the image's history asks a network",
            "what it got then is in no lock, and will be another tomorrow",
            level="warning",
        ),
        _image_network,
    ),
    Rule(
        _rule(
            "image-lock",
            "the image was made from this lock",
            "an image of an older lock looks the same from outside",
        ),
        _image_lock,
    ),
)
