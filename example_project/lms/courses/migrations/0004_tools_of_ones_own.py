from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0003_grades"),
    ]

    operations = [
        migrations.AlterField(
            model_name="externaltool",
            name="entry",
            field=models.CharField(
                blank=True,
                choices=[("open", "Open"), ("accounts", "Accounts")],
                default="",
                editable=False,
                max_length=10,
            ),
        ),
    ]
