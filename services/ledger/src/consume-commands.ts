import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { VerifyCommand } from '@pennywire/kafka/command-mac.ts'
import {
  type Consumer,
  type ConsumerOptions,
  type RunningConsumer,
  startConsumer,
} from '@pennywire/kafka/consumer.ts'
import { deadLetterOf } from '@pennywire/kafka/dead-letters.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter, gauge, secondsHistogram } from '@pennywire/runtime/metrics.ts'
import { applyBatch, type Refusal, UncomparedServer } from './apply-batch.ts'
import { createReadTails, findBehind, isBehind, type ReadTails } from './check-events.ts'
import type { Relay } from './publish-journal.ts'
import type { Known, LedgerStore } from './store.ts'

const decisions = counter('ledger_decisions_total', 'Commands decided, by outcome', ['outcome'])
const gapsSeen = counter(
  'ledger_gaps_total',
  'Times that a partition was read again because its next record did not come',
)
const applySeconds = secondsHistogram('ledger_apply_seconds', 'Time to apply one batch')
const batchRecords = counter('ledger_batch_records_total', 'Records handed over in batches')

const behindEvents = gauge(
  'ledger_behind_events',
  'Events that are in ledger.events, or were committed by this process, and that the database does not hold',
  ['partition'],
)

/** This many commands set aside in a row are not the records' fault: the partition halts instead. */
const MAX_SET_ASIDE_IN_A_ROW = 10
/** A gap seen this often at one offset is a loss, not a race with a rebalance. */
const MAX_GAPS = 10
/** The upper bound of MAX_BATCH (config.ts); a failing batch is halved from here down to one record. */
const LARGEST_BATCH = 5_000
/** Includes partitions of other ledgers: the books are shared, so entries lost in one partition are missing for all. */
const ALL_PARTITIONS = Array.from({ length: LEDGER_PARTITIONS }, (_, partition) => partition)

/**
 * Handles ledger.commands, independently of the consumer: start positions, and each batch. The stored offset is
 * authoritative. Reading starts one record before it, because that record must be the remembered one. The journal must
 * contain all events of ledger.events: on a database that went back nothing is decided.
 */
