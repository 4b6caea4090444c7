"""Network namespaces as hosts, joined by a bridge, or by a wire that takes its time: each host's packets leave one after the
other at so many megabits a second, and arrive so many milliseconds later. (The kernel's netem does that, too, where it is built.)

    python3 slow_network.py HOSTS MILLISECONDS MEGABITS -- COMMAND …    # COMMAND in each host, {i}: its number
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import selectors
import shutil
import struct
import subprocess
import sys
import time

ADDRESS = "10.213.7."  # and the host's number from 1 on
MTU = 9000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def is_possible():
    if os.geteuid() != 0 or not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        return False
    name = f"tiercel-try-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError:
        return False
    ip("netns", "del", name)
    return True


@contextlib.contextmanager
def network(count, milliseconds=0, megabits=0):
    """Gives what to put before a command so that it runs in each of the hosts."""
    base = f"tc{os.getpid() % 100000}"
    hosts = [f"{base}-{i}" for i in range(count)]
    bridge = f"{base}-b"
    wire = None
    try:
        for host in hosts:
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
        if milliseconds or megabits:
            wire = subprocess.Popen([sys.executable, __file__, "wire", str(milliseconds), str(megabits), *hosts],
                                    stdout=subprocess.PIPE)
            assert wire.stdout.readline() == b"ready\n"
        else:
            ip("netns", "add", bridge)
            ip("-n", bridge, "link", "add", "br0", "type", "bridge")
            ip("-n", bridge, "link", "set", "br0", "up")
            for i, host in enumerate(hosts):
                ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{i}", "netns", bridge)
                ip("-n", bridge, "link", "set", f"port{i}", "master", "br0", "up")
        for i, host in enumerate(hosts):
            ip("-n", host, "addr", "add", f"{ADDRESS}{i + 1}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
        yield [["ip", "netns", "exec", host] for host in hosts]
    finally:
        if wire:
            wire.kill()
            wire.wait()
        for name in [*hosts, bridge]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def open_tun(host):
    """The end of a device eth0 in the host's namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newnet, tunsetiff, iff_tun, iff_no_pi = 0x40000000, 0x400454CA, 0x0001, 0x1000

    def enter(path):
        with open(path, "rb") as namespace:
            if libc.setns(namespace.fileno(), clone_newnet) != 0:
                raise OSError(ctypes.get_errno(), path)

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(f"/var/run/netns/{host}")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", b"eth0", iff_tun | iff_no_pi))
        ip("link", "set", "eth0", "mtu", str(MTU), "txqueuelen", "5000")
    finally:
        libc.setns(home, clone_newnet)
        os.close(home)
    return fd


def carry(milliseconds, megabits, fds):
    """Each packet to the host of its IPv4 address, for ever."""
    delay, seconds_per_byte = milliseconds * 1e-3, 8e-6 / megabits if megabits else 0
    selector = selectors.SelectSelector()  # whose waits are not rounded up to milliseconds
    for fd in fds:
        selector.register(fd, selectors.EVENT_READ)
    leaves = dict.fromkeys(fds, 0.0)  # when each host's last packet has left
    due, number = [], 0
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, target, packet = heapq.heappop(due)
            with contextlib.suppress(OSError):  # one that is full, or down, loses it: TCP sends it again
                os.write(target, packet)
        wait = max(0, due[0][0] - time.monotonic()) if due else None
        for key, _ in selector.select(wait):
            with contextlib.suppress(BlockingIOError):
                for _ in range(32):
                    packet = os.read(key.fd, 65536)
                    target = packet[19] - 1 if len(packet) >= 20 and packet[0] >> 4 == 4 else -1
                    if not 0 <= target < len(fds):
                        continue
                    leaves[key.fd] = max(leaves[key.fd], time.monotonic()) + len(packet) * seconds_per_byte
                    number += 1
                    heapq.heappush(due, (leaves[key.fd] + delay, number, fds[target], packet))


def main(words):
    if words[0] == "wire":
        fds = [open_tun(host) for host in words[3:]]
        print("ready", flush=True)
        carry(float(words[1]), float(words[2]), fds)
    count, milliseconds, megabits = int(words[0]), float(words[1]), float(words[2])
    with network(count, milliseconds, megabits) as hosts:
        started = [subprocess.Popen([*host, *[word.replace("{i}", str(i)) for word in words[4:]]],
                                    stdout=None if i == 0 else subprocess.DEVNULL)
                   for i, host in enumerate(hosts)]
        return max(abs(process.wait()) for process in started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
