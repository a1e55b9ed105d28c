"""What a site with ``django.tasks`` writes, as the README shows it."""

from django.tasks import task

from lti_provider.grades import deliver_due


@task
def deliver_grades() -> None:
    deliver_due()
