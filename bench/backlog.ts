import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { transferIdOf, walletIdOf } from '@pennywire/contracts/ids.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import { transferRequested, walletOpenRequested } from '@pennywire/contracts/test-records.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, loadCommandMacKeys, signCommands } from '@pennywire/kafka/command-mac.ts'
import { createPublisher, type Publisher } from '@pennywire/kafka/publisher.ts'
import { envelope, type OutgoingRecord } from '@pennywire/kafka/record.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import { keysFolder } from '@pennywire/stack/keys.ts'
import type { System } from '@pennywire/stack/system.ts'
import postgres from 'postgres'
import { microsPerTransfer, readCpuTimes } from './cpu-time.ts'
import { pickTwo, randomBelow } from './per-transfer.ts'

const WALLETS = 1_000
const OPENING_BALANCE_MINOR = 200_000n
/** Maximum records that wait in the publisher at once. */
const PUBLISH_CHUNK = 5_000
const SAMPLE_MS = 25
const STALLED_AFTER_MS = 120_000

/** How senders and receivers are distributed in a backlog. */
export type Shape = 'uniform' | 'hot receiver' | 'hot sender'

export type Drained = {
  shape: Shape
  commands: number
  /** From the first batch's decision to the sample that found every command committed and its event published. */
  perSecond: number
  /** The same, until every command is committed; if it is much higher, publishing limits the rate. */
  committedPerSecond: number
  /** From the start of the process to the same end; includes the start-up that is left out above. */
  secondsWithStart: number
  /** Microseconds of CPU per transfer, by process, from when the ledger reported ready. */
  cpuMicros: Record<string, number>
}

type Wallet = { id: string; userId: string }
type Progress = { decided: bigint; published: bigint }

/**
 * Publishes commands while the ledger is stopped, starts one ledger and measures how fast it commits them and
 * publishes their events. `startLedger` starts it; it may run before `drain` resolves.
 */
