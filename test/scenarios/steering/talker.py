"""Talks UDP from one port of every address: reads "IP PORT TEXT" and sends it, prints "IP PORT TEXT" of what it hears."""

import socket
import sys
import threading

sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", int(sys.argv[1])))


def hear():
    while True:
        text, (ip, port, *_) = sock.recvfrom(65535)
        print(ip.removeprefix("::ffff:"), port, text.decode(), flush=True)


threading.Thread(target=hear, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    ip, port, text = line.split()
    try:
        sock.sendto(text.encode(), (ip if ":" in ip else f"::ffff:{ip}", int(port)))
    except OSError as error:
        print("refused", error.strerror, flush=True)
