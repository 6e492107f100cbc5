"""`python -m lockbuild`."""

from lockbuild.cli import main

main()
