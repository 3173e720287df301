// A minimal downstream consumer: it reads only ledger.events, and relies on the design's guarantees.
import { randomUUID } from 'node:crypto'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { createEventJudge, type Facts, type HoldNow, type Wallet } from './judge-events.ts'
import { topicEnds, until, type World } from './world.ts'

const AT_END_WITHIN_SECONDS = 90

export type Follower = {
  /** Waits until the topic is read to its end, then returns the violations since the last call (EventJudge.judge). */
  check: () => Promise<string[]>
  events: () => number
  repeats: () => number
  /** Stops reading, before the topic or its cluster is lost. */
  pause: () => Promise<void>
  /** Reads the topic from its first record again; with `forget`, as a reader that knows nothing of the old one. */
  resume: (how?: { forget: boolean }) => Promise<void>
  stop: () => Promise<void>
}

export const followEvents = async (world: World): Promise<Follower> => {
  let judge = createEventJudge()
  const next = new Map<number, bigint>()

  const factsOf = async (record: IncomingRecord): Promise<Facts> => {
    const { type, value } = await world.codec.decode(record.value)
    switch (type) {
      case 'pennywire.ledger.TransferCompleted':
        return { entries: value.entries, ...(value.holdMinor === null ? {} : { ends: value.transferId }) }
      case 'pennywire.ledger.TransferReversed':
        return { entries: value.entries }
      case 'pennywire.ledger.HoldPlaced':
        return { entries: [], places: value.transferId }
      case 'pennywire.ledger.HoldEnded':
        return { entries: [], ends: value.holdId }
      default:
        return { entries: [] }
    }
  }

  const handleOne = async (record: IncomingRecord) => {
    if (record.offset < (next.get(record.partition) ?? 0n)) return
    next.set(record.partition, record.offset + 1n)
    await judge.take({
      id: headerOf(record, 'ce_id') ?? '',
      key: record.key?.toString() ?? '',
      seq: BigInt(headerOf(record, 'seq') ?? '0'),
      value: record.value ?? Buffer.alloc(0),
      facts: () => factsOf(record),
    })
  }

  const start = () =>
    startConsumer({
      client: world.kafka,
      logger: world.logger,
      groupId: `faults-${randomUUID()}`,
      topics: ['ledger.events'],
      maxBatch: 2_000,
      positions: async (_assigned, readEnds) =>
        (await readEnds()).map(end => ({ ...end, offset: next.get(end.partition) ?? end.first })),
      handle: async records => {
        for (const record of records) await handleOne(record)
      },
    })
  let consumer = await start()

  return {
    events: () => judge.events(),
    repeats: () => judge.repeats(),
    pause: () => consumer.stop(),
    resume: async ({ forget } = { forget: false }) => {
      if (forget) judge = createEventJudge()
      next.clear()
      consumer = await start()
    },
    stop: () => consumer.stop(),
    check: async () => {
      await until('a consumer of ledger.events at its end', AT_END_WITHIN_SECONDS, async () => {
        const ends = await topicEnds(world, 'ledger.events')
        return [...ends].every(([partition, end]) => (next.get(partition) ?? 0n) >= end)
      })
      const wallets = await world.sql<Wallet[]>`
        select id::text, balance, sequence from ledger.wallets where sequence > 0`
      const holds = await world.sql<HoldNow[]>`select id::text, status = 'active' as active from ledger.holds`
      return judge.judge(wallets, holds)
    },
  }
}
