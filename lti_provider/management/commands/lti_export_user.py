"""Hand out everything that is stored about one person."""

from __future__ import annotations

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from lti_provider.management.person import DataSubjectCommand
from lti_provider.privacy import DataSubject


class Command(DataSubjectCommand):
    """Writes JSON to standard output."""

    help = "Writes everything that LTI launches stored about one person as JSON."

    def handle_person(self, person: DataSubject, **options: Any) -> None:
        exported = json.dumps(person.export(), cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
        self.stdout.write(exported)
