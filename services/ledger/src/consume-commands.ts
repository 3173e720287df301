import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { VerifyCommand } from '@pennywire/kafka/command-mac.ts'
import { type ConsumerOptions, type RunningConsumer, startConsumer } from '@pennywire/kafka/consumer.ts'
import { deadLetterOf } from '@pennywire/kafka/dead-letters.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter, secondsHistogram } from '@pennywire/runtime/metrics.ts'
import { applyBatch } from './apply-batch.ts'
import type { Relay } from './relay-outbox.ts'
import type { LedgerStore } from './store.ts'

const decisions = counter('ledger_decisions_total', 'Commands decided, by outcome', ['outcome'])
const gapsSeen = counter(
  'ledger_gaps_total',
  'Times that a partition was read again because its next record did not come',
)
const applySeconds = secondsHistogram('ledger_apply_seconds', 'Time to apply one batch')
const batchRecords = counter('ledger_batch_records_total', 'Records handed over in batches')

/** So many commands in a row that nobody understands are not the records' fault: the partition stops instead. */
const MAX_SET_ASIDE_IN_A_ROW = 10

/**
 * What the ledger does with ledger.commands, apart from how the records come: where reading goes on, and each batch.
 * The stored offset decides, and reading starts one record before it: that one must be the one remembered.
 */
export const createCommandHandler = (parts: {
  logger: Logger
  store: LedgerStore
  codec: Codec
  verifyCommand: VerifyCommand
  limitDefaults: LimitDefaults
  publisher: Pick<Publisher, 'publish'>
  relay: Pick<Relay, 'assign' | 'offer' | 'repeat'>
}): Pick<ConsumerOptions, 'positions' | 'onAssigned' | 'handle'> => {
  const { logger, store, codec, verifyCommand, limitDefaults, publisher, relay } = parts
  let macsFrom = new Map<number, bigint>()
  const setAsideInARow = new Map<number, number>()
  const askedAgain = new Set<number>()

  return {
    positions: async (assigned, ends, consumer) => {
      const partitions = assigned.map(({ partition }) => partition)
      const stored = await store.readPositions(partitions)
      macsFrom = await store.readMacsFrom(ends)
      const endOf = (partition: number) => ends.find(end => end.partition === partition)?.offset ?? 0n
      const beyond = stored.filter(({ partition, nextOffset }) => nextOffset > endOf(partition))
      // The ends were asked first: a predecessor may have gone past them since. Once more tells.
      if (beyond.some(({ partition }) => !askedAgain.has(partition))) {
        for (const { partition } of beyond) askedAgain.add(partition)
        throw new Error('stored offsets lie beyond the ends of ledger.commands')
      }
      askedAgain.clear()
      for (const { partition, nextOffset } of beyond) {
        const reason = `the topic ends at offset ${endOf(partition)}, but ${nextOffset} of its records are decided; it was made anew or lost`
        consumer.halt({ topic: 'ledger.commands', partition }, reason)
      }
      return stored
        .filter(row => !beyond.includes(row))
        .map(({ partition, nextOffset }) => ({
          topic: 'ledger.commands',
          partition,
          offset: nextOffset > 0n ? nextOffset - 1n : 0n,
        }))
    },
    onAssigned: assigned => relay.assign(assigned.map(({ partition }) => partition)),
    handle: async (records, consumer) => {
      const end = applySeconds.startTimer()
      const result = await applyBatch(
        {
          store,
          codec,
          refusalOf: record =>
            record.offset < (macsFrom.get(record.partition) ?? 0n) ? undefined : verifyCommand(record),
          limitDefaults,
          setAside: (record, reason) => {
            logger.error(
              { partition: record.partition, offset: String(record.offset), reason },
              'record set aside',
            )
            return publisher.publish(deadLetterOf(record, 'ledger', reason))
          },
        },
        records,
      )
      end()
      relay.offer(result.events)
      if (result.repeats.length > 0) relay.repeat(result.repeats)
      batchRecords.inc(records.length)
      for (const [outcome, count] of Object.entries(result.counts))
        if (count > 0) decisions.inc({ outcome }, count)
      for (const { partition, offset } of result.gaps) {
        gapsSeen.inc()
        logger.warn({ partition, offset: String(offset) }, 'gap: reading again from the stored offset')
        consumer.seek({ topic: 'ledger.commands', partition, offset })
      }
      for (const { partition, reason } of result.strangers)
        consumer.halt({ topic: 'ledger.commands', partition }, reason)
      for (const [partition, { count, all }] of result.setAsideInARow) {
        const inARow = (all ? (setAsideInARow.get(partition) ?? 0) : 0) + count
        setAsideInARow.set(partition, inARow)
        if (inARow >= MAX_SET_ASIDE_IN_A_ROW) {
          consumer.halt(
            { topic: 'ledger.commands', partition },
            `${inARow} records in a row could not be understood`,
          )
        }
      }
    },
  }
}

/** Reads ledger.commands and applies it batch by batch: what arrives while one batch commits is the next. */
export const consumeCommands = (parts: {
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
    client: parts.kafka,
    logger: parts.logger,
    groupId: 'ledger',
    topics: ['ledger.commands'],
    maxBatch: parts.maxBatch,
    ...createCommandHandler(parts),
  })
