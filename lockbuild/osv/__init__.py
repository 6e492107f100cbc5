"""Known vulnerabilities: records of an OSV export, and which parts of a stack they are about. Pure.

`records` has the values of the [OSV schema](https://ossf.github.io/osv-schema/), `versions` its evaluation of
ranges, `severity` what a record says of how bad it is, `matching` what is found for the parts of a stack, and
`reachable` whether the stack lets a fixed version in. `lockbuild.osvexport` reads records from disk.
"""

from __future__ import annotations

from lockbuild.osv.matching import (
    Fix,
    Package,
    Vulnerability,
    ecosystems_of,
    packages_of,
    vulnerabilities,
)
from lockbuild.osv.reachable import Bound, Reach, bounds_on, reach
from lockbuild.osv.records import Database, Record

__all__ = [
    "Bound",
    "Database",
    "Fix",
    "Package",
    "Reach",
    "Record",
    "Vulnerability",
    "bounds_on",
    "ecosystems_of",
    "packages_of",
    "reach",
    "vulnerabilities",
]
