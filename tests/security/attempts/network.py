"""The network: the world outside, services on the machine's loopback, and other families of sockets."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import Stopped, banner
from security.judges import can_be_reached, reveals

_NO_FAMILY = "this kernel has no such sockets"


@attempt("no_network", judge=reveals("tcp"))
def reaches_the_internet(internet: str, tcp_port: int) -> str:
    """Connects by TCP to an address outside of the machine."""
    return banner(socket.AF_INET, (internet, tcp_port))


@attempt("no_network", judge=reveals("udp"))
def sends_a_packet_to_the_internet(internet: str, udp_port: int) -> str:
    """Asks a question by UDP at an address outside of the machine."""
    return banner(socket.AF_INET, (internet, udp_port), socket.SOCK_DGRAM)


@attempt("no_network", judge=reveals("tcp"))
def reaches_the_clouds_credentials(metadata: str, tcp_port: int) -> str:
    """Connects to the address where clouds give out a machine's credentials."""
    return banner(socket.AF_INET, (metadata, tcp_port))


@attempt("no_network", judge=reveals("tcp"))
def reaches_the_internet_from_a_program(internet: str, tcp_port: int) -> str:
    """Has a program that it starts connect to an address outside of the machine."""
    code = (
        "import socket, sys\n"
        "print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(999).decode())"
    )
    command = ["python3", "-I", "-S", "-c", code, internet, str(tcp_port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr[-200:]


@attempt("no_network")
def connects_to_its_own_server(server_port: int) -> str:
    """Connects to the server that runs it, which would let it act as any caller."""
    socket.create_connection(("127.0.0.1", server_port), 3).close()
    return "connected"


@attempt("no_foreign_files")
def connects_to_its_own_servers_socket(server_socket: str) -> str:
    """Connects to the server that runs it, by the file that it listens on."""
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(server_socket)
    return "connected"


@attempt("no_network", judge=reveals("tcp"))
def reaches_a_service_on_loopback(tcp_port: int) -> str:
    """Connects to another service on the machine's loopback."""
    return banner(socket.AF_INET, ("127.0.0.1", tcp_port))


@attempt("no_network", judge=reveals("tcp"))
def reaches_a_service_on_loopback_of_ipv6(tcp6_port: int) -> str:
    """Connects to another service on the machine's loopback, by IPv6."""
    return banner(socket.AF_INET6, ("::1", tcp6_port))


@attempt("no_network", judge=reveals("udp"))
def sends_a_packet_on_loopback(udp_port: int) -> str:
    """Asks a question by UDP at another service on the machine's loopback."""
    return banner(socket.AF_INET, ("127.0.0.1", udp_port), socket.SOCK_DGRAM)


@attempt("no_network", judge=reveals("tcp"))
def connects_while_it_sends(tcp_port: int) -> str:
    """Connects by sending at once (TCP fast open), which filters of connect do not see."""
    with socket.socket() as end:
        for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            end.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", 3, 0))
        end.sendto(b"hello", socket.MSG_FASTOPEN, ("127.0.0.1", tcp_port))
        return end.recv(1000).decode()


@attempt("no_network", judge=reveals("tcp"))
def connects_by_another_protocol(mptcp_port: int) -> str:
    """Connects by MPTCP, which filters of TCP do not see."""
    mptcp = 262
    return banner(socket.AF_INET, ("127.0.0.1", mptcp_port), protocol=mptcp)


@attempt("no_network", judge=reveals("abstract"))
def reaches_an_abstract_socket(abstract_name: str) -> str:
    """Connects to a unix socket that has a name and no file."""
    return banner(socket.AF_UNIX, f"\0{abstract_name}")


@attempt("no_foreign_files", judge=reveals("unix"))
def reaches_a_socket_by_its_file(neighbour_socket: str) -> str:
    """Connects to a unix socket by its file."""
    return banner(socket.AF_UNIX, neighbour_socket)


@attempt("no_network", judge=can_be_reached)
def opens_a_port_to_the_machine() -> str:
    """Listens on a port, where processes of the machine find it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        end, _ = listener.accept()
        with end:
            end.sendall(b"planted")

    threading.Thread(target=greet, daemon=True).start()
    return str(listener.getsockname()[1])


@attempt("no_network", root_only="only root listens to everybody's packets")
def listens_to_all_packets() -> str:
    """Opens a socket that hears what all others say, and hears some of it."""
    every_protocol = 3
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol)) as end:
        return str(end.getsockname())


@attempt("no_network", root_only="only root forges packets")
def forges_packets() -> str:
    """Opens a raw socket, by which packets can be sent in the name of others."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as end:
        return str(end.fileno())


@attempt("no_network")
def lists_the_machines_addresses(internet: str) -> str:
    """Asks the kernel for the addresses of the machine."""
    get_address, request_dump = 22, 0x301
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as end:
        end.settimeout(3)
        end.send(struct.pack("IHHIIB3x", 20, get_address, request_dump, 1, 0, socket.AF_INET))
        answer = end.recv(65536)
    if socket.inet_aton(internet) not in answer:
        raise Stopped(f"{len(answer)} bytes without it")
    return internet


@attempt("no_foreign_processes")
def lists_the_machines_listeners(server_port: int) -> str:
    """Reads in /proc which ports the machine listens on."""
    text = Path("/proc/self/net/tcp").read_text() + Path("/proc/self/net/tcp6").read_text()
    if f":{server_port:04X} " not in text:
        raise Stopped("the server's port is not in it")
    return str(server_port)


@attempt("no_network", unless=_NO_FAMILY)
def speaks_to_the_hypervisor() -> str:
    """Makes a socket to the machine below this one, which network namespaces do not hold back."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as end:
        return str(end.fileno())


@attempt("no_network", unless=_NO_FAMILY)
def uses_the_kernels_ciphers() -> str:
    """Makes a socket to the kernel's own ciphers, which network namespaces do not hold back."""
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as end:
        return str(end.fileno())


@attempt("no_network", unless=_NO_FAMILY)
def uses_a_rare_family() -> str:
    """Makes a socket of any family that nobody needs, whose code in the kernel few have looked at."""
    usual = {socket.AF_UNSPEC, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    known = {*usual, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG}
    for family in range(46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                if family not in known:
                    os.close(socket.socket(family, kind).detach())
                    return f"family {family}"
            except OSError:
                continue
    raise Stopped("none")
