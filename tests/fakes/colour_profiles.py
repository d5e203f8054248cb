"""Small ICC profiles: Display P3, a grey one, a CMYK one.

photo.save("p3.jpg", icc_profile=DISPLAY_P3)
"""

from __future__ import annotations

import struct
from itertools import product

D50 = (0.9642, 1.0, 0.8249)
P3 = {"rXYZ": (0.51512, 0.2412, -0.00105), "gXYZ": (0.29198, 0.69225, 0.04189), "bXYZ": (0.1571, 0.06657, 0.78407)}


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(value * 256))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[str, bytes]) -> bytes:
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {"desc": text + b"\0", "cprt": b"text\0\0\0\0none\0\0\0\0", "wtpt": _xyz(D50), **tags}
    table, data, place = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name.encode() + struct.pack(">II", place + len(data), len(value))
        data += value
    head = struct.pack(">I4xI", place + len(data), 0x02400000) + kind + space + connection
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + table + data


def _inks() -> bytes:
    """A table from CMYK to Lab (lut8Type): more ink is darker, black the most."""
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    colours = (255 * (1 - k) * (1 - (c + m + y) / 4) for c, m, y, k in product((0, 1), repeat=4))
    return head + 4 * ramp + b"".join(bytes((round(lightness), 128, 128)) for lightness in colours) + 3 * ramp


DISPLAY_P3 = _profile(
    b"mntr",
    b"RGB ",
    b"XYZ ",
    {name: _xyz(value) for name, value in P3.items()} | {f"{colour}TRC": _gamma(2.2) for colour in "rgb"},
)
GREY = _profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": _gamma(1.0)})
"""Of linear light: 128 looks like sRGB's 188."""
CMYK = _profile(b"prtr", b"CMYK", b"Lab ", {"A2B0": _inks()})
