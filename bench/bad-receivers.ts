// `npm run bench:webhooks`: a good receiver of webhooks alone, and beside many that are dead, silent, redirecting or
// answer without end, on a system of its own. It prints how long an event takes from the ledger to the good receiver, and
// how long the notifier takes to stop. About three minutes; `npm run bench:webhooks -- 800` adds as many bad ones.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { ask, makePerson, PASSWORD, type Person, signIn } from '../tests/faults/people.ts'
import { openWorld, until, type World } from '../tests/faults/world.ts'
import { runOnSystem } from '../tests/run-on-system.ts'
import { startReceiver } from '../tests/webhook-receiver.ts'

const BAD = Number(process.argv[2] ?? 200)
const PER_OWNER = 20
const WARM_UP = 30
const PAYMENTS = 120
const PAUSE_MS = 200
/** Each bad receiver has so much before it, and gets one more event in so many seconds. */
const BACKLOG = 10
const EVENT_SECONDS = 5

type Ports = { silent: number; redirecting: number; endless: number }

const startBadServers = async (): Promise<{ urls: string[]; stop: () => Promise<unknown> }> => {
  const worker = new Worker(new URL('./bad-servers.ts', import.meta.url))
  const ports = await new Promise<Ports>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  const at = (port: number) => `http://127.0.0.1:${port}/hook`
  // Port 9 is closed: nobody is there.
  return {
    urls: [at(9), at(ports.silent), at(ports.redirecting), at(ports.endless)],
    stop: () => worker.terminate(),
  }
}

/** Endpoints of others. Their secret is the good one's: a receiver that fails does not look at it. */
const addBad = async ({ sql }: World, goodId: string, urls: string[]): Promise<void> => {
  await sql`
    insert into notifier.webhook_endpoints (id, owner_id, url, secrets)
    select gen_random_uuid(), md5('owner ' || n / ${PER_OWNER}::int)::uuid, (${urls}::text[])[1 + n % ${urls.length}::int], e.secrets
    from generate_series(0, ${BAD - 1}::int) n, notifier.webhook_endpoints e where e.id = ${goodId}`
}
const addEvents = async ({ sql }: World, goodId: string, many: number, share: number): Promise<void> => {
  await sql`
    insert into notifier.deliveries (command_id, channel, endpoint_id, user_id, event_type, payload, requested_at, expires_at)
    select gen_random_uuid(), 'webhook', e.id, e.owner_id, 'webhook.test', ${JSON.stringify({ type: 'webhook.test', data: {} })},
      now(), now() + interval '3 days'
    from notifier.webhook_endpoints e, generate_series(1, ${many}::int)
    where e.id <> ${goodId} and random() < ${share}`
}

const quantile = (ms: number[], part: number) =>
  ms.toSorted((a, b) => a - b)[Math.min(ms.length - 1, Math.floor(ms.length * part))]!

await runOnSystem({ withinMinutes: 12 }, async ({ stack, system }) => {
  const world = await openWorld(stack, system)
  const servers = await startBadServers()
  const receiver = await startReceiver()
  const [payer, payee] = [await makePerson(world, '500.00'), await makePerson(world, '1.00')] as [
    Person,
    Person,
  ]
  await signIn(world, payer)
  await signIn(world, payee)
  const made = await ask(`${system.gatewayUrl}/v1/webhooks`, 'POST', {
    token: payee.token,
    body: { url: receiver.url, eventTypes: ['transfer.completed'], password: PASSWORD },
  })
  if (made.status !== 201) throw new Error(`a webhook is answered ${made.status} ${made.body?.detail}`)

  /** Milliseconds from the ledger's decision to the receiver, of one payment after the other. */
  const measure = async (payments: number): Promise<number[]> => {
    receiver.received.length = 0
    const sent: string[] = []
    for (let n = 0; n < payments; n++) {
      const began = performance.now()
      const { status, body } = await ask(`${system.gatewayUrl}/v1/transfers`, 'POST', {
        token: payer.token,
        body: { toWalletId: payee.walletId, amount: '0.01', currency: 'USD' },
        headers: { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp },
      })
      if (status !== 201) throw new Error(`a payment is answered ${status} ${body?.detail}`)
      sent.push(body.id)
      await sleep(Math.max(0, PAUSE_MS - (performance.now() - began)))
    }
    await until('all events at the good receiver', 60, () => receiver.received.length >= sent.length)
    return receiver.received.map(({ at, event }) => at - Date.parse(event.timestamp))
  }
  const triesOf = async () =>
    (
      await world.sql<[{ tries: number }]>`
        select coalesce(sum(attempts), 0)::int as tries from notifier.deliveries where endpoint_id <> ${made.body.id}`
    )[0].tries

  await measure(WARM_UP)
  const alone = await measure(PAYMENTS)
  await addBad(world, made.body.id, servers.urls)
  await addEvents(world, made.body.id, BACKLOG, 1)
  const traffic = setInterval(
    () => void addEvents(world, made.body.id, 1, 1 / EVENT_SECONDS).catch(() => {}),
    1_000,
  )
  const beside = await measure(PAYMENTS)
  const tries = await triesOf()
  clearInterval(traffic)
  const began = performance.now()
  await world.control('notifier', 'stop')
  const stopSeconds = (performance.now() - began) / 1_000

  const row = (name: string, part: number) => {
    const [before, after] = [quantile(alone, part), quantile(beside, part)]
    return `${name.padEnd(8)} ${`${before} ms`.padStart(9)} ${`${after} ms`.padStart(22)} ${`${(after / before).toFixed(2)}`.padStart(8)}`
  }
  console.log(`
From the ledger's decision to the good receiver, ${PAYMENTS} payments each:

             alone   beside ${String(BAD).padStart(4)} bad ones    ratio
${row('median', 0.5)}
${row('p95', 0.95)}
${row('most', 1)}

The bad ones were tried ${tries} times meanwhile. With them under way the notifier stops in ${stopSeconds.toFixed(1)} s.
`)
  await receiver.close()
  await servers.stop()
  await world.close()
  return 0
})
