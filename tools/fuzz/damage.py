"""What happens to media on bad disks, in bad networks and by ill will. All of it follows from a random generator."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tools.fuzz.seeds import Seed, huge_parameters, pick, split_units

NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x3FFF,
    0x4000,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
"""Values at which sizes, counts and dimensions tend to go wrong."""

# where the fields stand that say how large and of what kind things are: names of boxes and chunks, ids, markers
_MARKS = (
    *(b"ftyp", b"moov", b"mvhd", b"tkhd", b"mdhd", b"elst", b"stsd", b"avc1", b"avcC", b"hev1", b"hvcC", b"stts"),
    *(b"ctts", b"stsc", b"stsz", b"stco", b"mdat", b"pasp", b"colr", b"hdlr", b"apch", b"apcn", b"icpf"),
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xb0\x82", b"\xba\x82", b"\x63\xa2"),
    *(b"\x1f\x43\xb6\x75", b"\xa3", b"\x2a\xd7\xb1", b"\x44\x89", b"V_MPEG4/ISO/AVC", b"V_VP9", b"V_VP8"),
    *(b"RIFF", b"avih", b"strh", b"strf", b"idx1", b"00dc", b"movi", b"MJPG", b"FMP4"),
    *(b"GIF89a", b"\x21\xf9", b"\x2c\0\0", b"IHDR", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"PLTE"),
    *(b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xd8", b"FLV", b"onMetaData", b"width", b"height"),
    *(b"chlist", b"Y\0", b"box2i", b"compression\0compression\0"),
    *(b"\0\0\1\x67", b"\0\0\1\x68", b"\0\0\1\x65", b"\0\0\1\xb3", b"\0\0\1\xba", b"\0\0\1\xe0", b"\0\0\1\x00", b"\x47"),
    *(
        b"Content-Length",
        b"Content-Type",
        b"boundary",
        b"rtpmap",
        b"fmtp",
        b"sprop-parameter-sets=",
        b"m=video",
        b"$\0",
    ),
)
_KINDS = (
    b"avc1",
    b"hev1",
    b"mp4v",
    b"vp09",
    b"av01",
    b"jpeg",
    b"png ",
    b"raw ",
    b"apcn",
    b"rle ",
    b"8BPS",
    b"MJPG",
    b"FMP4",
)

Damage = Callable[[bytearray, random.Random], None]


def _place(data: bytearray, rng: random.Random) -> int:
    """Somewhere; half of the time near the beginning, where the headers are."""
    return rng.randrange(min(len(data), 400) if rng.random() < 0.5 else len(data))


def _length(data: bytearray, rng: random.Random) -> int:
    """Of a piece: short ones are as likely as long ones."""
    return int(2 ** rng.uniform(0, max(1, len(data).bit_length() - 1)))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(int(2 ** rng.uniform(0, 7))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _noise(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    piece = data[at : at + _length(data, rng)]
    data[at : at + len(piece)] = rng.randbytes(len(piece))


def _zeros(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    piece = data[at : at + _length(data, rng)]
    data[at : at + len(piece)] = bytes(len(piece))


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + _length(data, rng)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + _length(data, rng)] * rng.randint(1, 20)


def _garbage(data: bytearray, rng: random.Random) -> None:
    data[rng.choice((0, 4, 16, 64)) :] = rng.randbytes(rng.randint(1, 5000))


def _number(data: bytearray, rng: random.Random) -> None:
    """A wrong number behind a mark, or before it, where MP4 has the sizes of its boxes."""
    for _ in range(rng.randint(1, 3)):
        places = [(mark, at) for mark in _MARKS if (at := data.find(mark, rng.choice((0, 0, 100)))) >= 0]
        mark, at = rng.choice(places or [(b"", 0)])
        at = max(0, at - 4 if rng.random() < 0.25 else at + len(mark) + rng.randrange(48))
        form = rng.choice((">B", ">H", "<H", ">I", "<I"))
        value = rng.choice(NUMBERS) % 256 ** struct.calcsize(form)
        data[at : at + struct.calcsize(form)] = struct.pack(form, value)


def _huge(data: bytearray, rng: random.Random) -> None:
    """A picture of an impossible size, in the field that the decoder believes."""
    width, height = (rng.choice((8192, 16384, 32768, 65520)) for _ in range(2))
    fields = ((b"IHDR", 4, ">II"), (b"\xff\xc0", 5, ">HH"), (b"GIF89a", 6, "<HH"), (b"fcTL", 8, ">II"))
    for mark, behind, form in fields:
        if (at := data.find(mark)) >= 0:
            sides = (height, width) if mark == b"\xff\xc0" else (width, height)
            data[at + behind : at + behind + struct.calcsize(form)] = struct.pack(form, *sides)
    for unit in split_units(bytes(data)):
        if unit and unit[0] & 31 == 7:
            data[:] = data.replace(unit, huge_parameters(width, height))


def _kind(data: bytearray, rng: random.Random) -> None:
    """Another codec than it is."""
    there = [kind for kind in _KINDS if kind in data]
    if there:
        data[:] = data.replace(rng.choice(there), rng.choice(_KINDS))
    for kind in (b"V_MPEG4/ISO/AVC", b"V_VP9", b"V_VP8"):
        data[:] = data.replace(
            kind, rng.choice((b"V_VP9", b"V_VP8", b"V_AV1", b"V_THEORA", b"V_UNCOMPRESSED"))[: len(kind)]
        )


DAMAGES: tuple[Damage, ...] = (
    *(_flip, _flip, _flip, _number, _number, _number, _number),
    *(_noise, _zeros, _cut, _remove, _repeat, _garbage, _huge, _kind),
)


def damaged(seeds: list[Seed], seed: int, number: int) -> tuple[Seed, str]:
    """Input `number` of the run with this seed, and what was done to it. Number 0, 1, ... of the seeds are whole."""
    if number < len(seeds):
        return seeds[number], "nothing"
    rng = random.Random(f"{seed} {number}")
    chosen = pick(seeds, rng)
    parts = [bytearray(part) for part in chosen.parts]
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        part = rng.choice(parts)
        if rng.random() < 0.08:
            other = rng.choice(rng.choice(seeds).parts)
            part[rng.randrange(len(part) + 1) :] = other[rng.randrange(len(other)) :]
            done.append("splice")
        elif part:
            damage = rng.choice(DAMAGES)
            damage(part, rng)
            done.append(damage.__name__.strip("_"))
    return Seed(chosen.name, chosen.via, tuple(map(bytes, parts)), chosen.frames), " ".join(done) or "nothing"
