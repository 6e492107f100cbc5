"""Stack files as people write them: what is accepted, and every fault of one at once."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import StackError
from lockbuild.stack import from_document
from lockbuild.stack.schema import json_schema, parse_stack_text
from lockbuild.target import MACHINES
from tests.values import minimal_document, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable

SIX_FAULTS = """\
name = "Six Faults"
sumary = "a key that is not known, but nearly"

[target]
python = 3.11
platform = "linux_x86_65"
glibc = "2.36"

[interpreter]
apt = "python3"

[base]
debian = { suite = "bookworm", components = ["mian"] }

[python]
requires = ["numpy", "torch=>2"]
"""

MANY_FAULTS = """\
name = ["no", "string"]
interpreter = "python3"
unlike = "any key that is known"

[target]
glibc = "two"
cuda-architectures = ["8.6", "sm_86"]

[base]
debian = { suite = "bookworm-updates", snapshot = "2025-06-01", vendor = "debain" }

[apt]
runtime = [{ package = "libgl1" }]

[python]
exclude-newer = 2025-06-01
requires = ["thing @ https://example.org/thing.whl"]
constraints = "numpy<2"

[[python.index]]
name = "pypi"
url = "packages.example.org"
only = []

[[python.index]]
name = "pypi"
url = "https://packages.example.org"
only = ["Py_Torch"]

[[build]]
name = "gamma"
version = "two"
source = {}
env = { "NOT-A-NAME" = "1", NUMBER = 1, LINES = "a\\nb" }

[[build]]
name = "delta"
version = "1.0"
source = { sdist = "delta 1.0" }
expects = ["/etc/passwd"]

[[build]]
name = "epsilon"
version = "1.0"
source = { sdist = "epsilon==1.1" }

[[build]]
name = "zeta"
version = "1.0"
source = { sdist = "zeta==1.0", path = "../zeta" }

[[build]]
version = "1.0"
source = { path = "eta" }
long = "a key that is not known"

[image]
user = "Root"
workdir = "relative"

[preflight]
imports = ["no-module"]
checks = [true]
"""


GIT = {"git": "https://git.example.org/gamma", "commit": "0123456789" * 4}


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(StackError) as caught:
        parse_stack_text(text, file="stacks/small/stack.toml")
    return caught.value.details


def fault_of(document: dict[str, Any]) -> str:
    (fault,) = faults_of(toml_text(document))
    return fault


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the small stack with the value at *path*, keys and positions with dots between, replaced."""
    document = deepcopy(stack_document())
    *parents, last = path.split(".")
    here: Any = document
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    here[int(last) if isinstance(here, list) else last] = value
    return document


def pinned(**changes: object) -> dict[str, Any]:
    """Return the small stack with one wheel pinned by its bytes."""
    wheel = {
        "name": "torch",
        "version": "2.7.1+cu118",
        "url": ["https://files.example.org/torch-2.7.1%2Bcu118-cp311-cp311-linux_x86_64.whl"],
        "sha256": "0" * 64,
        "requires": ["numpy"],
        **changes,
    }
    return changed("python.wheel", [wheel])


# ---- what is accepted --------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [minimal_document(), stack_document()])
def test_good_stack_is_returned_as_it_is(document: dict[str, Any]) -> None:
    assert parse_stack_text(toml_text(document), file="stack.toml") == document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("target.python", "3.8"),
        ("target.cuda-architectures", ["9.0a", "8.6+PTX"]),
        ("base.debian.snapshot", "20250601T000000Z"),
        ("base.debian.components", ["main", "contrib", "non-free", "non-free-firmware"]),
        ("apt.runtime", ["libgl1", "g++", "libstdc++6", "python3.11"]),
        (
            "python.requires",
            ["torch==1.12.1+cu113", "uvicorn[standard]>=0.30", "a; sys_platform=='linux'"],
        ),
        ("python.exclude-newer", "2025-06-01T12:00:00Z"),
        ("python.index.0.url", "file:///srv/index"),
        ("python.index", []),
        ("build.0.source", {"sdist": "Gamma==2"}),
        ("build.1.source", {"path": "./extension/"}),
        ("build.0.source", {**GIT, "submodules": True, "subdirectory": "python"}),
        ("build.0.source", {**GIT, "include": ["projects/**", "*.py"], "exclude": ["a..b"]}),
        ("source", [{**GIT, "name": "TalkingGaussian"}]),
        ("build.0.version", "2.0.0"),
        ("build.0.env", {}),
        ("env", {"EMPTY": "", "_under": "a = b"}),
        ("preflight.gpu", "required"),
        ("mount", [{"path": "/app/data/smpl"}, {"path": "/x", "holds": ["**/*.npz"], "optional": True}]),
        ("preflight.imports", ["torch", "mmcv.ops", "simple_knn._C"]),
    ],
)
def test_is_accepted(path: str, value: object) -> None:
    document = changed(path, value)
    assert from_document(parse_stack_text(toml_text(document), file="stack.toml")).name == "small"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": 1},
        {"url": ["https://files.example.org/torch-2.7.1+cu118-py3-none-any.whl?x=1#sha256=00"]},
        {
            "url": ["https://files.example.org/download/1"],
            "filename": "torch-2.7.1+cu118-py3-none-any.whl",
        },
    ],
)
def test_pinned_wheel_is_accepted(changes: dict[str, object]) -> None:
    document = parse_stack_text(toml_text(pinned(**changes)), file="stack.toml")
    (wheel,) = from_document(document).python.wheels
    assert wheel.filename.startswith("torch-2.7.1+cu118-")
    assert wheel.filename.endswith(".whl")


