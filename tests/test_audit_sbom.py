"""What an audit says of an image that says something else of itself than it is."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit import Subject, audit
from lockbuild.digest import sha256_of
from lockbuild.dockerfile import BILL_LABEL
from tests.audited import BILL, DOCUMENTS, audited_world, made_image, seen, write_archive
from tests.images import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lockbuild.findings import About, Finding
    from tests.audited import Made
    from tests.worlds import World

AGAINST: tuple[About, ...] = ("image",)
PLACE = "usr/share/sbom"
OTHER = '{"bomFormat": "CycloneDX", "components": []}'
FORGED = f"sha256:{sha256_of(OTHER.encode())}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with audited_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def found(world: World, tmp_path: Path) -> Callable[[Made], list[Finding]]:
    """Return what an audit finds in an image; all of it must be of `image-sbom`."""

    def look(image: Made) -> list[Finding]:
        subject = Subject(
            stack=world.stack,
            lock=world.lock,
            plan=world.plan,
            store=world.store,
            wheelhouse=world.folder.wheels,
            manifest=None,
            dockerfile=None,
            rendered="",
            image=seen(world, write_archive(tmp_path / "image.tar", image)),
            today=date(2026, 1, 1),
        )
        findings = list(audit(subject, AGAINST).findings)
        assert {one.check for one in findings} <= {"image-sbom"}
        return findings

    return look


def labelled(image: Made, value: str | None) -> Made:
    labels = {name: text for name, text in image.config["Labels"].items() if name != BILL_LABEL}
    return image.configured(
        f"LABEL {BILL_LABEL}={value}", Labels={**labels, **({BILL_LABEL: value} if value else {})}
    )


def test_image_that_says_what_it_is(world: World, found: Callable[[Made], list[Finding]]) -> None:
    assert found(made_image(world)) == []


def test_image_sbom__label_forged(world: World, found: Callable[[Made], list[Finding]]) -> None:
    (finding,) = found(labelled(made_image(world), FORGED))
    assert finding.subject == BILL_LABEL
    assert finding.message == (
        f"is `{FORGED}`, the bill of materials in the image has `sha256:{sha256_of(BILL.encode())}`"
    )
    assert finding.layer.endswith(f"LABEL {BILL_LABEL}")


def test_image_sbom__label_not_set(world: World, found: Callable[[Made], list[Finding]]) -> None:
    """As when somebody builds the context by hand and leaves out what the Dockerfile says."""
    (finding,) = found(labelled(made_image(world), None))
    assert finding.message.startswith("is not set, the bill of materials")


def test_image_sbom__bill_that_leaves_something_out(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    bill = Member(name=f"{PLACE}/small.cdx.json", content=OTHER.encode())
    (file,) = found(made_image(world).above("COPY forged /", bill))
    assert file.subject == f"/{PLACE}/small.cdx.json"
    assert sha256_of(BILL.encode())[:12] in file.message
    assert file.layer.endswith(": COPY forged /")


def test_image_sbom__bill_and_label_forged_together(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    bill = Member(name=f"{PLACE}/small.cdx.json", content=OTHER.encode())
    (finding,) = found(labelled(made_image(world).above("COPY forged /", bill), FORGED))
    assert (finding.subject, finding.level) == (f"/{PLACE}/small.cdx.json", "error")
    assert sha256_of(BILL.encode())[:12] in finding.message


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_image_sbom__file_deleted(
    world: World, found: Callable[[Made], list[Finding]], name: str
) -> None:
    gone = Member(name=f"{PLACE}/.wh.{name}", content=b"")
    (finding,) = found(made_image(world).above("RUN rm", gone))
    assert (finding.subject, finding.message) == (
        f"/{PLACE}/{name}",
        "of what follows from the lock: is missing",
    )
