"""System checks, tag ``security``: what would lose a session, a launch or the site's safety."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.module_loading import import_string

from lti_provider.backends import LtiBackend
from lti_provider.conf import SETTINGS, given_settings
from lti_provider.middleware import LtiFrameMiddleware
from lti_provider.models.secret import encrypt
from lti_provider.origins import is_path

_PER_PROCESS_CACHES = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)
_CSP_MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "csp.middleware.CSPMiddleware",
)
_HOST_PREFIX = "__Host-"
_PRIVACY_LEVELS = ("anonymous", "email_only", "name_only", "public")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_target(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


#: What a setting's value has to be, by its annotation.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str | None": (_is_target, "text or None"),
    "int": (_is_count, "a whole number above 0"),
    "float": (_is_amount, "a number above 0"),
    "bool": (_is_switch, "True or False"),
    "list[str]": (_is_list_of_text, "a list of text"),
    "dict[str, Any]": (_is_dict, "a dict"),
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_dict_of_text(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(item) for pair in value.items() for item in pair
    )


def _is_placements(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name)
        and isinstance(options, dict)
        and all(_is_text(key) and isinstance(item, str | int) for key, item in options.items())
        for name, options in value.items()
    )


_CARTRIDGE_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "title": (_is_text, "text"),
    "description": (_is_text, "text"),
    "icon": (_is_text, "a URL, or a path of this site"),
    "tool_id": (_is_text, "text"),
    "custom": (_is_dict_of_text, "a dict of text by parameter name"),
    "privacy_level": (_PRIVACY_LEVELS.__contains__, f"one of {', '.join(_PRIVACY_LEVELS)}"),
    "placements": (_is_placements, "a dict of options, each a dict of text, by placement"),
}
_NEW_KEY = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


def check_settings(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """Everything that can be said on any machine."""
    return [
        *_check_own_settings(),
        *_check_installation(),
        *_check_cookies(),
        *_check_framing(),
        *_check_storage(),
    ]


def check_deployment(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """What matters once the site is deployed (``check --deploy``)."""
    messages: list[CheckMessage] = []
    insecure = [
        name
        for name in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")
        if not getattr(settings, name)
    ]
    if insecure:
        messages.append(
            Warning(
                f"{' and '.join(insecure)} off: outside of frames, launched sessions travel over "
                "plain http too.",
                hint=f"Serve the site over https only and set {' and '.join(insecure)} = True. In "
                "frames, browsers keep no cookie at all over plain http.",
                id="lti_provider.W005",
            )
        )
    if settings.SECURE_PROXY_SSL_HEADER is None and not settings.SECURE_SSL_REDIRECT:
        messages.append(
            Warning(
                "Neither SECURE_PROXY_SSL_HEADER nor SECURE_SSL_REDIRECT is set: behind a proxy "
                "that ends TLS, this site takes https launches for http ones and refuses them.",
                hint="Behind such a proxy set SECURE_PROXY_SSL_HEADER = "
                "('HTTP_X_FORWARDED_PROTO', 'https') and let the proxy overwrite that header; "
                "without a proxy set SECURE_SSL_REDIRECT = True.",
                id="lti_provider.W006",
            )
        )
    if not given_settings().get("LTI_PROVIDER_ENCRYPTION_KEYS"):
        messages.append(
            Warning(
                "LTI_PROVIDER_ENCRYPTION_KEYS is not set: the LMSs' secrets and this site's "
                "private keys lie in the database, and in its backups, as they are.",
                hint=f"Set it to a list with one key, made with {_NEW_KEY}, and run "
                "manage.py lti_reencrypt.",
                id="lti_provider.W011",
            )
        )
    return messages


def _check_own_settings() -> Iterator[CheckMessage]:
    for name, value in given_settings().items():
        if name not in SETTINGS:
            yield Warning(
                f"There is no setting {name}.",
                hint=f"Known are {', '.join(SETTINGS)}.",
                id="lti_provider.W010",
            )
            continue
        is_right, kind = _KINDS[SETTINGS[name].annotation]
        if not is_right(value):
            shown = "something else" if "KEY" in name else repr(value)
            yield Error(
                f"{name} is {shown}.",
                hint=f"It has to be {kind}. {SETTINGS[name].meaning}",
                id="lti_provider.E005",
            )
        elif name == "LTI_PROVIDER_ENCRYPTION_KEYS":
            yield from _check_keys()
        elif name == "LTI_PROVIDER_LAUNCHABLE_PATHS":
            yield from _check_paths(value)
        elif name == "LTI_PROVIDER_CARTRIDGE":
            yield from _check_cartridge(value)


def _check_cartridge(fields: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, value in fields.items():
        is_right, kind = _CARTRIDGE_KINDS.get(name, (None, ""))
        if is_right is None:
            yield Error(
                f"LTI_PROVIDER_CARTRIDGE has {name!r}, which the tool configuration does not.",
                hint=f"Known are {', '.join(_CARTRIDGE_KINDS)}.",
                id="lti_provider.E020",
            )
        elif not is_right(value):
            yield Error(
                f"LTI_PROVIDER_CARTRIDGE has {name!r}: {value!r}.",
                hint=f"It has to be {kind}.",
                id="lti_provider.E021",
            )


def _check_keys() -> Iterator[CheckMessage]:
    try:
        encrypt("a secret")
    except ImproperlyConfigured as error:
        yield Error(str(error), hint=f"Make a key with {_NEW_KEY}", id="lti_provider.E008")


def _check_paths(paths: Iterable[str]) -> Iterator[CheckMessage]:
    for path in paths:
        if not is_path(path):
            yield Error(
                f"LTI_PROVIDER_LAUNCHABLE_PATHS names {path!r}, which is not a path.",
                hint="Write paths from the site's root, such as '/courses/', without scheme, "
                "host, query or pattern.",
                id="lti_provider.E006",
            )


def _check_installation() -> Iterator[CheckMessage]:
    if not any(issubclass(backend, LtiBackend) for backend in _classes("AUTHENTICATION_BACKENDS")):
        yield Error(
            "No LtiBackend is in AUTHENTICATION_BACKENDS: launches cannot sign anybody in.",
            hint="Add 'lti_provider.backends.LtiBackend', or your subclass of it.",
            id="lti_provider.E001",
        )
    middleware = _classes("MIDDLEWARE")
    for needed in (SessionMiddleware, AuthenticationMiddleware):
        if _position(middleware, needed) is None:
            yield Error(
                f"{needed.__name__} is not in MIDDLEWARE: launches have no session.",
                hint=f"Add '{needed.__module__}.{needed.__name__}', and its app to INSTALLED_APPS.",
                id="lti_provider.E004",
            )
    ours = _position(middleware, LtiFrameMiddleware)
    if ours is None:
        yield Error(
            "LtiFrameMiddleware is not in MIDDLEWARE: framed launches lose their session.",
            hint="Put 'lti_provider.middleware.LtiFrameMiddleware' first in MIDDLEWARE.",
            id="lti_provider.E002",
        )
        return
    early = [found.__name__ for found in middleware[:ours] if _sets_cookies_or_framing(found)]
    if early:
        yield Error(
            f"{', '.join(early)} before LtiFrameMiddleware in MIDDLEWARE: what it adds to a "
            "response cannot be edited for frames.",
            hint="Put 'lti_provider.middleware.LtiFrameMiddleware' first in MIDDLEWARE.",
            id="lti_provider.E003",
        )


def _check_cookies() -> Iterator[CheckMessage]:
    if str(settings.SESSION_COOKIE_SAMESITE).lower() == "none":
        yield Warning(
            "SESSION_COOKIE_SAMESITE is 'None' for the whole site: other sites can send requests "
            "with your people's sessions.",
            hint="Remove it. LtiFrameMiddleware gives framed launches cookies of their own, which "
            "browsers keep even where they block third-party cookies.",
            id="lti_provider.W001",
        )
    if str(settings.SESSION_COOKIE_SAMESITE).lower() == "strict":
        yield Warning(
            "SESSION_COOKIE_SAMESITE is 'Strict': after a launch in a window of its own, the "
            "first page does not get its session.",
            hint="Use 'Lax', Django's default.",
            id="lti_provider.W002",
        )
    for kind in ("SESSION", "CSRF", "LANGUAGE"):
        name = getattr(settings, f"{kind}_COOKIE_NAME")
        if name.startswith(_HOST_PREFIX) and (
            getattr(settings, f"{kind}_COOKIE_DOMAIN")
            or getattr(settings, f"{kind}_COOKIE_PATH") != "/"
        ):
            yield Error(
                f"{kind}_COOKIE_NAME begins with {_HOST_PREFIX}, and its cookie has a domain or a "
                "path: browsers drop it.",
                hint=f"Unset {kind}_COOKIE_DOMAIN and {kind}_COOKIE_PATH, or rename the cookie.",
                id="lti_provider.E007",
            )
    if settings.SESSION_COOKIE_DOMAIN:
        yield Warning(
            f"SESSION_COOKIE_DOMAIN is {settings.SESSION_COOKIE_DOMAIN!r}: every host of that "
            "domain can replace a launched session by another one.",
            hint="Unset it, unless other hosts of the domain need this site's sessions.",
            id="lti_provider.W007",
        )


def _check_framing() -> Iterator[CheckMessage]:
    value = str(getattr(settings, "X_FRAME_OPTIONS", "DENY"))
    if value.upper() not in ("DENY", "SAMEORIGIN"):
        yield Warning(
            f"X_FRAME_OPTIONS is {value!r}: browsers ignore it, and everyone may frame this site.",
            hint="Use 'DENY'. LtiFrameMiddleware lets each LMS frame its own launches: list its "
            "origins on the LTI consumer.",
            id="lti_provider.W003",
        )


def _check_storage() -> Iterator[CheckMessage]:
    engine = settings.SESSION_ENGINE
    if engine == "django.contrib.sessions.backends.signed_cookies":
        yield Warning(
            "Sessions are kept in signed cookies: a frame's partition holds about 10 kB, and a "
            "session that does not fit is lost.",
            hint="Use 'django.contrib.sessions.backends.db' or 'cached_db'.",
            id="lti_provider.W004",
        )
    cache = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND", "")
    if engine == "django.contrib.sessions.backends.cache" and cache in _PER_PROCESS_CACHES:
        yield Warning(
            "Sessions are kept in a cache that each process has for itself: a launch in one "
            "process is unknown to the others.",
            hint="Use a shared cache such as Redis or Memcached, or sessions in the database.",
            id="lti_provider.W008",
        )
    for alias, database in settings.DATABASES.items():
        if "sqlite" in database["ENGINE"] and ":memory:" in str(database["NAME"]):
            yield Warning(
                f"The database {alias!r} is in the memory of one process: a launch that another "
                "process accepted can be replayed.",
                hint="Use a database that all processes share.",
                id="lti_provider.W009",
            )


def _classes(setting: str) -> list[type]:
    found = []
    for name in getattr(settings, setting):
        try:
            found.append(import_string(name))
        except ImportError:  # Django itself says so when it starts
            continue
    return [item for item in found if isinstance(item, type)]


def _position(classes: Sequence[type], wanted: type) -> int | None:
    return next((at for at, item in enumerate(classes) if issubclass(item, wanted)), None)


def _sets_cookies_or_framing(middleware: type) -> bool:
    named = {f"{base.__module__}.{base.__qualname__}" for base in middleware.__mro__}
    return issubclass(
        middleware, (SessionMiddleware, CsrfViewMiddleware, XFrameOptionsMiddleware)
    ) or not named.isdisjoint(_CSP_MIDDLEWARE)