STANDALONE = {"url": ["https://example.org/cpython-3.8.20%2B1-install_only.tar.gz"], "sha256": "a" * 64}


def test_standalone_interpreter_is_accepted() -> None:
    document = changed("interpreter", {"standalone": STANDALONE})
    assert parse_stack_text(toml_text(document), file="stack.toml") == document


@pytest.mark.parametrize(
    ("interpreter", "fault"),
    [
        (
            {},
            "`interpreter`: found an empty table, expected exactly one of `apt`, `image`, `standalone`, `conda` and `host`",
        ),
        (
            {"apt": "python3", "standalone": STANDALONE},
            "`interpreter`: found a table, expected exactly one of `apt`, `image`, `standalone`, `conda` and `host`",
        ),
        ({"standalone": {**STANDALONE, "sha256": "1"}}, "expected a sha256: 64 hexadecimal digits"),
        ({"standalone": {**STANDALONE, "url": []}}, "expected at least one entry"),
        ({"standalone": {**STANDALONE, "size": 0}}, "found 0, expected a number above 0"),
        (
            {"standalone": {**STANDALONE, "url": ["https://example.org/cpython-full.tar.zst"]}},
            "expected a first address that ends in the name of a `.tar.gz` archive",
        ),
        (
            {"standalone": {"url": STANDALONE["url"]}},
            "`interpreter.standalone.sha256`: missing, expected a string",
        ),
        ({"host": "sh"}, "a Python on this machine's PATH, such as `python3.12`"),
        ({"host": "/usr/bin/python3"}, "a Python on this machine's PATH, such as `python3.12`"),
        ({"stand-alone": STANDALONE}, "unknown key; did you mean `standalone`?"),
    ],
)
def test_interpreter_that_is_none_or_two_is_a_fault(interpreter: dict[str, object], fault: str) -> None:
    faults = faults_of(toml_text(changed("interpreter", interpreter)))
    assert any(fault in line for line in faults), faults


# ---- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["six", "many"])
def test_faults_are_the_golden_ones(name: str, golden: Callable[[str, str], None]) -> None:
    text = {"six": SIX_FAULTS, "many": MANY_FAULTS}[name]
    with pytest.raises(StackError) as caught:
        parse_stack_text(text, file="stacks/small/stack.toml")
    error = caught.value
    lines = [str(error), *(f"  {fault}" for fault in error.details), f"hint: {error.hint}"]
    golden(f"stack-faults-{name}.txt", "\n".join(lines) + "\n")


def test_one_fault_is_counted_as_one() -> None:
    with pytest.raises(StackError, match=r"^stack.toml: 1 fault$"):
        parse_stack_text(toml_text({**stack_document(), "env": 1}), file="stack.toml")


