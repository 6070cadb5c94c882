#!/usr/bin/env python3
"""How long a reflector takes from its start to its ready line, beside socat's first exchange.

    scripts/start.py ROUNDS PROGRAM [OPTION...]

In turn: the program is started with `-l 127.0.0.1:0 --ready-line` and the options, until its ready
line has been read, and then until a datagram has come back; socat is started as an echo of one
datagram, and asked until it answers. Prints the median, the quartiles and the ratio of medians.
Called by scripts/small.sh.
"""

import socket
import statistics
import subprocess
import sys
import time

PATIENCE_S = 10


def reflector(program, options):
    start = time.perf_counter()
    child = subprocess.Popen(
        [program, "-l", "127.0.0.1:0", "--ready-line", "--until-eof", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    line = child.stdout.readline().decode()
    ready = time.perf_counter() - start
    host, port = line.split()[1].rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect((host, int(port)))
        client.send(b"ping")
        assert client.recv(16) == b"ping"
    exchanged = time.perf_counter() - start
    child.stdin.close()
    child.wait(PATIENCE_S)
    return ready, exchanged


def socat():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    child = subprocess.Popen(
        ["socat", f"UDP4-RECVFROM:{port},bind=127.0.0.1", "PIPE"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", port))
        while True:
            try:
                client.send(b"ping")
                assert client.recv(16) == b"ping"
                break
            except ConnectionRefusedError:
                # Nobody listens there yet.
                time.sleep(0.0001)
    exchanged = time.perf_counter() - start
    child.wait(PATIENCE_S)
    return exchanged


def row(name, seconds):
    low, middle, high = (1e3 * it for it in statistics.quantiles(seconds, n=4))
    print(f"{name:<44}{low:8.2f}{middle:8.2f}{high:8.2f}")
    return middle


def main():
    rounds, program, options = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ready, answered, others = [], [], []
    for _ in range(rounds):
        to_ready, to_answer = reflector(program, options)
        ready.append(to_ready)
        answered.append(to_answer)
        others.append(socat())
    print(f"{'ms, of ' + str(rounds) + ' each':<44}{'25 %':>8}{'50 %':>8}{'75 %':>8}")
    to_ready = row("reflector " + " ".join(options) + ": ready line", ready)
    to_answer = row("the same: first answer", answered)
    other = row("socat: first answer", others)
    print(f"ratio to socat: ready line {to_ready / other:.2f}, first answer {to_answer / other:.2f}")


main()
