from django.db import migrations, models

import courses.models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0004_tools_of_ones_own"),
    ]

    operations = [
        migrations.CreateModel(
            name="Campus",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "grade_service",
                    models.CharField(
                        choices=[
                            ("works", "takes grades"),
                            ("fails", "fails (HTTP status 500)"),
                            ("stalls", "answers after 15 seconds"),
                            ("throttles", "asks to come later"),
                            ("nonsense", "answers nonsense"),
                        ],
                        default="works",
                        help_text="See how the tool copes, and that nothing is lost.",
                        max_length=10,
                        verbose_name="this LMS",
                    ),
                ),
                (
                    "key_set",
                    models.CharField(
                        choices=[
                            ("works", "publishes its key"),
                            ("fails", "fails (HTTP status 500)"),
                        ],
                        default="works",
                        max_length=10,
                        verbose_name="key set URL",
                    ),
                ),
                ("key", models.JSONField(default=courses.models.make_key)),
            ],
        ),
        migrations.AlterModelOptions(name="course", options={"ordering": ["-label"]}),
        migrations.RemoveField(model_name="course", name="grade_service"),
        migrations.AddField(
            model_name="externaltool",
            name="version",
            field=models.CharField(
                choices=[("1.3", "LTI 1.3"), ("1.1", "LTI 1.1")], default="1.1", max_length=3
            ),
        ),
        migrations.AddField(
            model_name="externaltool",
            name="client_id",
            field=models.CharField(default=courses.models.make_id, editable=False, max_length=255),
        ),
        migrations.AddField(
            model_name="externaltool",
            name="deployment_id",
            field=models.CharField(
                default=courses.models.make_id,
                help_text="Made by this LMS. Change it to see a refusal.",
                max_length=255,
            ),
        ),
        migrations.AddField(
            model_name="externaltool",
            name="login_url",
            field=models.URLField(blank=True, verbose_name="login URL"),
        ),
        migrations.AddField(
            model_name="externaltool",
            name="redirect_uri",
            field=models.URLField(blank=True, verbose_name="redirect URI"),
        ),
        migrations.AddField(
            model_name="externaltool",
            name="key_set_url",
            field=models.URLField(blank=True, verbose_name="key set URL"),
        ),
        migrations.AlterField(
            model_name="externaltool",
            name="launch_url",
            field=models.URLField(
                help_text="Activities add their own path to it.", verbose_name="launch URL"
            ),
        ),
        migrations.AlterField(
            model_name="externaltool",
            name="consumer_key",
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AlterField(
            model_name="externaltool",
            name="shared_secret",
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AlterField(
            model_name="externaltool",
            name="instance_guid",
            field=models.CharField(
                blank=True,
                default="lms.campus.example",
                help_text="Sent with each launch, unless it is empty.",
                max_length=255,
                verbose_name="name of this installation",
            ),
        ),
    ]
