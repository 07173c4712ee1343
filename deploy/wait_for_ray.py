"""Wait until a Ray cluster has so many nodes, five minutes at most: python deploy/wait_for_ray.py HOST:PORT NODES"""

import socket
import sys
import time

import ray

PATIENCE = 300  # seconds


def listens(address: str) -> bool:
    """Return whether something answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def nodes_of(address: str) -> int:
    """Return how many nodes of a cluster are alive; 0 where nothing listens yet."""
    if not listens(address):
        return 0
    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    return sum(node["Alive"] for node in ray.nodes())


def main(address: str, wanted: int) -> int:
    """Return 0 as soon as the nodes are there, 1 if they do not come."""
    end = time.monotonic() + PATIENCE
    while (found := nodes_of(address)) < wanted:
        if time.monotonic() > end:
            print(f"{found} of {wanted} nodes after {PATIENCE} s at {address}", file=sys.stderr)
            return 1
        time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
