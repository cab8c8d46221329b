// A gateway as it is written where Node.js is at hand: three requests at a time over kept connections, one document.

import http from "node:http";

const agent = new http.Agent({ keepAlive: true, maxSockets: 256, maxFreeSockets: 256 });
const [host, port] = "{{front}}".split(":");
const parts = {
  user: ["{{upstream1}}", "users"],
  orders: ["{{upstream2}}", "orders"],
  stock: ["{{upstream3}}", "stock"],
};

function fetchPart([address, name], id, headers) {
  const [hostname, port] = address.split(":");
  return new Promise((resolve, reject) => {
    const request = http.get({ agent, hostname, port, path: `/${name}/${id}`, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        try {
          resolve(response.statusCode === 200 ? JSON.parse(Buffer.concat(chunks)) : null);
        } catch (error) {
          reject(error);
        }
      });
      response.on("error", reject);
    });
    request.on("error", reject);
  });
}

const server = http.createServer(async (request, response) => {
  const id = /^\/home\/(\d+)$/.exec(request.url)?.[1];
  if (!id) {
    response.writeHead(404).end();
    return;
  }
  const headers = { host: request.headers.host, "x-forwarded-for": request.socket.remoteAddress };
  try {
    const names = Object.keys(parts);
    const answers = await Promise.all(names.map((name) => fetchPart(parts[name], id, headers)));
    const document = JSON.stringify(Object.fromEntries(names.map((name, place) => [name, answers[place]])));
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(document) });
    response.end(document);
  } catch {
    response.writeHead(502).end();
  }
});
server.keepAliveTimeout = 3600_000;
server.listen(Number(port), host);
