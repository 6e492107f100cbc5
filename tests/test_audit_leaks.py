"""What secrets look like, and that no file takes long to look into: these are of sizes that took minutes."""

from __future__ import annotations

import pytest

from lockbuild.audit.leaks import secrets_in, secrets_said, veiled
from lockbuild.dockerfile.steps import asks_network

MANY = 1_000_000
FILES = (
    *(
        "root/.netrc",
        "root/.git-credentials",
        "etc/pip.conf",
        "root/.pypirc",
        "root/.npmrc",
        "root/.condarc",
    ),
    *("root/.docker/config.json", "root/.aws/credentials", "root/.kube/config"),
)


@pytest.mark.parametrize(
    "piece", [b"\n", b" ", b"\t\n", b":", b"://", b"a:", b"machine a\n", b"password"]
)
@pytest.mark.parametrize("path", FILES)
def test_a_file_of_one_thing_many_times_has_no_secret(path: str, piece: bytes) -> None:
    assert secrets_in(path, b"://" + piece * (MANY // len(piece))) == ()


@pytest.mark.parametrize("piece", [" ", "=", "authorization: ", "-----BEGIN ", "_auth", "a="])
def test_an_instruction_of_one_thing_many_times_is_shown(piece: str) -> None:
    text = f"authorization: {piece * (MANY // len(piece))}"
    assert secrets_said(text) == ()
    assert veiled(text)


@pytest.mark.parametrize("piece", ["=", "/apt -", "/pip-", "RUN |1 ", "a=b "])
def test_a_step_of_one_thing_many_times_asks_no_network(piece: str) -> None:
    assert not asks_network(f"RUN |1 {piece * (MANY // len(piece))}")


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("root/.netrc", b"machine a login b password c", "a password for a server"),
        ("root/.netrc", b"machine a\n  login b\n  password\tc\n", "a password for a server"),
        ("root/_netrc", b"default login b password c", "a password for a server"),
        ("root/.pypirc", b"[pypi]\n  password = c\n", "a password for an index"),
        ("root/.pypirc", b"[pypi]\r\npassword:c\r\n", "a password for an index"),
        ("root/.git-credentials", b"https://me:a:b@git.example", "a password for a repository"),
    ],
)
def test_a_password_is_found_where_it_stands(path: str, text: bytes, what: str) -> None:
    assert secrets_in(path, text) == (what,)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("root/.netrc", b"machine a login b\n"),
        ("root/.pypirc", b"[pypi]\nusername = password\n"),
        ("root/.git-credentials", b"https://git.example/a:b@c"),
    ],
)
def test_a_file_without_a_password_has_none(path: str, text: bytes) -> None:
    assert secrets_in(path, text) == ()


@pytest.mark.parametrize("words", ["Bearer hunter2", "basic hunter2", "hunter2", "tokenhunter2"])
def test_what_authorizes_is_not_shown(words: str) -> None:
    assert veiled(f"RUN wget --header 'Authorization: {words}' x").count("hunter2") == 0
