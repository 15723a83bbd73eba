#!/usr/bin/env python3
"""Makes digits.zip: the scans that scikit-learn ships (pip install scikit-learn), one PNG each, a folder per digit.

Each has 8 by 8 grey pixels; scikit-learn's values, 0 to 16, are multiplied by 15. The digits are lighter than the
ground. scikit-learn is needed for nothing else.
"""

import pathlib
import struct
import zipfile
import zlib

from sklearn.datasets import load_digits

TARGET = pathlib.Path(__file__).resolve().parent / "digits.zip"
STEP = 15


def png(pixels) -> bytes:
    """A grey image of 8 bits a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    # Each row begins with its filter: none.
    rows = b"".join(b"\0" + bytes(int(value) * STEP for value in row) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main() -> None:
    digits = load_digits()
    with zipfile.ZipFile(TARGET, "w") as archive:
        for number, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
            # The oldest date that the format has, so that the same scans make the same bytes.
            member = zipfile.ZipInfo(f"{digit}/{number:04}.png", (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, png(pixels))
    print(f"{TARGET}: {len(digits.target)} scans, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
