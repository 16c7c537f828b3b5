"""Which streams a camera has, and where: ONVIF's device and media services, by the library onvif-zeep-async.

A camera here is a stranger: what it answers has a limit in time and in size, it cannot send the question, in which
there is a digest of the password, to another host, and the addresses that it gives are its own or are left out. The
password itself never goes out: WS-Security and HTTP both take a digest.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import onvif
from onvif import ONVIFService
from onvif.util import is_auth_error
from onvif.zeep_aiohttp import AIOHTTPTransport
from zeep.exceptions import Fault
from zeep.wsdl.utils import etree_to_string

from streamer.config import LONGEST_URI, SourceConfig
from streamer.discovery.found import Mode, Stream
from streamer.errors import SourceError
from streamer.sources.address import check_address
from streamer.sources.peer import Address, unreachable
from streamer.text import printable, shown_address

ANSWER_S = 10.0  # for all that is asked of one camera
MOST_BYTES = 1024 * 1024  # of one answer
MOST_PROFILES = 64  # of one camera
AT_ONCE = 32  # cameras that are asked at a time
_WSDL = Path(onvif.__file__).parent / "wsdl"
_TRANSPORTS = ("rtsp", "rtsps", "http", "https")
_SETUP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}

log = logging.getLogger(__name__)


Login = tuple[str, str]
"""A user of a camera, and the password."""


class _RefusedError(SourceError):
    """The camera wants a user, or another password."""


def ask_all(urls: Sequence[str], login: Login | None) -> list[list[Stream] | SourceError]:
    """What each camera at the address of its device service answers, in their order."""

    async def ask_each() -> list[list[Stream] | SourceError]:
        turn = asyncio.Semaphore(AT_ONCE)
        async with _session(None) as session:
            for name in ("devicemgmt", "media"):  # their descriptions are read once, and not in a camera's time
                await _service(name, "http://127.0.0.1/", session, None)
        return await asyncio.gather(*(_answer(url, login, turn) for url in urls))

    return asyncio.run(ask_each())


async def _answer(url: str, login: Login | None, turn: asyncio.Semaphore) -> list[Stream] | SourceError:
    shown = shown_address(url)
    async with turn:
        try:
            return await asyncio.wait_for(_ask(url, login), ANSWER_S)
        except _RefusedError:
            has = "refuses the user or the password; check --user and the password"
            return SourceError(f"{shown}: {has if login else 'wants a user; give --user and --password-file'}", "slow")
        except SourceError as error:
            return error
        except (OSError, asyncio.TimeoutError) as error:  # 3.10 has two kinds of the latter
            late = isinstance(error, asyncio.TimeoutError)
            return unreachable(TimeoutError() if late else getattr(error, "os_error", error), shown, ANSWER_S)
        except Exception:  # the library meets what the camera made up in many ways
            log.debug("%s", shown, exc_info=True)
            return SourceError(f"{shown}: answers, but not as ONVIF does; is it the address of a camera?")


async def _ask(url: str, login: Login | None) -> list[Stream]:
    """The streams of one camera."""
    address = Address.of(url)
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    peer = str(found[0][4][0])
    async with _session(login) as session:
        device = await _service("devicemgmt", address.url, session, login)
        if login:
            device = await _service("devicemgmt", address.url, session, login, await _skew(device))
        place = address.redirected(await _media(device, login), peer, shown_address(url))
        media = await _service("media", place.url, session, login, device.dt_diff)
        streams = []
        for profile in (await _call(media, "GetProfiles", login))[:MOST_PROFILES]:
            request = {"StreamSetup": _SETUP, "ProfileToken": profile.token}
            try:
                told = await _call(media, "GetStreamUri", login, request)
                streams.append(_stream(profile, told.Uri, {address.host, peer}))
            except _RefusedError:
                raise
            except (SourceError, AttributeError, ValueError) as error:
                why = error if isinstance(error, SourceError) else "its stream has no address that can be read"
                log.warning("%s: the profile %s is left out: %s", shown_address(url), _word(profile.Name), why)
        return streams


def _session(login: Login | None) -> aiohttp.ClientSession:
    """Connections to one camera. Certificates are not checked: cameras sign their own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=False),
        timeout=aiohttp.ClientTimeout(total=ANSWER_S),
        middlewares=[aiohttp.DigestAuthMiddleware(*login)] if login else [],
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # what is small on the wire could be large here
    )


