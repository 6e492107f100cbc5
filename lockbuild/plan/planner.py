"""The walk from what a stack builds to every derivation that it needs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.condalock import in_link_order
from lockbuild.derivation import (
    CONDA_FOLDER,
    IMAGE_INPUT,
    INTERPRETER_FOLDER,
    PREFIX_TAR,
    Addresses,
    ArchiveMembers,
    BesideFile,
    Build,
    ChannelFile,
    Derivation,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
    RegistryImage,
    Where,
    image_rootfs_command,
    rootfs_command,
)
from lockbuild.digest import canonical_json, parse_sha256, sha256_of
from lockbuild.edits import Graft, source_build
from lockbuild.errors import LockError, StackError
from lockbuild.lock import LockedFile, build_lock_name
from lockbuild.plan.blocking import (
    INSTALLER,
    NVCC_WHEEL,
    PREFIX,
    environment_packages,
    nvcc_wheels,
    sources_of,
)
from lockbuild.plan.commands import (
    ENVIRONMENT,
    build_env,
    compilers,
    image_env,
    install_command,
    runtime_command,
    search_path,
    wheel_command,
)
from lockbuild.provenance import Provenance, closure_of, stamped_build

if TYPE_CHECKING:
    from lockbuild.assetlock import LockedAsset
    from lockbuild.digest import StorePath
    from lockbuild.edits import Edit
    from lockbuild.imagelock import LockedImage
    from lockbuild.lock import Lock, LockedDeb, LockedPackage
    from lockbuild.stack import Asset, BuildSpec, NamedSource, Source, Stack, Standalone
    from lockbuild.target import Target

__all__ = ["EPOCH", "Planner", "asset_fetch", "image_fetch"]

EPOCH = 315532800
"""SOURCE_DATE_EPOCH of every build: 1980-01-01, the first day that a zip archive can hold. Seconds."""


def asset_fetch(asset: Asset, locked: LockedAsset | None) -> Fetch | None:
    """Return how *asset* is fetched; none while it is open.

    Raises:
        LockError: The lock does not know it at all.
    """
    if locked is None:
        raise LockError(f"the lock has no asset `{asset.name}`", hint="`lockbuild resolve` pins it")
    if locked.sha256 is None:
        return None
    where: Where = Addresses(urls=asset.url, type=asset.type)
    if locked.archive:
        where = ArchiveMembers(
            urls=asset.url,
            archive=locked.archive.sha256,
            archive_size=locked.archive.size,
            members=asset.members,
            type=asset.type,
        )
    return Fetch(filename=asset.name, sha256=locked.sha256, size=locked.size, where=where)


def image_fetch(image: LockedImage, target: Target) -> Fetch:
    """Return how the *image* below a root file system is fetched.

    Raises:
        LockError: It is open.
    """
    if image.manifest is None:
        raise LockError(
            f"the image of `base.{image.root}` is open: `{image.reference}`",
            hint="`lockbuild resolve` where its registry can be reached",
        )
    # Named for its content alone: a copy in another registry is the same image.
    return Fetch(
        filename=f"image-{image.manifest.blob.sha256[:12]}",
        sha256=image.manifest.blob.sha256,
        size=image.manifest.size,
        where=RegistryImage(reference=image.reference, architecture=target.debian_architecture),
    )


class Planner:
    """Collects derivations while it walks from builds to what they need."""

    def __init__(self, stack: Stack, lock: Lock) -> None:
        self.derivations: dict[StorePath, Derivation] = {}
        self._stack = stack
        self._lock = lock
        self._urls = {index.name: index.url for index in stack.python.indexes}
        self._waiting: list[str] = []
        self._roots: dict[str, StorePath] = {}
        self._sources = {source.name: source.source for source in stack.pinned_sources()}
        self._path = search_path(stack.interpreter, lock.image("toolchain"))
        self._base_env = image_env(lock.image("toolchain"))
        self._resolve_hint = f"lockbuild resolve {stack.name}"

    def add(self, derivation: Derivation) -> StorePath:
        """Take a derivation into the plan."""
        path = derivation.path
        self.derivations[path] = derivation
        return path

    def _fetch(self, file: LockedFile, where: Where) -> Fetch:
        fetch = Fetch(filename=file.filename, sha256=file.sha256, size=file.size, where=where)
        self.add(fetch)
        return fetch

    def _of_index(self, index: str, project: str) -> IndexFile:
        return IndexFile(index=index, project=project, url=self._urls.get(index))

    def wheel(self, package: LockedPackage, file: LockedFile) -> Fetch:
        """Plan the fetch of a locked package's wheel."""
        if package.urls:
            return self._fetch(file, Addresses(urls=package.urls))
        return self._fetch(file, self._of_index(package.index, package.name))

    def installer(self, environment: str) -> Fetch:
        """Plan the fetch of the wheel that installs the others of a build environment."""
        for package in self._lock.build_environment(environment):
            if package.name == INSTALLER and package.wheel:
                return self.wheel(package, package.wheel)
        raise LockError(
            f"{build_lock_name(environment)} has no wheel of `{INSTALLER}`", hint=self._resolve_hint
        )

    def _deb(self, deb: LockedDeb) -> Fetch:
        base = self._stack.base.archive
        if base is None:
            raise LockError(
                f"the lock has the Debian package `{deb.package}`, and the stack no archive",
                hint=self._resolve_hint,
            )
        where = PoolFile(vendor=base.vendor, path=deb.path, snapshot=base.snapshot)
        file = LockedFile(filename=deb.filename, sha256=deb.sha256, size=deb.size)
        return self._fetch(file, where)

    def _standalone(self, archive: Standalone) -> Fetch:
        file = LockedFile(
            filename=archive.filename, sha256=parse_sha256(archive.sha256), size=archive.size
        )
        return self._fetch(file, Addresses(urls=archive.url))

    def _host(self, command: str) -> Fetch:
        if self._lock.interpreter is None:
            raise LockError(f"the lock has no interpreter `{command}`", hint=self._resolve_hint)
        return self._fetch(self._lock.interpreter.file, HostInterpreter(command=command))

    def root(self, root: str) -> StorePath:
        """Plan the root file system called *root*."""
        if root not in self._roots:
            self._roots[root] = self._make_root(root)
        return self._roots[root]

    def _make_root(self, root: str) -> StorePath:
        debs = [deb for deb in self._lock.debs if root in deb.roots]
        inputs = [(deb.filename, self._deb(deb).path) for deb in debs]
        interpreter = None
        if archive := self.interpreter():
            interpreter = (self._stack.target.python, archive.filename)
            inputs.append((archive.filename, archive.path))
        elif self._stack.interpreter.conda:
            interpreter = (self._stack.target.python, f"{PREFIX}/{PREFIX_TAR}")
            inputs.append((PREFIX, self._python_prefix()))
        place = self._stack.interpreter.folder or INTERPRETER_FOLDER
        if self._stack.base.debian:
            suite = self._stack.base.debian.suite
            name, command = (
                f"{suite}-{root}",
                rootfs_command(suite, debs, interpreter=interpreter, place=place),
            )
        else:
            name, image = f"image-{root}", self._image(root)
            fetch = image_fetch(image, self._stack.target)
            inputs.append((IMAGE_INPUT, self.add(fetch)))
            command = image_rootfs_command(
                f"sha256:{fetch.sha256}",
                debs,
                architecture=self._stack.target.debian_architecture,
                interpreter=interpreter,
                place=place,
                python=self._image_python(image),
            )
        return self.add(
            Build(
                name=name,
                kind="rootfs",
                system=self._stack.target.system,
                toolchain=None,
                command=command,
                env=(("SOURCE_DATE_EPOCH", str(EPOCH)),),
                inputs=tuple(sorted(inputs)),
            )
        )

    def _image(self, root: str) -> LockedImage:
        image = self._lock.image(root)
        if image is None:
            raise LockError(f"the lock has no image for `base.{root}`", hint=self._resolve_hint)
        return image

    def _image_python(self, image: LockedImage) -> tuple[str, str, str] | None:
        command = self._stack.interpreter.image
        return (self._stack.target.python, command, image.path) if command else None

    def prefix(self) -> StorePath | None:
        """Plan the prefix of conda packages; none where the stack has none."""
        if self._stack.conda is None or not self._lock.conda:
            return None
        channels = dict(self._stack.conda.named_channels())
        words, inputs = [], []
        for package in in_link_order(self._lock.conda):
            file = LockedFile(filename=package.filename, sha256=package.sha256, size=package.size)
            where = ChannelFile(
                channel=package.channel, subdir=package.subdir, url=channels[package.channel]
            )
            inputs.append((package.filename, self._fetch(file, where).path))
            words.append(f"{package.channel}/{package.subdir}/{package.filename}")
        return self.add(
            Build(
                name=PREFIX,
                kind="prefix",
                system=self._stack.target.system,
                toolchain=None,
                command=(f"--place={CONDA_FOLDER}", *words),
                env=(("SOURCE_DATE_EPOCH", str(EPOCH)),),
                inputs=tuple(sorted(inputs)),
            )
        )

    def _python_prefix(self) -> StorePath:
        prefix = self.prefix()
        if prefix is None:
            raise LockError("the lock has no conda packages, and Python is one", hint=self._resolve_hint)
        return prefix

    def _source(self, name: str) -> Fetch:
        """Return the fetch of a pinned source: an archive, or a tree."""
        locked = self._lock.source(name)
        if locked.path:
            return self._fetch(locked.file, FolderArchive(path=locked.path))
        if locked.commit:
            return self._fetch(locked.file, _git_tree(self._sources[name], locked.commit))
        project = (self._sources[name].sdist or name).partition("==")[0]
        return self._fetch(locked.file, self._of_index(locked.index, canonicalize_name(project)))

    def _edited(self, spec: BuildSpec) -> tuple[StorePath, str | None]:
        """Return the source of *spec* as it is built, and its file name if it is an archive."""
        fetch = self._source(spec.name)
        if not spec.edits:
            return fetch.path, None if isinstance(fetch.where, GitTree) else fetch.filename
        return self._changed(spec.name, spec.edits, fetch), None

    def placed(self, named: NamedSource) -> StorePath:
        """Plan the tree of a source as the image has it: a folder."""
        fetch = self._source(named.name)
        if isinstance(fetch.where, GitTree) and not named.edits:
            return fetch.path
        return self._changed(named.name, named.edits, fetch)

    def _changed(self, name: str, edits: tuple[Edit, ...], fetch: Fetch) -> StorePath:
        """Plan the tree that *edits* make of a source; of an archive, its folder."""
        grafts = {edit.source for edit in edits if isinstance(edit, Graft)}
        build = source_build(
            f"{name}-source",
            system=self._stack.target.system,
            toolchain=self.root("toolchain"),
            tree=fetch.path,
            edits=edits,
            patches=self._patches(name),
            grafts={other: self._source(other).path for other in sorted(grafts)},
            epoch=EPOCH,
            path_env=self._path,
        )
        return self.add(build)

    def _environment(self, spec: BuildSpec) -> StorePath:
        """Return the build environment of *spec*."""
        wanted = environment_packages(self._stack, self._lock, spec)
        inputs = [
            (f"wheels/{package.wheel.filename}", self.wheel(package, package.wheel).path)
            if package.wheel
            else (f"built/{package.name}", self.build(self._stack.build(package.name)))
            for package in wanted
        ]
        installer = self.installer(spec.environment).filename
        built = any(not package.wheel for package in wanted)
        env = {**self._base_env, "SOURCE_DATE_EPOCH": str(EPOCH)}
        if self._stack.interpreter.folder or not self._stack.base.debian:
            env["PATH"] = self._path
        return self.add(
            Build(
                name=_environment_name(inputs),
                kind="environment",
                system=self._stack.target.system,
                toolchain=self.root("toolchain"),
                command=install_command(installer, built=built, toolkit=self._toolkit(spec)),
                env=tuple(sorted(env.items())),
                inputs=tuple(sorted(inputs)),
            )
        )

    def runtime_environment(self) -> StorePath:
        """Return the environment of every wheel that is fetched for the image, in the image's root file system."""
        installer = self.installer("")
        image = self._lock.image("runtime")
        inputs = [(f"installer/{installer.filename}", installer.path)]
        inputs += [
            (f"wheels/{package.wheel.filename}", self.wheel(package, package.wheel).path)
            for package in self._lock.runtime
            if package.wheel
        ]
        env = {
            **image_env(image),
            "PATH": search_path(self._stack.interpreter, image),
            "SOURCE_DATE_EPOCH": str(EPOCH),
        }
        return self.add(
            Build(
                name=_environment_name(inputs),
                kind="environment",
                system=self._stack.target.system,
                toolchain=self.root("runtime"),
                command=runtime_command(installer.filename),
                env=tuple(sorted(env.items())),
                inputs=tuple(sorted(inputs)),
            )
        )

    def _toolkit(self, spec: BuildSpec) -> str | None:
        """Return where in the environment of *spec* the toolkit of nvcc's wheels is; none where it has no such wheels."""
        if not nvcc_wheels(self._stack, self._lock.runtime, spec):
            return None
        wanted = environment_packages(self._stack, self._lock, spec)
        nvcc = next((package for package in wanted if package.name == NVCC_WHEEL), None)
        return f"nvidia/cu{nvcc.version.partition('.')[0]}" if nvcc else None

    def fetches(self, spec: BuildSpec) -> None:
        """Plan whatever can be fetched for a build that waits for open parts of the lock."""
        self.source_fetches(spec.name, spec.edits)
        for package in environment_packages(self._stack, self._lock, spec):
            if package.wheel:
                self.wheel(package, package.wheel)

    def source_fetches(self, name: str, edits: tuple[Edit, ...]) -> None:
        """Plan whatever can be fetched of a source and what its edits graft."""
        still_open = self._lock.open_of("source")
        for other in sources_of(name, edits):
            if other not in still_open:
                self._source(other)
        if name not in still_open:
            self._patches(name)

    def interpreter(self) -> Fetch | None:
        """Plan an interpreter of the stack's own, whoever waits for it; return its archive, if it is one."""
        own = self._stack.interpreter
        if own.standalone:
            return self._standalone(own.standalone)
        if own.host and own.host not in self._lock.open_of("interpreter"):
            return self._host(own.host)
        if own.conda:
            self.prefix()
        return None

    def _patches(self, name: str) -> dict[str, StorePath]:
        return {
            path: self._fetch(file, BesideFile(path=path)).path
            for path, file in self._lock.source(name).patches
        }

    def build(self, spec: BuildSpec) -> StorePath:
        """Plan the wheel of *spec* and all that it is made of and with."""
        if spec.name in self._waiting:
            circle = " -> ".join([*self._waiting[self._waiting.index(spec.name) :], spec.name])
            raise StackError(
                f"builds need one another in a circle: {circle}",
                hint="take one of them out of the `needs` or `build-requires` of the next",
            )
        self._waiting.append(spec.name)
        source, archive = self._edited(spec)
        environment = self._environment(spec)
        self._waiting.pop()
        env = {
            **self._base_env,
            "PATH": f"{ENVIRONMENT}/bin:{self._path}",
            "PYTHONPATH": ENVIRONMENT,
            "SOURCE_DATE_EPOCH": str(EPOCH),
        }
        if self._stack.target.cuda_architectures:
            env["TORCH_CUDA_ARCH_LIST"] = ";".join(self._stack.target.cuda_architectures)
        if toolkit := self._toolkit(spec):
            env["CUDA_HOME"] = f"{ENVIRONMENT}/{toolkit}"
            env["PATH"] = f"{ENVIRONMENT}/bin:{env['CUDA_HOME']}/bin:{self._path}"
        declared = {**self._stack.toolchain.env(), **dict(spec.env)}
        env |= {**declared, **compilers(self._stack.interpreter, declared)}
        env = build_env(dict(spec.env), env)
        return self.add(
            Build(
                name=f"{spec.name}-{spec.version}",
                kind="wheel",
                system=self._stack.target.system,
                toolchain=self.root("toolchain"),
                command=wheel_command(archive, spec.source.subdirectory),
                env=tuple(sorted(env.items())),
                inputs=tuple(
                    sorted(
                        (
                            ("environment", environment),
                            (f"source/{archive}" if archive else "source", source),
                        )
                    )
                ),
            )
        )

    def stamped(self, spec: BuildSpec, compiled: StorePath) -> StorePath:
        """Plan what puts version label and provenance into the wheel of *spec*."""
        # The label is in the lock: it follows from what was resolved, and what people pin has it.
        version = next((p.version for p in self._lock.runtime if p.name == spec.name), spec.version)
        provenance = Provenance(
            name=spec.name,
            version=version,
            build=compiled,
            derivations=closure_of(compiled, self.derivations),
        )
        return self.add(stamped_build(provenance, epoch=EPOCH))


def _environment_name(inputs: list[tuple[str, StorePath]]) -> str:
    """Return a name for what an environment holds: builds that want the same packages share it."""
    held = sha256_of(canonical_json([[name, path] for name, path in sorted(inputs)]))
    return f"environment-{held[:8]}"


def _git_tree(source: Source, commit: str) -> GitTree:
    return GitTree(
        url=source.git or "",
        commit=commit,
        submodules=source.submodules,
        include=source.include,
        exclude=source.exclude,
    )
