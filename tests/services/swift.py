"""OpenStack Swift with its S3 interface, from Debian's packages; plain and with TLS."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.process import Server, free_port, listens
from tests.services.registry import certificate

# `reader` may sign, and then may do nothing.
USER, PASSWORD = "test:tester", "testingtesting"
READER, READER_PASSWORD = "test:reader", "reading"

STORE = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/srv
mount_check = false
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {folder}
"""
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = WARNING
{tls}
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcache}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
location = us-east-1
check_bucket_owner = no
min_segment_size = 1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testingtesting .admin
user_test_reader = reading
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""

# Swift is a library of Debian's own Python; its ring builder takes a second for each call.
RINGS = """
import ast, sys
from swift.common.ring import RingBuilder
folder, ports = sys.argv[1], ast.literal_eval(sys.argv[2])
for kind, port in ports.items():
    builder = RingBuilder(4, 1, 1)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1}
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")
"""


@dataclass
class Swift:
    """A running Swift.

    Attributes:
        url: its S3 endpoint; tls: the same with a certificate that `ca` is the CA of.
        proxy: the server that speaks S3, for tests that stop it.
    """

    url: str
    tls: str
    ca: Path
    proxy: Server
    servers: list[Server] = field(default_factory=list)

    def stop(self) -> None:
        for server in (self.proxy, *reversed(self.servers)):
            server.stop(kill=True)


def start(folder: Path) -> Swift:
    """Start Swift with its data in a folder; one process a server, so that none outlives it."""
    (folder / "srv/d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = p\nswift_hash_path_suffix = s\n"
    )
    certificate(folder)
    ports = {kind: free_port() for kind in ("object", "container", "account")}
    memcache, plain, tls = free_port(), free_port(), free_port()
    _rings(folder, ports)
    user = os.environ.get("USER") or "root"
    common = {"folder": folder, "user": user}
    for kind, port in ports.items():
        text = STORE.format(kind=kind, port=port, **common)
        (folder / f"{kind}-server.conf").write_text(text)
    common |= {"memcache": memcache}
    (folder / "proxy-server.conf").write_text(PROXY.format(port=plain, tls="", **common))
    files = f"cert_file = {folder}/cert.pem\nkey_file = {folder}/key.pem"
    (folder / "tls-server.conf").write_text(PROXY.format(port=tls, tls=files, **common))
    command = ["memcached", "-u", user, "-l", "127.0.0.1", "-p", str(memcache), "-U", "0"]
    cache = Server(command, folder / "memcached.log", lambda: listens(memcache))
    stores = [_server(folder, kind, kind, port) for kind, port in ports.items()]
    proxies = [_server(folder, "proxy", "proxy", plain), _server(folder, "proxy", "tls", tls)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Server.start, (cache, *stores, *proxies)))
    return Swift(
        f"http://127.0.0.1:{plain}",
        f"https://127.0.0.1:{tls}",
        folder / "cert.pem",
        proxies[0],
        [cache, *stores, proxies[1]],
    )


def _server(folder: Path, program: str, name: str, port: int) -> Server:
    return Server(
        [f"swift-{program}-server", str(folder / f"{name}-server.conf")],
        folder / f"{name}.log",
        lambda: listens(port),
        {**os.environ, "SWIFT_DIR": str(folder)},
    )


def _rings(folder: Path, ports: dict[str, int]) -> None:
    """Tell where the data of each kind lies: one device."""
    command = ["/usr/bin/python3", "-c", RINGS, str(folder), repr(ports)]
    subprocess.run(command, check=True, capture_output=True)
