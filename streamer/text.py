"""Text for people: without secrets, and without what could steer a terminal."""

from __future__ import annotations

import re
from urllib.parse import unquote

_SCHEME = r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]*://"  # one start a word, so that a search takes linear time
_ADDRESS = re.compile(rf"{_SCHEME}(?:[^\s/:@]*:[^/\n]*@\S*|\S*)")  # the first: a password with spaces in it
_PAIR = re.compile(r"(?<![\w-])([\w-]+)=([^\s&;,'\"]+)")
_SECRET_WORD = re.compile(r"pass|pwd|psw|token|secret|jwt", re.IGNORECASE)
_SECRET_KEY = re.compile(
    rf"{_SECRET_WORD.pattern}|^(pw|sid|sig|key)$|auth|login|user|api_?key|signature", re.IGNORECASE
)
_HOST = re.compile(r"(?:[\w.*-]*|\[[\w:.%]+\])(?::(?:\d{1,5}|\*|PORT))?")
_PLAIN = frozenset({"file", "inproc", "ipc", "pattern", "tcp"})  # schemes of addresses in which nobody writes a secret
_AFTER = re.compile(r"['\",;:.)\]}>]{1,2}$")  # what may follow an address in a sentence


def redact(text: str) -> str:
    """The text, safe to show: its addresses as `shown_address` gives them, and no value of password=, token=, ..."""
    return _PAIR.sub(_without_value, _ADDRESS.sub(_without_secrets, text))


def shown_address(address: str) -> str:
    """An address of a source, safe to show: SCHEME://HOST/PATH, with *** for what is, or may be, a secret.

    Where it is not clear what is the host, as with an @ in a query, all of it is ***.
    """
    address = printable(address)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _shown_path(address)
    if scheme.lower() in _PLAIN and "@" not in rest:
        return address
    before, at, after = rest.rpartition("@")
    if re.search("[=&]", before):  # the @ is one of a query, or of a password
        return f"{scheme.strip()}://***"
    place = re.split(r"[?#]", after, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    if not _HOST.fullmatch(host):
        return f"{scheme.strip()}://***"
    query = f"{after[len(place)]}***" if len(place) < len(after) else ""
    return f"{scheme}://{at and '***@'}{host}{slash}{_safe(path, _SECRET_WORD)}{query}"


def holds_secret(address: str) -> bool:
    """Whether there is, or may be, a user or a password in an address: before its host, in its path or in its query."""
    _, _, rest = address.partition("://")
    place, _, path = rest.partition("/")
    words = re.split("[/?&;]", unquote(path))
    return (
        "@" in place
        or any(_SECRET_KEY.search(word.partition("=")[0]) for word in words if "=" in word)
        or any(_SECRET_WORD.search(word) for word in words)
    )


def shown_key(key: str) -> str:
    """A configuration key, safe to show: with a colon or a comma in a wrong place, a piece of an address is one."""
    return "***" if "@" in key or "://" in key else printable(key[:100])


def printable(text: str) -> str:
    """Escape control and format characters as JSON does; valid JSON stays valid, and the same."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def counted(count: int, noun: str) -> str:
    """A number of things: `1 event`, `2 events`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _shown_path(text: str) -> str:
    """A file or a device as it is, but no address whose scheme is missing or misspelt."""
    path = text.removeprefix("file:").removeprefix("v4l2:")
    if "@" in path and (":" in path or not path.startswith(("/", ".", "~"))):
        return "***"
    place, question, _ = text.partition("?")
    return f"{_safe(place)}{question and '?***'}"


def _safe(path: str, words: re.Pattern[str] | None = None) -> str:
    """A path up to its first part with a parameter, as in /user=a_password=b, or with one of the words."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        plain = unquote(part)
        if re.search("[=;&]", plain) or (words and words.search(plain)):
            return "/".join((*parts[:index], "***"))
    return path


def _without_secrets(match: re.Match[str]) -> str:
    found = match[0]
    after = _AFTER.search(found)
    end = after.start() if after else len(found)
    return shown_address(found[:end]) + found[end:]


def _without_value(match: re.Match[str]) -> str:
    text, start = match.string, match.start()
    in_query = text[start - 1 : start] in ("?", "&") or match[1] != "key"  # "write key=value" is no secret
    return f"{match[1]}=***" if in_query and _SECRET_KEY.search(match[1]) else match[0]


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
