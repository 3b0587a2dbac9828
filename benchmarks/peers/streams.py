"""Echoes on uvloop: python peers/streams.py tcp|text|frame|tls|ws PORT [CERTIFICATE KEY].

tcp, text, frame and tls are protocols of asyncio; ws is picows.
"""

import asyncio
import ssl
import sys

import uvloop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoLines(Echo):
    def data_received(self, data: bytes) -> None:
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.transport.write(line.decode().encode() + b"\n")


class EchoFrames(Echo):
    def data_received(self, data: bytes) -> None:
        data, start = self.buffer + data, 0
        while len(data) - start >= 4:
            end = start + int.from_bytes(data[start : start + 4])
            if end > len(data):
                break
            payload = data[start + 4 : end]
            self.transport.write((len(payload) + 4).to_bytes(4) + payload)
            start = end
        self.buffer = data[start:]


PROTOCOLS = {"tcp": Echo, "text": EchoLines, "frame": EchoFrames, "tls": Echo}


async def serve_websockets(port: int) -> asyncio.Server:
    import picows

    class EchoMessages(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())

    return await picows.ws_create_server(
        lambda _: EchoMessages(), "127.0.0.1", port, backlog=4096, enable_auto_ping=False
    )


async def serve(service: str, port: int, *certificate: str) -> None:
    if service == "ws":
        server = await serve_websockets(port)
    else:
        context = None
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
        server = await asyncio.get_running_loop().create_server(
            PROTOCOLS[service], "127.0.0.1", port, backlog=4096, ssl=context
        )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
