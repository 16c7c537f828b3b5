"""The connection to an MQTT broker, which comes and goes, and what waits for it.

A thread of its own connects, and sends with QoS 1: what is retained in its newest form, and the rest from a bounded
queue. After each connection all that is retained is sent again, for the broker may have been restarted; so is what was
on its way when a connection broke, and a reader may meet an event twice (its `session`, `id` and `type` tell).
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from streamer.bridges.board import Post
from streamer.bridges.broker import Broker, Refused, refusal, why_not
from streamer.bridges.trouble import Trouble
from streamer.errors import StreamerError

MOST_ON_THE_WAY = 100  # posts that the broker has not acknowledged
MOST_RETAINED = 20_000  # topics
KEEPALIVE_S = 20
ANSWER_S = 10.0  # how long a broker may take to accept a connection
CLOSE_S = 3.0
_PAUSE_S, _LONGEST_PAUSE_S, _SLOW_PAUSE_S = 0.5, 5.0, 15.0
_LOOK_S = 1.0
_SHORT_S, _MANY_SHORT = 5.0, 3  # so many connections in a row that broke sooner are no accident

Found = Callable[[str, bytes, bool], None]


class Link:
    """Brings posts to a broker.

    client_id  what the broker knows this end by; a connection with the same one ends the other
    will       is posted by the broker when this end vanishes; alive: by this end after each connection, on its topic
    topics     what this end wants to hear of; found: is given topic, payload and whether it was retained, in a thread
    most       how many posts that are not retained may wait; then the oldest is dropped
    keep_s     how long one may wait; who gets an older one would take it for new

    `sent` and `dropped` count those that are not retained, `passed_over` topics beyond those that can be kept.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        will: Post,
        alive: bytes,
        topics: Sequence[str],
        found: Found,
        most: int = 10_000,
        keep_s: float = 60.0,
    ) -> None:
        self._broker, self._client_id, self._will, self._alive = broker, client_id, will, alive
        self._topics, self._found, self._most = topics, found, most
        self._keep_s = keep_s
        self.sent = self.dropped = self.passed_over = 0
        self._kept: dict[str, Post] = {}
        self._due: OrderedDict[str, None] = OrderedDict()  # topics of those that are to be sent
        self._waiting: deque[tuple[Post, float]] = deque()  # and until when it may be sent, by the monotonic clock
        self._on_the_way: dict[int, tuple[Post, float]] = {}
        self._acknowledged: deque[int] = deque()
        self._accepted: Any = None  # the broker's answer to a connection
        self._lost = False
        self._ending = threading.Event()
        self._ends_s = math.inf
        self._changed = threading.Condition()
        self._trouble = Trouble(f"broker {broker.shown}")
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def put(self, posts: Iterable[Post]) -> None:
        """Send these, now or when there is a connection. Returns at once."""
        with self._changed:
            for post in posts:
                if not post.retained:
                    self._waiting.append((post, time.monotonic() + self._keep_s))
                elif post.topic in self._kept or len(self._kept) < MOST_RETAINED:
                    self._kept[post.topic] = post
                    self._due[post.topic] = None
                else:
                    self.passed_over += 1
            self._bound()
            self._changed.notify_all()

    def check(self) -> None:
        """Raises StreamerError if nothing is sent any more, for a reason that nobody has foreseen: the log has it."""
        if not self._thread.is_alive():
            raise StreamerError("the connection to the broker has failed; start the bridge again, and please report it")

    def repeat(self) -> None:
        """Send all that is retained again."""
        with self._changed:
            self._due = OrderedDict.fromkeys(self._kept)
            self._due.pop(self._will.topic, None)
            self._due[self._will.topic] = None  # the last one, when all the others are right
            self._kept[self._will.topic] = Post(self._will.topic, self._alive)
            self._changed.notify_all()

    def close(self) -> None:
        """Send what waits, for a few seconds, and say that this end is gone."""
        with self._changed:
            self._kept[self._will.topic] = self._will
            self._due.pop(self._will.topic, None)
            self._due[self._will.topic] = None
            self._ends_s = time.monotonic() + CLOSE_S
            self._ending.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_S + 1)
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        pause_s, short = _PAUSE_S, 0
        while not self._ending.is_set():
            client = self._client()
            begun_s = time.monotonic()
            try:
                self._connect(client)
                self._trouble.over("connected")
                self._serve(client)
                self._disconnect(client)
                short = short + 1 if time.monotonic() - begun_s < _SHORT_S else 0
                pause_s = pause_s if short else _PAUSE_S
                refused = Refused(
                    "it ends each connection soon after accepting it; is another bridge there with this --prefix?"
                    if short >= _MANY_SHORT
                    else "the connection broke, and is made again"
                )
            except Refused as error:
                refused = error
                self._disconnect(client)
            if self._ending.is_set():
                break
            self._trouble.tell(str(refused))
            with self._changed:
                self._changed.wait_for(self._ending.is_set, _SLOW_PAUSE_S if refused.slow else pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _client(self) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, reconnect_on_failure=False)
        client.connect_timeout = ANSWER_S
        client.max_inflight_messages_set(MOST_ON_THE_WAY)
        client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set_context(self._broker.tls)
        client.on_connect = lambda _client, _data, _flags, code, _properties: self._answered(code)
        client.on_disconnect = lambda _client, _data, _flags, _code, _properties: self._broke()
        client.on_publish = lambda _client, _data, number, _code, _properties: self._arrived(number)
        client.on_message = lambda _client, _data, message: self._found(
            message.topic, bytes(message.payload), message.retain
        )
        return client

    def _connect(self, client: paho.Client) -> None:
        """Raises Refused."""
        with self._changed:
            self._accepted, self._lost = None, False
            self._acknowledged.clear()
        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise why_not(error, encrypted=self._broker.tls is not None) from error
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._accepted is not None or self._lost or self._ending.is_set(), ANSWER_S)
            accepted, lost = self._accepted, self._lost
        if accepted is None:
            if lost:
                wants = "a certificate (--client-cert)" if self._broker.tls else "TLS (mqtts://)"
                raise Refused(f"it closed the connection before it accepted it; does it want {wants}?", slow=True)
            raise Refused("what listens there does not answer as a broker; is the port right?", slow=True)
        if accepted.is_failure:
            raise refusal(accepted.value, str(accepted), self._broker.user)
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
        self.repeat()

    def _serve(self, client: paho.Client) -> None:
        """Send what there is until the connection breaks, or all is sent at the end."""
        retained_next = True
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, _LOOK_S)
                while self._acknowledged:
                    post, _ = self._on_the_way.pop(self._acknowledged.popleft())
                    self.sent += not post.retained
                    if not post.payload and self._kept.get(post.topic) is post:  # the broker keeps it no more
                        del self._kept[post.topic]
                done = not (self._due or self._waiting or self._on_the_way)
                if self._lost or (self._ending.is_set() and done) or time.monotonic() >= self._ends_s:
                    self._waiting.extendleft(one for one in reversed(self._on_the_way.values()) if not one[0].retained)
                    self._on_the_way.clear()
                    self._bound()
                    return
                if len(self._on_the_way) >= MOST_ON_THE_WAY or not (self._due or self._waiting):
                    continue
                if self._due and (retained_next or not self._waiting):
                    post, until_s = self._kept[self._due.popitem(last=False)[0]], math.inf
                else:
                    post, until_s = self._waiting.popleft()
                retained_next = not post.retained
                if time.monotonic() > until_s:
                    self.dropped += 1
                    continue
            number = client.publish(post.topic, post.payload, qos=1, retain=post.retained).mid
            self._on_the_way[number] = post, until_s

    def _has_work(self) -> bool:
        can_send = (self._due or self._waiting) and len(self._on_the_way) < MOST_ON_THE_WAY
        at_end = self._ending.is_set() and not self._on_the_way
        return bool(self._acknowledged or self._lost or can_send or at_end)

    def _bound(self) -> None:
        """Let the oldest of what waits make room."""
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1

    def _disconnect(self, client: paho.Client) -> None:
        client.disconnect()
        client.loop_stop()

    def _answered(self, code: Any) -> None:
        with self._changed:
            self._accepted = code
            self._changed.notify_all()

    def _broke(self) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _arrived(self, number: int) -> None:
        with self._changed:
            self._acknowledged.append(number)
            self._changed.notify_all()
