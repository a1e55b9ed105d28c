"""What a wing hands over: a launch whose signature held, and why one was refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lti_provider.message import LaunchMessage
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.deployment import LtiDeployment
from lti_provider.models.registration import LtiRegistration
from lti_provider.models.unknown_sender import UnknownSender

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifiedLaunch:
    """A launch that the consumer's LMS made, and nobody else.

    ``nonce`` is of any form, unique for the consumer until ``nonce_expires_at``. ``query`` are the
    pairs of the launch URL's query that LTI does not know. ``clock_difference`` is in seconds,
    positive if the LMS's clock is ahead. ``signed_with`` is blank where no shared secret signed.
    ``is_trial``: this site launched itself. ``evidence`` is for ``protocols.explain``.

    Where a login came before: its ``registration``, the ``deployment`` that the launch named (not
    saved yet if it joins), ``target_url``, the launch URL that was signed, in place of the one
    that was posted to, and ``handle``, to which the login has bound the browser.
    """

    consumer: LtiConsumer
    message: LaunchMessage
    nonce: str
    nonce_expires_at: datetime
    query: tuple[tuple[str, str], ...]
    clock_difference: int
    signed_with: LtiConsumer.SecretUse | None
    is_trial: bool
    evidence: object
    registration: LtiRegistration | None = None
    deployment: LtiDeployment | None = None
    target_url: str = ""
    handle: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the launch log says of a refused launch.

    ``hint`` is a likelier cause than the refusal's own hint, or blank. ``user_id`` is whom the
    request named, verified or not. ``signed_text`` is what the signature should cover, or what
    was signed, with personal data masked. ``is_trial``: this site launched itself.
    ``unknown_sender`` is what the request named if it was refused because nobody knows that.
    """

    hint: str | _StrPromise = ""
    user_id: str = ""
    launch_url: str = ""
    clock_difference: int | None = None
    signed_text: str = ""
    is_trial: bool = False
    unknown_sender: UnknownSender | None = None
