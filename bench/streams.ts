// `npm run bench:streams`: opens thousands of idle live streams at one gateway of its own system and prints what they
// cost: memory, CPU while nothing happens, and the delay of a notification among them. It takes about three minutes and
// stops by itself. `npm run bench:streams -- 10000` opens as many.
import { randomUUID } from 'node:crypto'
import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { ask, makePerson, type Person, signIn } from '../tests/faults/people.ts'
import { forEach, openWorld } from '../tests/faults/world.ts'
import { runOnSystem } from '../tests/run-on-system.ts'

const STREAMS = Number(process.argv[2] ?? 5_000)
const PEOPLE = 50
const OPENED_AT_ONCE = 50
const IDLE_SECONDS = 20
const PAYMENTS = 40

const agent = new Agent({ keepAlive: false, maxSockets: Number.POSITIVE_INFINITY })
/** Opens a stream; resolves with its first piece. Later pieces go to `onText`. */
const openStream = (url: string, token: string, onText: (text: string) => void = () => {}) =>
  new Promise<void>((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` }
    get(`${url}/v1/notifications/stream`, { agent, headers }, response => {
      if (response.statusCode !== 200) reject(new Error(`a stream is answered ${response.statusCode}`))
      response.setEncoding('utf8').on('data', text => {
        resolve()
        onText(text)
      })
      response.on('error', () => {})
    }).on('error', reject)
  })

const readProcess = async (opsUrl: string) => {
  const text = await (await fetch(`${opsUrl}/metrics`)).text()
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1])
  return {
    mib: value('process_resident_memory_bytes') / 2 ** 20,
    cpuSeconds: value('process_cpu_seconds_total'),
    streams: Number(/^pennywire_gateway_streams\{.*\} (\d+)$/m.exec(text)?.[1] ?? 0),
  }
}
/** The share of one core that the gateway takes while nothing happens. */
const readIdleShare = async (opsUrl: string): Promise<number> => {
  const before = await readProcess(opsUrl)
  await sleep(1_000 * IDLE_SECONDS)
  return ((await readProcess(opsUrl)).cpuSeconds - before.cpuSeconds) / IDLE_SECONDS
}

await runOnSystem({ withinMinutes: 10 }, async ({ stack, system }) => {
  const world = await openWorld(stack, system)
  const people: Person[] = []
  await forEach(Array.from({ length: PEOPLE }), 4, async () => {
    const person = await makePerson(world, '500.00')
    await signIn(world, person)
    people.push(person)
  })
  const { url, opsUrl } = await world.startInstance('gateway', {
    MAX_STREAMS: String(STREAMS + 1),
    MAX_STREAMS_PER_USER: '10000',
    MAX_CONNECTIONS: '100000',
    MAX_CONNECTIONS_PER_ADDRESS: '100000',
    RATE_LIMIT_DEFAULT: '1000000/67',
  })
  const [payer, listener] = people
  let hear = (_ms: number) => {}
  const delays = async () => {
    const all: number[] = []
    for (let time = 0; time < PAYMENTS; time++) {
      const heard = new Promise<number>(resolve => {
        hear = resolve
      })
      const { status, body } = await ask(`${url}/v1/transfers`, 'POST', {
        token: payer!.token,
        body: { toWalletId: listener!.walletId, amount: '0.01', currency: 'USD' },
        headers: { 'idempotency-key': randomUUID(), 'step-up-token': payer!.stepUp },
      })
      if (status !== 201) throw new Error(`a payment is answered ${status} ${body?.detail}`)
      const answered = performance.now()
      all.push((await heard) - answered)
    }
    return all.sort((a, b) => a - b)
  }
  await openStream(url, listener!.token, text => {
    if (text.includes('event: notification')) hear(performance.now())
  })
  const warm = await delays()
  const [idleAlone, alone] = [await readIdleShare(opsUrl), await readProcess(opsUrl)]
  console.log(`Opening ${STREAMS} streams ...`)
  await forEach(Array.from({ length: STREAMS }), OPENED_AT_ONCE, (_, at) =>
    openStream(url, people[2 + (at % (PEOPLE - 2))]!.token),
  )
  const idle = await readIdleShare(opsUrl)
  const many = await readProcess(opsUrl)
  const among = await delays()
  const middle = (ms: number[]) => ms[Math.floor(ms.length / 2)]!.toFixed(0)
  const worst = (ms: number[]) => ms.at(-1)!.toFixed(0)
  const share = (part: number) => `${(100 * part).toFixed(1)}% of a core`
  console.log(`
                                  1 stream         ${many.streams} streams
gateway's memory                  ${alone.mib.toFixed(0)} MiB          ${many.mib.toFixed(0)} MiB (${(((many.mib - alone.mib) * 1024) / (many.streams - alone.streams)).toFixed(1)} KiB each)
gateway's CPU, nothing happening  ${share(idleAlone)}   ${share(idle)}
notification after its payment    median ${middle(warm)} ms, most ${worst(warm)} ms   median ${middle(among)} ms, most ${worst(among)} ms
`)
  await world.close()
  return 0
})
