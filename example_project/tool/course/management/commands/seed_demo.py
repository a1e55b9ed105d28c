import tomllib
from pathlib import Path

import environ
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from lti_provider.models import LtiConsumer

from course.models import Choice, Lesson, Question

CONTENT = Path(__file__).resolve().parents[2] / "content.toml"
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
        add_consumer(
            consumer_name,
            env("DEMO_LTI_KEY"),
            env("DEMO_LTI_SECRET"),
            personal_data="name",
        )
        add_consumer(
            f"{consumer_name} (accounts)",
            env("DEMO_ACCOUNTS_LTI_KEY"),
            env("DEMO_ACCOUNTS_LTI_SECRET"),
            require_user_account=True,
        )
        allow_loopback(env("DEMO_LTI_KEY"), env("DEMO_ACCOUNTS_LTI_KEY"))
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
    if not LtiConsumer.objects.with_key(key):
        LtiConsumer.objects.create(
            consumer_name=name, consumer_key=key, consumer_secret=secret, **choices
        )


def allow_loopback(*keys):
    """Grades go to public addresses only, and the demo LMS is on this very machine."""
    LtiConsumer.objects.filter(consumer_key__in=keys, service_networks="").update(
        service_networks="127.0.0.0/8\n::1/128"
    )


def set_admin(password):
    users = get_user_model().objects
    admin = users.filter(username="admin").first()
    if admin is None:
        users.create_superuser("admin", email="admin@tool.example", password=password)
    elif not admin.check_password(password):
        admin.set_password(password)
        admin.save()
