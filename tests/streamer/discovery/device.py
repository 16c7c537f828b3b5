"""An ONVIF device: HTTP on 127.0.0.1 as the core specification says, and answers to WS-Discovery.

python -m tests.streamer.discovery.device COMMAND...   in a network namespace of its own (unshare --net): the device
answers to multicast there, the command runs, and the program ends with its exit code.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import parse_http_list, parse_keqv_list

from lxml import etree

USER, PASSWORD = "admin", "S3cr3t: ä"
PROFILES = {"main": (2560, 1440), "sub": (640, 360), "tiny": (320, 180)}
_FRESH = timedelta(minutes=5)
_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_SCHEMA = "http://www.onvif.org/ver10/schema"
_DEVICE, _MEDIA = (f"http://www.onvif.org/ver10/{name}/wsdl" for name in ("device", "media"))
_GROUP = "239.255.255.250"
_OPEN = ("GetSystemDateAndTime", "GetServices", "GetCapabilities")  # before anybody has told who it is

Answer = tuple[int, bytes]


class OnvifDevice(ThreadingHTTPServer):
    """The device.

    ahead     of our clock
    login     what it wants: `wsse` (WS-Security), `digest` (HTTP), or nothing
    services  whether it knows GetServices
    media     where it says that its media service is; None: here
    stream    its stream addresses, with {profile} in them
    other     answers to requests by their name, instead of what is right
    asked     the requests that came, by their name
    """

    daemon_threads = True

    def __init__(
        self,
        ahead: timedelta = timedelta(),
        login: str = "wsse",
        services: bool = True,
        media: str | None = None,
        stream: str = "rtsp://127.0.0.1:8554/{profile}?channel=1&subtype=0",
        other: dict[str, Callable[[], Answer]] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ahead, self.login, self.services, self.stream = ahead, login, services, stream
        self.other = other or {}
        self.url = f"http://127.0.0.1:{self.server_port}/onvif/device_service"
        self.media = media or f"http://127.0.0.1:{self.server_port}/onvif/media"
        self.asked: list[str] = []
        self.bodies: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who asked may have gone."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead

    def answer(self, body: bytes, challenge: str | None) -> Answer:
        """Status and body for a request; `challenge`: its header Authorization."""
        root = etree.fromstring(body)
        (request,) = root.find(f"{{{_SOAP}}}Body")
        name = etree.QName(request).localname
        self.asked.append(name)
        self.bodies.append(body.decode())
        if name in self.other:
            return self.other[name]()
        if name not in _OPEN and not self._knows(root, challenge):
            return (401, b"") if self.login == "digest" else fault("Sender", "ter:NotAuthorized", "who are you?")
        made = getattr(self, re.sub("([A-Z])", r"_\1", name).lower(), None)
        if made is None or (name == "GetServices" and not self.services):
            return fault("Receiver", "ter:ActionNotSupported", "optional action not implemented")
        return 200, envelope(made(request))

    def _knows(self, root: etree._Element, challenge: str | None) -> bool:
        if self.login == "wsse":
            token = root.find(".//{*}UsernameToken")
            if token is None:
                return False
            user, digest, nonce, created = (
                token.findtext(f"{{*}}{tag}") for tag in ("Username", "Password", "Nonce", "Created")
            )
            right = hashlib.sha1(base64.b64decode(nonce) + created.encode() + PASSWORD.encode()).digest()
            age = self.now() - datetime.fromisoformat(created.replace("Z", "+00:00"))
            return (user, base64.b64decode(digest)) == (USER, right) and abs(age) < _FRESH
        if self.login == "digest":
            told = parse_keqv_list(parse_http_list((challenge or "").removeprefix("Digest ")))
            secret, request = (
                hashlib.md5(text.encode()).hexdigest()
                for text in (f"{USER}:onvif:{PASSWORD}", f"POST:{told.get('uri')}")
            )
            proof = ":".join(
                (secret, told.get("nonce", ""), told.get("nc", ""), told.get("cnonce", ""), "auth", request)
            )
            return told.get("response") == hashlib.md5(proof.encode()).hexdigest()
        return True

    def _get_system_date_and_time(self, _: etree._Element) -> str:
        now = self.now()
        return f"""<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>
            <tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime>
            <tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>{now.second}</tt:Second></tt:Time>
            <tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date>
            </tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"""

    def _get_services(self, _: etree._Element) -> str:
        rows = "".join(
            f"<tds:Service><tds:Namespace>{space}</tds:Namespace><tds:XAddr>{place}</tds:XAddr><tds:Version>"
            "<tt:Major>21</tt:Major><tt:Minor>6</tt:Minor></tds:Version></tds:Service>"
            for space, place in ((_DEVICE, self.url), (_MEDIA, self.media))
        )
        return f"<tds:GetServicesResponse>{rows}</tds:GetServicesResponse>"

    def _get_capabilities(self, _: etree._Element) -> str:
        return f"""<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>{self.media}</tt:XAddr>
            <tt:StreamingCapabilities/></tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>"""

    def _get_profiles(self, _: etree._Element) -> str:
        rows = "".join(
            f"""<trt:Profiles token="{name}" fixed="true"><tt:Name>{name}</tt:Name>
            <tt:VideoEncoderConfiguration token="e"><tt:Name>e</tt:Name><tt:UseCount>1</tt:UseCount>
            <tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height>
            </tt:Resolution><tt:Quality>4</tt:Quality><tt:RateControl><tt:FrameRateLimit>25</tt:FrameRateLimit>
            <tt:EncodingInterval>1</tt:EncodingInterval><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl>
            </tt:VideoEncoderConfiguration></trt:Profiles>"""
            for name, (width, height) in PROFILES.items()
        )
        return f"<trt:GetProfilesResponse>{rows}</trt:GetProfilesResponse>"

    def _get_stream_uri(self, request: etree._Element) -> str:
        profile = request.findtext("{*}ProfileToken")
        uri = self.stream.format(profile=profile).replace("&", "&amp;")
        return f"""<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{uri}</tt:Uri>
            <tt:InvalidAfterConnect>false</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false</tt:InvalidAfterReboot>
            <tt:Timeout>PT0S</tt:Timeout></trt:MediaUri></trt:GetStreamUriResponse>"""


def envelope(body: str) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}" xmlns:tt="{_SCHEMA}"
        xmlns:tds="{_DEVICE}" xmlns:trt="{_MEDIA}" xmlns:ter="http://www.onvif.org/ver10/error"><s:Body>{body}</s:Body>
        </s:Envelope>""".encode()


