"""Making a wheel again from the record in it, and comparing every byte. The record is a stranger's."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild import wheels
from lockbuild.checking import build_again
from lockbuild.comparing import difference_of_wheels
from lockbuild.derivation import Build, Fetch, FolderArchive, PoolFile, RegistryImage
from lockbuild.errors import BuildError, UsageError
from lockbuild.failures import failure
from lockbuild.fetching import bring_again, failed
from lockbuild.finishing import Promise
from lockbuild.plan import EPOCH, Plan, missing
from lockbuild.provenance import FOLDER, RECORD, Provenance, parse_record, stamped_build
from lockbuild.realise import PlanRealiser
from lockbuild.store import trees

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lockbuild.digest import Sha256, StorePath
    from lockbuild.store import Store

__all__ = ["Claim", "Rebuilder", "Rebuilt", "provide_patches", "read_claim", "rebuild"]

_LONGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A wheel, and what it says of where it comes from."""

    file: Path
    provenance: Provenance
    stamped: Build
    """What would give that wheel."""

    def plan(self) -> Plan:
        """Return the plan that makes the wheel again.

        Raises:
            BuildError: Nothing in the record installs a build environment.
        """
        name, stamped = self.provenance.name, self.stamped
        fetches = self.provenance.fetches()
        installer = next((f.path for f in fetches if f.filename.startswith("pip-")), None)
        if installer is None:
            raise BuildError(f"the record of `{self.file.name}` is not to be believed: it has no pip")
        return Plan(
            derivations={**self.provenance.derivations, stamped.path: stamped},
            wheels=(),
            builds=((name, stamped.path),),
            compiles=((name, self.provenance.build),),
            roots=(),
            installer=installer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What making a wheel again gave."""

    name: str
    version: str
    path: StorePath
    """Of the wheel that was made again."""
    claimed: Sha256
    """Of the file."""
    sha256: Sha256
    """Of what was made again."""
    differences: tuple[str, ...]
    """A line for each member that differs, and how."""
    compiled: bool
    """Whether it was compiled now; else the store had it."""

    @property
    def identical(self) -> bool:
        """Whether the bytes are the same."""
        return self.claimed == self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder(PlanRealiser):
    """What carries out the plan of a record.

    Root file systems are made outside the sandbox, and what is installed there runs there. So their Debian packages
    are those that the archives give now, whatever the store has under their names; programs of a base image run if
    `trust_image` says so.
    """

    claim: Claim
    trust_image: bool = False

    @property
    def root(self) -> None:
        """Keep nothing: what is made again is compared, and then garbage."""
        return

    def promise(self, build: Build) -> Promise:
        """Return what the record says of the wheel of *build*."""
        if build.kind == "stamped":
            return Promise(name=self.claim.provenance.name, version=self.claim.provenance.version)
        name, _, version = build.name.rpartition("-")
        return Promise(name=name, version=version)

    def fetch(self, targets: Iterable[StorePath] | None = None) -> tuple[Fetch, ...]:
        """Bring what is missing, and ask anew for the Debian packages that are about to be installed.

        Raises:
            FetchError: Some could not be had.
            UsageError: Programs of a base image would run that nobody trusts.
        """
        wanted = tuple(self.plan.derivations if targets is None else targets)
        roots = [
            build
            for build in missing(
                self.plan, wanted, valid=self.store.valid(self.plan.derivations)
            ).to_build
            if build.kind == "rootfs"
        ]
        held = {path: self.plan.derivations[path] for root in roots for _, path in root.inputs}
        fetches = [one for one in held.values() if isinstance(one, Fetch)]
        if not self.trust_image:
            self._refuse_images(fetches)
        packages = [fetch for fetch in fetches if isinstance(fetch.where, PoolFile)]
        failures = bring_again(
            packages,
            store=self.store,
            mirrors=self.mirrors,
            progress=self.progress,
            connections=self.connections,
        )
        if failures:
            raise failed(failures, wanted=len(packages))
        return PlanRealiser.fetch(self, targets)

    def _refuse_images(self, fetches: Sequence[Fetch]) -> None:
        images = [
            f"{fetch.where.reference}@sha256:{fetch.sha256}"
            for fetch in fetches
            if isinstance(fetch.where, RegistryImage)
        ]
        if images:
            raise UsageError(
                f"`{self.claim.file.name}` was built on a base image, whose programs would run outside the sandbox",
                details=tuple(sorted(images)),
                hint="--trust-image, if you trust whoever made that image",
            )


def read_claim(file: Path) -> Claim:
    """Return what the wheel at *file* says of itself.

    Raises:
        UsageError: It is no wheel, or has no record.
        BuildError: Its record is not to be believed.
    """
    if not file.is_file():
        raise UsageError(f"there is no file `{file}`")
    if faults := wheels.check_wheel(file, expects=()):
        raise UsageError(f"`{file.name}` is no wheel to be made again", details=faults)
    text = _member(file, RECORD)
    if text is None:
        raise UsageError(
            f"`{file.name}` does not say where it comes from: it has no `{RECORD}` in its .dist-info",
            hint="only wheels that lockbuild has built do",
        )
    try:
        provenance = parse_record(text.decode())
    except ValueError as error:
        raise BuildError(f"the record of `{file.name}` is not to be believed: {error}") from error
    facts = wheels.inspect_wheel(file)
    if (facts.name, facts.version) != (provenance.name, provenance.version):
        raise BuildError(
            f"the record of `{file.name}` is that of {provenance.name} {provenance.version}",
            details=(f"the wheel is {facts.name} {facts.version}",),
        )
    return Claim(file=file, provenance=provenance, stamped=stamped_build(provenance, epoch=EPOCH))


def _member(file: Path, place: str) -> bytes | None:
    """Return the member at *place* of the .dist-info folder, if there is one that is not overlong."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            folder, _, rest = info.filename.partition("/")
            if folder.endswith(".dist-info") and rest == place and info.file_size <= _LONGEST:
                return archive.read(info)
    return None


def provide_patches(claim: Claim, store: Store) -> None:
    """Put the patches that the wheel brings along into the store.

    Raises:
        BuildError: One is not what the record says.
    """
    for fetch in claim.provenance.patches():
        if store.info(fetch.path):
            continue
        data = _member(claim.file, f"{FOLDER}/{fetch.sha256}.patch")
        if data is None or hashlib.sha256(data).hexdigest() != fetch.sha256:
            raise BuildError(
                f"`{claim.file.name}` does not hold the patch `{fetch.filename}` that its record names",
                details=(f"expected sha256 {fetch.sha256}",),
            )
        with store.scratch("patch") as scratch:
            (scratch / "patch").write_bytes(data)
            store.add_file(fetch.path, scratch / "patch", sha256=fetch.sha256)


def refuse_absent(claim: Claim, store: Store) -> None:
    """Refuse to go on without what lies beside a stack file, and in no wheel.

    Raises:
        UsageError: With a line for each folder.
    """
    folders = [fetch for fetch in claim.provenance.fetches() if isinstance(fetch.where, FolderArchive)]
    absent = [fetch for fetch in folders if store.info(fetch.path) is None]
    if absent:
        raise UsageError(
            f"`{claim.file.name}` was made of what lay beside a stack file",
            details=tuple(f"{f.where.path}: sha256 {f.sha256}" for f in absent),  # type: ignore[union-attr]
            hint="--beside FOLDER: the folder of that stack",
        )


def rebuild(realiser: Rebuilder, *, again: bool = False) -> Rebuilt:
    """Make the wheel again and compare it with the file.

    Args:
        realiser: Of the claim.
        again: Whether it is compiled even where the store has it.

    Raises:
        BuildError: It cannot be built.
        FetchError: Something that it is made of cannot be had.
    """
    claim, store = realiser.claim, realiser.store
    stamped = claim.stamped
    compiled = claim.provenance.derivations[claim.provenance.build]
    had = store.info(claim.provenance.build) is not None
    provide_patches(claim, store)
    if not (again and had):
        realiser.build([stamped.path])
        return _compared(claim, store.locate(stamped.path), compiled=not had)
    parts = (stamped, compiled) if isinstance(compiled, Build) else (stamped,)
    realiser.build([path for build in parts for path in build.references])
    with store.scratch(f"rebuild-{stamped.name}") as scratch:
        with realiser.progress.phase("rebuilding", total=1, unit="builds") as phase:
            outcome = build_again(realiser, stamped, scratch, 1)
            phase.advance(1)
        if outcome.output is None or outcome.status != "built":
            raise failure([outcome], edited=())
        return _compared(claim, outcome.output, compiled=True)


def _compared(claim: Claim, folder: Path, *, compiled: bool) -> Rebuilt:
    (made,) = folder.glob("*.whl")
    return Rebuilt(
        name=claim.provenance.name,
        version=claim.provenance.version,
        path=claim.stamped.path,
        claimed=trees.hash_file(claim.file),
        sha256=trees.hash_file(made),
        differences=difference_of_wheels(claim.file, made),
        compiled=compiled,
    )
