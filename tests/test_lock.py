"""Lock files: their bytes, that they are read back as they were written, and that nothing else is read."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.pylock import Pylock, is_valid_pylock_path
from packaging.requirements import Requirement

from lockbuild.digest import canonical_json, sha256_of, store_path
from lockbuild.documents import toml_text
from lockbuild.errors import LockError
from lockbuild.lock import (
    LOCK_FILE,
    BuiltPin,
    Lock,
    LockedDeb,
    LockedFile,
    LockedPackage,
    LockedSource,
    build_lock_name,
    closure,
    lock_texts,
    parse_lock,
)
from tests.values import deb, package, pin, sha, small_lock, small_stack

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = small_stack().target
FILES = (LOCK_FILE, "pylock.toml", "pylock.build.toml", "pylock.build-native.toml", "requirements.txt")


def written(lock: Lock) -> dict[str, str]:
    return lock_texts(lock, name="small", target=TARGET, wheels="../../wheels/small")


def pinned_lock() -> Lock:
    """Return the small lock with gamma built and pinned, delta not yet."""
    return replace(small_lock(), pins=(pin("gamma", "2.0"),), compiled=(pin("gamma", "2.0"),))


# ---- bytes -------------------------------------------------------------------------------------------


def test_files_of_a_lock() -> None:
    assert sorted(written(small_lock())) == sorted(FILES)


@pytest.mark.parametrize("file", FILES)
def test_text_is_the_golden_one(file: str, golden: Callable[[str, str], None]) -> None:
    golden(f"lock/{file}", written(pinned_lock())[file])


@pytest.mark.parametrize("file", FILES)
def test_text_ends_its_last_line_and_nothing_else(file: str) -> None:
    text = written(pinned_lock())[file]
    assert text.endswith("\n")
    assert not [line for line in text.split("\n") if line != line.rstrip()]


def test_part_without_entries_is_not_written() -> None:
    empty = Lock(inputs=(), runtime=(), build=(), sources=(), debs=())
    assert list(tomllib.loads(written(empty)[LOCK_FILE])) == [
        "lock-version",
        "created-by",
        "digest",
        "files",
        "inputs",
    ]


@pytest.mark.parametrize(
    ("environment", "name"), [("", "pylock.build.toml"), ("native", "pylock.build-native.toml")]
)
def test_build_environment_has_a_file_of_its_own(environment: str, name: str) -> None:
    assert build_lock_name(environment) == name


# ---- PEP 751 -----------------------------------------------------------------------------------------

PYLOCKS = [name for name in FILES if name.startswith("pylock")]


@pytest.mark.parametrize("file", PYLOCKS)
def test_pylock_is_valid_and_round_trips(file: str) -> None:
    document = tomllib.loads(written(pinned_lock())[file])
    pylock = Pylock.from_dict(document)
    pylock.validate()
    # `packaging` writes markers with double quotes.
    markers = [str(Marker(text)) for text in document["environments"]]
    assert pylock.to_dict() == {**document, "environments": markers}


@pytest.mark.parametrize("file", PYLOCKS)
def test_pylock_has_a_name_that_installers_accept(file: str) -> None:
    assert is_valid_pylock_path(Path(file))


def test_installer_selects_every_package_for_the_target() -> None:
    pylock = Pylock.from_dict(tomllib.loads(written(pinned_lock())["pylock.toml"]))
    environment = TARGET.marker_environment()
    chosen = pylock.select(environment=environment, tags=TARGET.tags())  # type: ignore[arg-type]
    assert [package.name for package, _ in chosen] == ["alpha", "beta", "delta", "gamma"]


def test_no_address_and_no_host_is_written() -> None:
    for text in written(pinned_lock()).values():
        assert "://" not in text


def test_built_package_is_locked_by_its_source_until_it_is_pinned() -> None:
    packages = {
        table["name"]: table
        for table in tomllib.loads(written(pinned_lock())["pylock.toml"])["packages"]
    }
    assert packages["delta"]["archive"]["hashes"] == {"sha256": sha("delta")}
    assert packages["gamma"]["wheels"][0]["hashes"] == {"sha256": pin("gamma", "2.0").wheel.sha256}


def test_pinned_wheel_keeps_its_addresses() -> None:
    pinned = replace(package("torch", index=""), wheel=package("torch").wheel, urls=("file:///torch",))
    lock = Lock(inputs=(), runtime=(pinned,), build=(), sources=(), debs=())
    (table,) = tomllib.loads(written(lock)["pylock.toml"])["packages"]
    assert table["tool"]["lockbuild"] == {"urls": ["file:///torch"]}
    assert parse_lock(written(lock)).runtime == (pinned,)


def test_size_is_left_out_where_it_is_not_known() -> None:
    wheel = LockedFile(filename="a-1-py3-none-any.whl", sha256=sha("a"))
    alone = replace(package("a"), wheel=wheel)
    lock = Lock(inputs=(), runtime=(alone,), build=(), sources=(), debs=())
    (table,) = tomllib.loads(written(lock)["pylock.toml"])["packages"]
    assert "size" not in table["wheels"][0]
    assert parse_lock(written(lock)).runtime == (alone,)


# ---- requirements.txt --------------------------------------------------------------------------------


def test_requirements_pin_what_pylock_pins() -> None:
    lines = written(pinned_lock())["requirements.txt"].splitlines()
    pins = [
        Requirement(line.partition(" ")[0])
        for line in lines
        if not line.startswith(("#", " ")) and "no wheel was built" not in line
    ]
    assert [str(one) for one in pins] == ["alpha==1.2", "beta==0.9", "gamma==2.0"]


def test_requirement_says_why_it_is_there() -> None:
    text = written(pinned_lock())["requirements.txt"]
    assert "    # via\n    #   gamma\n    #   the stack\n" in text
    assert "    # via alpha\n" in text


def test_requirement_that_nobody_asks_for_says_nothing() -> None:
    lock = Lock(inputs=(), runtime=(package("a"),), build=(), sources=(), debs=())
    assert "via" not in written(lock)["requirements.txt"]


# ---- round trip --------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z0-9]{0,3}(-[a-z0-9]{1,3})?", fullmatch=True)
digits = st.text("0123456789abcdef", min_size=64, max_size=64)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def version_of(name: str) -> str:
    return ("0.1", "1!2.0.post1", "2.4.1+cu121")[len(name) % 3]


def locked_files(name: str, version: str, ending: str) -> st.SearchStrategy[LockedFile]:
    filename = f"{name.replace('-', '_')}-{version}{ending}"
    sizes = st.none() | st.integers(0, 2**53)
    return st.builds(LockedFile, filename=st.just(filename), sha256=digits, size=sizes)


debs = st.builds(
    LockedDeb,
    package=names,
    version=texts,
    architecture=st.sampled_from(["amd64", "all"]),
    path=texts,
    sha256=digits,
    size=st.integers(0, 2**40),
    source=texts,
    roots=st.sampled_from([("runtime",), ("toolchain",), ("runtime", "toolchain")]),
)


@st.composite
def packages(draw: st.DrawFn, name: str, *, built: bool, others: list[str]) -> LockedPackage:
    version = version_of(name)
    urls = draw(st.sampled_from([(), ("https://a.example.org/a", "file:///b")]))
    return LockedPackage(
        name=name,
        version=version,
        index="" if urls or built else draw(st.sampled_from(["pypi", "extra"])),
        urls=() if built else urls,
        wheel=None if built else draw(locked_files(name, version, "-py3-none-any.whl")),
        dependencies=tuple(sorted(draw(st.sets(st.sampled_from(others), max_size=2)))),
        requested=draw(st.booleans()),
    )


@st.composite
def environments(draw: st.DrawFn, built: list[str]) -> tuple[LockedPackage, ...]:
    """Draw packages that are installed together, some of which are builds."""
    chosen = draw(st.sets(st.sampled_from(built))) if built else set()
    everything = sorted(draw(st.sets(names, max_size=3)).difference(built) | chosen)
    return tuple(draw(packages(name, built=name in chosen, others=everything)) for name in everything)


@st.composite
def sources(draw: st.DrawFn, name: str) -> LockedSource:
    version = version_of(name)
    path = draw(st.none() | texts)
    return LockedSource(
        name=name,
        version=version,
        index="" if path else draw(st.sampled_from(["pypi", "extra"])),
        file=draw(locked_files(name, version, ".tar" if path else ".tar.gz")),
        path=path,
    )


@st.composite
def pins(draw: st.DrawFn, name: str) -> BuiltPin:
    wheel = draw(locked_files(name, version_of(name), "-cp311-cp311-linux_x86_64.whl"))
    return BuiltPin(name=name, derivation=store_path([name], name), wheel=wheel)


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    """Draw a lock that `resolve` could have made."""
    built = draw(st.lists(names, max_size=2, unique=True))
    named = draw(st.sets(st.sampled_from(["", "-", "a", "native", "a-b"]), max_size=2))
    return Lock(
        inputs=tuple(sorted(draw(st.dictionaries(texts, digits, max_size=2)).items())),
        runtime=draw(environments(built)),
        build=tuple((name, draw(environments(built))) for name in sorted(named)),
        sources=tuple(draw(sources(name)) for name in built),
        debs=tuple(draw(st.lists(debs, max_size=2))),
        pins=tuple(draw(pins(name)) for name in built if draw(st.booleans())),
        compiled=tuple(draw(pins(name)) for name in built if draw(st.booleans())),
    )


@pytest.mark.property
@given(locks())
def test_lock_is_read_back_as_it_was_written(lock: Lock) -> None:
    found = parse_lock(written(lock))
    assert found == replace(lock, digest=found.digest)


@pytest.mark.property
@given(locks())
def test_lock_that_was_read_is_written_back_to_the_same_bytes(lock: Lock) -> None:
    texts = written(lock)
    assert written(parse_lock(texts)) == texts


@pytest.mark.property
@given(locks())
def test_every_pylock_is_valid(lock: Lock) -> None:
    for file, text in written(lock).items():
        if file.startswith("pylock"):
            Pylock.from_dict(tomllib.loads(text)).validate()


def test_digest_of_a_lock_covers_every_file() -> None:
    digest = parse_lock(written(small_lock())).digest
    runtime = (*small_lock().runtime, package("zeta"))
    assert parse_lock(written(replace(small_lock(), runtime=runtime))).digest != digest


def test_environments_are_sorted_by_name_not_by_file() -> None:
    lock = parse_lock(written(small_lock()))
    assert [name for name, _ in lock.build] == ["", "native"]


# ---- tampering ---------------------------------------------------------------------------------------


def flipped(text: str, position: int) -> str:
    return f"{text[:position]}{chr(ord(text[position]) ^ 1)}{text[position + 1 :]}"


@pytest.mark.parametrize("file", FILES[1:])
def test_flipped_byte_is_refused_with_file_and_both_hashes(file: str) -> None:
    texts = written(pinned_lock())
    for position in range(0, len(texts[file]), 11):
        changed = flipped(texts[file], position)
        with pytest.raises(LockError, match=f"^{file} is not as it was written$") as caught:
            parse_lock({**texts, file: changed})
        assert caught.value.details == (
            f"lockbuild.lock says sha256 {sha256_of(texts[file].encode())}",
            f"its bytes give    sha256 {sha256_of(changed.encode())}",
        )


def test_any_flipped_byte_of_the_main_file_is_refused_or_says_the_same() -> None:
    texts = written(pinned_lock())
    lock = parse_lock(texts)
    accepted = 0
    for position in range(len(texts[LOCK_FILE])):
        changed = {**texts, LOCK_FILE: flipped(texts[LOCK_FILE], position)}
        try:
            found = parse_lock(changed)
        except LockError as error:
            named = LOCK_FILE in error.message and error.hint is not None
        else:
            # A space that became another kind of space, say.
            named = found == lock
            accepted += 1
        assert named, position
    assert accepted < len(texts[LOCK_FILE]) / 10


def test_edited_main_file_is_refused_with_both_digests() -> None:
    texts = written(pinned_lock())
    edited = texts[LOCK_FILE].replace("2.36-9+deb12u10", "2.36-9+deb12u99")
    digest = tomllib.loads(texts[LOCK_FILE])["digest"]
    with pytest.raises(LockError, match=r"^lockbuild.lock is not as it was written$") as caught:
        parse_lock({**texts, LOCK_FILE: edited})
    says, gives = caught.value.details
    assert says == f"`digest` says {digest}"
    assert gives.startswith("its content gives ")
    assert digest not in gives


def test_bytes_that_are_not_utf8_are_hashed_as_they_are() -> None:
    texts = written(pinned_lock())
    raw = texts["pylock.toml"].encode().replace(b"alpha", b"\xff\xfe", 1)
    with pytest.raises(LockError) as caught:
        parse_lock({**texts, "pylock.toml": raw.decode(errors="surrogateescape")})
    assert caught.value.details[1] == f"its bytes give    sha256 {sha256_of(raw)}"


def test_main_file_that_is_not_utf8_is_refused() -> None:
    texts = written(pinned_lock())
    with pytest.raises(LockError, match=r"^lockbuild.lock is not TOML"):
        parse_lock({**texts, LOCK_FILE: texts[LOCK_FILE].replace("amd64", "\udcff")})


def test_main_file_that_is_not_toml_is_refused() -> None:
    with pytest.raises(LockError, match=r"^lockbuild.lock is not TOML"):
        parse_lock({LOCK_FILE: "<<<<<<< HEAD\n"})


@pytest.mark.parametrize("file", FILES[1:])
def test_missing_file_is_named(file: str) -> None:
    texts = written(pinned_lock())
    del texts[file]
    with pytest.raises(LockError, match=f"^{file} is missing$"):
        parse_lock(texts)


def test_no_lock_at_all_is_said() -> None:
    with pytest.raises(LockError, match=r"^there is no lockbuild.lock$"):
        parse_lock({})


@pytest.mark.parametrize("version", [2, "1", None])
def test_lock_of_another_version_is_refused(version: object) -> None:
    document = {"lock-version": version} if version else {}
    with pytest.raises(LockError, match=r"`lock-version`: found .*, expected 1") as caught:
        parse_lock({LOCK_FILE: toml_text(document)})
    assert caught.value.hint is not None
    assert "resolve again" in caught.value.hint


def signed(document: dict[str, Any]) -> str:
    """Return a main file whose digest is right, whatever it says."""
    content = {"lock-version": 1, "files": {}, **document}
    kept = {key: value for key, value in content.items() if value != []}
    return toml_text({**content, "digest": sha256_of(canonical_json(kept))})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"files": 1},
        {"files": {}, "inputs": {}},
        {"files": {"pylock.toml": sha256_of(b"")}},
        {"files": {"pylock.toml": sha256_of(b"")}, "inputs": {}, "source": [{"name": "gamma"}]},
        {"files": {"pylock.toml": sha256_of(b"")}, "inputs": {}, "source": 1},
    ],
)
def test_file_with_right_digests_that_is_no_lock_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(LockError, match="do not make a lock"):
        parse_lock({LOCK_FILE: signed(document), "pylock.toml": ""})


@pytest.mark.parametrize("line", ["moment = 2025-06-01\n", "number = nan\n"])
def test_main_file_with_values_that_no_lock_has_is_refused(line: str) -> None:
    with pytest.raises(LockError, match="do not make a lock"):
        parse_lock({LOCK_FILE: f"lock-version = 1\n{line}"})


@pytest.mark.parametrize(
    ("former", "latter"),
    [
        ('filename = "gamma-2.0.tar.gz"', 'filename = "../gamma-2.0.tar.gz"'),
        ('filename = "gamma-2.0.tar.gz"', 'filename = "-rf"'),
        ('filename = "gamma-2.0.tar.gz"', 'filename = ""'),
        (f'sha256 = "{sha("gamma")}"', 'sha256 = "0123"'),
        ('derivation = "', 'derivation = "../'),
    ],
)
def test_lock_that_would_write_elsewhere_is_refused(former: str, latter: str) -> None:
    texts = written(pinned_lock())
    assert former in texts[LOCK_FILE]
    document = tomllib.loads(texts[LOCK_FILE].replace(former, latter))
    del document["digest"]
    with pytest.raises(LockError, match="do not make a lock"):
        parse_lock({**texts, LOCK_FILE: signed(document)})


def test_file_that_is_no_part_of_the_lock_is_not_read() -> None:
    texts = written(pinned_lock())
    assert parse_lock({**texts, "pylock.other.toml": "no TOML"}) == parse_lock(texts)


# ---- questions ---------------------------------------------------------------------------------------


def test_closure_is_what_is_required_and_nothing_more() -> None:
    packages = [
        package("a", dependencies=("b", "c")),
        package("b", dependencies=("d",)),
        package("c", dependencies=("a",)),
        package("d"),
        package("e"),
    ]
    assert [one.name for one in closure(packages, ["b", "b"])] == ["b", "d"]
    assert [one.name for one in closure(packages, ["c"])] == ["a", "b", "c", "d"]


def test_closure_leaves_out_names_that_no_package_has() -> None:
    assert closure([package("a", dependencies=("unknown",))], ["a", "other"]) == (
        package("a", dependencies=("unknown",)),
    )


def test_parts_are_found_by_name() -> None:
    lock = pinned_lock()
    assert [one.name for one in lock.build_environment("")] == ["alpha", "beta", "pip", "setuptools"]
    assert lock.source("delta").path == "extension"
    assert lock.pin("gamma") == pin("gamma", "2.0")
    assert lock.pin("delta") is None


def test_build_environment_that_is_not_locked_is_named_by_its_file() -> None:
    with pytest.raises(LockError, match=r"names no pylock.build-cuda.toml"):
        small_lock().build_environment("cuda")


def test_source_that_is_not_locked_is_named() -> None:
    with pytest.raises(LockError, match="has no source of `omega`"):
        small_lock().source("omega")


def test_deb_has_the_file_name_of_its_path() -> None:
    assert deb("zlib1g", "runtime").filename == "zlib1g_1.0-1_amd64.deb"
