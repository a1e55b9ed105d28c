from django.contrib import admin

from course.models import Attempt, Choice, Lesson, Question


@admin.register(Lesson)
class LessonAdmin(admin.ModelAdmin):
    list_display = ["order", "title", "summary"]
    list_display_links = ["title"]
    prepopulated_fields = {"slug": ["title"]}


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 0


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    list_display = ["text", "lesson"]
    list_filter = ["lesson"]
    inlines = [ChoiceInline]


@admin.register(Attempt)
class AttemptAdmin(admin.ModelAdmin):
    list_display = ["taken_at", "user", "lesson", "lti_context", "correct", "total"]
    list_filter = ["lesson", "taken_at"]
    list_select_related = ["user", "lesson", "lti_context"]

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False
