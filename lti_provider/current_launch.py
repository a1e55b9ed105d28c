"""CurrentLaunch: ``request.lti``, the launch that a request belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import cached_property

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from lti_provider import sessions
from lti_provider.grades import read_score
from lti_provider.message import LaunchMessage, Person, Role
from lti_provider.models import LtiConsumer, LtiContext, LtiLaunch, LtiResourceLink, LtiResult
from lti_provider.models.score import Number

_NOTHING_SAID = LaunchMessage()


class CurrentLaunch:
    """The launch that a request belongs to; false if there is none.

    It is read when it is first asked for, in one query. Without a launch an attribute is what it is
    where the LMS said nothing (None, False, empty), and a method does nothing and returns None.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __bool__(self) -> bool:
        return self.launch is not None

    async def load(self) -> CurrentLaunch:
        """Read it, for async views; afterwards no attribute needs a query."""
        await sync_to_async(lambda: self.launch)()
        return self

    @cached_property
    def launch(self) -> LtiLaunch | None:
        """The row in the launch log, with consumer, person, course, activity and grade."""
        return sessions.find_current_launch(self._request)

    @property
    def message(self) -> LaunchMessage:
        """What the LMS said, less what the consumer's policy does not keep."""
        return self.launch.message if self.launch else _NOTHING_SAID

    @property
    def consumer(self) -> LtiConsumer | None:
        """The LMS."""
        return self.launch.lti_consumer if self.launch else None

    @property
    def person(self) -> Person:
        """Who the person is in the LMS; ``request.user`` is the account here."""
        return self.message.person

    @property
    def context(self) -> LtiContext | None:
        """The course, if the LMS named one."""
        return self.launch.context if self.launch else None

    @property
    def resource_link(self) -> LtiResourceLink | None:
        """The placement of the activity."""
        return self.launch.resource_link if self.launch else None

    @property
    def roles(self) -> frozenset[Role]:
        """All roles of this launch."""
        return self.message.roles

    def has_role(self, role: Role) -> bool:
        """Whether the person has ``role`` in this launch."""
        return self.message.has_role(role)

    @property
    def is_learner(self) -> bool:
        """Learner in this course."""
        return self.message.is_learner

    @property
    def is_instructor(self) -> bool:
        """Instructor in this course."""
        return self.message.is_instructor

    @property
    def is_course_staff(self) -> bool:
        """Instructor, teaching assistant, content developer or administrator of this course."""
        return self.message.is_course_staff

    @property
    def is_test_user(self) -> bool:
        """A teacher's preview as a student: leave it out of what you count."""
        return self.message.is_test_user

    @property
    def custom(self) -> Mapping[str, str]:
        """Custom parameters without their prefix."""
        return self.message.custom

    @property
    def locale(self) -> str | None:
        """The language of ``settings.LANGUAGES`` that the LMS asked for, if there is one."""
        return self.message.locale

    @property
    def return_url(self) -> str | None:
        """Where the LMS wants the person back, if it said so."""
        return self.message.presentation.return_url

    @property
    def lms_name(self) -> str:
        """What the LMS calls itself, else what the administrator calls it."""
        named = self.message.installation.name
        return named or (self.consumer.consumer_name if self.consumer else "")

    @property
    def result(self) -> LtiResult | None:
        """The person's grade for this activity, if the LMS wants one."""
        return self.launch.result if self.launch else None

    def submit_score(
        self,
        given: Number,
        maximum: Number = 1,
        *,
        submission_text: str | None = None,
        submission_url: str | None = None,
    ) -> LtiResult | None:
        """``LtiResult.submit_score`` for this person and activity.

        None: the LMS wants no grade here, as for teachers and ungraded activities.
        """
        if self.result is None:
            return None
        return self.result.submit_score(
            given, maximum, submission_text=submission_text, submission_url=submission_url
        )

    def delete_score(self) -> LtiResult | None:
        """``LtiResult.delete_score`` for this person and activity; None as for a score."""
        return None if self.result is None else self.result.delete_score()

    def read_score(self) -> Decimal | None:
        """``grades.read_score`` for this person and activity; None as for a score."""
        return None if self.result is None else read_score(self.result)

    # Templates call what they name.
    submit_score.alters_data = True  # type: ignore[attr-defined]
    delete_score.alters_data = True  # type: ignore[attr-defined]


class LtiRequest(HttpRequest):
    """A request as views get it, for annotations: ``def exercise(request: LtiRequest)``."""

    lti: CurrentLaunch
    alti: Callable[[], Awaitable[CurrentLaunch]]
