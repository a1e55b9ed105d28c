"""Fills a PostgreSQL database with as much as a large site keeps."""

import os
from dataclasses import asdict, dataclass

from django.contrib.auth import get_user_model
from django.db import connection

from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiLaunch,
    LtiRegistration,
)

# One launch in a hundred was refused: more than the log would keep of so few consumers.
SQL = (
    """
    INSERT INTO auth_user (username, password, first_name, last_name, email, is_active, is_staff,
                           is_superuser, date_joined)
    SELECT 'lti-' || n, '!', '', '', '', true, false, false, now()
    FROM generate_series(1, %(people)s) n
    """,
    """
    INSERT INTO lti_provider_ltiuser (lti_consumer_id, lti_user_id, lti_user_digest, user_id,
                                      is_test_user, created_at)
    SELECT %(first)s + mod(n, %(consumers)s), n::text, encode(sha256(n::text::bytea), 'hex'),
           u.id, false, now()
    FROM generate_series(1, %(people)s) n JOIN auth_user u ON u.username = 'lti-' || n
    """,
    """
    INSERT INTO lti_provider_lticontext (lti_consumer_id, context_id, context_digest, label, title)
    SELECT %(first)s + mod(n, %(consumers)s), n::text, encode(sha256(n::text::bytea), 'hex'), '',
           'A'
    FROM generate_series(1, %(places)s) n
    """,
    """
    INSERT INTO lti_provider_ltiresourcelink (lti_consumer_id, lti_context_id, resource_link_id,
                                              resource_link_digest, title)
    SELECT lti_consumer_id, id, context_id, context_digest, 'A' FROM lti_provider_lticontext
    """,
    """
    INSERT INTO lti_provider_ltilaunch (lti_consumer_id, received_at, entered_at, nonce_digest,
        nonce_expires_at, handle_digest, user_digest, link_digest, stored_message,
        connection_refusal_code, target, refusal_code, refusal_hint, launch_url, signed_text,
        foreign_origin, signed_with, session_epoch, is_trial)
    SELECT %(first)s + mod(n, %(consumers)s), now() - n * interval '1 s', now(),
           encode(sha256(('n' || n)::bytea), 'hex'), now(),
           encode(sha256(('h' || n)::bytea), 'hex'),
           encode(sha256((1 + mod(n - 1, %(people)s))::text::bytea), 'hex'),
           encode(sha256((1 + mod(n - 1, %(places)s))::text::bytea), 'hex'),
           '{"version": 1, "person": {"user_id": "1"}}', '', '/content/',
           CASE WHEN mod(n, 101) = 0 THEN 'stale_timestamp' ELSE '' END, '', '', '', '',
           'current', 0, false
    FROM generate_series(1, %(launches)s) n
    """,
    """
    INSERT INTO lti_provider_ltiresult (lti_consumer_id, user_digest, link_digest, service_url,
        service_host, service, remote_id, accepts, score_given, score_maximum,
        data_name, data, version, submitted_at, state,
        delivered_version, attempts, refusals, last_code, last_text, lease_token, rotation)
    SELECT %(first)s + mod(n, %(consumers)s), encode(sha256(n::text::bytea), 'hex'),
           encode(sha256((1 + mod(n - 1, %(places)s))::text::bytea), 'hex'),
           'https://lms.example/outcomes', 'lms.example', 'basic_outcomes', n::text, '', 1, 2,
           '', '', 1, now(),
           CASE WHEN mod(n, 100) = 0 THEN 'failed' ELSE 'delivered' END, 1, 1, 0,
           CASE WHEN mod(n, 100) = 0 THEN 'timeout' ELSE '' END, '', '', 0
    FROM generate_series(1, %(results)s) n
    """,
    """
    INSERT INTO lti_provider_ltiservicehost (host, claims)
    SELECT 'lms-' || n || '.example', 0 FROM generate_series(1, %(consumers)s) n
    """,
    """
    INSERT INTO lti_provider_ltiservicebreaker
        (lti_consumer_id, host, failures, last_code, last_text)
    SELECT %(first)s + mod(n, %(consumers)s), 'lms-' || n || '.example', 0, '', ''
    FROM generate_series(1, %(consumers)s) n
    """,
    """
    INSERT INTO lti_provider_lticonnectionevent (lti_consumer_id, lti_user_id, user_id, kind, how,
                                           happened_at)
    SELECT lti_consumer_id, lti_user_id, user_id, 'connected', 'confirmed', now()
    FROM lti_provider_ltiuser WHERE mod(id, 10) = 0
    """,
    "ANALYZE",
)


@dataclass(frozen=True, kw_only=True)
class Size:
    people: int
    launches: int
    results: int
    places: int
    consumers: int = 20


# Enough for the planner to choose as it does for a full one, which LTI_LARGE_SITE=1 asks for.
FULL = Size(people=100_000, launches=1_000_000, results=10_000, places=10_000)
SMALLER = Size(people=20_000, launches=60_000, results=10_000, places=10_000)


def fill() -> None:
    size = FULL if os.environ.get("LTI_LARGE_SITE") else SMALLER
    made = [
        LtiConsumer.objects.create(consumer_name=f"School {number}")
        for number in range(size.consumers)
    ]
    register(made)
    numbers = asdict(size) | {"first": min(consumer.pk for consumer in made)}
    assert get_user_model()._meta.db_table == "auth_user"
    with connection.cursor() as cursor:
        for statement in SQL:
            cursor.execute(statement, numbers)


def register(consumers: list[LtiConsumer]) -> None:
    """A registration for each, whose log of refusals is full before the consumer is known."""
    for consumer in consumers:
        registration = LtiRegistration.objects.create(
            issuer="https://lms.example",
            client_id=consumer.consumer_name,
            authorization_endpoint="https://lms.example/auth",
            token_endpoint="https://lms.example/token",
            jwks_uri="https://lms.example/keys",
        )
        LtiDeployment.objects.create(
            registration=registration, deployment_id="1", lti_consumer=consumer
        )
        LtiLaunch.objects.bulk_create(
            LtiLaunch(registration=registration, refusal_code="unknown_deployment")
            for _number in range(50)
        )
