import re
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from courses.models import Activity, Campus, Course, ExternalTool, Person

PEOPLE = [
    ("Amara", "Okafor", "amara@campus.example", Person.Role.LEARNER, "en-GB"),
    ("Jonas", "Weber", "jonas@campus.example", Person.Role.LEARNER, "de-DE"),
    ("Ines", "Duarte", "ines@campus.example", Person.Role.INSTRUCTOR, "en-GB"),
]
FRAME, WINDOW = Activity.Opens.FRAME, Activity.Opens.WINDOW
ACTIVITIES = [
    (1, "Lesson: Finding north", "lessons/finding-north/", FRAME,
     "Read how two stars of the Plough point to the Pole Star."),
    (1, "Quiz: Finding north", "lessons/finding-north/quiz/", FRAME,
     "Three short questions. You can take it as often as you like."),
    (2, "Quiz: Faces of the Moon", "lessons/faces-of-the-moon/quiz/", WINDOW,
     "The same kind of quiz, in a window of its own."),
    (3, "Night Sky, the whole course", "", WINDOW,
     "All lessons at a glance, for those who want to read ahead."),
    (4, "Quiz: Colours of stars", "lessons/colours-of-stars/quiz/", FRAME,
     "For those who have an account at Night Sky: it asks you, once, to sign in there."),
]  # fmt: skip
ACCOUNT_WEEK = 4

COURSES = [
    ("AST-2", "Astronomy for everyone", ExternalTool.Version.LTI_1_3,
     "Evenings under the open sky. The lessons and quizzes come from Night Sky, by LTI 1.3."),
    ("AST-1", "Astronomy, last year", ExternalTool.Version.LTI_1_1,
     "The same lessons and quizzes by LTI 1.1, with grades that come back to the gradebook."),
]  # fmt: skip
TOOLS = [
    (ExternalTool.Entry.OPEN, "Night Sky"),
    (ExternalTool.Entry.ACCOUNTS, "Night Sky, with an account"),
]


class Command(BaseCommand):
    help = "Fill the demo LMS, once: people, courses, their activities and the tools they open."

    @transaction.atomic
    def handle(self, **options):
        Campus.objects.get_or_create()
        if not Person.objects.exists():
            add_people()
        for label, title, version, summary in COURSES:
            fields = {"title": title, "summary": summary}
            course, _created = Course.objects.update_or_create(label=label, defaults=fields)
            for entry, name in TOOLS:
                if not ExternalTool.objects.filter(version=version, entry=entry).exists():
                    add_tool(course, ExternalTool(version=version, entry=entry, name=name))
        Activity.objects.filter(title__startswith="Quiz").update(is_graded=True)
        follow_to_this_port()


def add_people():
    for given, family, email, role, locale in PEOPLE:
        Person.objects.create(
            given_name=given, family_name=family, email=email, role=role, locale=locale
        )


def add_tool(course, tool):
    tool.use_demo_values()
    tool.save()
    for week, title, target, opens, description in ACTIVITIES:
        if (week == ACCOUNT_WEEK) == (tool.entry == ExternalTool.Entry.ACCOUNTS):
            Activity.objects.create(
                course=course,
                tool=tool,
                week=week,
                title=title,
                target=target,
                opens=opens,
                description=description,
            )


def follow_to_this_port():
    """The tool of the demo may have moved to another port since the last run."""
    for name, url in settings.TOOL_URLS.items():
        path = re.escape(urlsplit(url).path)
        moved = ExternalTool.objects.filter(**{f"{name}__regex": rf"^http://localhost:\d+{path}$"})
        moved.update(**{name: url})
