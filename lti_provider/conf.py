"""The only reader of ``LTI_PROVIDER_*`` settings, at the moment of use."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

PREFIX = "LTI_PROVIDER_"


class Conf:
    """Every setting with its type and default."""

    @property
    def default_target(self) -> str | None:
        """Where ``launch/`` leads: a path, or the name of a URL pattern."""
        target: str | None = _setting("DEFAULT_TARGET", None)
        return target

    @property
    def launchable_paths(self) -> list[str]:
        """Path prefixes, from the site's root, that ``launch/<target>`` may lead to."""
        given: str | list[str] = _setting("LAUNCHABLE_PATHS", [])
        if isinstance(given, str):
            # Read as a list of characters it would hold "/", which is the whole site.
            raise ImproperlyConfigured(
                f'LTI_PROVIDER_LAUNCHABLE_PATHS is a list of paths: write ["{given}"].'
            )
        return given

    @property
    def timestamp_window(self) -> int:
        """Seconds that ``oauth_timestamp`` may differ from our clock, both ways."""
        window: int = _setting("TIMESTAMP_WINDOW", 300)
        return window

    @property
    def enter_lifetime(self) -> int:
        """Seconds between a launch and the session that it may still become."""
        lifetime: int = _setting("ENTER_LIFETIME", 300)
        return lifetime

    @property
    def account_lifetime(self) -> int:
        """Seconds that a launch waits for a person to sign in or up and to confirm."""
        lifetime: int = _setting("ACCOUNT_LIFETIME", 3600)
        return lifetime

    @property
    def session_launches(self) -> int:
        """How many launches one browser session remembers."""
        launches: int = _setting("SESSION_LAUNCHES", 20)
        return launches

    @property
    def launch_retention_days(self) -> int:
        """Days that launches are kept."""
        days: int = _setting("LAUNCH_RETENTION_DAYS", 90)
        return days

    @property
    def guest_retention_days(self) -> int:
        """Days that the account of a launch without a user id is kept after its last sign-in."""
        days: int = _setting("GUEST_RETENTION_DAYS", 30)
        return days

    @property
    def refusals_kept(self) -> int:
        """Refused launches kept for each consumer and code."""
        kept: int = _setting("REFUSALS_KEPT", 50)
        return kept

    @property
    def grade_timeout(self) -> float:
        """Seconds for one whole exchange with an LMS's grade service."""
        timeout: float = _setting("GRADE_TIMEOUT", 20)
        return timeout

    @property
    def grade_concurrency(self) -> int:
        """Requests to one host at a time, over all deliverers."""
        concurrency: int = _setting("GRADE_CONCURRENCY", 2)
        return concurrency

    @property
    def grade_rate(self) -> float:
        """Requests to one host a second, over all deliverers."""
        rate: float = _setting("GRADE_RATE", 10)
        return rate

    @property
    def grade_retry_days(self) -> float:
        """Days of attempts after which a grade that cannot be delivered has failed."""
        days: float = _setting("GRADE_RETRY_DAYS", 5)
        return days

    @property
    def grade_background(self) -> bool:
        """Whether the process that submits a score tries at once to deliver it."""
        background: bool = _setting("GRADE_BACKGROUND", False)
        return background

    @property
    def cartridge(self) -> dict[str, Any]:
        """What the tool configuration says: the fields of ``lti_provider.cartridge.Cartridge``."""
        fields: dict[str, Any] = _setting("CARTRIDGE", {})
        return fields

    @property
    def encryption_keys(self) -> list[str]:
        """Fernet keys for secrets at rest: the first one encrypts, all decrypt."""
        given: str | list[str] = _setting("ENCRYPTION_KEYS", [])
        if isinstance(given, str):
            raise ImproperlyConfigured(
                "LTI_PROVIDER_ENCRYPTION_KEYS is a list of keys: put the key into brackets."
            )
        return given


conf = Conf()


def given_settings() -> dict[str, Any]:
    """What the site set, unknown names too, for the system checks."""
    return {name: getattr(settings, name) for name in dir(settings) if name.startswith(PREFIX)}


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, PREFIX + name, default)
