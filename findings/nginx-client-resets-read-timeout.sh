#!/usr/bin/env bash
# nginx 1.22.1 (Debian 12): data of the client alone keeps a proxied WebSocket open beyond `proxy_read_timeout`.
#
# Documented: "If the proxied server does not transmit anything within this time, the connection is closed", and for
# WebSocket "the connection will be closed if the proxied server does not transmit any data within 60 seconds".
# Observed: with a time of 2 s and a server that says nothing, the connection of a silent client is closed after 2 s, and that of a client
# that sends a byte each second is open after 6 s. In a tunnel each transfer, in either direction, starts the time again.
# It matters twice: a client's heartbeat that nobody answers is enough against the time-out; and the time-out does not
# notice a server that hangs as long as its clients go on talking.
# Exits with 1 when that changes, and with 77 without nginx 1.22.1.
set -euo pipefail
nginx=$(command -v nginx || ls /usr/sbin/nginx 2>/dev/null) || { echo "nginx is missing"; exit 77; }
"$nginx" -v 2>&1 | tee /dev/stderr | grep -q 'nginx/1\.22\.1$' || { echo "this is not nginx 1.22.1"; exit 77; }
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; wait; rm -rf "$folder"' EXIT
cat >"$folder/nginx.conf" <<NGINX
daemon off;
master_process off;
pid $folder/pid;
error_log $folder/error.log;
events {}
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server {
        listen unix:$folder/front;
        location / {
            proxy_pass http://unix:$folder/back;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 2s;
        }
    }
}
NGINX
"$nginx" -e "$folder/error.log" -p "$folder" -c "$folder/nginx.conf" &
server=$!
for _ in $(seq 100); do [ -S "$folder/front" ] && break; sleep 0.1; done
python3 - "$folder" <<'PYTHON'
import select
import socket
import sys
import time

folder = sys.argv[1]
HEAD = b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
backend = socket.socket(socket.AF_UNIX)
backend.bind(f"{folder}/back")
backend.listen()


def seconds_open(talks: bool) -> float:
    """Tell after how many seconds nginx closes a tunnel whose server is silent; 6 if it does not."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(f"{folder}/front")
    client.sendall(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
    server, _ = backend.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += server.recv(4096)
    server.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(4096)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < 6:
        if select.select([client], [], [], 1)[0]:
            assert client.recv(1) == b""
            return time.monotonic() - began
        if talks:
            client.sendall(b"x")  # nginx does not look at what it passes on
    return passed


silent = seconds_open(talks=False)
talking = seconds_open(talks=True)
print(f"proxy_read_timeout 2s, silent server: a silent client was cut off after {silent:.1f} s")
print(f"a client that sends a byte a second was {'open' if talking >= 6 else 'cut off'} after {talking:.1f} s")
sys.exit(not (1.5 < silent < 5 and talking >= 6))
PYTHON
