// A downstream team in the small: it reads ledger.events, never asks anybody, and relies on what the design promises.
import { createHash, randomUUID } from 'node:crypto'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { topicEnds, until, type World } from './world.ts'

type WalletSeen = { sequences: Set<number>; greatest: number; balance: bigint }

export type Follower = {
  /** Waits until it has read the topic to its end, then tells what contradicts the promises, and forgets that. */
  check: () => Promise<string[]>
  events: () => number
  repeats: () => number
  stop: () => Promise<void>
}

export const followEvents = async (world: World): Promise<Follower> => {
  const next = new Map<number, bigint>()
  const wallets = new Map<string, WalletSeen>()
  /** By event id: what it said. A repeat must say the same. */
  const seen = new Map<string, string>()
  /** By key: the journal number of the last event that was new. */
  const lastOfKey = new Map<string, bigint>()
  let repeats = 0
  let broken: string[] = []

  const keepWallets = async (record: IncomingRecord) => {
    const { type, value } = await world.codec.decode(record.value)
    if (type !== 'pennywire.ledger.TransferCompleted') return
    for (const { walletId, sequence, balanceAfterMinor } of value.entries) {
      const wallet = wallets.get(walletId) ?? { sequences: new Set(), greatest: 0, balance: 0n }
      wallets.set(walletId, wallet)
      if (wallet.sequences.has(sequence))
        broken.push(`wallet ${walletId}: sequence ${sequence} in two events`)
      wallet.sequences.add(sequence)
      if (sequence <= wallet.greatest) continue
      wallet.greatest = sequence
      wallet.balance = balanceAfterMinor
    }
  }

  const handleOne = async (record: IncomingRecord) => {
    if (record.offset < (next.get(record.partition) ?? 0n)) return
    next.set(record.partition, record.offset + 1n)
    const id = headerOf(record, 'ce_id') ?? ''
    const digest = createHash('sha256')
      .update(record.key ?? '')
      .update(record.value ?? '')
      .digest('base64')
    const earlier = seen.get(id)
    if (earlier !== undefined) {
      repeats++
      if (earlier !== digest) broken.push(`event ${id} came again, changed`)
      return
    }
    seen.set(id, digest)
    const key = record.key?.toString() ?? ''
    const seq = BigInt(headerOf(record, 'seq') ?? '0')
    if (seq <= (lastOfKey.get(key) ?? 0n)) broken.push(`event ${id} of key ${key} comes after a later one`)
    lastOfKey.set(key, seq)
    await keepWallets(record)
  }

  const consumer = await startConsumer({
    client: world.kafka,
    logger: world.logger,
    groupId: `faults-${randomUUID()}`,
    topics: ['ledger.events'],
    maxBatch: 2_000,
    positions: async (_assigned, ends) =>
      ends.map(end => ({ ...end, offset: next.get(end.partition) ?? end.first })),
    handle: async records => {
      for (const record of records) await handleOne(record)
    },
  })

  return {
    events: () => seen.size,
    repeats: () => repeats,
    stop: consumer.stop,
    check: async () => {
      await until('a consumer of ledger.events at its end', 40, async () => {
        const ends = await topicEnds(world, 'ledger.events')
        return [...ends].every(([partition, end]) => (next.get(partition) ?? 0n) >= end)
      })
      const violations = broken
      broken = []
      const rows = await world.sql<{ id: string; balance: bigint; sequence: bigint }[]>`
        select id::text, balance, sequence from ledger.wallets where sequence > 0`
      for (const { id, balance, sequence } of rows) {
        const wallet = wallets.get(id)
        if (wallet?.sequences.size !== Number(sequence) || wallet.greatest !== Number(sequence))
          violations.push(
            `wallet ${id}: ${wallet?.sequences.size ?? 0} entries seen up to sequence ${wallet?.greatest ?? 0}, the ledger has ${sequence}`,
          )
        else if (wallet.balance !== balance)
          violations.push(`wallet ${id}: by its events ${wallet.balance}, by the ledger ${balance}`)
      }
      return violations
    },
  }
}
