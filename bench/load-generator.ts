// The load on the gateway, in a process of its own; started by http-load.ts, receives its job over IPC.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HttpConnection, openHttp } from './http-client.ts'
import type { Person } from './people.ts'
import { randomBelow } from './per-transfer.ts'

export type LoadJob = {
  gatewayUrl: string
  people: Person[]
  seconds: number
  warmUpSeconds: number
} & (
  | { kind: 'closed'; clients: number } // each client sends its next transfer when it has its answer
  | { kind: 'open'; perSecond: number; connections: number } // evenly paced, even if answers are late
)

export type LoadResult = {
  perSecond: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  transfers: number
  /** All answers except 201 completed, by status and code. */
  others: Record<string, number>
}

type Stats = { latencies: number[]; others: Record<string, number> }

/** A transfer of one cent to another user, under a new idempotency key. */
const requestOf = (host: string, people: Person[], index: number): string => {
  const sender = people[index]!
  const recipient = people[(index + 1 + randomBelow(people.length - 1)) % people.length]!
  const body = JSON.stringify({ toWalletId: recipient.walletId, amount: '0.01', currency: 'USD' })
  return `POST /v1/transfers HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer ${sender.accessToken}\r\nstep-up-token: ${sender.stepUpToken}\r\nidempotency-key: ${randomUUID()}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}

const transferOnce = async (connection: HttpConnection, request: string, from: number, stats: Stats) => {
  const { status, body } = await connection.send(request)
  if (status === 201 && body.includes('"status":"completed"')) {
    stats.latencies.push(performance.now() - from)
    return
  }
  const what = `${status} ${/"code":"(\w+)"/.exec(body)?.[1] ?? ''}`.trim()
  stats.others[what] = (stats.others[what] ?? 0) + 1
}

const runClosed = async (job: LoadJob & { kind: 'closed' }, seconds: number, stats: Stats) => {
  const { hostname, port, host } = new URL(job.gatewayUrl)
  const end = performance.now() + 1_000 * seconds
  const client = async (index: number) => {
    const connection = await openHttp(hostname, Number(port))
    while (performance.now() < end) {
      await transferOnce(connection, requestOf(host, job.people, index), performance.now(), stats)
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: job.clients }, (_, index) => client(index % job.people.length)))
}

/** Latency counts from when the request was due, so that a slow answer cannot hide the delay of those behind it. */
const runOpen = async (job: LoadJob & { kind: 'open' }, seconds: number, stats: Stats) => {
  const { hostname, port, host } = new URL(job.gatewayUrl)
  const free = await Promise.all(
    Array.from({ length: job.connections }, () => openHttp(hostname, Number(port))),
  )
  const due: Array<{ at: number; index: number }> = []
  const running = new Set<Promise<void>>()
  const sendDue = () => {
    while (due.length > 0 && free.length > 0) {
      const { at, index } = due.shift()!
      const connection = free.pop()!
      const sent = transferOnce(connection, requestOf(host, job.people, index), at, stats).then(() => {
        free.push(connection)
        running.delete(sent)
        sendDue()
      })
      running.add(sent)
    }
  }
  const start = performance.now()
  const count = Math.floor(job.perSecond * seconds)
  for (let sent = 0; sent < count; ) {
    const now = performance.now()
    for (; sent < count && start + (1_000 * sent) / job.perSecond <= now; sent++)
      due.push({ at: start + (1_000 * sent) / job.perSecond, index: sent % job.people.length })
    sendDue()
    await sleep(1)
  }
  while (due.length > 0 || running.size > 0) await Promise.all(running)
  for (const connection of free) connection.close()
}

const run = async (job: LoadJob): Promise<LoadResult> => {
  const runFor = (seconds: number, stats: Stats) =>
    job.kind === 'closed' ? runClosed(job, seconds, stats) : runOpen(job, seconds, stats)
  await runFor(job.warmUpSeconds, { latencies: [], others: {} })
  const stats: Stats = { latencies: [], others: {} }
  const start = performance.now()
  await runFor(job.seconds, stats)
  const elapsed = (performance.now() - start) / 1_000
  const sorted = stats.latencies.toSorted((a, b) => a - b)
  const quantile = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN
  return {
    perSecond: sorted.length / elapsed,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    maxMs: sorted.at(-1) ?? NaN,
    transfers: sorted.length,
    others: stats.others,
  }
}

if (import.meta.main) {
  process.on('disconnect', () => process.exit(0)) // the parent is gone
  process.on('message', (job: LoadJob) => {
    run(job).then(
      result => process.send?.({ result }),
      error => process.send?.({ error: String(error) }),
    )
  })
}
