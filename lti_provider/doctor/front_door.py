"""FrontDoor: where the doctor launches, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import SSLContext

from django.urls import reverse

from lti_provider.lti13.trial_launch import TrialPlatform
from lti_provider.models import LtiConsumer

#: The LMS that the doctor plays: where nobody is.
LMS = "https://lti-doctor.invalid"


@dataclass(frozen=True, kw_only=True)
class FrontDoor:
    """Where and as which consumer to launch.

    ``url`` is the site's address or the launch URL; ``target`` is a path, blank for
    ``LTI_PROVIDER_DEFAULT_TARGET``. ``platform`` launches by LTI 1.3, the consumer's key by 1.1.
    """

    url: str
    consumer: LtiConsumer
    tls: SSLContext
    target: str = ""
    timeout: float = 10.0
    platform: TrialPlatform | None = None

    @property
    def base(self) -> str:
        """The site's address, without the slash at its end."""
        return self.url.rstrip("/").removesuffix(reverse("lti_provider:launch").rstrip("/"))

    @property
    def redirect_uri(self) -> str:
        """The URL that LMSs of LTI 1.3 have on file for the answers to logins."""
        return self.base + reverse("lti_provider:launch")

    @property
    def launch_url(self) -> str:
        """The URL of the target, that an LMS of LTI 1.1 would post to."""
        if not self.target:
            return self.redirect_uri
        target = self.target.removeprefix("/")
        return self.base + reverse("lti_provider:launch_target", args=[target])

    @property
    def origin(self) -> str:
        """An origin that may frame what is launched."""
        return next(iter(self.consumer.frame_origin_list), LMS)
