"""Sends in the name of neighbours that are not there, until it is killed.

    crowd.py ADDRESS PORT

Datagrams go to that UDP port, from four addresses of its /24. It says "crowded" when replies to
them have had time to fill a send buffer of 208 KiB. Needs CAP_NET_RAW.
"""

import socket, struct, sys, time

server, port = sys.argv[1], int(sys.argv[2])

def datagram(source):
    udp = struct.pack("!HHHH", 40000, port, 8 + 64, 0) + bytes(64)
    addresses = socket.inet_aton(source) + socket.inet_aton(server)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses + udp

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
silent = [datagram("%s.%d" % (server.rsplit(".", 1)[0], host)) for host in range(201, 205)]
for packet in silent * 1500:
    raw.sendto(packet, (server, 0))
print("crowded", flush=True)
while True:
    for packet in silent:
        raw.sendto(packet, (server, 0))
    time.sleep(0.001)
