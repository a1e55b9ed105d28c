import json
import logging
from itertools import groupby
from operator import attrgetter
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from courses.forms import TOOL_FORMS, ActivityForm, GradeServiceForm, KeySetForm, WhoForm
from courses.launches import launch_fields, sign
from courses.logins import (
    Refused,
    UnknownTool,
    check,
    find_tool,
    login_fields,
    make_token,
    public_key,
)
from courses.models import Activity, Campus, Course, ExternalTool, Grade, Person, make_key
from courses.people import choose_person, current_person

logger = logging.getLogger(__name__)


@require_safe
def home(request):
    return course(request, Course.objects.first().pk)


@require_safe
def course(request, pk):
    the_course = get_object_or_404(Course, pk=pk)
    by_week = groupby(the_course.activities.select_related("tool"), key=attrgetter("week"))
    context = {
        "course": the_course,
        "courses": Course.objects.all(),
        "weeks": [(week, list(activities)) for week, activities in by_week],
    }
    return render(request, "courses/course.html", context)


@require_safe
def activity(request, pk):
    return render(request, "courses/activity.html", {"activity": get_activity(pk)})


def add_activity(request):
    initial = {"course": Course.objects.first().pk, "week": 1} | request.GET.dict()
    form = ActivityForm(request.POST or None, initial=initial, label_suffix="")
    if form.is_valid():
        added = form.save()
        messages.success(request, f"“{added}” was added to the course.")
        return redirect(added)
    return render(request, "courses/add_activity.html", {"form": form})


@require_safe
@never_cache
@xframe_options_sameorigin
def launch(request, pk):
    """Open the activity, in the page's frame or in a window of its own."""
    the_activity = get_activity(pk)
    if the_activity.tool.speaks_1_3:
        fields = login_fields(the_activity, sign_in(request))
        return redirect(add_query(the_activity.tool.login_url, fields))
    context = {
        "tool": the_activity.tool,
        "url": the_activity.launch_url,
        "fields": signed_fields(request, the_activity),
    }
    return render(request, "courses/launch.html", context)


@require_safe
@never_cache
def launch_form(request, pk):
    """Show what opens the activity, and let the person send it: once, twice, or changed."""
    the_activity = get_activity(pk)
    if the_activity.tool.speaks_1_3:
        fields = login_fields(the_activity, sign_in(request), is_shown=True)
        context = {"activity": the_activity, "fields": fields.items()}
        return render(request, "courses/login.html", context)
    context = {"activity": the_activity, "fields": signed_fields(request, the_activity)}
    return render(request, "courses/form.html", context)


@csrf_exempt  # Some tools post what others put into the address.
@require_http_methods(["GET", "POST"])
@never_cache
@xframe_options_sameorigin
def authorize(request):
    """The authorization endpoint of LTI 1.3."""
    asked = (request.POST if request.method == "POST" else request.GET).dict()
    try:
        the_tool = find_tool(asked)
    except UnknownTool as reason:
        return render(request, "courses/unknown_tool.html", {"reason": reason}, status=400)
    signed_in = request.session.get("person")
    if signed_in is None and "again" not in asked:
        # In a frame, some browsers keep our cookie back after a redirect by the tool's site. A page
        # of our own gets it.
        fields = [*asked.items(), ("again", "yes")]
        context = {"tool": the_tool, "url": request.path, "fields": fields}
        return render(request, "courses/launch.html", context)
    context = {"tool": the_tool, "url": the_tool.redirect_uri, "asked": asked}
    state = [("state", asked["state"])] if "state" in asked else []
    try:
        person, the_activity, is_shown = check(asked, the_tool, signed_in)
    except Refused as refusal:
        error = [("error", refusal.error), ("error_description", refusal.description)]
        return render(request, "courses/launch.html", context | {"fields": error + state})
    return_url = get_return_url(request, the_activity)
    header, claims, token = make_token(the_activity, person, asked["nonce"], return_url)
    context |= {"fields": [("id_token", token), *state]}
    if not is_shown:
        return render(request, "courses/launch.html", context)
    context |= {"activity": the_activity, "header": pretty(header), "claims": pretty(claims)}
    return render(request, "courses/token.html", context)


