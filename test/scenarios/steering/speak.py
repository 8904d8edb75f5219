"""Sends what nobody has asked for, one packet to each port: speak.py udp TARGET FROM PORT… | speak.py esp TARGET"""
import socket, sys

MARKER = b"PELLICLE-MARKER!"  # as cluster.ts looks for it

protocol, target, *ports = sys.argv[1:]
family = socket.AF_INET6 if ":" in target else socket.AF_INET
if protocol == "udp":
    source, *ports = map(int, ports)
    out = socket.socket(family, socket.SOCK_DGRAM)
    out.bind(("", source))
    for port in ports:
        out.sendto(MARKER, (target, port))
else:
    socket.socket(family, socket.SOCK_RAW, 50).sendto(bytes([0, 0, 0, 3, 0, 0, 0, 1]) + MARKER, (target, 0))
