from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0001_people_course_and_tool"),
    ]

    operations = [
        migrations.AddField(
            model_name="externaltool",
            name="entry",
            field=models.CharField(
                choices=[("open", "Open"), ("accounts", "Accounts")],
                default="open",
                editable=False,
                max_length=10,
            ),
        ),
    ]
