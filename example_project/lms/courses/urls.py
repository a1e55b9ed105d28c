from django.urls import path

from courses import views
from courses.outcomes import outcomes

app_name = "courses"
urlpatterns = [
    path("", views.course, name="course"),
    path("who/", views.who, name="who"),
    path("gradebook/", views.gradebook, name="gradebook"),
    path("outcomes/", outcomes, name="outcomes"),
    path("tools/", views.tools, name="tools"),
    path("tools/add/", views.add_tool, name="add_tool"),
    path("tools/<int:pk>/", views.tool, name="tool"),
    path("tools/<int:pk>/demo-values/", views.demo_values, name="demo_values"),
    path("activities/add/", views.add_activity, name="add_activity"),
    path("activities/<int:pk>/", views.activity, name="activity"),
    path("activities/<int:pk>/launch/", views.launch, name="launch"),
    path("activities/<int:pk>/form/", views.launch_form, name="form"),
    path("activities/<int:pk>/return/", views.returned, name="return"),
]
