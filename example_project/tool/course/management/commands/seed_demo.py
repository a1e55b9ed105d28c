import tomllib
from pathlib import Path

import environ
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration

from course.models import Choice, Lesson, Question

CONTENT = Path(__file__).resolve().parents[2] / "content.toml"
# What an administrator copies from the LMS's page of the tool, its ids aside.
LMS_URL = "http://127.0.0.1:8001/"
ISSUER = "https://lms.campus.example"
LOOPBACK = "127.0.0.0/8\n::1/128"
LEARNERS = [
    ("maria", "Maria", "Lopes", "maria@nightsky.example"),
    ("tom", "Tom", "Sawicki", "tom@nightsky.example"),
    # People of the demo LMS who have an account here too.
    ("amara", "Amara", "Okafor", "amara@campus.example"),
    ("jonas", "Jonas", "Weber", "jonas@campus.example"),
    ("ines", "Ines", "Duarte", "ines@campus.example"),
]


class Command(BaseCommand):
    help = "Fill the site, once: lessons, local accounts, and the LMS that may launch it."

    def add_arguments(self, parser):
        parser.add_argument("--consumer-name", default="Harbour Campus")

    @transaction.atomic
    def handle(self, *, consumer_name, **options):
        env = environ.Env()
        if not Lesson.objects.exists():
            add_lessons()
        add_learners()
        # From the environment: the arguments of a command are visible to every process.
        consumer = add_consumer(
            consumer_name,
            env("DEMO_LTI_KEY"),
            env("DEMO_LTI_SECRET"),
            personal_data="name",
        )
        add_deployment(consumer, env("DEMO_CLIENT_ID"), "1", env("LMS_URL", default=LMS_URL))
        consumer = add_consumer(
            f"{consumer_name} (accounts)",
            env("DEMO_ACCOUNTS_LTI_KEY"),
            env("DEMO_ACCOUNTS_LTI_SECRET"),
            require_user_account=True,
        )
        add_deployment(
            consumer, env("DEMO_ACCOUNTS_CLIENT_ID"), "2", env("LMS_URL", default=LMS_URL)
        )
        set_admin(env("DEMO_ADMIN_PASSWORD", default="admin"))


def add_lessons():
    for order, fields in enumerate(tomllib.loads(CONTENT.read_text("utf-8"))["lessons"], 1):
        questions = fields.pop("questions")
        fields["body"] = fields["body"].strip()
        lesson = Lesson.objects.create(order=order, **fields)
        for question in questions:
            add_question(lesson, **question)


def add_question(lesson, text, explanation, choices):
    question = Question.objects.create(lesson=lesson, text=text, explanation=explanation)
    for choice in choices:
        Choice.objects.create(
            question=question, text=choice.removeprefix("*"), is_correct=choice.startswith("*")
        )


def add_learners():
    users = get_user_model().objects
    for username, first_name, last_name, email in LEARNERS:
        if not users.filter(username=username).exists():
            users.create_user(username, email, username, first_name=first_name, last_name=last_name)


def add_consumer(name, key, secret, **choices):
    consumer = LtiConsumer.objects.with_key(key)
    if consumer is None:
        consumer = LtiConsumer.objects.create(
            consumer_name=name, consumer_key=key, consumer_secret=secret, **choices
        )
    # Grades go to public addresses only, and the demo LMS is on this very machine.
    if not consumer.service_networks:
        consumer.service_networks = LOOPBACK
        consumer.save()
    return consumer


def add_deployment(consumer, client_id, deployment_id, lms_url):
    registration = LtiRegistration.objects.with_client(ISSUER, client_id)
    if registration is None:
        # Keys are fetched from public addresses only, and by https, where no network is named.
        registration = LtiRegistration(
            issuer=ISSUER, client_id=client_id, service_networks=LOOPBACK
        )
    # The LMS may have moved to another port since the last run.
    registration.authorization_endpoint = f"{lms_url}authorize/"
    registration.jwks_uri = f"{lms_url}key-set/"
    registration.save()
    if not LtiDeployment.objects.with_id(registration.pk, deployment_id):
        LtiDeployment.objects.create(
            registration=registration, deployment_id=deployment_id, lti_consumer=consumer
        )


def set_admin(password):
    users = get_user_model().objects
    admin = users.filter(username="admin").first()
    if admin is None:
        users.create_superuser("admin", email="admin@tool.example", password=password)
    elif not admin.check_password(password):
        admin.set_password(password)
        admin.save()
