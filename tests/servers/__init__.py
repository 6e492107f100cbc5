"""Servers on loopback that tests start and that end with them."""
