"""Print the events of a running `streamer run`: python subscribe.py [ADDRESS]. Needs pyzmq, nothing of this project."""

import json
import sys

import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5557")
socket.subscribe("act/1/")  # all streams and kinds; act/1/cam1/event/ for one of each
try:
    while True:
        topic, payload = socket.recv_multipart()
        message = json.loads(payload)
        if message["kind"] == "event":
            print(message["stream"], message["type"], message["label"], message["peak"], flush=True)
        elif message["kind"] == "status" and message["source"] == "stopped":
            break
except KeyboardInterrupt:
    pass
