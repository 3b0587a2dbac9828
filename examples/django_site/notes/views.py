"""The pages."""

import hashlib
import os
import time
from collections.abc import Iterator

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.template import RequestContext, Template
from django.views.decorators.csrf import csrf_exempt

from .models import Note

PAGE = Template("""<!doctype html>
<title>Notes</title>
<form method="post" enctype="multipart/form-data">{% csrf_token %}
  <input name="text" required> <input name="file" type="file"> <button>Add</button>
</form>
<ul>{% for note in notes %}
  <li>{{ note }}{% if note.file %} <a href="/attachment/{{ note.id }}">file</a>{% endif %}</li>
{% endfor %}</ul>
<a href="/export.csv">all of them</a>
""")


def index(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"], file=request.FILES.get("file", ""))
        return HttpResponseRedirect("/")
    notes = Note.objects.order_by("-id")[:50]
    return HttpResponse(PAGE.render(RequestContext(request, {"notes": notes})))


def export(request: HttpRequest) -> StreamingHttpResponse:
    """A line per note, each as it is read; `?pause=0.1` takes its time."""
    pause = float(request.GET.get("pause", 0))

    def lines() -> Iterator[str]:
        yield "id,text\n"
        for note in Note.objects.order_by("id").iterator():
            yield f'{note.pk},"{note.text}"\n'
            time.sleep(pause)

    return StreamingHttpResponse(lines(), content_type="text/csv")


def attachment(request: HttpRequest, number: int) -> FileResponse:
    note = get_object_or_404(Note, pk=number)
    return FileResponse(note.file.open("rb"), as_attachment=True)


@csrf_exempt
def process(request: HttpRequest) -> JsonResponse:
    """Which process has answered, and what it was sent."""
    digest = hashlib.sha1(request.body).hexdigest()
    return JsonResponse({"pid": os.getpid(), "size": len(request.body), "sha1": digest})
