"""One ESP packet per line of standard input (JSON), one answer per line: ESP by scapy, for esp-scapy.test.ts.

{"verb": "seal"|"open", "crypt", "crypt_key", "auth", "auth_key", "icv", "spi", "sequence": low half, "high": high half or
null, "packet"}; bytes in hex. seal: an IPv4 packet becomes the ESP packet, without the IP header outside. open: the other way.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation  # noqa: E402

for line in sys.stdin:
    ask = json.loads(line)
    outer = IP(src="192.0.2.1", dst="192.0.2.2")
    extended = ask["high"] is not None
    association = SecurityAssociation(
        ESP,
        spi=ask["spi"],
        seq_num=ask["sequence"],
        crypt_algo=ask["crypt"],
        crypt_key=bytes.fromhex(ask["crypt_key"]),
        crypt_icv_size=ask["icv"],
        auth_algo=ask["auth"],
        auth_key=bytes.fromhex(ask["auth_key"]),
        tunnel_header=outer,
        esn_en=extended,
        esn=ask["high"] or 0,
    )
    packet = bytes.fromhex(ask["packet"])
    if ask["verb"] == "seal":
        print(bytes(association.encrypt(IP(packet))[ESP]).hex(), flush=True)
    else:
        try:
            received = IP(bytes(outer / ESP(packet)))
            print(bytes(association.decrypt(received)).hex(), flush=True)
        except IPSecIntegrityError:
            print("forged", flush=True)
