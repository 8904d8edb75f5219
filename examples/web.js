#!/usr/bin/node
// The examples' web server. GET / names the pod; POST /v1/request-landing is what the ships ask the death star;
// GET /bytes/N answers N bytes. Listens on PORT (80).
const { createServer } = require('node:http')
const { hostname } = require('node:os')

createServer((request, response) => {
  const { method, url } = request
  const bytes = /^\/bytes\/(\d{1,10})$/.exec(url)
  request.resume()
  if (method === 'POST' && url === '/v1/request-landing') response.end('Ship landed\n')
  else if (bytes) {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes[1] })
    send(response, Number(bytes[1]))
  } else response.end(`${hostname()} ${request.socket.localAddress}\n`)
}).listen(Number(process.env.PORT ?? 80))

function send(response, left) {
  const chunk = Buffer.alloc(65536, 'x')
  while (left > 0) {
    const part = left < chunk.length ? chunk.subarray(0, left) : chunk
    left -= part.length
    if (!response.write(part)) return void response.once('drain', () => send(response, left))
  }
  response.end()
}

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
