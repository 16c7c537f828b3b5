"""Labels as ROS 2 topics: python ros2_bridge.py [ADDRESS]. Needs rclpy, std_msgs and this package.

It has not been run: there was no ROS here.

/actions/STREAM/label   std_msgs/String, latched: the label in force, or ""
/actions/STREAM/event   std_msgs/String: each event as JSON, as on the label stream
/actions/STREAM/source  std_msgs/String, latched: online, degraded, connecting, stalled, offline, ended or stopped

Names of ROS have no hyphen: cam-1 is cam_1 there. The JSON has the stream's own name.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import msgspec
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from streamer import EventMessage, StateMessage, StatusMessage, Subscriber

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EVENTS = QoSProfile(depth=100)
LOOK_S = 0.5  # how often it looks whether ROS ends


class Bridge(Node):
    """Publishes what is new."""

    def __init__(self) -> None:
        super().__init__("actions")
        self._topics: dict[str, Publisher] = {}
        self._told: dict[str, str] = {}  # of the latched topics

    def tell(self, message: object) -> None:
        """Publish a message of the label stream, if it says something new."""
        if isinstance(message, EventMessage):
            self._publish(message.stream, "event", msgspec.json.encode(message).decode())
        elif isinstance(message, StateMessage):
            self._latch(message.stream, "label", message.label or "")
        elif isinstance(message, StatusMessage):
            self._latch(message.stream, "source", message.source)

    def _latch(self, stream: str, name: str, value: str) -> None:
        if self._told.get(f"{stream}/{name}") != value:
            self._told[f"{stream}/{name}"] = value
            self._publish(stream, name, value)

    def _publish(self, stream: str, name: str, value: str) -> None:
        topic = f"/actions/s{stream}/{name}" if stream[0].isdecimal() else f"/actions/{stream}/{name}"
        topic = topic.replace("-", "_")
        if topic not in self._topics:
            self._topics[topic] = self.create_publisher(String, topic, EVENTS if name == "event" else LATCHED)
        self._topics[topic].publish(String(data=value))


def main(address: str = "tcp://127.0.0.1:5557") -> None:
    """Until Ctrl-C."""
    rclpy.init()
    bridge = Bridge()
    ends = suppress(KeyboardInterrupt, ExternalShutdownException)
    with ends, Subscriber(address, kinds=["event", "state", "status"], timeout_s=LOOK_S) as subscriber:
        while rclpy.ok():
            with suppress(TimeoutError):
                bridge.tell(next(subscriber))
    bridge.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
