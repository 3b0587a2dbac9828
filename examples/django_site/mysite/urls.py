"""Which view answers which path."""

from django.contrib import admin
from django.urls import path
from notes import views

urlpatterns = [
    path("", views.index),
    path("export.csv", views.export),
    path("attachment/<int:number>", views.attachment),
    path("process", views.process),
    path("admin/", admin.site.urls),
]
