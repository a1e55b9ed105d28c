"""The app's configuration."""

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class LtiProviderConfig(AppConfig):
    name = "lti_provider"
    verbose_name = _("LTI Provider")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from lti_provider.checks import check_deployment, check_settings

        register(check_settings, Tags.security)
        register(check_deployment, Tags.security, deploy=True)
        self._connect_outcomes()

    def _connect_outcomes(self) -> None:
        from lti_provider.models import LtiResult
        from lti_provider.outcomes import background, read_score
        from lti_provider.signals import score_submitted

        LtiResult.reader = staticmethod(read_score)
        score_submitted.connect(background.on_score_submitted, dispatch_uid="lti_provider")
