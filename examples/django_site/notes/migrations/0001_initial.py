"""The first tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("text", models.CharField(max_length=200)),
                ("file", models.FileField(blank=True, upload_to="notes")),
                ("created", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
