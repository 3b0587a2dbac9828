"""An upload form, and the files that were sent to it: bodies of any size, never whole in memory.

    UPLOADS=/tmp/uploads gworker examples/upload.py

Then open http://127.0.0.1:8000, or `curl -F file=@README.md http://127.0.0.1:8000/`.
"""

import html
import os
import secrets
from urllib.parse import quote

from gworker import Connection, Request, Response, Worker
from gworker.http import Static

UPLOADS = os.environ.get("UPLOADS", "uploads")
os.makedirs(UPLOADS, exist_ok=True)

web = Worker(os.environ.get("LISTEN", "http://127.0.0.1:8000"), name="upload", stream_above="64K")
files = Static(UPLOADS, prefix="/files/", headers={"Content-Security-Policy": "sandbox"})

PAGE = """<!doctype html><title>Uploads</title>
<form method=post enctype=multipart/form-data>
<input type=file name=file required><button>Send</button></form>
<ul>{}</ul>
"""


@web.on_message
def answer(connection: Connection, request: Request) -> None:
    if request.path.startswith("/files/"):
        files(connection, request)
    elif request.method == "POST":
        form = request.parse_form(max_size=1 << 30)  # of a malformed one the client hears: 400
        sent = [file for _, file in form.files if file.filename.strip(".")]
        for (
            file
        ) in sent:  # another name than the client's, which may be that of somebody else's file
            file.save(os.path.join(UPLOADS, f"{secrets.token_hex(4)}-{file.filename}"))
        connection.send(
            Response.redirect("/", 303) if sent else Response("no file was sent\n", 400)
        )
    else:
        links = (
            f'<li><a href="/files/{quote(name)}">{html.escape(name)}</a>'
            for name in sorted(os.listdir(UPLOADS))
        )
        connection.send(PAGE.format("\n".join(links)))
