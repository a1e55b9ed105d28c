"""For Celery's ``autodiscover_tasks()``, with the extra ``celery``: a wake-up for the deliverer."""

from __future__ import annotations

from celery import shared_task

from lti_provider.grades import deliver_due


@shared_task(name="lti_provider.deliver", ignore_result=True)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Deliver what is due. Too many of these do no harm: hosts keep their limits over all."""
    deliver_due()
