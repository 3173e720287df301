// Keeps every wallet's balance from the events alone, and checks that no entry is missing. It has no code of Pennywire:
//   npm install && node balances.ts --until-end
// It prints JSON lines and ends with 0, with 1 if entries are missing, with 2 if it could not read.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import registryClient from '@kafkajs/confluent-schema-registry'
import avsc from 'avsc'
import kafkajs from 'kafkajs'

const USAGE = `usage: node balances.ts [--until-end] [--topic NAME] [--wait SECONDS]
  --until-end  stop at the end that the topic has now, and print each wallet once
  --topic      ledger.events
  --wait       how long to wait at the end for entries that are still under way (10)
KAFKA_BROKERS, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE and REGISTRY_URL say where and as whom.`

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

/** Avro's long as a bigint: avsc's own refuses what passes 2^53, and reads the wrong sign below -(2^52). */
const bigLong = avsc.types.LongType.__with({
  fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
  toBuffer: (value: bigint) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(value)
    return bytes
  },
  fromJSON: BigInt,
  toJSON: String,
  isValid: (value: unknown) => typeof value === 'bigint',
  compare: (a: bigint, b: bigint) => (a < b ? -1 : Number(a > b)),
})
const isLong = (schema: unknown) =>
  schema === 'long' || (schema as { type?: unknown } | null)?.type === 'long'
const registry = new registryClient.SchemaRegistry(
  { host: REGISTRY_URL },
  { [registryClient.SchemaType.AVRO]: { typeHook: schema => (isLong(schema) ? bigLong : undefined) } },
)

/** The two events that contain entries: a hold moves nothing until it is captured. */
const MOVES_MONEY = ['pennywire.ledger.TransferCompleted', 'pennywire.ledger.TransferReversed']
/** What this program uses of an entry. Further fields come and are not looked at. */
type Entry = { walletId: string; currency: string; balanceAfterMinor: bigint; sequence: bigint }

type Wallet = {
  /** The entry of the greatest sequence. */
  newest: Entry
  /** Every sequence from 1 to this one was seen. */
  through: bigint
  /** Seen beyond `through`: entries that a wallet receives may overtake each other. */
  ahead: Set<bigint>
}
const wallets = new Map<string, Wallet>()
const counts = { records: 0, entries: 0, repeats: 0 }

const print = ({ walletId, currency, balanceAfterMinor, sequence }: Entry) =>
  console.log(
    `{"walletId":"${walletId}","currency":"${currency}","balance":"${balanceAfterMinor}","sequence":${sequence}}`,
  )

const addEntry = (entry: Entry) => {
  const { walletId, sequence } = entry
  let wallet = wallets.get(walletId)
  if (!wallet) {
    wallet = { newest: { ...entry, sequence: 0n }, through: 0n, ahead: new Set() }
    wallets.set(walletId, wallet)
  }
  if (sequence <= wallet.through || wallet.ahead.has(sequence)) {
    counts.repeats++
    return
  }
  counts.entries++
  wallet.ahead.add(sequence)
  while (wallet.ahead.delete(wallet.through + 1n)) wallet.through++
  // The greater sequence wins.
  if (sequence <= wallet.newest.sequence) return
  wallet.newest = entry
  if (!untilEnd) print(entry)
}

/** How many entries of a wallet up to this sequence were not seen. */
const missingOf = ({ through, ahead }: Wallet, upTo: bigint): number =>
  upTo <= through ? 0 : Number(upTo - through) - [...ahead].filter(sequence => sequence <= upTo).length

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
let awaited: Map<string, bigint> | undefined
let finished = false

const finish = async () => {
  if (finished) return
  finished = true
  const byId = [...wallets].sort(([a], [b]) => (a < b ? -1 : 1))
  if (untilEnd) for (const [, { newest }] of byId) print(newest)
  let missing = 0
  for (const [id, wallet] of byId) {
    // Later entries may still be under way while traffic goes on; those before the end are not.
    const upTo = awaited ? (awaited.get(id) ?? 0n) : wallet.newest.sequence
    const lacks = missingOf(wallet, upTo)
    if (lacks === 0) continue
    missing += lacks
    console.error(`wallet ${id} lacks ${lacks} of its first ${upTo} entries, from ${wallet.through + 1n} on`)
  }
  const { records, entries, repeats } = counts
  console.error(
    `${records} records, ${wallets.size} wallets, ${entries} entries, ${repeats} repeats, ${missing} missing`,
  )
  await consumer.disconnect()
  process.exit(missing === 0 ? 0 : 1)
}

/** By partition the offset of the next record, and the one at which the topic ended when this program began. */
const positions = new Map<number, bigint>()
const ends = new Map<number, bigint>()

const stopAtEnd = () => {
  if (!untilEnd || ![...ends].every(([partition, end]) => positions.get(partition)! >= end)) return
  if (!awaited) {
    // The partitions were not cut at one moment: an entry may be there while one before it is still under way.
    const lacking = [...wallets].filter(([, wallet]) => missingOf(wallet, wallet.newest.sequence) > 0)
    awaited = new Map(lacking.map(([id, { newest }]) => [id, newest.sequence]))
    setTimeout(finish, Number(wait) * 1_000)
  }
  if ([...awaited].every(([id, upTo]) => missingOf(wallets.get(id)!, upTo) === 0)) void finish()
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
      const { entries } = (await registry.decode(value)) as { entries: Entry[] }
      for (const entry of entries) addEntry(entry)
    }
    positions.set(batch.partition, BigInt(batch.lastOffset()) + 1n)
    stopAtEnd()
  },
})
stopAtEnd()
