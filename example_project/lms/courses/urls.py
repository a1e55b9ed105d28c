from django.urls import path

from courses import views
from courses.outcomes import outcomes

app_name = "courses"
urlpatterns = [
    path("", views.home, name="home"),
    path("courses/<int:pk>/", views.course, name="course"),
    path("who/", views.who, name="who"),
    path("gradebook/", views.gradebook, name="gradebook"),
    path("outcomes/", outcomes, name="outcomes"),
    path("authorize/", views.authorize, name="authorize"),
    path("key-set/", views.key_set, name="key_set"),
    path("key/", views.key, name="key"),
    path("key/new/", views.new_key, name="new_key"),
    path("tools/", views.tools, name="tools"),
    path("tools/add/1.3/", views.add_tool, {"version": "1.3"}, name="add_1_3"),
    path("tools/add/1.1/", views.add_tool, {"version": "1.1"}, name="add_1_1"),
    path("tools/<int:pk>/", views.tool, name="tool"),
    path("tools/<int:pk>/demo-values/", views.demo_values, name="demo_values"),
    path("activities/add/", views.add_activity, name="add_activity"),
    path("activities/<int:pk>/", views.activity, name="activity"),
    path("activities/<int:pk>/launch/", views.launch, name="launch"),
    path("activities/<int:pk>/form/", views.launch_form, name="form"),
    path("activities/<int:pk>/return/", views.returned, name="return"),
]