def test_text_that_is_not_toml_is_named_with_its_line() -> None:
    with pytest.raises(StackError, match=r"^stack.toml is not TOML: .*line 2"):
        parse_stack_text('name = "a"\nname\n', file="stack.toml")


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("name", "Upper", '`name`: found "Upper", expected lower-case letters'),
        ("name", "../up", '`name`: found "../up", expected lower-case letters'),
        ("summary", "two\nlines", '`summary`: found "two\\nlines", expected one line of text'),
        ("target.python", "2.7", '`target.python`: found "2.7", expected a Python as `3.MINOR`'),
        ("target.python", "3.11.2", "expected a Python as `3.MINOR`, such as `3.11`"),
        ("target.python", "3.\u0661", "expected a Python as `3.MINOR`, such as `3.11`"),
        ("build", {"name": "x"}, "`build`: found a table, expected a list of tables: `[[build]]`"),
        ("target.python", 3.11, "`target.python`: found 3.11, expected a string, in quotes"),
        ("target.platform", "linux_aarch64", "expected `linux_x86_64`"),
        ("target.cuda", "11.3.1", "expected `MAJOR.MINOR`, such as `2.36`"),
        ("base.debian.vendor", "Ubuntu", "expected one of `debian`, `ubuntu`; did you mean `ubuntu`?"),
        ("base.debian.vendor", "fedora", 'found "fedora", expected one of `debian`, `ubuntu`'),
        ("base.debian.suite", "bookworm-security", "expected a release suite such as `bookworm`"),
        (
            "apt.runtime",
            ["libgl1=1.6"],
            '`apt.runtime[0]`: found "libgl1=1.6", expected a Debian package',
        ),
        ("python.index.0.only", ["Beta"], "expected a normalised project name: `beta`"),
        (
            "python.index.0.name",
            "pypi",
            '`python.index[pypi].name`: found "pypi", expected another name',
        ),
        ("build.0.version", " 2.0", 'found " 2.0", expected a version'),
        ("build.0.source", {"sdist": "gamma==2.0 "}, "expected an sdist as `NAME==VERSION`"),
        ("build.0.source", {"sdist": "gamma"}, "expected an sdist as `NAME==VERSION`"),
        ("build.0.source", {"sdist": "-gamma==2.0"}, "expected an sdist as `NAME==VERSION`"),
        ("build.0.source", {"sdist": "gamma==2.1"}, "expected `source.sdist` to be `gamma==2.0`, not"),
        ("build.0.source", {"sdist": "gemma==2.0"}, "expected `source.sdist` to be `gamma==2.0`, not"),
        ("build.1.source", {"path": "/abs"}, "expected a path below the stack's folder"),
        ("build.1.source", {"path": "a/../.."}, "expected a path below the stack's folder"),
        ("build.1.source", {"path": "."}, "expected a path below the stack's folder"),
        ("build.1.source", {"path": ""}, "expected a path below the stack's folder"),
        ("build.1.source", {"path": "a\\b"}, "expected a path below the stack's folder"),
        ("build.0.source", {**GIT, "sdist": "gamma==2.0"}, "exactly one of `sdist`, `path` and `git`"),
        (
            "build.0.source",
            {"git": GIT["git"]},
            "expected `git` together with one of `commit` and `ref`",
        ),
        (
            "build.0.source",
            {**GIT, "ref": "v2"},
            "expected `git` together with one of `commit` and `ref`",
        ),
        ("build.0.source", {"sdist": "gamma==2.0", "ref": "v2"}, "`git` together with one of"),
        ("build.0.source", {"git": GIT["git"], "ref": "0" * 40}, "a whole commit is a `commit`"),
        ("build.0.source", {"git": GIT["git"], "ref": "--upload-pack=x"}, "expected a branch or a tag"),
        ("build.0.source", {"git": GIT["git"], "ref": "a..b"}, "expected a branch or a tag"),
        ("build.0.source", {**GIT, "commit": "v2.0"}, 'found "v2.0", expected a whole commit: 40'),
        ("build.0.source", {**GIT, "git": "gamma"}, "expected an address that begins with `https://`"),
        (
            "build.0.source",
            {**GIT, "git": "https://bob:s3cret@git.example.org/a.git"},
            'found "https://***@git.example.org/a.git", expected an address without a user\'s name or password',
        ),
        ("build.0.env", {"MAX_JOBS": "1"}, "expected no `MAX_JOBS` in `env`: how many compilers run"),
        (
            "build.0.env",
            {"TORCH_CUDA_ARCH_LIST": "12.0"},
            "expected no `TORCH_CUDA_ARCH_LIST` in `env`: `target.cuda-architectures` says it",
        ),
        (
            "target.cuda-architectures",
            ["8.6", "9.0", "8.6+PTX"],
            "expected each capability once; twice: `8.6`",
        ),
        ("build.0.source", {**GIT, "include": ["../a"]}, "expected a path pattern from the top of the"),
        ("build.0.source", {**GIT, "exclude": ["/a"]}, "expected a path pattern from the top of the"),
        (
            "build.1.source",
            {"path": "extension", "submodules": True, "exclude": ["a"]},
            "expected `exclude` and `submodules` only beside `git`",
        ),
        (
            "source",
            [{"name": "other", "git": GIT["git"]}],
            "`git` together with one of `commit` and `ref`",
        ),
        ("source", [{**GIT, "name": "gamma"}], "expected other names for `[[source]]` than those of"),
        ("source", [{**GIT, "name": "a"}] * 2, "expected each name once; twice: `a`"),
        ("build.1.expects", ["/usr"], "expected a pattern of files in the wheel"),
        ("build.1", "delta", '`build[1]`: found "delta", expected a table with `build-requires`'),
        ("env", {"[key]": "x"}, '`env.[key]`: found "[key]", expected an environment variable'),
        ("env", {"A": True}, "`env.A`: found true, expected a string, in quotes"),
        ("env", ["A=1"], '`env`: found ["A=1"], expected a table'),
        (
            "preflight.checks",
            ["a" * 100, 1],
            "`preflight.checks[1]`: found 1, expected a string, in quotes",
        ),
        ("preflight.gpu", "require", "expected one of `none`, `optional`, `required`; did you mean"),
        ("mount", [{"path": "/a/../b"}], '`mount[0].path`: found "/a/../b", expected an absolute path'),
        ("mount", [{"path": "/a:ro"}], "expected an absolute path in the image"),
        ("mount", [{"path": "/"}], "expected an absolute path in the image"),
        ("mount", [{"path": "/a", "holds": ["../x"]}], "expected a path or pattern below the mount"),
        ("mount", [{"path": "/a", "optional": "yes"}], "expected `true` or `false`"),
        ("mount", [{"path": "/a"}, {"path": "/a"}], "expected each path once; twice: `/a`"),
        ("image.user", "me:root", "expected a user's name such as `lockbuild`"),
        ("python.overrides", ["a b"], '`python.overrides[0]`: found "a b", expected a requirement'),
        (
            "python.overrides",
            [{"requirement": "a b", "reason": "x"}],
            '`python.overrides[0].requirement`: found "a b", expected a requirement',
        ),
        ("python.constraints", [{"requirement": "a"}], "`python.constraints[0].reason`: missing"),
        ("python.constraints", [3], "`python.constraints[0]`: found 3, expected a string"),
        (
            "python.constraints",
            [{"requirement": "a", "reason": "x", "reson": "y"}],
            "`python.constraints[0].reson`: unknown key; did you mean `reason`?",
        ),
        ("python.requires", ["a" * 100 + " b"], "…, expected a requirement"),
    ],
)
def test_fault(path: str, value: object, fault: str) -> None:
    assert fault in fault_of(changed(path, value))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"url": []}, "`python.wheel[torch].url`: found [], expected at least one entry"),
        (
            {"url": ["https://files.example.org/torch"]},
            "expected an address that ends in a wheel's name",
        ),
        ({"url": ["https://files.example.org/..%2Fa-1-py3-none-any.whl"]}, "ends in a wheel's name"),
        ({"filename": "torch.whl"}, "expected an address that ends in a wheel's name, or `filename`"),
        (
            {"filename": "../a.whl"},
            '`python.wheel[torch].filename`: found "../a.whl", expected a wheel\'s',
        ),
        ({"version": "2.7.1"}, "expected `name` and `version` of the wheel `torch-2.7.1+cu118-cp311"),
        ({"name": "torchvision"}, "expected `name` and `version` of the wheel `torch-2.7.1+cu118-cp311"),
        (
            {"sha256": "ABCD"},
            'found "ABCD", expected a sha256 (64 hexadecimal digits) or `on-first-fetch`',
        ),
        ({"size": 0}, "`python.wheel[torch].size`: found 0, expected a number above 0"),
        ({"size": "10"}, '`python.wheel[torch].size`: found "10", expected a whole number'),
    ],
)
def test_fault_of_a_pinned_wheel(changes: dict[str, object], fault: str) -> None:
    assert fault in fault_of(pinned(**changes))


