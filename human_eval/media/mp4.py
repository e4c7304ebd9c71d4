"""A minimal MP4 file around H.264 pictures, written by us so that nothing in it is anybody's signature.

One video track, constant rate, no dates, no names, index before the pictures, and a gap before the first picture so
that the first kilobytes of two videos of the same shape are the same. Source: ISO/IEC 14496-12 and 14496-15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

MATRIX = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
SLICES = (1, 5)  # a coded picture; 5 is one that needs no other
PARAMETERS = (7, 8)  # sequence and picture parameter sets
FILLER = 12
HEAD_BYTES = 8192


@dataclass(frozen=True)
class Picture:
    """The slices of one coded picture, each without start code or length."""

    slices: tuple[bytes, ...]

    @property
    def is_key(self) -> bool:
        return any(unit[0] & 31 == 5 for unit in self.slices)

    @property
    def size(self) -> int:
        """Bytes as stored, with the length before each slice."""
        return sum(4 + len(unit) for unit in self.slices)

    def stored(self, size: int) -> bytes:
        """The picture as exactly `size` bytes: what is missing is a filler unit, which decoders skip."""
        data = b"".join(len(unit).to_bytes(4, "big") + unit for unit in self.slices)
        rest = size - len(data)
        if rest == 0:
            return data
        if rest < 6:
            raise ValueError(f"a filler unit has 6 bytes at least, {rest} are left")
        return data + (rest - 4).to_bytes(4, "big") + bytes([FILLER]) + b"\xff" * (rest - 6) + b"\x80"


@dataclass(frozen=True)
class Track:
    """Coded pictures of one video with what a decoder needs first."""

    width: int
    height: int
    rate: Fraction
    sequence: bytes
    picture: bytes
    pictures: tuple[Picture, ...]


def units(annex_b: bytes) -> list[bytes]:
    """The units of a byte stream with start codes."""
    found, start = [], -1
    at = annex_b.find(b"\0\0\1")
    while at >= 0:
        if start >= 0:
            found.append(annex_b[start:at].rstrip(b"\0"))
        start = at + 3
        at = annex_b.find(b"\0\0\1", start)
    if start >= 0:
        found.append(annex_b[start:].rstrip(b"\0"))
    return [unit for unit in found if unit]


def write_mp4(track: Track, sizes: Sequence[int]) -> bytes:
    """The file; picture k takes `sizes[k]` bytes. Equal shapes and sizes give files that differ in pictures only."""
    samples = [picture.stored(size) for picture, size in zip(track.pictures, sizes, strict=True)]
    brand = _box(b"ftyp", b"isom", (512).to_bytes(4, "big"), b"isomiso2avc1mp41")
    index = _movie(track, sizes, 0)
    gap = max(16, HEAD_BYTES - len(brand) - len(index))
    start = len(brand) + len(index) + gap + 8
    return b"".join(
        (brand, _movie(track, sizes, start), _box(b"free", bytes(gap - 8)), _box(b"mdat", *samples)),
    )


def _movie(track: Track, sizes: Sequence[int], start: int) -> bytes:
    scale, step = track.rate.numerator, track.rate.denominator
    n = len(sizes)
    length = _u32(n * step)
    header = _full(b"mvhd", _u32(0, 0, scale), length, _u32(0x10000), b"\1\0", bytes(10), MATRIX, bytes(24), _u32(2))
    dimensions = _u32(track.width << 16, track.height << 16)
    track_header = _full(b"tkhd", _u32(0, 0, 1, 0), length, bytes(16), MATRIX, dimensions, flags=3)
    media_header = _full(b"mdhd", _u32(0, 0, scale), length, b"\x55\xc4\0\0")
    handler = _full(b"hdlr", bytes(4), b"vide", bytes(12), b"\0")
    where = _box(b"dinf", _full(b"dref", _u32(1), _full(b"url ", flags=1)))
    keys = [k for k, picture in enumerate(track.pictures, 1) if picture.is_key]
    table = _box(
        b"stbl",
        _full(b"stsd", _u32(1), _coding(track)),
        _full(b"stts", _u32(1, n, step)),
        _full(b"stss", _u32(len(keys), *keys)),
        _full(b"stsc", _u32(1, 1, n, 1)),
        _full(b"stsz", _u32(0, n, *sizes)),
        _full(b"stco", _u32(1, start)),
    )
    information = _box(b"minf", _full(b"vmhd", bytes(8), flags=1), where, table)
    return _box(b"moov", header, _box(b"trak", track_header, _box(b"mdia", media_header, handler, information)))


def _coding(track: Track) -> bytes:
    """How the pictures are coded. Colour: BT.601, limited range, as `cogvideo.video` writes and reads it."""
    profile = track.sequence[1:4]
    sets = b"".join(
        (
            b"\x01",
            profile,
            b"\xff\xe1",
            _u16(track.sequence),
            track.sequence,
            b"\x01",
            _u16(track.picture),
            track.picture,
        )
    )
    more = b"\xfd\xf8\xf8\0" if profile[0] >= 100 else b""
    colour = _box(b"colr", b"nclx", b"\0\6\0\6\0\6\0")
    sides = track.width.to_bytes(2, "big") + track.height.to_bytes(2, "big")
    return _box(
        b"avc1",
        *(bytes(6), b"\0\1", bytes(16), sides, _u32(0x480000, 0x480000, 0), b"\0\1", bytes(32), b"\0\x18\xff\xff"),
        _box(b"avcC", sets, more),
        colour,
    )


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return _u32(len(data) + 8) + kind + data


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, _u32(flags), *parts)


def _u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def _u16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big")