def fault(code: str, subcode: str, reason: str) -> Answer:
    return 400, envelope(
        f"""<s:Fault><s:Code><s:Value>s:{code}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>
        <s:Reason><s:Text xml:lang="en">{reason}</s:Text></s:Reason></s:Fault>"""
    )


class _Handler(BaseHTTPRequestHandler):
    server: OnvifDevice

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answer(body, self.headers["Authorization"])
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Digest realm="onvif", nonce="5ccc069c403ebaf9", qop="auth"')
        if status == 307:
            self.send_header("Location", answer.decode())
        self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def probe_match(xaddrs: str, relates_to: str, name: str = "ACME%20Door%20Cam") -> bytes:
    """An answer to a probe."""
    return f"""<?xml version="1.0" encoding="UTF-8"?><e:Envelope xmlns:e="{_SOAP}"
        xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:n="http://www.onvif.org/ver10/network/wsdl"
        xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><e:Header><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID>
        <a:RelatesTo>{relates_to}</a:RelatesTo>
        <a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches</a:Action></e:Header><e:Body>
        <d:ProbeMatches><d:ProbeMatch><a:EndpointReference><a:Address>urn:uuid:1419d68a-1dd2-11b2-a105-000000000000
        </a:Address></a:EndpointReference><d:Types>n:NetworkVideoTransmitter</d:Types>
        <d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/{name}</d:Scopes>
        <d:XAddrs>{xaddrs}</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></e:Body>
        </e:Envelope>""".encode()


@contextmanager
def discoverable(device: OnvifDevice) -> Iterator[None]:
    """Let a device answer probes on the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        loopback = struct.pack("16sh", b"lo", 1)  # its flags: IFF_UP
        ioctl(sock, 0x8914, loopback)  # SIOCSIFFLAGS
        sock.bind(("", 3702))
        index = socket.if_nametoindex("lo")
        member = struct.pack("=4s4si", socket.inet_aton(_GROUP), b"", index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

        def answer() -> None:
            while True:
                question, asker = sock.recvfrom(65535)
                root = etree.fromstring(question)
                types = (root.findtext(".//{*}Types") or "").rpartition(":")[2]
                if types == "NetworkVideoTransmitter":
                    told = root.findtext(".//{*}MessageID") or ""
                    for answer in (
                        b"\xff no xml",
                        probe_match("http://192.0.2.1/", told),
                        probe_match(device.url, told),
                    ):
                        sock.sendto(answer, asker)

        threading.Thread(target=answer, daemon=True).start()
        yield


if __name__ == "__main__":
    with discoverable(OnvifDevice()):
        sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
