import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { ask, makePerson, PASSWORD, type Person, signIn } from '../faults/people.ts'
import { forEach, until, type World } from '../faults/world.ts'
import type { AttackWork } from './attack-worker.ts'
import { ATTACKS, type Attack, PROXY_ADDRESS, type Size } from './attacks.ts'
import { payHonestly, signInHonestly, type Timed } from './honest-client.ts'

/** The memory bound of an attacked gateway. An idle one uses about 200 MiB; without bounds one attack reached 3,274. */
export const MEMORY_BOUND_MIB = 640
const SAMPLE_MS = 250

/**
 * The attacked gateway has the default limits for sign-ins and sign-ups, and high limits for the rest. Its windows
 * differ from those of the gateway at which people sign up, so that the two share no counters.
 */
const ATTACKED_SETTINGS = {
  TRUSTED_PROXIES: PROXY_ADDRESS,
  RATE_LIMIT_SIGNUP: '5/67',
  RATE_LIMIT_LOGIN: '5/67',
  RATE_LIMIT_LOGIN_ACCOUNT: '20/907',
  RATE_LIMIT_PIN: '10/67',
  RATE_LIMIT_DEPOSIT: '1200/67',
  // High, so that requests are executed and not only refused.
  RATE_LIMIT_STATEMENT: '100000/67',
  RATE_LIMIT_RECEIPT: '100000/67',
  RATE_LIMIT_DEFAULT: '100000/67',
  RATE_LIMIT_MAIL: '3/307',
  BCRYPT_COST: '12',
}

export type Report = {
  attack: string
  saw: string
  payments: Timed
  signIns: Timed
  memoryMiB: number
  /** The longest event loop lag: it reveals work that belongs in a worker thread. */
  lagMs: number
}

const HISTORY_AT_ONCE = 8

export type Scene = { gatewayUrl: string; opsUrl: string; honest: Person; shop: Person; attackers: Person[] }

/** People with money; the first attacker has a history of `history` entries. */
export const setScene = async (world: World, history: number): Promise<Scene & { name: string }> => {
  const [honest, shop, ...attackers] = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const person = await makePerson(world, '500.00')
      await signIn(world, person)
      return person
    }),
  )
  const payer = attackers[0]!
  await forEach(Array.from({ length: history }), HISTORY_AT_ONCE, async () => {
    const { status, body } = await ask(`${world.system.gatewayUrl}/v1/transfers`, 'POST', {
      token: payer.token,
      body: { toWalletId: shop!.walletId, amount: '0.01', currency: 'USD' },
      headers: { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp },
    })
    if (status !== 201) throw new Error(`a payment of the history is answered ${status} ${body?.code}`)
  })
  const { name, url, opsUrl } = await world.startInstance('gateway', ATTACKED_SETTINGS)
  // The first sign-in rehashes the password, from the cheap hash of the tests to this gateway's cost.
  const { status, body } = await ask(`${url}/v1/auth/login`, 'POST', {
    body: { email: honest!.email, password: PASSWORD },
  })
  if (status !== 200)
    throw new Error(`the honest client's sign-in is answered ${status} ${JSON.stringify(body)}`)
  return { name, gatewayUrl: url, opsUrl, honest: honest!, shop: shop!, attackers }
}

/** The gateway's metrics: its memory, and its event loop lag since the last scrape. */
const readProcess = async (opsUrl: string): Promise<{ memoryMiB: number; lagMs: number }> => {
  const text = await (await fetch(`${opsUrl}/metrics`, { signal: AbortSignal.timeout(30_000) })).text()
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1])
  return {
    memoryMiB: value('process_resident_memory_bytes') / 2 ** 20,
    lagMs: value('nodejs_eventloop_lag_max_seconds') * 1_000,
  }
}

/** Resolves with the attack's summary once the signal has aborted. */
const attackFor = async (work: AttackWork, signal: AbortSignal): Promise<string> => {
  const worker = new Worker(new URL('./attack-worker.ts', import.meta.url), { workerData: work })
  const stop = () => worker.postMessage('stop')
  signal.addEventListener('abort', stop, { once: true })
  try {
    const [summary] = (await once(worker, 'message')) as [string]
    return summary
  } finally {
    signal.removeEventListener('abort', stop)
    await worker.terminate()
  }
}

