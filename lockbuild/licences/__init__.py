"""Under which licence a part of a stack may be passed on, by its own words. Pure.

What nothing tells stays empty: no licence is guessed from what a project usually has. `metadata` reads what wheels
and conda packages say, `copyrights` the files of Debian packages, `texts` recognises licences by their sentences,
`names` knows what projects call them, `expressions` judges SPDX expressions, and `patterns` are how a policy names licences.
"""

from __future__ import annotations
