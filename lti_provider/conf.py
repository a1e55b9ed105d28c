"""The only reader of ``LTI_PROVIDER_*`` settings, at the moment of use.

A setting is one line here: annotation, default and meaning are what the system checks and the
table in the README say of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import get_annotations
from typing import Any, TypeVar, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

PREFIX = "LTI_PROVIDER_"

T = TypeVar("T")


@dataclass(kw_only=True)
class Setting:
    """What is said of a setting; an attribute of ``conf`` is its value."""

    default: Any
    meaning: str
    name: str = ""
    annotation: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"{PREFIX}{name.upper()}"
        self.annotation = get_annotations(owner)[name]

    def __get__(self, instance: Conf, owner: type) -> Any:
        value = getattr(settings, self.name, self.default)
        if isinstance(value, str) and self.annotation.startswith("list"):
            # Read as a list of characters, a path would hold "/", which is the whole site.
            raise ImproperlyConfigured(f"{self.name} is a list: put its value into brackets.")
        return value


def _setting(default: T, meaning: str) -> T:
    return cast("T", Setting(default=default, meaning=meaning))


class Conf:
    """Every setting with its type, default and meaning."""

    default_target: str | None = _setting(
        None, "Where `lti/launch/` leads: a path, or the name of a URL pattern."
    )
    launchable_paths: list[str] = _setting(
        [], "Path prefixes, in whole segments, that `lti/launch/<path>` may lead to."
    )
    timestamp_window: int = _setting(
        300, "Seconds that an LMS's clock may differ from ours, both ways; a day (86400) at most."
    )
    enter_lifetime: int = _setting(
        300, "Seconds between a launch and the session that it may still become."
    )
    account_lifetime: int = _setting(
        3600, "Seconds that a launch waits for a person to sign in or up and to confirm."
    )
    session_launches: int = _setting(20, "How many launches one browser session remembers.")
    session_hours: float = _setting(
        12,
        "Hours after its last launch when a session that a launch made is over; it also ends with "
        "the browser.",
    )
    launch_retention_days: int = _setting(
        90, "Days after which `lti_purge` deletes launches. Longer than your sessions last."
    )
    guest_retention_days: int = _setting(
        30,
        "Days after its last sign-in that `lti_purge` deletes the account of a launch without a "
        "user id.",
    )
    refusals_kept: int = _setting(50, "Refused launches kept for each consumer and code.")
    grade_timeout: float = _setting(
        20, "Seconds for one whole exchange with an LMS's grade service."
    )
    grade_concurrency: int = _setting(2, "Requests to one host at a time, over all deliverers.")
    grade_rate: float = _setting(10, "Requests to one host a second, over all deliverers.")
    grade_retry_days: float = _setting(
        5, "Days of attempts after which a grade that does not get through has failed."
    )
    grade_background: bool = _setting(
        False, "Try at once, in a thread of the process that submitted the score."
    )
    cartridge: dict[str, Any] = _setting(
        {}, "What the [tool configuration](docs/pages.md#tool-configuration-cartridge) says."
    )
    encryption_keys: list[str] = _setting(
        [], "Fernet keys for secrets at rest: the first one encrypts, all decrypt."
    )


conf = Conf()

#: What there is, by name.
SETTINGS: dict[str, Setting] = {
    setting.name: setting for setting in vars(Conf).values() if isinstance(setting, Setting)
}


def given_settings() -> dict[str, Any]:
    """What the site set, unknown names too, for the system checks."""
    return {name: getattr(settings, name) for name in dir(settings) if name.startswith(PREFIX)}