const runOne = async (scene: Scene, attack: Attack, size: Size, ms: number): Promise<Report> => {
  const { hostname, port } = new URL(scene.gatewayUrl)
  const target = { host: hostname, port: Number(port), attackers: scene.attackers }
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), ms)
  const { signal } = over
  let [memoryMiB, lagMs] = [0, 0]
  const watch = async () => {
    do {
      const seen = await readProcess(scene.opsUrl)
      memoryMiB = Math.max(memoryMiB, seen.memoryMiB)
      lagMs = Math.max(lagMs, seen.lagMs)
      await sleep(SAMPLE_MS)
    } while (!signal.aborted)
  }
  try {
    const [saw, payments, signIns] = await Promise.all([
      attackFor({ name: attack.name, target, size }, signal),
      payHonestly(scene.gatewayUrl, scene.honest, scene.shop, signal),
      attack.floodsSignIn ? signInHonestly(scene.gatewayUrl, scene.honest, signal) : { ms: [], failures: [] },
      watch(),
    ])
    return { attack: attack.name, saw, payments, signIns, memoryMiB, lagMs }
  } finally {
    clearTimeout(timer)
    over.abort()
  }
}

/** Runs the attacks one after the other, beside an honest client, for `secondsEach` seconds each. */
export const runAttacks = async (
  scene: Scene,
  size: Size,
  secondsEach: number,
  chosen: Attack[] = ATTACKS,
  say: (line: string) => void = () => {},
): Promise<Report[]> => {
  const reports: Report[] = []
  for (const attack of chosen) {
    const report = await runOne(scene, attack, size, 1_000 * secondsEach)
    reports.push(report)
    say(lineOf(report))
    await until(
      `${scene.opsUrl}/readyz after ${attack.name}`,
      60,
      async () => (await fetch(`${scene.opsUrl}/readyz`, { signal: AbortSignal.timeout(5_000) })).ok,
    )
  }
  return reports
}

/** The duration that one payment in twenty exceeds. */
const p95Of = (ms: number[]): number => ms.toSorted((a, b) => a - b)[Math.floor(0.95 * ms.length)]!

export const medianOf = (ms: number[]): number => ms.toSorted((a, b) => a - b)[Math.floor(ms.length / 2)]!

const COLUMNS: Array<[head: string, width: number, of: (report: Report) => string | number]> = [
  ['paid', 5, ({ payments }) => payments.ms.length],
  ['median ms', 10, ({ payments }) => medianOf(payments.ms).toFixed(0)],
  ['p95', 6, ({ payments }) => p95Of(payments.ms).toFixed(0)],
  ['slowest', 8, ({ payments }) => Math.max(...payments.ms).toFixed(0)],
  ['signed in', 10, ({ signIns }) => signIns.ms.length || ''],
  ['slowest', 8, ({ signIns }) => (signIns.ms.length > 0 ? Math.max(...signIns.ms).toFixed(0) : '')],
  ['failed', 7, ({ payments, signIns }) => payments.failures.length + signIns.failures.length],
  ['MiB', 5, ({ memoryMiB }) => memoryMiB.toFixed(0)],
  ['lag ms', 7, ({ lagMs }) => lagMs.toFixed(0)],
]

const lineOf = (report: Report): string =>
  [
    report.attack.padEnd(40),
    ...COLUMNS.map(([, width, of]) => String(of(report)).padStart(width)),
    `  ${report.saw}`,
  ].join('')

export const tableOf = (reports: Report[]): string =>
  [
    [
      'attack'.padEnd(40),
      ...COLUMNS.map(([head, width]) => head.padStart(width)),
      `  what the attacker saw (bound: ${MEMORY_BOUND_MIB} MiB)`,
    ].join(''),
    ...reports.map(lineOf),
  ].join('\n')
