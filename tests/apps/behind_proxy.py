"""What the configurations of proxies in contrib/ are about: requests, WebSockets, events, a
protocol of one's own."""

import os

from gworker import Response, Worker

web = Worker("http://127.0.0.1:0", forwarded_allow_ips="127.0.0.1")
box = Worker(f"http://{os.path.abspath('sockets/http.sock')}", transport="unix", unix_mode=0o660)
lines = Worker("text://127.0.0.1:0", proxy_protocol=True, forwarded_allow_ips="127.0.0.1")


@web.on_message
def answer(connection, request):
    if request.path == "/ws":
        return request.upgrade(on_message=echo)
    if request.path == "/events":
        return Response.events(str(number) for number in range(3))
    return f"{request.client_ip} {request.scheme} {len(request.body)}"


box.on_message = answer


def echo(connection, data):
    connection.send(data)


@lines.on_message
def tell(connection, line):
    connection.send(f"{connection.remote_ip}:{connection.remote_port} {line}")
