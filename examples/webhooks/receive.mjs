// Receives webhooks of Pennywire: verifies each, and does the work of each webhook-id once.
//   WEBHOOK_SECRET=whsec_… PORT=9000 node receive.mjs        (npm install standardwebhooks)
import { createServer } from 'node:http'
import { Webhook } from 'standardwebhooks'

const webhook = new Webhook(process.env.WEBHOOK_SECRET)
/** In production a unique column of your database, written in the transaction of the work. */
const done = new Set()

const server = createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  let event
  try {
    event = webhook.verify(Buffer.concat(chunks).toString(), request.headers)
  } catch (error) {
    return response.writeHead(401).end(error.message)
  }
  const id = request.headers['webhook-id']
  if (!done.has(id)) console.log(id, event.type, JSON.stringify(event.data))
  done.add(id)
  response.writeHead(204).end()
})
server.listen(Number(process.env.PORT ?? 9000), '127.0.0.1', () =>
  console.log('listening', server.address().port),
)
