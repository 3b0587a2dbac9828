// The services on Node.js: node peers/server.js SERVICE PORT [CERTIFICATE KEY]. http and https are Node's own, ws is the package of that name.
"use strict";

const fs = require("fs");

const [service, port, certificate, key] = process.argv.slice(2);

function answer(response, body, fields = { "Content-Type": "text/html; charset=utf-8" }) {
  response.writeHead(200, { ...fields, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

function withBody(request, act) {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => act(Buffer.concat(pieces)));
}

const pageOf = (request) => new URL(request.url, "http://localhost").searchParams.get("page") ?? "";

const handlers = {
  hello: (request, response) => answer(response, "Hello, world"),
  read(request, response) {
    const url = new URL(request.url, "http://localhost");
    const cookies = new Map((request.headers.cookie ?? "").split("; ").map((pair) => pair.split("=")));
    const page = url.searchParams.get("page");
    answer(response, [url.pathname, page, request.headers["accept-language"], cookies.get("session")].join(" "));
  },
  respond: (request, response) =>
    answer(response, "Hello, world", {
      "Content-Type": "text/plain", "Cache-Control": "no-store", "X-Page": pageOf(request),
    }),
  document: (request, response) =>
    withBody(request, (body) =>
      answer(response, JSON.stringify(JSON.parse(body.toString() || "0")), { "Content-Type": "application/json" })),
  upload: (request, response) => withBody(request, (body) => answer(response, String(body.length))),
  sleepy(request, response) {
    const reply = () => answer(response, "Hello, world");
    if (request.url.split("?")[0].endsWith("00")) setTimeout(reply, 50);
    else reply();
  },
};

if (service === "ws") {
  const { WebSocketServer } = require("ws");
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), backlog: 4096, perMessageDeflate: false });
  server.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
} else if (certificate) {
  const options = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
  require("https").createServer(options, handlers.hello).listen(Number(port), "127.0.0.1", 4096);
} else {
  require("http").createServer(handlers[service]).listen(Number(port), "127.0.0.1", 4096);
}
