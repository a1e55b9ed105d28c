"""Which paths of the site are launched."""

from __future__ import annotations

from collections.abc import Iterable

from lti_provider.conf import conf


def is_launchable(target: str) -> bool:
    """Whether ``launch/<target>`` lies under ``LTI_PROVIDER_LAUNCHABLE_PATHS``."""
    return is_under(f"/{target}", conf.launchable_paths)


def is_under(path: str, prefixes: Iterable[str]) -> bool:
    """Whether ``path`` is one of these paths or below one, in whole segments."""
    # A browser would fold dot segments, doubled slashes and backslashes of a redirect.
    segments = path.removeprefix("/").split("/")
    plain = not {".", ".."} & set(segments) and "" not in segments[:-1] and "\\" not in path
    return plain and any(
        path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in prefixes
    )
