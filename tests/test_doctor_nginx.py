"""A real proxy that ends TLS in front of a real process of the site."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.db import connection

from lti_provider.models import LtiConsumer, LtiRegistration
from tests.test_doctor import SAFE, doctor
from tests.waiting import PATIENCE, free_port, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

ROOT = Path(__file__).parent.parent
NO_NGINX = "nginx was not found; on Debian: apt-get install nginx"

CONFIGURATION = """
{user}
daemon off;
pid nginx.pid;
error_log error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  proxy_cache_path cache keys_zone=site:1m;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate site.pem;
    ssl_certificate_key site.key;
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      {directives}
    }}
  }}
}}
"""
HOST = "proxy_set_header Host $http_host;"
PROTO = "proxy_set_header X-Forwarded-Proto $scheme;"

# What nginx says, what the site has set, and what the doctor names.
CASES = {
    "sound": (HOST + PROTO, {}, None, ""),
    "setting missing": (
        HOST + PROTO,
        {"SECURE_PROXY_SSL_HEADER": None},
        "proxy_scheme",
        "SECURE_PROXY_SSL_HEADER is not set",
    ),
    "header missing": (HOST, {}, "proxy_scheme", "does not send “X-Forwarded-Proto: https”"),
    "other header": (
        HOST + PROTO,
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_SCHEME", "https")},
        "proxy_scheme",
        "does not send “X-Scheme: https”",
    ),
    "loop": (
        HOST + PROTO,
        {"SECURE_PROXY_SSL_HEADER": None, "SECURE_SSL_REDIRECT": True},
        "proxy_scheme",
        "SECURE_PROXY_SSL_HEADER is not set",
    ),
    "host": (PROTO, {}, "proxy_host", "Host header"),
    "frame options": (
        HOST + PROTO + "add_header X-Frame-Options SAMEORIGIN;",
        {},
        "frame_options",
        "proxy",
    ),
    "cookie flags": (
        HOST + PROTO + "proxy_hide_header Set-Cookie;",
        {},
        "cookies_stripped",
        "Set-Cookie",
    ),
    "cache": (
        HOST
        + PROTO
        + "proxy_cache site; proxy_cache_valid any 1m; proxy_cache_methods GET;"
        + "proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;",
        {},
        "cached",
        "no-store",
    ),
}


@pytest.fixture(scope="module")
def nginx() -> str:
    """The path of Debian's nginx."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found:
        return found
    if os.environ.get("LTI_REQUIRE_NGINX"):
        pytest.fail(NO_NGINX)
    pytest.skip(NO_NGINX)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """An authority of our own, and what it says of localhost."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    (folder / "site.ext").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    openssl(
        *("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=Authority of a test"),
        *("-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca.key", "-out", "ca.pem"),
    )
    openssl("req", *new_key, "-subj", "/CN=localhost", "-keyout", "site.key", "-out", "site.csr")
    openssl(
        *("x509", "-req", "-in", "site.csr", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-extfile", "site.ext", "-out", "site.pem"),
    )
    return folder


@contextmanager
def site_process(settings: dict[str, object]) -> Iterator[int]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.site_process"),
            *(str(connection.settings_dict["NAME"]), json.dumps({**SAFE, **settings})),
        ],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        yield int(process.stdout.readline())
        process.terminate()


@contextmanager
def tls_proxy(program: str, folder: Path, upstream: int, directives: str) -> Iterator[str]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        CONFIGURATION.format(user=user, port=port, upstream=upstream, directives=directives)
    )
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port))
        yield f"https://localhost:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def serve(nginx, certificates, tmp_path):
    """Serve the site behind nginx; the answer is its address."""
    folder = tmp_path / "nginx"
    shutil.copytree(certificates, folder)
    with ExitStack() as stack:

        def start(directives: str, settings: dict[str, object]) -> str:
            upstream = stack.enter_context(site_process(settings))
            return stack.enter_context(tls_proxy(nginx, folder, upstream, directives))

        yield start


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_the_proxy_is_named(serve, certificates, settings, case):
    directives, site, expected, hint = CASES[case]
    for name, value in {**SAFE, **site}.items():
        setattr(settings, name, value)
    report = doctor(url=serve(directives, site), ca_file=str(certificates / "ca.pem"))
    if expected is None:
        assert report.status == 0, report
        assert {"framed_launch", "window_launch"} <= set(report)
    else:
        assert expected in report.bad, report
        assert hint in report[expected]["hint"]
        assert report.status == 2
    assert not LtiConsumer.objects.exists()


LTI13_CASES = {
    **{name: CASES[name] for name in ("sound", "setting missing", "host", "cache")},
    "cookie path": (
        HOST + PROTO + "proxy_cookie_path /lti/ /internal/;",
        {},
        "cookies_not_sent",
        "Cookie",
    ),
    "cookie flags": (
        HOST + PROTO + "proxy_cookie_flags ~lti_frame_login_ nosecure samesite=lax;",
        {},
        "cookie_attributes",
        "attributes of cookies",
    ),
}


@pytest.mark.parametrize("case", LTI13_CASES)
def test_what_is_wrong_for_lti13_is_named(serve, certificates, settings, case):
    directives, site, expected, hint = LTI13_CASES[case]
    for name, value in {**SAFE, **site}.items():
        setattr(settings, name, value)
    LtiConsumer.objects.create(consumer_name="Campus", consumer_key=None, consumer_secret="")
    authority = str(certificates / "ca.pem")
    report = doctor(url=serve(directives, site), ca_file=authority, consumer="Campus")
    if expected is None:
        assert report.status == 0, report
        assert {"framed_launch_lti13", "window_launch_lti13"} <= set(report)
    else:
        assert expected in report.bad, report
        assert hint in report[expected]["hint"]
    assert not LtiRegistration.objects.exists()


def test_an_insecure_session_cookie_is_told(serve, certificates, settings):
    for name, value in SAFE.items():
        setattr(settings, name, value)
    url = serve(HOST + PROTO, {"SESSION_COOKIE_SECURE": False})
    report = doctor(url=url, ca_file=str(certificates / "ca.pem"))
    assert report.bad == {"cookie_not_secure"}
    assert report.status == 1


def test_a_certificate_is_looked_at_unless_it_is_not_to_be(serve, settings):
    for name, value in SAFE.items():
        setattr(settings, name, value)
    url = serve(HOST + PROTO, {})
    assert doctor(url=url).bad == {"certificate"}
    report = doctor(url=url, insecure=True)
    assert report.status == 0
    assert report["insecure"]["level"] == "note"


def test_tls_that_is_none_is_named(settings, live_server):
    for name, value in SAFE.items():
        setattr(settings, name, value)
    report = doctor(url=live_server.url.replace("http:", "https:"))
    assert report.bad == {"unreachable"}
    assert ssl.SSLError.__name__ in report["unreachable"]["text"]
