// Keeps every wallet's balance from the events alone, and checks that no entry is missing, with Pennywire's consumer kit:
//   npm install ./pennywire-consumer-0.1.0.tgz && node balances.ts --until-end
// It prints JSON lines and ends with 0, with 1 if entries are missing, with 2 if it could not read.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Balance, createBalances, createDecoder, fromRegistry } from '@pennywire/consumer'
import kafkajs from 'kafkajs'

const USAGE = `usage: node balances.ts [--until-end] [--topic NAME] [--wait SECONDS]
  --until-end  stop at the end that the topic has now, and print each wallet once
  --topic      ledger.events
  --wait       how long to wait at the end for entries that are still under way (10)
  --help       writes this
KAFKA_BROKERS, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE and REGISTRY_URL say where and as whom.
Example: node balances.ts --until-end`

const fail = (reason: string): never => {
  console.error(reason)
  process.exit(2)
}

const readOptions = () => {
  try {
    const { values } = parseArgs({
      options: {
        'until-end': { type: 'boolean', default: false },
        topic: { type: 'string', default: 'ledger.events' },
        wait: { type: 'string', default: '10' },
        help: { type: 'boolean', default: false },
      },
    })
    if (!/^\d{1,4}$/.test(values.wait)) throw new Error('--wait must be whole seconds, at most 9999')
    return values
  } catch (error) {
    return fail(`${(error as Error).message}\n${USAGE}`)
  }
}
const { 'until-end': untilEnd, topic, wait, help } = readOptions()
if (help) {
  console.log(USAGE)
  process.exit(0)
}

const {
  KAFKA_BROKERS = '127.0.0.1:19092',
  KAFKA_SASL_USERNAME: username = 'downstream',
  KAFKA_SASL_PASSWORD_FILE: passwordFile,
  REGISTRY_URL = 'http://127.0.0.1:18081/apis/ccompat/v7',
} = process.env

const decode = createDecoder(fromRegistry(REGISTRY_URL))
/** The two events that contain entries: a hold moves nothing until it is captured. */
const MOVES_MONEY = ['pennywire.ledger.TransferCompleted', 'pennywire.ledger.TransferReversed']
const balances = createBalances()
const counts = { records: 0, entries: 0, repeats: 0 }

const print = ({ walletId, currency, balance, sequence }: Balance) =>
  console.log(
    `{"walletId":"${walletId}","currency":"${currency}","balance":"${balance}","sequence":${sequence}}`,
  )

const kafka = new kafkajs.Kafka({
  clientId: 'balances-from-events',
  brokers: KAFKA_BROKERS.split(','),
  logLevel: kafkajs.logLevel.NOTHING,
  ...(passwordFile
    ? { sasl: { mechanism: 'plain', username, password: readFileSync(passwordFile, 'utf8').trim() } }
    : {}),
})
// Balances are kept only in memory, so each run reads the whole topic, in a group of its own.
const consumer = kafka.consumer({
  groupId: `downstream-balances-${randomUUID()}`,
  maxWaitTimeInMs: 500,
  retry: { restartOnFailure: async () => false },
})
consumer.on('consumer.crash', ({ payload }) => fail(`could not read ${topic}: ${payload.error.message}`))

/** Of the wallets that lack entries at the end: the sequence up to which these must still come. */
let awaited: Map<string, number> | undefined
let latest: NodeJS.Timeout | undefined
let finished = false

const finish = async () => {
  if (finished) return
  finished = true
  clearTimeout(latest)
  const all = balances.all()
  if (untilEnd) for (const balance of all) print(balance)
  // Later entries may still be under way while traffic goes on; those before the end are not.
  const gaps = balances.gaps(awaited)
  for (const { walletId, missing, upTo, from } of gaps)
    console.error(`wallet ${walletId} lacks ${missing} of its first ${upTo} entries, from ${from} on`)
  const lost = gaps.reduce((sum, { missing }) => sum + missing, 0)
  const { records, entries, repeats } = counts
  console.error(
    `${records} records, ${all.length} wallets, ${entries} entries, ${repeats} repeats, ${lost} missing`,
  )
  await consumer.disconnect()
  // Not process.exit: it drops what a slow reader has not taken from the pipe.
  process.exitCode = lost === 0 ? 0 : 1
}

/** By partition the offset of the next record, and the one at which the topic ended when this program began. */
const positions = new Map<number, bigint>()
const ends = new Map<number, bigint>()

const stopAtEnd = () => {
  if (!untilEnd || ![...ends].every(([partition, end]) => positions.get(partition)! >= end)) return
  if (!awaited) {
    // The partitions were not cut at one moment: an entry may be there while one before it is still under way.
    awaited = new Map(balances.gaps().map(({ walletId, upTo }) => [walletId, upTo]))
    latest = setTimeout(finish, Number(wait) * 1_000)
  }
  if (balances.gaps(awaited).length === 0) void finish()
}

const admin = kafka.admin()
try {
  await admin.connect()
  for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
    positions.set(partition, BigInt(low))
    ends.set(partition, BigInt(high))
  }
  await admin.disconnect()
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
} catch (error) {
  fail(`could not reach ${topic}: ${(error as Error).message}`)
}
process.on('SIGINT', finish).on('SIGTERM', finish)
await consumer.run({
  autoCommit: false,
  eachBatch: async ({ batch, heartbeat }) => {
    for (const { headers, value } of batch.messages) {
      if (finished) return
      counts.records++
      await heartbeat()
      // The envelope contains the type, so no decoding is needed. Skip unknown types: further ones will be added.
      if (!value || !MOVES_MONEY.includes(headers?.ce_type?.toString() ?? '')) continue
      const event = await decode(value)
      if (!event || !('entries' in event.value)) continue
      for (const entry of event.value.entries) {
        const is = balances.add(entry)
        counts[is === 'repeat' ? 'repeats' : 'entries']++
        const { walletId, currency, balanceAfterMinor: balance, sequence } = entry
        if (is === 'newer' && !untilEnd) print({ walletId, currency, balance, sequence })
      }
    }
    positions.set(batch.partition, BigInt(batch.lastOffset()) + 1n)
    stopAtEnd()
  },
})
stopAtEnd()
