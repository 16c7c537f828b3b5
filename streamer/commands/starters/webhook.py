"""Send the events of a running `streamer run` to a web address: python webhook.py URL [ADDRESS].

Each event is one POST with the message as JSON. A receiver that is slow or away holds nothing up: 100 events wait for
it, then the oldest is dropped, and each is tried three times. What is lost is told on standard error.
"""

from __future__ import annotations

import http.client
import queue
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import msgspec

from streamer import EventMessage, Subscriber

MOST_WAITING, TRIES, TIMEOUT_S, PAUSE_S = 100, 3, 5.0, 1.0


def post(url: str, event: EventMessage) -> None:
    """Send one event; what goes wrong is told, and tried again."""
    request = urllib.request.Request(url, msgspec.json.encode(event), {"Content-Type": "application/json"})
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                reply.read(1000)
            return
        except (OSError, http.client.HTTPException) as error:
            tell(event, f"{error or type(error).__name__}{'' if left else '; given up'}")
            time.sleep(PAUSE_S)


def put(waiting: queue.Queue[EventMessage], event: EventMessage) -> None:
    """Let an event wait; the oldest makes room for it."""
    if waiting.full():
        with suppress(queue.Empty):
            tell(waiting.get_nowait(), "dropped, the receiver is too slow")
    waiting.put(event)  # nobody else puts, so there is room


def tell(event: EventMessage, what: str) -> None:
    """Say what became of an event."""
    print(f"{event.stream} {event.type} {event.label}: {what}", file=sys.stderr, flush=True)


def main(url: str, address: str = "tcp://127.0.0.1:5557") -> None:
    """Read events; a thread sends them."""
    waiting: queue.Queue[EventMessage] = queue.Queue(MOST_WAITING)

    def send() -> None:
        while True:
            post(url, waiting.get())

    threading.Thread(target=send, daemon=True).start()
    with suppress(KeyboardInterrupt):
        for message in Subscriber(address, kinds=["event"]):
            if isinstance(message, EventMessage):
                put(waiting, message)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not sys.argv[1].startswith(("http://", "https://")):
        sys.exit(__doc__)
    main(*sys.argv[1:])