@pytest.mark.parametrize(
    ("table", "key", "fault"),
    [
        ("", "name", "`name`: missing, expected a string"),
        ("", "target", "`target`: missing, expected a table with `cuda`, `cuda-architectures`, `glibc`"),
        ("target", "platform", "`target.platform`: missing, expected `linux_x86_64`"),
        (
            "",
            "base",
            "`base`: missing, expected a table with `debian`, `packages`, `runtime`, `toolchain`",
        ),
        ("python.index.0", "only", "`python.index[extra].only`: missing, expected a list"),
        (
            "build.0",
            "source",
            "`build[gamma].source`: missing, expected a table with `commit`, `exclude`",
        ),
        ("build.0", "name", "`build[0].name`: missing, expected a string"),
    ],
)
def test_missing_key_is_said_with_what_belongs_there(table: str, key: str, fault: str) -> None:
    document = deepcopy(stack_document())
    here: Any = document
    for part in table.split(".") if table else ():
        here = here[int(part)] if isinstance(here, list) else here[part]
    del here[key]
    assert fault_of(document).startswith(fault)


def test_unknown_key_unlike_any_is_answered_with_all_keys() -> None:
    assert fault_of(changed("apt.zzz", [])) == "`apt.zzz`: unknown key; known keys: runtime, toolchain"