class _Careful(AIOHTTPTransport):  # type: ignore[misc]
    """Requests that stay where they are sent, and answers of at most `MOST_BYTES`."""

    async def post_xml(self, address: str, envelope: Any, headers: dict[str, str]) -> Any:
        """Send a request; its answer, of which zeep wants these four things. SourceError."""
        headers = {**headers, "Accept-Encoding": "identity"}
        request = self.session.post(address, data=etree_to_string(envelope), headers=headers, allow_redirects=False)
        async with request as answer:
            if answer.status in (401, 403):
                raise _RefusedError(f"{shown_address(address)}: refuses the user or the password")
            if 300 <= answer.status < 400:
                raise SourceError(f"{shown_address(address)}: sends us elsewhere; name the address that is meant")
            content = b""
            async for part in answer.content.iter_any():
                content += part
                if len(content) > MOST_BYTES:
                    raise SourceError(f"{shown_address(address)}: answers more than {MOST_BYTES // 1024} KiB")
        return SimpleNamespace(
            status_code=answer.status, content=content, headers=answer.headers, encoding=answer.charset
        )


async def _service(
    name: str, url: str, session: aiohttp.ClientSession, login: Login | None, skew: timedelta | None = None
) -> ONVIFService:
    """A service of the camera, whose clock is `skew` ahead of ours."""
    known = onvif.SERVICES[name]
    service = ONVIFService(
        url,
        *(login or (None, None)),
        str(_WSDL / known["wsdl"]),
        no_cache=True,
        dt_diff=skew,
        binding_name=f"{{{known['ns']}}}{known['binding']}",
    )
    await service.close()  # connections of its own, which know no limits
    service.transport = _Careful(session)
    await service.setup()
    return service


async def _call(service: ONVIFService, name: str, login: Login | None, request: dict[str, Any] | None = None) -> Any:
    """What the camera answers. SourceError when it refuses."""
    try:
        return await getattr(service, name if login else f"authless_{name}")(request)
    except Fault as error:
        if is_auth_error(error):
            raise _RefusedError(f"{shown_address(service.xaddr)}: refuses the user or the password") from None
        told = printable(str(error.message))[:200]
        raise SourceError(f"{shown_address(service.xaddr)}: refuses {name}: {told}") from None


async def _skew(device: ONVIFService) -> timedelta:
    """How far the camera's clock is ahead of ours; none where it does not tell. Digests of another time are refused."""
    try:
        told = (await _call(device, "GetSystemDateAndTime", None)).UTCDateTime
        day, time = told.Date, told.Time
        theirs = datetime(day.Year, day.Month, day.Day, time.Hour, time.Minute, time.Second, tzinfo=timezone.utc)
    except (SourceError, AttributeError, TypeError, ValueError, OverflowError):
        return timedelta()
    return theirs - datetime.now(timezone.utc)


async def _media(device: ONVIFService, login: Login | None) -> str:
    """Where the camera says that its media service is; older ones know only GetCapabilities."""
    with suppress(SourceError):
        for service in await _call(device, "GetServices", login, {"IncludeCapability": False}):
            if service.Namespace == onvif.SERVICES["media"]["ns"]:
                return str(service.XAddr)
    known = getattr(await _call(device, "GetCapabilities", login, {"Category": "Media"}), "Media", None)
    if known is None:
        raise SourceError(
            f"{shown_address(device.xaddr)}: has no media service of ONVIF (ver10), so it tells no streams"
        )
    return str(known.XAddr)


def _stream(profile: Any, uri: str, hosts: set[str]) -> Stream:
    """A profile as it is listed. SourceError for a stream that is elsewhere, or no address."""
    config = SourceConfig(uri=uri.strip()[:LONGEST_URI])
    parts = urlsplit(config.uri)
    if parts.scheme not in _TRANSPORTS or parts.hostname not in hosts:
        raise SourceError(f"its stream is at {shown_address(config.uri)[:100]}, which is not this camera's address")
    config = SourceConfig(uri=urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    check_address(config)
    video = profile.VideoEncoderConfiguration
    size, rate = getattr(video, "Resolution", None), getattr(video, "RateControl", None)
    mode = Mode(
        _word(getattr(video, "Encoding", None)),
        int(getattr(size, "Width", None) or 0),
        int(getattr(size, "Height", None) or 0),
        float(getattr(rate, "FrameRateLimit", None) or 0),
    )
    return Stream(config.uri, _word(profile.Name), mode)


def _word(text: object) -> str:
    """What a camera calls something, for people."""
    return printable(str(text or ""))[:60]
