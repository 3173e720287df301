// Follows a user's notifications live: prints each once, in order, also over cuts and restarts of the gateway.
//   GATEWAY_URL=https://… TOKEN=… node follow.mjs
const { GATEWAY_URL, TOKEN } = process.env

let lastId
for (let pauseMs = 250; ; await new Promise(resolve => setTimeout(resolve, pauseMs))) {
  try {
    const response = await fetch(`${GATEWAY_URL}/v1/notifications/stream`, {
      headers: { authorization: `Bearer ${TOKEN}`, ...(lastId ? { 'last-event-id': lastId } : {}) },
    })
    if (response.status === 401) throw Object.assign(new Error('refresh the token'), { final: true })
    if (!response.ok) throw new Error(`${response.status}`)
    let text = ''
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (text + chunk).split('\n\n')
      // An event ends with an empty line: what follows the last one goes on with the next chunk.
      text = events.pop()
      for (const event of events) {
        const field = name => new RegExp(`^${name}: (.*)$`, 'm').exec(event)?.[1]
        lastId = field('id') ?? lastId
        if (field('event') === 'notification') console.log(lastId, JSON.parse(field('data')).title)
      }
      pauseMs = 250
    }
  } catch (error) {
    if (error.final) throw error
    pauseMs = Math.min(2 * pauseMs, 10_000)
  }
}
