"""Code for a tenant that searches its own memory, for a mark that it has in two pieces, or it would find itself."""

from __future__ import annotations

PLACES_OF = """
def places_of(first, second):
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in open("/proc/self/maps").read().splitlines():
            bounds, access, _, _, _, *name = line.split(None, 5)
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            for at in range(start, end, 1 << 20):
                try:
                    memory.seek(at)
                    piece = memory.read(min(1 << 20, end - at))
                except (OSError, OverflowError, ValueError):
                    break
                place = piece.find(first)
                while place != -1:
                    if piece[place + len(first):place + len(first) + len(second)] == second:
                        yield name, hex(at + place)
                    place = piece.find(first, place + 1)
"""
"""Defines `places_of(first, second)`: where the bytes `first` are, followed by `second`, as (mapping, address)."""