@require_safe
def key_set(request):
    """The key set URL of LTI 1.3, where tools find what they verify our tokens with."""
    if Campus.objects.get().key_set == Campus.KeySet.FAILS:
        return HttpResponse("<h1>Server Error (500)</h1>", status=500)
    return JsonResponse({"keys": [public_key()]}, headers={"Cache-Control": "max-age=3600"})


def key(request):
    campus = Campus.objects.get()
    form = KeySetForm(request.POST or None, instance=campus, label_suffix="")
    if form.is_valid():
        form.save()
        messages.success(request, f"From now on the key set URL {campus.get_key_set_display()}.")
        return redirect("courses:key")
    context = {"form": form, "key": pretty(public_key())}
    return render(request, "courses/key.html", context)


@require_POST
def new_key(request):
    Campus.objects.update(key=make_key())
    messages.success(request, "Tokens are signed with a new key from now on.")
    return redirect("courses:key")


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


def add_tool(request, version):
    form = TOOL_FORMS[version](
        request.POST or None, instance=ExternalTool(version=version), label_suffix=""
    )
    if form.is_valid():
        added = form.save()
        messages.success(request, f"“{added}” was added. Now add an activity that opens it.")
        return redirect(added)
    context = {"form": form, "version": version, "tools": ExternalTool.objects.all()}
    return render(request, "courses/tool.html", context)


def tool(request, pk):
    the_tool = get_object_or_404(ExternalTool, pk=pk)
    form = TOOL_FORMS[the_tool.version](request.POST or None, instance=the_tool, label_suffix="")
    if form.is_valid():
        form.save()
        messages.success(request, "Saved. The next launch is made with these values.")
        return redirect(the_tool)
    context = {
        "form": form,
        "tool": the_tool,
        "version": the_tool.version,
        "tools": ExternalTool.objects.all(),
        "issuer": settings.ISSUER,
        "authorization_endpoint": request.build_absolute_uri(reverse("courses:authorize")),
        "key_set_url": request.build_absolute_uri(reverse("courses:key_set")),
    }
    return render(request, "courses/tool.html", context)


def gradebook(request):
    campus = Campus.objects.get()
    form = GradeServiceForm(request.POST or None, instance=campus, label_suffix="")
    if form.is_valid():
        form.save()
        messages.success(request, f"From now on this LMS {campus.get_grade_service_display()}.")
        return redirect("courses:gradebook")
    by_1_1 = ExternalTool.Version.LTI_1_1
    activities = Activity.objects.filter(is_graded=True, tool__version=by_1_1)
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
    return redirect(the_tool)


@require_POST
def who(request):
    form = WhoForm(request.POST)
    if form.is_valid():
        choose_person(request, form.cleaned_data["person"])
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = reverse("courses:home")
    return redirect(back)


def get_activity(pk):
    return get_object_or_404(Activity.objects.select_related("course", "tool"), pk=pk)


def get_return_url(request, the_activity):
    return request.build_absolute_uri(reverse("courses:return", args=[the_activity.pk]))


def signed_fields(request, the_activity):
    """The form of LTI 1.1."""
    return_url = get_return_url(request, the_activity)
    outcome_url = request.build_absolute_uri(reverse("courses:outcomes"))
    fields = launch_fields(the_activity, current_person(request), return_url, outcome_url)
    return sign(the_activity.launch_url, fields, the_activity.tool)


def sign_in(request):
    """Note in the session who is launching: it is asked for again by the tool's answer."""
    person = current_person(request)
    choose_person(request, person)
    return person


def add_query(url, fields):
    return f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"


def pretty(value):
    return json.dumps(value, indent=2, ensure_ascii=False)