@pytest.mark.parametrize("path", ["python.index", "build"])
def test_names_are_given_once(path: str) -> None:
    table, _, key = path.rpartition(".")
    document = deepcopy(stack_document())
    tables = (document[table] if table else document)[key]
    tables.append(deepcopy(tables[0]))
    name = tables[0]["name"]
    assert (
        fault_of(document)
        == f"`{path}`: found a list of tables, expected each name once; twice: `{name}`"
    )


# ---- JSON Schema -------------------------------------------------------------------------------------


def test_schema_names_every_key_and_refuses_others() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(stack_document()) <= set(schema["properties"])
    assert schema["required"] == ["name", "target", "base", "interpreter"]


def test_schema_and_target_name_the_same_platforms() -> None:
    target = json_schema()["$defs"]["TargetTable"]["properties"]
    assert [target["platform"]["const"]] == list(MACHINES)


def test_the_stack_of_these_tests_is_toml() -> None:
    assert tomllib.loads(toml_text(stack_document())) == stack_document()


# ---- base images -----------------------------------------------------------------------------------

_CUDA = "docker.io/nvidia/cuda:11.3.1-cudnn8-devel-ubuntu20.04"
_DIGEST = f"sha256:{'a' * 64}"
_ON_IMAGES = {"toolchain": f"{_CUDA}@{_DIGEST}", "runtime": _CUDA}


def on_images(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **stack_document(),
        "base": base,
        "apt": {},
        "interpreter": {"image": "python3.8"},
        **changes,
    }


def test_images_may_be_the_base() -> None:
    document = on_images(_ON_IMAGES)
    assert parse_stack_text(toml_text(document), file="stack.toml") == document
    stack = from_document(document)
    assert stack.base.images == (("runtime", _CUDA), ("toolchain", f"{_CUDA}@{_DIGEST}"))
    assert stack.base.archive is None


def test_packages_on_top_of_images_come_from_an_archive() -> None:
    packages = {"vendor": "ubuntu", "suite": "focal", "updates": ["focal-updates", "focal-security"]}
    document = on_images({**_ON_IMAGES, "packages": packages}, apt={"runtime": ["libgl1"]})
    parse_stack_text(toml_text(document), file="stack.toml")
    archive = from_document(document).base.archive
    assert archive is not None
    assert archive.updates == ("focal-updates", "focal-security")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (on_images({"toolchain": _CUDA}), "either `debian`, or the images `toolchain` and `runtime`"),
        (on_images({}), "either `debian`, or the images `toolchain` and `runtime`"),
        (on_images({**_ON_IMAGES, "debian": {"suite": "bookworm"}}), "or images; both are there"),
        (
            on_images(_ON_IMAGES, apt={"runtime": ["libgl1"]}),
            "`base.packages`, as Debian packages are wanted",
        ),
        (on_images(_ON_IMAGES, interpreter={"apt": "python3"}), "`base.packages`, as Debian packages"),
        (on_images({"debian": {"suite": "bookworm"}}), "beside `interpreter.image`"),
        (on_images({**_ON_IMAGES, "runtime": "nvidia/cuda:11"}), "an image with its registry"),
        (on_images({**_ON_IMAGES, "runtime": "docker.io/nvidia/cuda"}), "and a tag or digest"),
        (on_images({**_ON_IMAGES, "runtime": "docker.io/a:1@sha256:12"}), "an image with its registry"),
        (
            on_images({**_ON_IMAGES, "packages": {"suite": "focal", "updates": ["focal"]}}),
            "a further suite of the same archive",
        ),
        (on_images(_ON_IMAGES, interpreter={"image": "python3; rm"}), "a command of the image"),
        (on_images(_ON_IMAGES, interpreter={"image": "bin/python3"}), "a command of the image"),
    ],
)
def test_fault_of_a_base(document: dict[str, Any], fault: str) -> None:
    assert fault in fault_of(document)
