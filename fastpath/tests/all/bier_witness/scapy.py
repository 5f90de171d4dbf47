"""BIER frames by scapy: `read` makes a line of fields of each frame (hexadecimal, a line each), `write` the other way round.

Debian 12's scapy 2.5 follows drafts older than RFC 8296, so what it has of BIER is put right first: the length of the bit
string, the protocol numbers, and where BIER begins in an Ethernet frame.
"""

import logging
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.contrib.bier import BIER, BIFT
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw, bind_layers, split_layers

# A length of code 1 is 64 bits: 4 << 1 bytes (RFC 8296 section 2.1.2), not 8 << code.
BIT_STRING = next(field for field in BIER.fields_desc if field.name == "BitString")
BIT_STRING.length_from = lambda packet: 4 << packet.length
# 5 is OAM (same section).
split_layers(BIER, IPv6, Proto=5)
bind_layers(BIER, IPv6, Proto=6)
bind_layers(BIER, Ether, Proto=3)
# Section 3; the BIFT-id is the last label of its stack, here the only one.
bind_layers(Ether, BIFT, type=0xAB37)
bind_layers(Ether, BIFT, type=0x8847)


def read(line):
    ether = Ether(bytes.fromhex(line))
    bift = ether[BIFT]
    bier = bift[BIER]
    inner = bier.payload
    macs = [inner.dst, inner.src] if isinstance(inner, Ether) else ["", ""]
    ip = inner[IPv6] if inner.haslayer(IPv6) else inner[IP]
    hops = ip.hlim if isinstance(ip, IPv6) else ip.ttl
    udp = ip[UDP]
    bift_id = bift.bsl << 16 | bift.sd << 8 | bift.set
    fields = [ether.dst, ether.src, ether.type, bift_id, bift.cos, bift.s, bift.ttl]
    fields += [bier.id, bier.version, bier.length, bier.entropy, bier.OAM, bier.RSV, bier.DSCP, bier.Proto, bier.BFRID]
    fields += [bier.BitString.hex(), *macs, ip.src, ip.dst, hops, udp.sport, udp.dport, bytes(udp.payload).hex()]
    return "|".join(str(field) for field in fields)


def write(line):
    fields = line.split("|")
    to, source = fields[:2]
    kind, bift_id, tc, s, ttl, nibble, version, length, entropy, oam, rsv, dscp, proto, bfir = map(int, fields[2:16])
    bits, inner_to, inner_from, ip_from, ip_to = fields[16:21]
    hops, sport, dport = map(int, fields[21:24])
    ip = IPv6(src=ip_from, dst=ip_to, hlim=hops) if ":" in ip_from else IP(src=ip_from, dst=ip_to, ttl=hops)
    payload = ip / UDP(sport=sport, dport=dport) / Raw(bytes.fromhex(fields[24]))
    if inner_to:
        payload = Ether(dst=inner_to, src=inner_from) / payload
    bift = BIFT(bsl=bift_id >> 16, sd=bift_id >> 8 & 255, set=bift_id & 255, cos=tc, s=s, ttl=ttl)
    bier = BIER(id=nibble, version=version, length=length, entropy=entropy, OAM=oam, RSV=rsv, DSCP=dscp, Proto=proto,
                BFRID=bfir, BitString=bytes.fromhex(bits))
    return bytes(Ether(dst=to, src=source, type=kind) / bift / bier / payload).hex()


for line in sys.stdin:
    print({"read": read, "write": write}[sys.argv[1]](line.strip()))