export const prepareBacklogs = async (system: System) => {
  const logger = createLogger('bench', { level: 'warn', instance: 'bench' })
  const kafka = createKafkaClient({ connection: system.stack.kafka, clientId: 'bench', logger })
  const codec = await createCodec(connectRegistry(system.stack.registryUrl))
  const keys = loadCommandMacKeys(join(keysFolder(system.dataDir), 'command-mac.json'))
  const publisher = signCommands(await createPublisher(kafka), createCommandSigner(keys))
  const sql = postgres(system.databaseUrl('ledger'), { max: 2, types: { bigint: postgres.BigInt } })

  const transferRecord = (request: TransferRequested, key: string): OutgoingRecord => ({
    topic: 'ledger.commands',
    key,
    value: codec.encode('pennywire.ledger.TransferRequested', request),
    headers: headersOf('TransferRequested', request.transferId, request.requestedAt),
  })

  const transfer = (from: Wallet, toWalletId: string, amountMinor: bigint): OutgoingRecord => {
    const requestedAt = Date.now()
    const request = transferRequested({
      ...{ userId: from.userId, fromWalletId: from.id, toWalletId, amountMinor },
      ...{ requestedAt, expiresAt: requestedAt + 3_600_000 },
    })
    return transferRecord(request, from.id)
  }

  const openAndFund = ({ id, userId }: Wallet): OutgoingRecord[] => {
    const requestedAt = Date.now()
    const open = walletOpenRequested({ walletId: id, userId, requestedAt })
    const deposit = transferRequested({
      ...{ transferId: transferIdOf(userId, 'opening-balance'), type: 'deposit', userId },
      ...{ toWalletId: id, amountMinor: OPENING_BALANCE_MINOR, requestedAt },
    })
    return [
      {
        topic: 'ledger.commands',
        key: id,
        value: codec.encode('pennywire.ledger.WalletOpenRequested', open),
        headers: headersOf('WalletOpenRequested', id, requestedAt),
      },
      transferRecord(deposit, id),
    ]
  }

  const readProgress = async (): Promise<Progress> => {
    const [row] = await sql<[Progress]>`
      select coalesce(sum(next_seq - 1), 0)::bigint as decided,
        coalesce(sum(published_through), 0)::bigint as published
      from ledger.partitions join ledger.published using (partition)`
    return row
  }

  /** Waits until `commands` more commands are decided and their events published; returns the time of each. */
  const waitForAll = async (before: Progress, commands: number) => {
    const wanted = before.decided + BigInt(commands)
    let lastChange = performance.now()
    let committedAt: number | undefined
    for (let seen = before; seen.published < wanted; ) {
      await sleep(SAMPLE_MS)
      const now = await readProgress()
      if (now.published > seen.published || now.decided > seen.decided) lastChange = performance.now()
      if (performance.now() - lastChange > STALLED_AFTER_MS)
        throw new Error(`the ledger stands still: ${now.decided} decided, ${wanted} wanted`)
      if (now.decided >= wanted) committedAt ??= Date.now()
      seen = now
    }
    const publishedAt = Date.now()
    return { committedAt: committedAt ?? publishedAt, publishedAt }
  }

  const wallets = Array.from({ length: WALLETS }, (): Wallet => {
    const userId = randomUUID()
    return { id: walletIdOf(userId, 'USD', 0), userId }
  })
  const userOf = new Map(wallets.map(({ id, userId }) => [id, userId]))
  const ids = wallets.map(({ id }) => id)
  const hot = wallets[0]!

  const pickTransfer = (shape: Shape): OutgoingRecord => {
    const amount = 1n + BigInt(randomBelow(10))
    const { from, to } = pickTwo(ids)
    const sender = { id: from, userId: userOf.get(from)! }
    if (shape === 'hot sender') return transfer(hot, to === hot.id ? from : to, 1n)
    if (shape === 'hot receiver' && from !== hot.id) return transfer(sender, hot.id, amount)
    return transfer(sender, to, amount)
  }

  return {
    /** How many commands are decided. */
    countDecided: async () => Number((await readProgress()).decided),
    /** Opens and funds the wallets, with the ledger running. */
    openWallets: async () => {
      const before = await readProgress()
      await publisher.publishAll(wallets.flatMap(openAndFund))
      await waitForAll(before, 2 * WALLETS)
    },
    /** Called with the ledger stopped; `startLedger` resolves when it is ready. */
    drain: async (shape: Shape, commands: number, startLedger: () => Promise<unknown>): Promise<Drained> => {
      const before = await readProgress()
      await publishMany(publisher, commands, () => pickTransfer(shape))
      const [{ since }] = await sql<[{ since: Date }]>`select clock_timestamp() as since`
      const start = Date.now()
      const [atReady, { committedAt, publishedAt }] = await Promise.all([
        startLedger().then(async () => ({
          cpu: readCpuTimes(system.stack.processes()),
          decided: (await readProgress()).decided,
        })),
        waitForAll(before, commands),
      ])
      const cpuMicros = microsPerTransfer(
        atReady.cpu,
        readCpuTimes(system.stack.processes()),
        Number(before.decided - atReady.decided) + commands,
      )
      const [row] = await sql<[{ first: Date; completed: bigint; rejected: bigint }]>`
        select min(decided_at) as first, count(*) filter (where status = 'completed') as completed,
          count(*) filter (where status = 'rejected') as rejected
        from ledger.transfers where decided_at >= ${since}`
      if (Number(row.completed) !== commands)
        throw new Error(`${commands} commands, ${row.completed} completed, ${row.rejected} rejected`)
      const rateUntil = (end: number) => commands / ((end - row.first.getTime()) / 1_000)
      return {
        shape,
        commands,
        perSecond: rateUntil(publishedAt),
        committedPerSecond: rateUntil(committedAt),
        secondsWithStart: (publishedAt - start) / 1_000,
        cpuMicros,
      }
    },
    close: async () => {
      await publisher.stop()
      await sql.end()
    },
  }
}

const headersOf = (name: string, id: string, time: number): Record<string, string> =>
  envelope({
    id,
    type: `pennywire.ledger.${name}`,
    source: 'gateway',
    time,
    subject: id,
    traceparent: continueTrace(undefined),
  })

const publishMany = async (publisher: Publisher, count: number, make: () => OutgoingRecord) => {
  for (let left = count; left > 0; left -= PUBLISH_CHUNK)
    await publisher.publishAll(Array.from({ length: Math.min(left, PUBLISH_CHUNK) }, make))
}
