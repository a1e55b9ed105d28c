"""Which paths of the site are launched."""

from __future__ import annotations

from lti_provider.conf import conf
from lti_provider.origins import is_under


def is_launchable(target: str) -> bool:
    """Whether ``launch/<target>`` lies under ``LTI_PROVIDER_LAUNCHABLE_PATHS``."""
    return is_under(f"/{target}", conf.launchable_paths)
