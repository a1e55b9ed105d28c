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
        self._connect_grades()
        self._connect_sessions()

    def _connect_grades(self) -> None:
        from lti_provider.grades import background
        from lti_provider.signals import score_submitted

        score_submitted.connect(background.on_score_submitted, dispatch_uid="lti_provider")

    def _connect_sessions(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from lti_provider.sessions import on_user_logged_in

        user_logged_in.connect(on_user_logged_in, dispatch_uid="lti_provider")
