"""As much of a browser as a launch needs: it shows what a proxy makes of the site's answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message
from ipaddress import ip_network
from ssl import SSLContext
from urllib.parse import SplitResult, urljoin, urlsplit

from lti_provider import egress
from lti_provider.origins import get_host

_BODY_READ = 256 * 1024
# An administrator names the address, and a site may well be tried from within its own network.
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, kw_only=True)
class Cookie:
    """One ``Set-Cookie`` header (RFC 6265), attributes in lower case."""

    name: str
    value: str
    attributes: dict[str, str]

    @classmethod
    def parse(cls, header: str) -> Cookie:
        """Read it as a browser does."""
        pair, *rest = header.split(";")
        name, _equals, value = pair.partition("=")
        named = (attribute.partition("=") for attribute in rest)
        attributes = {key.strip().lower(): text.strip() for key, _equals, text in named}
        return cls(name=name.strip(), value=value.strip(), attributes=attributes)

    @property
    def is_sent_across_sites(self) -> bool:
        """Whether it comes with a form that a page of the LMS posts."""
        return self.attributes.get("samesite", "").lower() == "none"

    @property
    def missing_for_frames(self) -> list[str]:
        """What it lacks to be kept in a frame where third-party cookies are blocked."""
        wanted = {
            "SameSite=None": self.is_sent_across_sites,
            "Secure": "secure" in self.attributes,
            "Partitioned": "partitioned" in self.attributes,
        }
        return [attribute for attribute, is_there in wanted.items() if not is_there]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back to one request."""

    url: str
    status: int
    headers: Message
    text: str

    @property
    def location(self) -> str:
        """Where it redirects to, absolute; empty if it does not."""
        if self.status not in REDIRECTS:
            return ""
        return urljoin(self.url, self.headers.get("Location", ""))

    @property
    def cookies(self) -> dict[str, Cookie]:
        """What it sets, by name."""
        parsed = map(Cookie.parse, self.headers.get_all("Set-Cookie", []))
        return {cookie.name: cookie for cookie in parsed}


@dataclass
class Browser:
    """A window, or a frame in an LMS's page, with a jar of its own.

    In a frame it keeps what a browser keeps that blocks third-party cookies.
    """

    framed: bool
    tls: SSLContext
    timeout: float
    #: By domain and name.
    jar: dict[tuple[str, str], Cookie] = field(default_factory=dict)

    def post(self, url: str, form: str) -> Answer:
        """Post a form from the LMS's page."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"}
        return self._request("POST", url, headers, form.encode())

    def get(self, url: str) -> Answer:
        """Navigate."""
        return self._request("GET", url, {})

    def _request(
        self, method: egress.Method, url: str, headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        received = egress.request(
            method,
            url,
            headers={**self._headers(method, urlsplit(url)), **headers},
            body=body,
            hosts=[get_host(url)],
            networks=_EVERYWHERE,
            timeout=self.timeout,
            limit=_BODY_READ,
            truncate=True,
            tls=self.tls,
        )
        text = received.body.decode("utf-8", "replace")
        answer = Answer(url=url, status=received.status, headers=received.headers, text=text)
        self._keep(answer)
        return answer

    def _headers(self, method: egress.Method, parts: SplitResult) -> dict[str, str]:
        sent = {
            "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            "User-Agent": "lti_doctor",
            "Sec-Fetch-Dest": "iframe" if self.framed else "document",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Site": "cross-site",
        }
        cookies = "; ".join(
            f"{cookie.name}={cookie.value}"
            for (domain, _name), cookie in self.jar.items()
            if _is_within(parts.hostname or "", domain)
            and parts.path.startswith(cookie.attributes.get("path", "/"))
            and (method == "GET" or cookie.is_sent_across_sites)
        )
        return {**sent, "Cookie": cookies} if cookies else sent

    def _keep(self, answer: Answer) -> None:
        host = urlsplit(answer.url).hostname or ""
        for name, cookie in answer.cookies.items():
            domain = cookie.attributes.get("domain", "").lstrip(".").lower() or host
            if cookie.attributes.get("max-age") == "0":
                self.jar.pop((domain, name), None)
            elif _is_within(host, domain) and not (self.framed and cookie.missing_for_frames):
                self.jar[domain, name] = cookie


def _is_within(host: str, domain: str) -> bool:
    return f".{host}".endswith(f".{domain}")
