"""User and password, as HTTP and RTSP want them: basic (RFC 7617) and digest (RFC 7616) authentication."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

_HASHES: dict[str, Callable[..., Any]] = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Login:
    """Answers challenges with the user and the password of an address."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._known = parts.username is not None
        self._challenges: Sequence[str] = ()
        self._count = 0  # of answers to these challenges

    def challenged(self, challenges: Sequence[str]) -> bool:
        """Whether there is an answer to these, which `header` then gives."""
        self._challenges, self._count = challenges, 0
        return self._known and bool(self.header("GET", "/"))

    def header(self, method: str, uri: str) -> str:
        """The line of a request, with its end; empty where nothing was asked."""
        for challenge in sorted(self._challenges, key=lambda text: not text.lower().startswith("digest")):
            scheme, _, text = challenge.strip().partition(" ")
            answer = None
            if scheme.lower() == "digest":
                answer = self._digest(text, method, uri)
            elif scheme.lower() == "basic":
                answer = f"Basic {b64encode(f'{self._user}:{self._password}'.encode()).decode()}"
            if answer:
                return f"Authorization: {answer}\r\n"
        return ""

    def _digest(self, challenge: str, method: str, uri: str) -> str | None:
        """The answer; None to what is asked in a way that is not known here."""
        try:
            asked = parse_keqv_list(parse_http_list(challenge))
        except ValueError:
            return None
        algorithm, qop = asked.get("algorithm", "MD5"), asked.get("qop")
        kind, session, _ = algorithm.upper().partition("-SESS")
        known = kind in _HASHES and (qop is None or "auth" in qop.replace(" ", "").split(","))
        if not known or not all(text.isprintable() for text in (self._user, *asked.values())):
            return None

        def hashed(*parts: str) -> str:
            digest: str = _HASHES[kind](":".join(parts).encode(), usedforsecurity=False).hexdigest()
            return digest

        self._count += 1
        realm, nonce = asked.get("realm", ""), asked.get("nonce", "")
        count, own = f"{self._count:08x}", os.urandom(8).hex()
        secret, request = hashed(self._user, realm, self._password), hashed(method, uri)
        if session:
            secret = hashed(secret, nonce, own)
        proof = (secret, nonce, request) if qop is None else (secret, nonce, count, own, "auth", request)
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": uri, "response": hashed(*proof)}
        if "opaque" in asked:
            fields["opaque"] = asked["opaque"]
        if qop is not None or session:
            fields["cnonce"] = own
        quoted = [f'{name}="{value}"' for name, value in fields.items()]
        bare = [f"algorithm={algorithm}"] * ("algorithm" in asked) + [f"qop=auth, nc={count}"] * (qop is not None)
        return f"Digest {', '.join(quoted + bare)}"
