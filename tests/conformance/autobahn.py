"""The cases of the Autobahn test suite against both ends of the WebSocket protocol, run by kosoku.

    python tests/conformance/autobahn.py [server|client|all] [CASES ...]

CASES as 1.* or 9.1.6; all by default

server: against a running gworker, once as it is by default and once with compression that keeps its
context. client: kosoku is the server, and `WebSocketClient` on a plain socket is the client.

Exits 1 if a case has FAILED, is NON-STRICT, or was not closed cleanly. The whole of it takes a
quarter of an hour."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gworker.protocols import EOF, NEED_DATA, Opened, ProtocolError
from gworker.protocols.websocket.client import WebSocketClient

GOOD = ("OK", "INFORMATIONAL")
AGENT = "gworker"
LARGEST = 64 << 20
"""Cases 9 send messages of 16 MiB."""

# Everything is compressed, as by default: kosoku 0.1.0 cannot take a text that is sent as it is on
# a connection that may compress, which RFC 7692 section 6 allows.
APP = """
from gworker import Worker

for name, compression in (("default", True), ("keeping", "context-takeover")):
    echo = Worker("websocket://127.0.0.1:0", name=name, compression=compression,
                  max_package_size={largest}, max_send_buffer_size={largest})
    echo.on_message = lambda connection, data: connection.send(data)
"""


def kosoku(*arguments: str) -> list[str]:
    """The command that runs it: installed beside this interpreter."""
    return [str(Path(sys.executable).with_name("kosoku")), *arguments]


def judge(title: str, directory: Path, good: tuple[str, ...] = GOOD) -> bool:
    """Read kosoku's report, print what it says; True if every case is one of `good` and was closed
    cleanly."""
    report = json.loads((directory / "index.json").read_text())
    cases = {case: result for agent in report.values() for case, result in agent.items()}
    bad = [
        f"{case} ({result['behavior']}, closed {result['behaviorClose']})"
        for case, result in cases.items()
        if result["behavior"] not in good or result["behaviorClose"] not in GOOD
    ]
    print(
        f"{title}: {len(cases)} cases, "
        f"{dict(Counter(result['behavior'] for result in cases.values()))}",
        flush=True,
    )
    for line in bad:
        print(f"  {line}")
    return bool(cases) and not bad


# ---- gworker as the server


def listening(command: list[str], directory: str, environment: dict[str, str]) -> dict[str, str]:
    """HOST:PORT by Worker, once they serve."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = subprocess.run(
            [*command, "status", "--json"],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            rows = json.loads(done.stdout)["workers"]
            places = {row["worker"]: (row["listen"] or "").partition("://")[2] for row in rows}
            if places.get("default") and places.get("keeping"):
                return places
        time.sleep(0.2)
    raise SystemExit("gworker did not start")


def server_cases(cases: list[str]) -> bool:
    """Both ways of compressing; what has nothing to do with it only once."""
    command = [sys.executable, "-m", "gworker"]
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "app.py").write_text(APP.format(largest=LARGEST))
        environment = {**os.environ, "XDG_RUNTIME_DIR": directory}
        with subprocess.Popen([*command, "app"], cwd=directory, env=environment) as server:
            try:
                places = listening(command, directory, environment)
                right = run_client(f"server, {'default':7}", places["default"], cases or ["*"])
                return (
                    run_client("server, keeping", places["keeping"], cases or ["12.*", "13.*"])
                    and right
                )
            finally:
                server.terminate()


def run_client(title: str, place: str, cases: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as report:
        included = [word for case in cases for word in ("-i", case)] if cases != ["*"] else []
        subprocess.run(
            kosoku("-m", "fuzzingclient", "-p", "2", *included, "-o", report, place), check=False
        )
        return judge(title, Path(report))


# ---- WebSocketClient as the client


def converse(place: tuple[str, int], target: str, compression: Any) -> list[Any]:
    """Echo what comes until the server closes; return what came."""
    machine = WebSocketClient(LARGEST, f"{place[0]}:{place[1]}", target, compression=compression)
    came: list[Any] = []
    with socket.create_connection(place, timeout=120) as line:
        line.sendall(machine.data_to_send())
        while True:
            data = line.recv(1 << 18)
            machine.receive_data(data)
            try:
                while (event := machine.next_event()) is not NEED_DATA:
                    if event is EOF:
                        with contextlib.suppress(OSError):  # a server need not wait for the answer
                            line.sendall(machine.data_to_send() + machine.close())
                        return came
                    if not isinstance(event, Opened):
                        came.append(event)
                        line.sendall(machine.data_to_send() + machine.encode(event))
            except ProtocolError as error:
                line.sendall(error.reply)
                line.shutdown(socket.SHUT_WR)
                while line.recv(1 << 18):
                    pass
                return came
            if machine.has_output:
                line.sendall(machine.data_to_send())


def client_cases(cases: list[str]) -> bool:
    """kosoku chooses the cases, and counts them."""
    right = True
    for title, keeps in (("client, default", False), ("client, keeping", True)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            place = probe.getsockname()
        compression = {"context_takeover": keeps, "threshold": 1}
        chosen = cases or (["12.*", "13.*"] if keeps else [])
        with tempfile.TemporaryDirectory() as report:
            included = [word for case in chosen for word in ("-i", case)]
            command = kosoku(
                "-m", "fuzzingserver", *included, "-o", report, f"{place[0]}:{place[1]}"
            )
            with subprocess.Popen(command) as server:
                try:
                    await_listener(place)
                    count = int(converse(place, "/getCaseCount", None)[0])
                    for number in range(1, count + 1):
                        run_case(place, number, compression)
                    converse(place, f"/updateReports?agent={AGENT}", None)
                    await_report(Path(report))
                    # Where the server wants a client that forgets its context, one that keeps it
                    # goes uncompressed.
                    good = (*GOOD, "UNIMPLEMENTED") if keeps else GOOD
                    right = judge(title, Path(report), good) and right
                finally:
                    server.terminate()
    return right


def run_case(place: tuple[str, int], number: int, compression: Any) -> None:
    try:
        converse(place, f"/runCase?case={number}&agent={AGENT}", compression)
    except OSError as error:  # the report tells what the server thinks of it
        print(f"case {number}: {error}", flush=True)


def await_listener(place: tuple[str, int]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(place, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("kosoku did not start")


def await_report(directory: Path) -> None:
    """It is written after the connection that asked for it has ended."""
    end = time.monotonic() + 60
    while not (directory / "index.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    what, cases = (arguments[0], arguments[1:]) if arguments else ("all", [])
    ends = {
        "server": [server_cases],
        "client": [client_cases],
        "all": [server_cases, client_cases],
    }[what]
    results = [end(cases) for end in ends]  # all of them, even if one is bad
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
