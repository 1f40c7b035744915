"""Reverse proxies that run the configurations of docs/proxies.md as they stand there."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..rig.ports import free_port
from .markdown import ROOT, blocks

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
START_SECONDS = 120.0
PAGE = ROOT / "docs/proxies.md"

NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
%s
}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile apache.pid
ErrorLog /dev/stderr
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule proxy_wstunnel_module {modules}/mod_proxy_wstunnel.so
"""
APACHE_MODULES = "/usr/lib/apache2/modules"


@dataclass(frozen=True)
class Proxy:
    """A program, and how its section of the page becomes a file that it can be started with.

    Args:
        name: its heading on the page.
        kind: what its blocks are marked with.
        program: on the PATH, or beside the interpreter.
        listens: what the page has where a test says its own address and port.
        listens_instead: that, with `{port}`.
        arguments: of the command, with `{file}`, `{folder}` and `{port}`.
        before: what the file needs besides, on a machine that is not set up for it.
        changes: lines of the page that a test wants to be others.
    """

    name: str
    kind: str
    program: str
    listens: str
    listens_instead: str
    arguments: str
    before: str = ""
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str | None:
        """Return where the program is, if it is installed."""
        return shutil.which(self.program, path=f"{Path(sys.executable).parent}:{PATH}")


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("nginx", "nginx", "nginx", "listen 80;", "listen 127.0.0.1:{port};",
              "-p {folder} -c {file}"),
        Proxy("HAProxy", "haproxy", "haproxy", "bind :80", "bind 127.0.0.1:{port}",
              "-db -f {file}"),
        Proxy("Apache", "apache", "apache2", "Listen 80", "Listen 127.0.0.1:{port}",
              "-X -f {file}", APACHE),
        Proxy("Varnish", "vcl", "varnishd", "vcl 4.1;", "vcl 4.1;",
              "-F -j none -a 127.0.0.1:{port} -f {file} -n {folder}/varnish"
              " -p http_req_hdr_len=16k"),
        Proxy("Caddy", "caddyfile", "caddy", ":80 {", ":{port} {",
              "run --adapter caddyfile --config {file}",
              "{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n"),
        Proxy("Envoy", "yaml", "envoy", "address: 0.0.0.0, port_value: 80}",
              "address: 127.0.0.1, port_value: {port}}",
              "-c {file} --disable-hot-restart --log-level warning"),
    )
}  # fmt: skip
"""Those that the tests run."""


def configuration(proxy: Proxy, folder: Path, port: int, servers: tuple[int, int]) -> str:
    """Return the page's configuration, with the ports of a test."""
    found = [b.text for b in blocks(PAGE.read_text("utf-8")) if b.heading == proxy.name]
    assert found, f"the page has no block for {proxy.name}"
    text = "\n".join(found)
    assert text.count(proxy.listens) == 1, f"{proxy.listens!r} in {text}"
    text = text.replace(proxy.listens, proxy.listens_instead.replace("{port}", str(port)))
    for line, instead in proxy.changes:
        assert text.count(line) == 1, f"{line!r} in {text}"
        text = text.replace(line, instead)
    for documented, actual in zip(("8001", "8002"), servers, strict=True):
        assert documented in text or documented == "8002"
        text = text.replace(documented, str(actual))
    if proxy.name == "nginx":
        return NGINX % text
    return proxy.before.format(folder=folder, modules=APACHE_MODULES) + text


@contextmanager
def running_proxy(proxy: Proxy, folder: Path, servers: tuple[int, int]) -> Iterator[int]:
    """Run a proxy in front of servers on two ports of this machine; yield its own port."""
    port = free_port()
    with running_file(proxy, folder, port, configuration(proxy, folder, port, servers)):
        yield port


@contextmanager
def running_file(
    proxy: Proxy,
    folder: Path,
    port: int,
    text: str,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """Run a proxy with a configuration until it listens on a port, and to the end of the block.

    Args:
        folder: for its files.
        environ: variables besides ours.
    """
    file = folder / "configuration"
    file = file.with_suffix(".yaml") if proxy.kind == "yaml" else file
    file.write_text(text, "utf-8")
    assert proxy.path is not None
    values = {"file": str(file), "folder": str(folder), "port": str(port)}
    arguments = [word.format_map(values) for word in proxy.arguments.split()]
    log = folder / "log"
    # Caddy keeps what it was told there.
    environ = {**os.environ, "HOME": str(folder), **environ}
    with log.open("w") as output:
        process = subprocess.Popen(
            [proxy.path, *arguments], stdout=output, stderr=output, cwd=folder, env=environ
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, f"{proxy.name}: {log.read_text(errors='replace')}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
