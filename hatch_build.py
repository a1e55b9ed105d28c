"""Compiles the translations whenever the package is built or installed, for editing too.

A message without a translation, or with one that is only a guess ("fuzzy"), stays English.
"""

import os
from pathlib import Path
from typing import Any

import polib
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileTranslations(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for catalog in Path(self.root, "lti_provider/locale").glob("*/LC_MESSAGES/*.po"):
            compile_catalog(catalog)


def compile_catalog(catalog: Path) -> None:
    # Several environments may install the same folder at once.
    made = catalog.with_suffix(f".{os.getpid()}.mo")
    polib.pofile(str(catalog), encoding="utf-8").save_as_mofile(str(made))
    made.replace(catalog.with_suffix(".mo"))
