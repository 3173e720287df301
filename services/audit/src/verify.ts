// `npm run audit:verify`: recomputes every hash chain. AUDIT_DATABASE_URL is the database. With KAFKA_BROKERS each
// record that the topic still holds is also compared with it: this finds records cut off at a chain's end, and records
// changed together with all later hashes. Exits with 1 and names the first broken record if there is one.
import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createKafkaClient, type KafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { compareWithTopic } from './compare-with-topic.ts'
import { loadEpochs } from './sql/epochs.ts'
import { type BrokenRecord, verifyChains } from './verify-chains.ts'

const config = loadConfig(
  {
    AUDIT_DATABASE_URL: databaseUrl,
    ...kafkaSettings,
    KAFKA_BROKERS: kafkaSettings.KAFKA_BROKERS.optional(),
  },
  process.env,
)
const sql = openDatabase(config.AUDIT_DATABASE_URL, {
  applicationName: 'audit-verify',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 1,
})

const logger = createLogger('audit-verify', { level: 'fatal', instance: 'verify' })

const loadTopicEnds = async (client: KafkaClient) => {
  const admin = client.admin()
  await admin.connect()
  const ends: Array<{ topic: string; partition: number; end: bigint }> = []
  for (const topic of topics)
    for (const { partition, high } of await admin.fetchTopicOffsets(topic))
      ends.push({ topic, partition, end: BigInt(high) })
  await admin.disconnect()
  return ends
}

const topics = Object.keys(TOPICS) as Topic[]

const print = (line: string) => process.stdout.write(`${line}\n`)

let records = 0
let broken = 0
let firstBroken: BrokenRecord | null = null
/** The last offset of each chain of a topic's current epoch. */
const lastOffsets = new Map<string, bigint>()
const epochs = await loadEpochs(sql)

for await (const chain of verifyChains(sql)) {
  const { topic, epoch, partition } = chain
  print(
    `${topic} epoch ${epoch} partition ${partition}: ${chain.records} records, ${chain.first} to ${chain.last}, ` +
      `head ${chain.headHash}${chain.broken > 0 ? `, ${chain.broken} BROKEN` : ''}`,
  )
  records += chain.records
  broken += chain.broken
  firstBroken ??= chain.firstBroken
  if (epoch === (epochs.get(topic) ?? 0)) lastOffsets.set(`${topic}/${partition}`, chain.last)
}
const client = config.KAFKA_BROKERS
  ? createKafkaClient({ connection: kafkaConnectionOf(config), clientId: 'audit-verify', logger })
  : undefined
// Read after the chains: the audit trail grows meanwhile, and must not be ahead of its topic.
for (const { topic, partition, end } of client ? await loadTopicEnds(client) : []) {
  const last = lastOffsets.get(`${topic}/${partition}`) ?? -1n
  if (last + 1n < end)
    print(`${topic} partition ${partition}: recorded to ${last}, the topic ends at ${end - 1n}`)
  if (last < end) continue
  broken += 1
  firstBroken ??= {
    ...{ topic, epoch: epochs.get(topic) ?? 0, partition, offset: end },
    reason: `the topic ends before it, the chain at ${last}`,
  }
}
for (const topic of client ? topics : []) {
  const ofTopic = [...lastOffsets].filter(([key]) => key.startsWith(`${topic}/`))
  if (ofTopic.length === 0) continue
  const comparison = await compareWithTopic({
    ...{ sql, client: client!, logger, topic, epoch: epochs.get(topic) ?? 0 },
    lastOffsets: new Map(ofTopic.map(([key, last]) => [Number(key.slice(topic.length + 1)), last])),
  })
  print(
    `${topic}: ${comparison.compared} records compared with the topic` +
      `${comparison.broken > 0 ? `, ${comparison.broken} DIFFERENT` : ''}`,
  )
  broken += comparison.broken
  firstBroken ??= comparison.firstBroken
}
await sql.end()

print(`${records} records, ${broken} broken`)
if (firstBroken) {
  const { topic, epoch, partition, offset, reason } = firstBroken
  print(`first broken: ${topic} epoch ${epoch} partition ${partition} offset ${offset}: ${reason}`)
  process.exitCode = 1
}
