"""Who on the network is a camera: WS-Discovery of April 2005, as ONVIF's core specification, 7.3, asks for.

One question goes by multicast to the network of each interface; cameras answer to the port that it came from. Whatever
answers is a stranger: it has a limited time, and can name no host but itself.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
import time
import uuid
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from lxml import etree

from streamer.discovery.found import NetworkCamera
from streamer.errors import SourceError
from streamer.text import printable, shown_address

GROUP, PORT = "239.255.255.250", 3702
MOST_ANSWERS = 1000  # that are read, of whatever
MOST_CAMERAS = 256
_DATAGRAM = 65535
_AGAIN_S = 0.2  # datagrams get lost, so the question is asked twice
_QUESTION = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:n="http://www.onvif.org/ver10/network/wsdl">
<e:Header><a:MessageID>{id}</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>
<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action></e:Header>
<e:Body><d:Probe><d:Types>n:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>
"""
_NAME = "onvif://www.onvif.org/name/"

log = logging.getLogger(__name__)


def probe(wait_s: float) -> list[NetworkCamera]:
    """The cameras that answer within `wait_s`, by address. SourceError if no interface takes the question."""
    found: dict[str, NetworkCamera] = {}
    for camera in _cameras(wait_s):
        found.setdefault(camera.url, camera)
        if len(found) == MOST_CAMERAS:
            log.warning("the first %d cameras that answered are listed; there may be more", MOST_CAMERAS)
            break
    return sorted(found.values(), key=lambda camera: camera.url)


def _cameras(wait_s: float) -> Iterator[NetworkCamera]:
    """What answers, as it comes; a camera may come more than once."""
    told: set[str] = set()
    question = _QUESTION.format(id=uuid.uuid4().urn).encode()
    begin = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        _ask(sock, question)
        again = min(_AGAIN_S, wait_s / 2)
        for _ in range(MOST_ANSWERS):
            now = time.monotonic() - begin
            if again and now >= again:
                _ask(sock, question)
                again = 0.0
            if now >= wait_s:
                return
            sock.settimeout((again or wait_s) - now)
            try:
                answer, (host, _) = sock.recvfrom(_DATAGRAM)
            except TimeoutError:
                continue
            try:
                yield from matches(answer, host)
            except SourceError as error:
                if host not in told:
                    told.add(host)
                    log.warning("%s", error)
    log.warning("more than %d answers came; the rest was not read", MOST_ANSWERS)


def _ask(sock: socket.socket, question: bytes) -> None:
    """Send the question on every interface that takes it."""
    sent, why = 0, "there is none"
    # Windows has no structure that names an interface by its index: there the question goes where the routes say
    for index in [0] if sys.platform == "win32" else [index for index, _ in socket.if_nameindex()]:
        try:
            if index:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))
            sock.sendto(question, (GROUP, PORT))
            sent += 1
        except OSError as error:
            why = error.strerror or str(error)
    if not sent:
        raise SourceError(f"no network interface can ask for cameras: {why}; name them: streamer discover HOST")


def matches(answer: bytes, host: str) -> list[NetworkCamera]:
    """The cameras in an answer that came from `host`. SourceError for what is no answer, or names another host."""
    try:
        root = etree.fromstring(answer, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True))
        found = [_match(match, host) for match in root.iterfind(".//{*}ProbeMatches/{*}ProbeMatch")]
    except (etree.XMLSyntaxError, ValueError):
        raise SourceError(f"{host}: answers the search for cameras, but not as WS-Discovery does") from None
    return found


def _match(match: etree._Element, host: str) -> NetworkCamera:
    """One camera. SourceError unless it is at `host`: others are not asked because a stranger says so."""
    addresses = (match.findtext("{*}XAddrs") or "").split()
    for address in addresses:
        if urlsplit(address).scheme in ("http", "https") and urlsplit(address).hostname == host:
            return NetworkCamera(address, _named((match.findtext("{*}Scopes") or "").split()))
    shown = shown_address(addresses[0])[:100] if addresses else "nowhere"
    raise SourceError(f"{host}: says that it is a camera at {shown}; if that is meant: streamer discover ADDRESS")


def _named(scopes: list[str]) -> str:
    """The name among the scopes of a camera."""
    names = (unquote(scope.removeprefix(_NAME)) for scope in scopes if scope.startswith(_NAME))
    return printable(next(names, ""))[:60]
