"""Prints what a container on the services' network can reach without an identity; exits with 1 if it reaches
anything. scripts/test-containers runs it."""

import socket
import ssl
import subprocess
import sys

PODS = ["key-management", "preprocessing", "aggregation", "evaluation-1"]
PATIENCE = 3


def tls(certificate=False, newest=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if newest:
        context.maximum_version = newest
    if certificate:
        context.load_cert_chain("/tmp/certificate.pem", "/tmp/key.pem")
    return context


def make_certificate():
    """A self-signed certificate that names evaluation."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", "1", "-subj", "/CN=evaluation", "-keyout", "/tmp/key.pem", "-out", "/tmp/certificate.pem"]
        + ["-addext", "subjectAltName=URI:spiffe://hermesh.local/service/evaluation"],
        check=True,
        capture_output=True,
    )


def converse(host, port, said, context=None, greeting=False):
    """Everything received, or b"" if there is no connection."""
    heard = b""
    try:
        with socket.create_connection((host, port), PATIENCE) as stream:
            if greeting:
                stream.recv(65536)
            if context:
                stream = context.wrap_socket(stream, server_hostname=host)
            stream.sendall(said)
            while len(heard) < 65536:
                some = stream.recv(65536)
                if not some:
                    break
                heard += some
    except OSError:
        pass
    return heard


def main():
    # Check that this container is on the network: nats-server sends INFO, and then requires a certificate.
    with socket.create_connection(("nats", 4223), PATIENCE) as stream:
        assert b'"tls_required":true' in stream.recv(65536).replace(b" ", b"")
    # The pods are reachable too: each listens, and then requires a certificate.
    for pod in PODS:
        socket.create_connection((pod, 9500), PATIENCE).close()
    make_certificate()
    ways = {
        "without TLS": None,
        "without a certificate": tls(),
        "with a certificate of its own making": tls(certificate=True),
        "with TLS 1.2": tls(certificate=True, newest=ssl.TLSVersion.TLSv1_2),
    }
    got = []
    tried = 0

    def expect_nothing(what, heard, sign):
        nonlocal tried
        tried += 1
        if sign in heard:
            got.append(f"{what}: {heard[:200]!r}")

    for way, context in ways.items():
        said = b"CONNECT {}\r\nSUB hermesh.> 1\r\nPING\r\n"
        expect_nothing(f"nats-server {way}", converse("nats", 4223, said, context, greeting=True), b"PONG")
        for pod in PODS:
            for path in ["/metrics", "/sidecar/metrics", "/healthz", "/readyz"]:
                said = f"GET {path} HTTP/1.1\r\nHost: {pod}\r\nConnection: close\r\n\r\n".encode()
                expect_nothing(f"{pod}{path} {way}", converse(pod, 9500, said, context), b" 200 ")
    # Ports without TLS must be reachable from their own pod only.
    for host, ports in {"nats": [8222], "prometheus": [9090], **{pod: [4222, 9401, 9402, 9403, 9404, 9501] for pod in PODS}}.items():
        for port in ports:
            tried += 1
            if heard := converse(host, port, b"GET /healthz HTTP/1.0\r\n\r\n"):
                got.append(f"{host}:{port}: {heard[:200]!r}")
    for one in got:
        print(f"reached {one}")
    print(f"{tried} ways in tried, {len(got)} found")
    sys.exit(1 if got else 0)


main()
