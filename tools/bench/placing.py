"""How long a fleet's head takes to place streams: python -m tools.bench.placing [NODES STREAMS]"""

from __future__ import annotations

import sys
import time

from streamer.fleet.placing import Placer, Room, Wish, balance

ROWS, CORES, SITES = 16, 4, 10


def main(nodes: int = 1000, streams: int = 10_000) -> None:
    """Print how long it takes after a node's death, and to make a fleet even of which two nodes in five are empty."""
    rooms = [Room(f"n{n:05}", ROWS, CORES, {"site": f"s{n % SITES}"}) for n in range(nodes)]
    near = [{"site": f"s{n % SITES}"} if n % 2 else {} for n in range(streams)]
    wishes = [Wish(f"c{n:06}", 1, near[n], 40 + n % 100) for n in range(streams)]
    seats = [(wish, rooms[n % (nodes * 3 // 5)].name) for n, wish in enumerate(wishes)]
    began = time.perf_counter()
    lost = [wish for wish, node in seats if node == rooms[0].name]
    placer = Placer(rooms[1:], (seat for seat in seats if seat[1] != rooms[0].name))
    for wish in lost:
        if node := placer.best(wish):
            placer.put(wish, node)
    placed = time.perf_counter()
    steps = balance(rooms, seats)
    print(f"{nodes} nodes, {streams} streams")
    print(f"after a node's death {len(lost)} streams are placed in {(placed - began) * 1e3:.1f} ms")
    print(f"a whole rebalance, {len(steps)} moves: {time.perf_counter() - placed:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
