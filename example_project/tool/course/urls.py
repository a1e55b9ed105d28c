from django.urls import path

from course import views

app_name = "course"
urlpatterns = [
    path("", views.home, name="home"),
    path("lessons/", views.lessons, name="lessons"),
    path("lessons/<slug:slug>/", views.lesson, name="lesson"),
    path("lessons/<slug:slug>/quiz/", views.quiz, name="quiz"),
    path("lessons/<slug:slug>/class/", views.class_results, name="class"),
    path("results/", views.results, name="results"),
    path("results/<int:pk>/", views.attempt, name="attempt"),
]
