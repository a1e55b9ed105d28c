import logging
from itertools import groupby
from operator import attrgetter

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST, require_safe

from courses.forms import ActivityForm, GradeServiceForm, ToolForm, WhoForm
from courses.launches import launch_fields, sign
from courses.models import Activity, Course, ExternalTool, Grade, Person
from courses.people import choose_person, current_person

logger = logging.getLogger(__name__)


@require_safe
def course(request):
    the_course = Course.objects.first()
    by_week = groupby(the_course.activities.all(), key=attrgetter("week"))
    weeks = [(week, list(activities)) for week, activities in by_week]
    return render(request, "courses/course.html", {"course": the_course, "weeks": weeks})


@require_safe
def activity(request, pk):
    return render(request, "courses/activity.html", {"activity": get_activity(pk)})


def add_activity(request):
    the_course = Course.objects.first()
    last = the_course.activities.last()
    form = ActivityForm(
        request.POST or None,
        instance=Activity(course=the_course, week=last.week if last else 1),
        initial={"tool": request.GET.get("tool")},
        label_suffix="",
    )
    if form.is_valid():
        added = form.save()
        messages.success(request, f"“{added}” was added to the course.")
        return redirect(added)
    return render(request, "courses/add_activity.html", {"form": form, "course": the_course})


@require_safe
@never_cache
@xframe_options_sameorigin
def launch(request, pk):
    """Post the signed form at once, from the page's frame or from a window of its own."""
    return render(request, "courses/launch.html", signed_form(request, get_activity(pk)))


@require_safe
@never_cache
def launch_form(request, pk):
    """Show the signed form and let the person post it: once, twice, or with a field changed."""
    return render(request, "courses/form.html", signed_form(request, get_activity(pk)))


@require_safe
@xframe_options_sameorigin
def returned(request, pk):
    """Where the tool sends people back to, with a message for them and one for our log."""
    for name in ("lti_log", "lti_errorlog"):
        if name in request.GET:
            logger.info("%s: %.500r", name, request.GET[name])
    context = {
        "activity": get_activity(pk),
        "message": request.GET.get("lti_msg", "")[:500],
        "error": request.GET.get("lti_errormsg", "")[:500],
    }
    return render(request, "courses/return.html", context)


@require_safe
def tools(request):
    return redirect("courses:tool", ExternalTool.objects.first().pk)


def add_tool(request):
    form = ToolForm(request.POST or None, label_suffix="")
    if form.is_valid():
        added = form.save()
        messages.success(request, f"“{added}” was added. Now add an activity that opens it.")
        return redirect("courses:tool", added.pk)
    context = {"form": form, "tools": ExternalTool.objects.all()}
    return render(request, "courses/tool.html", context)


def tool(request, pk):
    the_tool = get_object_or_404(ExternalTool, pk=pk)
    form = ToolForm(request.POST or None, instance=the_tool, label_suffix="")
    if form.is_valid():
        form.save()
        messages.success(request, "Saved. The next launch is made with these values.")
        return redirect("courses:tool", pk)
    context = {"form": form, "tool": the_tool, "tools": ExternalTool.objects.all()}
    return render(request, "courses/tool.html", context)


def gradebook(request):
    the_course = Course.objects.first()
    form = GradeServiceForm(request.POST or None, instance=the_course, label_suffix="")
    if form.is_valid():
        form.save()
        messages.success(request, f"From now on this LMS {the_course.get_grade_service_display()}.")
        return redirect("courses:gradebook")
    activities = Activity.objects.filter(is_graded=True)
    grades = {(grade.person_id, grade.activity_id): grade for grade in Grade.objects.all()}
    learners = Person.objects.filter(role=Person.Role.LEARNER)
    rows = [(who, [grades.get((who.pk, what.pk)) for what in activities]) for who in learners]
    context = {"form": form, "activities": activities, "rows": rows}
    return render(request, "courses/gradebook.html", context)


@require_POST
def demo_values(request, pk):
    the_tool = get_object_or_404(ExternalTool.objects.exclude(entry=""), pk=pk)
    the_tool.use_demo_values()
    the_tool.save()
    messages.success(request, "The demo's own values are back.")
    return redirect("courses:tool", pk)


@require_POST
def who(request):
    form = WhoForm(request.POST)
    if form.is_valid():
        choose_person(request, form.cleaned_data["person"])
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = reverse("courses:course")
    return redirect(back)


def get_activity(pk):
    return get_object_or_404(Activity.objects.select_related("course", "tool"), pk=pk)


def signed_form(request, the_activity):
    return_url = request.build_absolute_uri(reverse("courses:return", args=[the_activity.pk]))
    outcome_url = request.build_absolute_uri(reverse("courses:outcomes"))
    fields = launch_fields(the_activity, current_person(request), return_url, outcome_url)
    return {
        "activity": the_activity,
        "url": the_activity.launch_url,
        "fields": sign(the_activity.launch_url, fields, the_activity.tool),
    }
