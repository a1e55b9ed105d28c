"""Lti11Examination: a launch by LTI 1.1, a signed form."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import urlencode

from lti_provider import frames
from lti_provider.doctor.answers import explain_address
from lti_provider.doctor.finding import Finding, error
from lti_provider.doctor.front_door import LMS
from lti_provider.doctor.launch import LaunchExamination
from lti_provider.exceptions import InvalidSignature
from lti_provider.lti11.trial_launch import DOCTOR, TrialLaunch
from lti_provider.message import Role
from lti_provider.models import LtiLaunch


class Lti11Examination(LaunchExamination):
    """Signs with the consumer's secret, and posts to the launch URL."""

    arrived = ("framed_launch", "window_launch")

    @property
    def post_url(self) -> str:
        """The launch URL itself."""
        return self.door.launch_url

    @property
    def launch_cookie(self) -> str:
        """The frame's marker, or what binds the launch to a window."""
        return frames.MARKER_COOKIE if self.browser.framed else frames.BOUND_TOP_LEVEL

    def get_form(self) -> Generator[Finding, None, str]:
        """Sign; nothing comes before."""
        trial_launch = TrialLaunch(
            consumer=self.door.consumer,
            role=Role.LEARNER,
            title=DOCTOR,
            return_url=f"{LMS}/",
        )
        yield from ()
        return urlencode(trial_launch.sign(self.door.launch_url))

    def explain_refused(self, logged: LtiLaunch) -> Finding:
        """A signature fails where the site takes its address for a different one."""
        if logged.refusal_code != InvalidSignature.code:
            return super().explain_refused(logged)
        found = explain_address(self.post_url, logged.launch_url, "every signature fails")
        text = "The signature of a launch does not hold: something changes its form on the way."
        return found or error("body_changed", text, logged.refusal_hint)
