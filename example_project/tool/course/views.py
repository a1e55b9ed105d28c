from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from lti_provider.decorators import role_required
from lti_provider.message import Role

from course.forms import QuizForm
from course.models import Attempt, Lesson


@require_safe
def home(request):
    return render(request, "course/home.html", {"lessons": Lesson.objects.all()})


@require_safe
def lessons(request):
    return render(request, "course/lessons.html", {"lessons": Lesson.objects.all()})


@require_safe
def lesson(request, slug):
    the_lesson = get_object_or_404(Lesson, slug=slug)
    following = Lesson.objects.filter(order__gt=the_lesson.order).first()
    context = {"lesson": the_lesson, "following": following}
    return render(request, "course/lesson.html", context)


@login_required
def quiz(request, slug):
    the_lesson = get_object_or_404(Lesson, slug=slug)
    form = QuizForm(request.POST or None, lesson=the_lesson)
    if form.is_valid():
        with transaction.atomic():
            attempt = form.save(request.user, request.lti.context)
            work = request.build_absolute_uri(attempt.get_absolute_url())
            request.lti.submit_score(attempt.correct, attempt.total, submission_url=work)
        messages.success(request, _("Your answers are stored."))
        return redirect(attempt)
    return render(request, "course/quiz.html", {"lesson": the_lesson, "form": form})


@require_safe
@login_required
def attempt(request, pk):
    the_attempt = get_object_or_404(Attempt.objects.of_user(request.user), pk=pk)
    chosen = {choice.question_id: choice for choice in the_attempt.choices.all()}
    questions = the_attempt.lesson.questions.prefetch_related("choices")
    answers = [(question, chosen.get(question.pk)) for question in questions]
    return render(request, "course/attempt.html", {"attempt": the_attempt, "answers": answers})


@require_safe
@login_required
def results(request):
    attempts = Attempt.objects.of_user(request.user)
    return render(request, "course/results.html", {"attempts": attempts})


@require_safe
@role_required(Role.INSTRUCTOR)
def class_results(request, slug):
    the_lesson = get_object_or_404(Lesson, slug=slug)
    attempts = Attempt.objects.none()
    if request.lti.context:
        attempts = Attempt.objects.of_class(the_lesson, request.lti.context)
    context = {"lesson": the_lesson, "attempts": attempts}
    return render(request, "course/class.html", context)
