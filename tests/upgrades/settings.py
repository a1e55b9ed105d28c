"""The test site, with the pages that accounts need."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.urls_with_accounts"
