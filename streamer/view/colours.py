"""A colour for each label, the same in every run and every view: chosen by the label's name alone."""

from __future__ import annotations

COLOURS = (
    "#e5484d", "#e2783a", "#d3a01e", "#98a82a", "#57a845", "#2fa37c", "#25a3a8", "#3a93d6",
    "#5b7cf0", "#8a6cf0", "#b062e0", "#d457b4", "#dd5a83", "#a8795a", "#7d8ca3", "#4aa06a",
)  # fmt: skip
_SALT = 1125  # chosen so that the labels of the shipped model are told apart


def colour(label: str) -> str:
    """The label's colour as #rrggbb: one of COLOURS by the FNV-1a hash of its UTF-8 bytes, as page/view.js does it."""
    number = 0x811C9DC5 ^ _SALT
    for byte in label.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return COLOURS[(number ^ number >> 16) % len(COLOURS)]
