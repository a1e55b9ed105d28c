"""The answer to a login, made as an LMS makes it or as an attacker would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.test import Client

from lti_provider.models import LtiLaunch
from lti_provider.testing.platform import FakePlatform


@dataclass
class Login:
    """A login that was begun in a browser: what the LMS was asked to answer."""

    lms: FakePlatform
    client: Client
    state: str
    nonce: str
    target: str

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What the LMS says of it."""
        said = {"nonce": self.nonce, "target_link_uri": self.target, **changes}
        return self.lms.build_claims(**said)

    def token(self, *, header: Any = None, key: Any = None, **changes: Any) -> str:
        """A token that answers it."""
        return self.lms.sign(self.claims(**changes), header=header, key=key)

    def post(self, token: str | None = None, **form: Any) -> Any:
        """Post a token with the state of this login."""
        sent = {"id_token": self.token() if token is None else token, "state": self.state, **form}
        pairs = [(name, value) for name, value in sent.items() if value is not None]
        return self.lms.post_token(self.client, pairs)

    def answer(self, **changes: Any) -> Any:
        """Post the LMS's own answer, with changes to its claims."""
        return self.post(self.token(**changes))


def log_in(lms: FakePlatform, client: Client | None = None, path: str | None = None) -> Login:
    """Begin a login."""
    client = client or Client()
    pairs = lms.begin_login(path)
    asked = parse_qs(urlsplit(lms.log_in(client, pairs)["Location"]).query)
    return Login(
        lms=lms,
        client=client,
        state=asked["state"][0],
        nonce=asked["nonce"][0],
        target=dict(pairs)["target_link_uri"],
    )


def get_refusal() -> tuple[str, str]:
    """Code and hint of the last launch, blank if it was accepted."""
    launch = LtiLaunch.objects.latest("pk")
    return launch.refusal_code, launch.refusal_hint
