from __future__ import annotations

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.jpegs import MOST_BYTES, Jpegs
from tools.cameras.barcode import barcode

JPEGS = [cv2.imencode(".jpg", barcode(number))[1].tobytes() for number in range(3)]
THUMBNAIL = JPEGS[1]
EXIF = (
    JPEGS[0][:2] + b"\xff\xe1" + (len(THUMBNAIL) + 8).to_bytes(2, "big") + b"Exif\0\0" + THUMBNAIL + JPEGS[0][2:]
)  # a picture in the picture


def found(data: bytes, size: int) -> list[bytes]:
    jpegs = Jpegs()
    return [jpeg for at in range(0, len(data), size) for jpeg in jpegs.feed(data[at : at + size])]


@given(size=st.integers(1, 5000), between=st.binary(max_size=50).filter(lambda data: b"\xff" not in data))
def test_pictures_are_found_however_they_are_cut_into_pieces(size: int, between: bytes) -> None:
    pictures = [*JPEGS, EXIF]
    assert found(b"".join(between + jpeg for jpeg in pictures), size) == pictures


@given(size=st.integers(1, 5000))
def test_a_length_counts_for_the_picture_behind_its_header(size: int) -> None:
    unended = JPEGS[0][:-2]
    data = b"".join(
        b"--b\r\nContent-Length: %d\r\nX: y\r\n\r\n%b\r\n" % (len(jpeg), jpeg) for jpeg in (unended, EXIF, JPEGS[2])
    )
    assert found(data, size) == [unended, EXIF, JPEGS[2]]


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"content-length: 99 \r\nX: y\r\n\r\n", 99),
        (b"CONTENT-LENGTH:99\n\n", 99),
        (b"Content-Length: 99\r\n", 0),
        (b"Content-Length: 99\r\n\r\n--b\r\n\r\n", 0),
        (b"Content-Length: nine\r\n\r\n", 0),
        (b"Content-Length: 77\r\n" * 100 + b"Content-Length: 99\r\n\r\n", 99),
        (b"", 0),
    ],
)
def test_a_length_is_read_from_the_header_that_stands_before_the_picture(header: bytes, length: int) -> None:
    padded = JPEGS[0].ljust(99 + len(JPEGS[0]), b"\0")
    assert found(header + padded, 5000) == [JPEGS[0][:length] if length else JPEGS[0]]


def test_headers_full_of_lengths_are_searched_once() -> None:
    data = (b"Content-Length: 9\r\n" * 210 + JPEGS[0]) * 200
    assert found(data, 1 << 16) == [JPEGS[0]] * 200


def test_a_picture_without_an_end_ends_where_the_next_one_begins() -> None:
    assert found(JPEGS[0][:-2] + JPEGS[1], 1000) == [JPEGS[0][:-2], JPEGS[1]]


@given(st.lists(st.binary(max_size=300)))
def test_anything_is_read_without_an_error(pieces: list[bytes]) -> None:
    jpegs = Jpegs()
    for piece in [b"\xff\xd8\xff", *pieces]:
        list(jpegs.feed(piece))


@pytest.mark.parametrize("begin", [b"", b"\xff\xd8\xff\xe0"])
def test_what_never_becomes_a_picture_is_given_up(begin: bytes) -> None:
    with pytest.raises(ValueError, match="no picture"):
        found(begin + b"x" * (MOST_BYTES + 2_000_000), 1_000_000)
