"""A Flask site, or a cron job, that publishes to the connections of a gworker instance.

    gworker examples/messages/notifications.py --name notifications
    flask --app examples/messages/publish_from_flask run         # then POST /shipped/ada
    python examples/messages/publish_from_flask.py ada           # as from cron

With `--broker redis://…` the first argument of Publisher is that URL, and `cluster` the
--cluster-name.
"""

import os
import sys

from flask import Flask

from gworker import Publisher

publisher = Publisher(
    os.environ.get("BROKER", "local"), cluster=os.environ.get("CLUSTER", "notifications")
)
app = Flask(__name__)


@app.post("/shipped/<user>")
def shipped(user: str) -> dict[str, bool]:
    """Tell the user, if they are there."""
    return {"told": publisher.send_to_user(user, "Your order has shipped") > 0}


if __name__ == "__main__":
    reached = publisher.send_to_user(sys.argv[1], "Your order has shipped")
    print(f"processes that have the message: {reached}")
