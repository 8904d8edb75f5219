"""Stands in for the engine where only the way of packets is looked at: what comes out of the TUN device is made
unreadable (no more than that: there is no key) and leaves as ESP, with the size of the largest algorithm, and back.
A line of JSON on stdin is the whole truth about peers, answered by a line.

    fake-esp.py DEVICE PORT MARK      {"peers": [{"source", "destination", "encapsulation", "allowedIps"}]}
"""
import fcntl, ipaddress, json, os, select, socket, struct, sys

TUNSETIFF, IFF_TUN, IFF_NO_PI, SO_MARK = 0x400454CA, 1, 0x1000, 36
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
ESP, IV, ICV, ALIGN = 50, 16, 32, 16
device, port, mark = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
UNREADABLE = bytes(n ^ 0x5A for n in range(256))


def open_socket(version, kind, protocol, address, udp_port):
    made = socket.socket(FAMILY[version], kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if address is not None:
        made.bind((address, udp_port))
    return made


tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
raw = {4: open_socket(4, socket.SOCK_RAW, ESP, None, 0), 6: open_socket(6, socket.SOCK_RAW, ESP, None, 0)}
udp = {v: open_socket(v, socket.SOCK_DGRAM, 0, {4: "0.0.0.0", 6: "::"}[v], port) for v in (4, 6)}
from_source, peers, sequence = {}, [], 0


def version_of(text):
    return 6 if ":" in text else 4


def addresses(packet):
    if packet[0] >> 4 == 4:
        return ipaddress.ip_address(packet[12:16]), ipaddress.ip_address(packet[16:20])
    return ipaddress.ip_address(packet[8:24]), ipaddress.ip_address(packet[24:40])


def seal(packet):
    global sequence
    sequence += 1
    pad = -(len(packet) + 2) % ALIGN
    plain = packet + bytes(range(1, pad + 1)) + bytes([pad, 4 if packet[0] >> 4 == 4 else 41])
    return struct.pack(">II", 3, sequence) + bytes(IV) + plain.translate(UNREADABLE) + bytes(ICV)


def leave(packet):
    _, to = addresses(packet)
    matches = [(net.prefixlen, peer) for peer in peers for net in peer["nets"] if net.version == to.version and to in net]
    if not matches:
        return
    peer = max(matches, key=lambda match: match[0])[1]
    source, destination = peer["source"], peer["destination"]
    version = version_of(destination)
    if peer["encapsulation"] == "udp":
        udp[version].sendto(seal(packet), (destination, port))
        return
    if source not in from_source:
        from_source[source] = open_socket(version, socket.SOCK_RAW, ESP, source, 0)
    from_source[source].sendto(seal(packet), (destination, 0))


def arrive(sealed, sender):
    if len(sealed) < 8 + IV + ALIGN + ICV or sealed[:4] != b"\0\0\0\3":
        return
    plain = sealed[8 + IV : -ICV].translate(UNREADABLE)
    packet = plain[: len(plain) - 2 - plain[-2]]
    peer = next((peer for peer in peers if peer["destination"] == sender), None)
    if peer is None or packet[0] >> 4 not in (4, 6):
        return
    source, _ = addresses(packet)
    if any(net.version == source.version and source in net for net in peer["nets"]):
        os.write(tun, packet)


print("ready", flush=True)
line = b""
while True:
    for ready in select.select([tun, 0, *raw.values(), *udp.values()], [], [])[0]:
        try:
            if ready == 0:
                more = os.read(0, 1 << 20)
                if more == b"":
                    sys.exit(0)
                line += more
                while b"\n" in line:
                    text, line = line.split(b"\n", 1)
                    peers = json.loads(text)["peers"]
                    for peer in peers:
                        peer["nets"] = [ipaddress.ip_network(net) for net in peer["allowedIps"]]
                    print("done", flush=True)
            elif ready == tun:
                leave(os.read(tun, 70000))
            else:
                data, sender = ready.recvfrom(70000)
                if ready == raw[4]:
                    data = data[(data[0] & 15) * 4 :]
                arrive(data, str(ipaddress.ip_address(sender[0].split("%")[0])))
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
