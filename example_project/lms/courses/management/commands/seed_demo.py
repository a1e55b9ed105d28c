from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from courses.models import Activity, Course, ExternalTool, Person

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


class Command(BaseCommand):
    help = "Fill the demo LMS, once: people, a course, its activities and the tool they open."

    @transaction.atomic
    def handle(self, **options):
        if not Course.objects.exists():
            self.add_course()
        for entry, name in (
            (ExternalTool.Entry.OPEN, "Night Sky"),
            (ExternalTool.Entry.ACCOUNTS, "Night Sky, with an account"),
        ):
            if not ExternalTool.objects.filter(entry=entry).exists():
                self.add_tool(entry, name)
        Activity.objects.filter(title__startswith="Quiz").update(is_graded=True)
        # The tool of the demo may have moved to another port since the last run.
        ExternalTool.objects.filter(launch_url__regex=r"^http://localhost:\d+/lti/launch/$").update(
            launch_url=settings.TOOL_LAUNCH_URL
        )

    def add_course(self):
        for given, family, email, role, locale in PEOPLE:
            Person.objects.create(
                given_name=given, family_name=family, email=email, role=role, locale=locale
            )
        Course.objects.create(
            title="Astronomy for everyone",
            label="AST-1",
            summary="Evenings under the open sky, with nothing but your eyes. "
            "The lessons and quizzes come from Night Sky, another site.",
        )

    def add_tool(self, entry, name):
        tool = ExternalTool(entry=entry, name=name)
        tool.use_demo_values()
        tool.save()
        for week, title, target, opens, description in ACTIVITIES:
            if (week == ACCOUNT_WEEK) == (entry == ExternalTool.Entry.ACCOUNTS):
                Activity.objects.create(
                    course=Course.objects.get(),
                    tool=tool,
                    week=week,
                    title=title,
                    target=target,
                    opens=opens,
                    description=description,
                )
