// Receivers of webhooks that fail, in a thread of their own: their answers cost the good receiver's thread nothing.
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { parentPort } from 'node:worker_threads'

/** Takes connections and never says a word. */
const silent = createServer(socket => socket.on('error', () => {}))
const redirecting = createHttpServer((request, response) => {
  request.resume()
  response.writeHead(307, { location: 'http://127.0.0.1:9/elsewhere' }).end()
})
/** Answers 200 and goes on for as long as it is listened to; not as fast as it can, as it is on the measured machine. */
const endless = createHttpServer((request, response) => {
  request.resume()
  response.on('error', () => {})
  response.writeHead(200)
  const writing = setInterval(() => response.write('x'.repeat(2_048)), 5)
  response.on('close', () => clearInterval(writing))
})

const listen = (server: ReturnType<typeof createServer>) =>
  new Promise<number>(resolve =>
    server.listen(0, '127.0.0.1', 4_096, () => resolve((server.address() as AddressInfo).port)),
  )
parentPort!.postMessage({
  silent: await listen(silent),
  redirecting: await listen(redirecting),
  endless: await listen(endless),
})
