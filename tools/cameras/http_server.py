"""An `HttpCamera` in a process of its own: python -m tools.cameras.http_server PORT

Prints "port N", then serves. Lines on standard input are its commands; the end of its input ends it, so it never
outlives the program that started it.
"""

from __future__ import annotations

import sys
import threading

from tools.cameras import HttpCamera

if __name__ == "__main__":
    camera = HttpCamera({}, int(sys.argv[1]))
    threading.Thread(target=camera.serve_forever, daemon=True).start()
    sys.stdout.write(f"port {camera.server_port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        camera.command(line.strip())