export const createCommandHandler = (deps: {
  logger: Logger
  store: LedgerStore
  codec: Codec
  verifyCommand: VerifyCommand
  limitDefaults: LimitDefaults
  /** Tests only: the largest balance of a system wallet. */
  systemBound?: bigint
  publisher: Pick<Publisher, 'publish'>
  relay: Pick<Relay, 'assign' | 'offer' | 'repeat'>
  readTails: ReadTails
}): Pick<ConsumerOptions, 'positions' | 'onAssigned' | 'handle'> => {
  const { logger, store, codec, verifyCommand, limitDefaults, publisher, relay } = deps
  const { systemBound = MAX_MINOR } = deps
  let macsFrom = new Map<number, bigint>()
  const setAsideInARow = new Map<number, number>()
  const known: Known = new Map()
  const gapsAt = new Map<number, { offset: bigint; times: number }>()
  const halted = new Set<number>()
  /** The evidence that the database went back: once set, this process decides nothing more, in any partition. */
  let wentBack: string | undefined
  /** The run of the database server that was compared with its events; another may replace it at any time. */
  let comparedServer: string | undefined
  let mine: number[] = []
  let batchSize = LARGEST_BATCH
  let skipLocked = false

  const halt = (consumer: Consumer, partition: number, reason: string) => {
    halted.add(partition)
    consumer.halt({ topic: 'ledger.commands', partition }, reason)
    // The relay must not publish a halted partition's events either.
    relay.assign(mine.filter(partition => !halted.has(partition)))
  }
  /**
   * A database that is behind in one partition also lacks the entries that the lost events made in wallets of other
   * partitions: their next entries would take sequences that are already published (O2). So all partitions halt.
   */
  const haltBehind = (
    consumer: Consumer,
    assigned: number[],
    behind: Array<{ partition: number; reason: string; behind?: bigint }>,
  ) => {
    for (const one of behind) {
      behindEvents.set({ partition: one.partition }, Number(one.behind))
      if (assigned.includes(one.partition)) halt(consumer, one.partition, one.reason)
    }
    wentBack ??= behind[0] && `partition ${behind[0].partition}: ${behind[0].reason}`
    if (wentBack === undefined) return
    for (const partition of assigned)
      if (!halted.has(partition)) halt(consumer, partition, `entries may be missing here too; ${wentBack}`)
  }
  /**
   * Compares the database with its own events, and halts what must not continue. Resolves with all stored positions.
   */
  const compareServer = async (consumer: Consumer, assigned: number[], knownBefore: Known) => {
    const server = await store.readServer()
    const all = await store.readPositions(ALL_PARTITIONS)
    const found = await findBehind(deps, all, knownBefore)
    haltBehind(consumer, assigned, found.filter(isBehind))
    // The books are right where the topic alone lost events: only the partition that cannot be published stops.
    for (const { partition, reason } of found.filter(one => !isBehind(one)))
      if (assigned.includes(partition) && !halted.has(partition)) halt(consumer, partition, reason)
    comparedServer = server
    return all
  }
  const hold = (consumer: Consumer, { partition, offset }: At, reason: string) => {
    logger.error({ partition, offset: String(offset), reason }, 'partition held; trying again')
    consumer.hold({ topic: 'ledger.commands', partition, offset }, reason)
  }
  const setAside = (record: IncomingRecord, reason: string) => {
    const { partition, offset } = record
    logger.error({ partition, offset: String(offset), reason }, 'record set aside')
    return publisher.publish(deadLetterOf(record, 'ledger', reason))
  }

  /** Applies records in one transaction and passes on the result; returns the partitions that must wait. */
  const apply = async (
    records: IncomingRecord[],
    consumer: Consumer,
    refuse?: Refusal,
  ): Promise<Set<number>> => {
    const end = applySeconds.startTimer()
    const result = await applyBatch(
      {
        ...{ store, codec, limitDefaults, systemBound, setAside, skipLocked, known, comparedServer },
        setAsideBefore: setAsideInARow,
        refusalOf: record =>
          record.offset < (macsFrom.get(record.partition) ?? 0n) ? undefined : verifyCommand(record),
        ...(refuse === undefined ? {} : { refuse }),
      },
      records,
    )
    end()
    for (const [partition, position] of result.seen) known.set(partition, position)
    for (const partition of result.decided) gapsAt.delete(partition)
    relay.offer(result.events)
    if (result.repeats.length > 0) relay.repeat(result.repeats)
    batchRecords.inc(records.length)
    for (const [outcome, count] of Object.entries(result.counts))
      if (count > 0) decisions.inc({ outcome }, count)
    for (const { partition, offset } of result.gaps) {
      gapsSeen.inc()
      const before = gapsAt.get(partition)
      const times = before?.offset === offset ? before.times + 1 : 1
      gapsAt.set(partition, { offset, times })
      logger.warn({ partition, offset: String(offset), times }, 'gap: reading again from the stored offset')
      if (times < MAX_GAPS) consumer.seek({ topic: 'ledger.commands', partition, offset })
      else halt(consumer, partition, `the topic no longer holds offset ${offset}, which is next`)
    }
    for (const { partition, reason, behind } of result.mismatches)
      if (behind === undefined) halt(consumer, partition, reason)
    const behind = result.mismatches.filter(({ behind }) => behind !== undefined)
    if (behind.length > 0) haltBehind(consumer, mine, behind)
    for (const at of result.held) hold(consumer, at, 'a row that its next command needs is locked')
    skipLocked = result.held.length > 0
    for (const [partition, { atEnd, most }] of result.setAsideInARow) {
      setAsideInARow.set(partition, atEnd)
      if (most >= MAX_SET_ASIDE_IN_A_ROW)
        halt(consumer, partition, `${most} records in a row could not be understood`)
    }
    const waiting = [...result.gaps, ...result.held, ...result.mismatches].map(({ partition }) => partition)
    return new Set([...waiting, ...halted])
  }

  /** Sets aside a record that only the database refuses, and answers it if the database accepts the answer. */
  const refuseAlone = async (records: IncomingRecord[], consumer: Consumer, message: string) => {
    const reason = `the database refuses it: ${message}`
    try {
      return await apply(records, consumer, { reason, answer: true })
    } catch (error) {
      if (store.causeOf(error) !== 'data') throw error
      return apply(records, consumer, { reason, answer: false })
    }
  }

  return {
    positions: async (assigned, readEnds, consumer) => {
      const partitions = assigned.map(({ partition }) => partition).filter(one => !halted.has(one))
      // A batch from before the assignment may commit during the comparison: compare with the positions known now.
      const all = await compareServer(consumer, partitions, new Map(known))
      const stored = all.filter(({ partition }) => partitions.includes(partition))
      // Read after the stored positions: every decided record was in the topic by then.
      const ends = await readEnds()
      macsFrom = await store.readMacsFrom(ends)
      const endOf = new Map(ends.map(end => [end.partition, end]))
      for (const { partition, nextOffset } of stored) {
        if (halted.has(partition)) continue
        const { first, offset: end } = endOf.get(partition)!
        if (nextOffset > end)
          halt(
            consumer,
            partition,
            `the topic ends at offset ${end}, but ${nextOffset} of its records are decided; it was made anew or lost`,
          )
        else if (nextOffset < first)
          halt(consumer, partition, `the topic begins at offset ${first}, but offset ${nextOffset} is next`)
        else if (nextOffset === first && first > 0n) {
          const at = { partition, offset: String(first) }
          logger.warn(at, 'the record before the stored offset is deleted; the topic cannot be compared')
        }
      }
      const going = stored.filter(({ partition }) => !halted.has(partition))
      for (const row of going) {
        if (row.nextSeq >= (known.get(row.partition)?.nextSeq ?? 0n)) known.set(row.partition, row)
      }
      return going.map(({ partition, nextOffset }) => ({
        topic: 'ledger.commands',
        partition,
        offset: nextOffset > endOf.get(partition)!.first ? nextOffset - 1n : nextOffset,
      }))
    },
    onAssigned: assigned => {
      mine = assigned.map(({ partition }) => partition)
      relay.assign(mine.filter(partition => !halted.has(partition)))
    },
    /**
     * A failed batch is halved until the failing record is found, or until the database keeps up; after a success the
     * size doubles again. A locked row is waited for once, then skipped.
     */
    handle: async (records, consumer) => {
      if (comparedServer === undefined) await compareServer(consumer, mine, known)
      let rest = records.filter(({ partition }) => !halted.has(partition))
      while (rest.length > 0) {
        const part = rest.slice(0, batchSize)
        const alone = part.length === 1 ? part[0]! : undefined
        let waiting: Set<number>
        try {
          waiting = await apply(part, consumer)
          batchSize = Math.min(2 * batchSize, LARGEST_BATCH)
        } catch (error) {
          const cause = store.causeOf(error)
          if (cause === 'away' || error instanceof UncomparedServer) {
            comparedServer = undefined
            throw error
          }
          logger.error({ err: error, records: part.length, cause }, 'batch failed; narrowing it down')
          if (cause === 'locked' && !skipLocked) {
            skipLocked = true
            continue
          }
          if (!alone) {
            batchSize = Math.ceil(part.length / 2)
            continue
          }
          const { message } = error as Error
          if (cause === 'data') waiting = await refuseAlone(part, consumer, message)
          else {
            hold(consumer, alone, message)
            waiting = new Set([alone.partition])
          }
        }
        rest = rest.slice(part.length).filter(({ partition }) => !waiting.has(partition))
      }
    },
  }
}

type At = { partition: number; offset: bigint }

/** Consumes ledger.commands batch by batch: records that arrive while one batch commits form the next. */
export const consumeCommands = (deps: {
  kafka: KafkaClient
  logger: Logger
  store: LedgerStore
  codec: Codec
  verifyCommand: VerifyCommand
  limitDefaults: LimitDefaults
  publisher: Publisher
  relay: Relay
  maxBatch: number
}): Promise<RunningConsumer> =>
  startConsumer({
    client: deps.kafka,
    logger: deps.logger,
    groupId: 'ledger',
    topics: ['ledger.commands'],
    maxBatch: deps.maxBatch,
    ...createCommandHandler({ ...deps, readTails: createReadTails(deps.kafka, deps.logger) }),
  })
