"""Bytes that somebody could send to an HTTP port: requests, and what is nearly one."""

from __future__ import annotations

from hypothesis import strategies as st

_METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"PRI", b"get", b"", b"\x16\x03\x01"])
_TARGETS = st.sampled_from(
    [
        b"/",
        b"/hello",
        b"/labels",
        b"/api/streams",
        b"/api/events?since=",
        b"/healthz",
        b"/metrics",
        b"/../x",
        b"*",
        b"//[",
        b"http://[",
        b"/%00",
        b"/\xff",
        b"",
    ]
)
_VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP/9.9", b""])
_VALUES = st.one_of(
    st.sampled_from(
        [
            b"127.0.0.1", b"localhost:1", b"[", b"[::1", b"http://[", b"http://127.0.0.1", b"null", b"x@127.0.0.1", b"",
            b"websocket", b"Upgrade", b"13", b"dGhlIHNhbXBsZSBub25jZQ==", b"chunked", b"-1", b"99999999999999999999",
        ]
    ),
    st.binary(max_size=40),
)  # fmt: skip
_NAMES = st.sampled_from(
    [
        b"Host", b"Origin", b"Connection", b"Upgrade", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version",
        b"Content-Length", b"Transfer-Encoding", b"Expect", b" X", b"\xff", b"",
    ]
)  # fmt: skip
_FIELDS = st.builds(lambda name, value: name + b": " + value + b"\r\n", _NAMES, _VALUES)


def heads() -> st.SearchStrategy[bytes]:
    """Requests of all sorts, each with an end; and bytes of no sort."""
    built = st.builds(
        lambda method, target, version, fields, rest: (
            b" ".join([method, target, version]) + b"\r\n" + b"".join(fields) + b"\r\n" + rest
        ),
        _METHODS, _TARGETS, _VERSIONS, st.lists(_FIELDS, max_size=8), st.binary(max_size=30),
    )  # fmt: skip
    return st.one_of(built, st.binary(max_size=200).map(lambda said: said + b"\r\n\r\n"))


def frames() -> st.SearchStrategy[bytes]:
    """WebSocket frames of a client: sound ones, and with any flags, lengths and content."""
    payloads = st.one_of(
        st.sampled_from(
            [
                b"{}", b'{"token": null}', b'{"look": {"cam": 1}}', b'{"look": {"cam": 99999999999999999999}}',
                b'{"look": {"cam": -1}}', b'{"seen": "\\ud800"}', b"[" * 100, b"\xff",
            ]
        ),
        st.binary(max_size=100),
    )  # fmt: skip
    first = st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A]), st.integers(0, 255))
    sound = st.builds(lambda one, data: bytes([one, 0x80 | len(data), 0, 0, 0, 0]) + data, first, payloads)
    return st.one_of(sound, sound, st.binary(max_size=20))


def upgrade(host: str, origin: str) -> bytes:
    """The request of a browser that opens a WebSocket at /labels."""
    lines = (
        "GET /labels HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode("latin-1")
