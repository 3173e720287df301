// `npm run audit:verify`: recomputes every hash chain, compares each record that the topics still hold with them, and
// verifies the signed checkpoints. USAGE tells the options, settings and exit codes.
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import { createKafkaClient, type KafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { z } from 'zod'
import type { PublicKeys } from './checkpoint.ts'
import { readCheckpointLines } from './checkpoint-file.ts'
import { readPublicKeys } from './checkpoint-keys.ts'
import { readCheckpointTopic } from './checkpoint-topic.ts'
import { compareWithTopic, type TopicComparison } from './compare-with-topic.ts'
import { hasCheckpoints, loadChainHeads, loadCheckpointsAfter, loadHashesAt } from './sql/checkpoints.ts'
import { loadEpochs } from './sql/epochs.ts'
import { type BrokenRecord, type ChainReport, verifyChains } from './verify-chains.ts'
import {
  type CheckpointReport,
  type CheckpointSource,
  createCheckpointVerifier,
} from './verify-checkpoints.ts'

const USAGE = `usage: npm run audit:verify -- [--public-key FILE]... [--checkpoint-file FILE] [--no-checkpoints] [--json]

Recomputes the hash chains of the audit trail, compares them with the topics, and verifies the signed checkpoints in the
database, the topic audit.checkpoints and the file. It changes nothing and may run beside a running system.

  --public-key FILE       Ed25519 public keys of the checkpoints: a JWK, {"keys": [...]} or PEM; may be repeated.
                          Without one, signatures are not checked. Setting: CHECKPOINT_PUBLIC_FILE.
  --checkpoint-file FILE  A file that an audit service writes. Setting: CHECKPOINT_FILE.
  --no-checkpoints        Checks the chains and the topics alone, for a part of a trail.
  --json                  Writes one JSON document to stdout.
  --help                  Writes this.

Settings: AUDIT_DATABASE_URL; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…) to compare with the topics.
Exit codes: 0 nothing is broken, 1 something is (the first broken record or checkpoint is named), 2 wrong options or
settings, 3 not everything could be checked.
Example: npm run audit:verify -- --public-key checkpoint-public.json
`
const PAGE = 200

const { values: options } = beginCommand(USAGE, {
  options: {
    'public-key': { type: 'string', multiple: true },
    'checkpoint-file': { type: 'string' },
    'no-checkpoints': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

const config = loadConfig(
  {
    AUDIT_DATABASE_URL: databaseUrl,
    ...kafkaSettings,
    KAFKA_BROKERS: kafkaSettings.KAFKA_BROKERS.optional(),
    CHECKPOINT_PUBLIC_FILE: z.string().min(1).optional(),
    CHECKPOINT_FILE: z.string().min(1).optional(),
  },
  process.env,
)
const keyFiles =
  options['public-key'] ?? (config.CHECKPOINT_PUBLIC_FILE ? [config.CHECKPOINT_PUBLIC_FILE] : [])
const checkpointFile = options['checkpoint-file'] ?? config.CHECKPOINT_FILE

const loadKeys = (): PublicKeys | null => {
  if (keyFiles.length === 0) return null
  try {
    return readPublicKeys(keyFiles)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    return process.exit(EXIT.usage)
  }
}
const keys = loadKeys()

const logger = createLogger('audit-verify', { level: 'fatal', instance: 'verify' })
const sql = openDatabase(config.AUDIT_DATABASE_URL, {
  applicationName: 'audit-verify',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 1,
})
const client = config.KAFKA_BROKERS
  ? createKafkaClient({ connection: kafkaConnectionOf(config), clientId: 'audit-verify', logger })
  : undefined

const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}
const progressOf = (what: string, total: number) =>
  showProgress({ what, total, clock: systemClock, stream: process.stderr })

const placeOf = ({ topic, epoch, partition, offset }: BrokenRecord) =>
  `${topic} epoch ${epoch} partition ${partition} offset ${offset}`

let records = 0
let broken = 0
let firstBroken: BrokenRecord | null = null
const count = (found: number, first: BrokenRecord | null) => {
  broken += found
  firstBroken ??= first
}
/** What could not be checked, in words. */
const unchecked: string[] = []

const chains: ChainReport[] = []
/** The last offset of each chain of a topic's current epoch. */
const lastOffsets = new Map<string, bigint>()

const checkChains = async (epochs: Map<string, number>) => {
  const heads = await loadChainHeads(sql)
  const total = heads.reduce((sum, head) => sum + Number(head.records), 0)
  const progress = progressOf('chains', total)
  for await (const chain of verifyChains(sql, progress.add)) {
    const { topic, epoch, partition } = chain
    chains.push(chain)
    print(
      `${topic} epoch ${epoch} partition ${partition}: ${chain.records} records, ${chain.first} to ${chain.last}, ` +
        `head ${chain.headHash}${chain.broken > 0 ? `, ${chain.broken} BROKEN` : ''}`,
    )
    records += chain.records
    count(chain.broken, chain.firstBroken)
    if (epoch === (epochs.get(topic) ?? 0)) lastOffsets.set(`${topic}/${partition}`, chain.last)
  }
  progress.end()
}

type TopicEnd = { topic: string; partition: number; first: bigint; end: bigint }
const loadTopicEnds = async (from: KafkaClient): Promise<{ ends: TopicEnd[]; topics: string[] }> => {
  const admin = from.admin()
  await admin.connect()
  try {
    const ends: TopicEnd[] = []
    for (const topic of RECORDED_TOPICS)
      for (const { partition, low, high } of await admin.fetchTopicOffsets(topic))
        ends.push({ topic, partition, first: BigInt(low), end: BigInt(high) })
    return { ends, topics: await admin.listTopics() }
  } finally {
    await admin.disconnect()
  }
}

const comparisons: Array<TopicComparison & { topic: string }> = []

const checkTopics = async (from: KafkaClient, epochs: Map<string, number>, ends: TopicEnd[]) => {
  for (const { topic, partition, end } of ends) {
    const last = lastOffsets.get(`${topic}/${partition}`) ?? -1n
    if (last + 1n < end)
      print(`${topic} partition ${partition}: recorded to ${last}, the topic ends at ${end - 1n}`)
    if (last < end) continue
    count(1, {
      ...{ topic, epoch: epochs.get(topic) ?? 0, partition, offset: end },
      reason: `the topic ends before it, the chain at ${last}`,
    })
  }
  const total = ends.reduce((sum, { first, end }) => sum + Number(end - first), 0)
  const progress = progressOf('topics', total)
  for (const topic of RECORDED_TOPICS) {
    const ofTopic = [...lastOffsets].filter(([key]) => key.startsWith(`${topic}/`))
    if (ofTopic.length === 0) continue
    const comparison = await compareWithTopic({
      ...{ sql, client: from, logger, topic, epoch: epochs.get(topic) ?? 0, onCompared: progress.add },
      lastOffsets: new Map(ofTopic.map(([key, last]) => [Number(key.slice(topic.length + 1)), last])),
    })
    comparisons.push({ topic, ...comparison })
    print(
      `${topic}: ${comparison.compared} records compared with the topic` +
        `${comparison.broken > 0 ? `, ${comparison.broken} DIFFERENT` : ''}`,
    )
    count(comparison.broken, comparison.firstBroken)
  }
  progress.end()
}

const checkCheckpoints = async (topicIsThere: boolean): Promise<CheckpointReport> => {
  const ends = new Map(
    chains.map(({ topic, epoch, partition, first, last }) => [
      `${topic}/${epoch}/${partition}`,
      { first, last },
    ]),
  )
  const verifier = createCheckpointVerifier({
    keys,
    chains: ends,
    loadHashesAt: places => loadHashesAt(sql, places),
  })
  const sources: CheckpointSource[] = ['the database']
  if (await hasCheckpoints(sql)) {
    for (let after = 0n; ; ) {
      const page = await loadCheckpointsAfter(sql, after, PAGE)
      for (const { sequence, token } of page) await verifier.read('the database', token, sequence)
      if (page.length < PAGE) break
      after = page.at(-1)!.sequence
    }
  } else print('the database has no table of checkpoints: it is of an older version, and not migrated yet')
  if (client && topicIsThere) {
    sources.push('the topic')
    await readCheckpointTopic({ client, logger, handle: token => verifier.read('the topic', token) })
  } else if (client)
    print('the topic audit.checkpoints is not there: it is of an older version, and not set up yet')
  let missingFile: string | undefined
  if (checkpointFile !== undefined) {
    sources.push('the file')
    try {
      for await (const { line, torn } of readCheckpointLines(checkpointFile)) {
        if (torn)
          print('the last line of the file is torn; the audit service cuts it off when it writes the next')
        else await verifier.read('the file', line)
      }
    } catch (error) {
      const reason = `the checkpoint file cannot be read: ${(error as Error).message}`
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && options['checkpoint-file'] === undefined) {
        missingFile = reason
      } else unchecked.push(reason)
      sources.pop()
    }
  }
  const report = await verifier.end(sources, systemClock.now())
  // The service's own file begins with its first checkpoint. A file that the command line names has to be there.
  if (missingFile !== undefined && report.checked > 0) unchecked.push(missingFile)
  return report
}

const printCheckpoints = ({ sources, checked }: CheckpointReport) => {
  if (checked === 0 && sources.every(source => source.broken === 0)) {
    print(
      records === 0
        ? 'no checkpoint is signed yet: the trail is empty'
        : 'no checkpoint is signed yet: the trail was recorded by a version without checkpoints, or has just begun',
    )
    return
  }
  for (const source of sources) {
    const { last } = source
    print(
      `checkpoints in ${source.source}: ${source.checkpoints}` +
        `${last ? `, the last is ${last.sequence} of ${new Date(last.time).toISOString()} by key ${last.kid}` : ''}` +
        `${source.late > 0 ? `, ${source.late} not there yet` : ''}` +
        `${source.broken > 0 ? `, ${source.broken} BROKEN` : ''}`,
    )
  }
  if (!keys) print('the signatures of the checkpoints are NOT checked: no --public-key is given')
}

const check = async (): Promise<CheckpointReport | undefined> => {
  const epochs = await loadEpochs(sql)
  await checkChains(epochs)
  // Read after the chains: the audit trail grows meanwhile, and must not be ahead of its topic.
  const kafka = client && (await loadTopicEnds(client))
  if (client && kafka) await checkTopics(client, epochs, kafka.ends)
  if (options['no-checkpoints']) return undefined
  const report = await checkCheckpoints(kafka?.topics.includes('audit.checkpoints') ?? false)
  printCheckpoints(report)
  count(report.brokenChains, report.firstBrokenRecord)
  return report
}

const asJson = (report: CheckpointReport | undefined, exitCode: number) =>
  JSON.stringify(
    {
      ok: exitCode === EXIT.ok,
      records,
      broken,
      firstBroken,
      unchecked,
      chains,
      topics: comparisons,
      signaturesChecked: keys !== null,
      checkpoints: report?.checked ?? null,
      sources: report?.sources ?? [],
    },
    (_name, value) => (typeof value === 'bigint' ? String(value) : value),
    2,
  )

let report: CheckpointReport | undefined
try {
  report = await check()
} catch (error) {
  unchecked.push((error as Error).message || String((error as { code?: string }).code ?? error))
}
await sql.end({ timeout: 5 })

const brokenCheckpoint = report?.sources.find(source => source.firstBroken)?.firstBroken ?? null
print(`${records} records, ${broken} broken`)
for (const what of unchecked) process.stderr.write(`could not be checked: ${what}\n`)
if (brokenCheckpoint) {
  const { source, sequence, reason } = brokenCheckpoint
  print(`first broken checkpoint: ${sequence ?? '?'} in ${source}: ${reason}`)
}
if (firstBroken) print(`first broken: ${placeOf(firstBroken)}: ${(firstBroken as BrokenRecord).reason}`)
const exitCode = firstBroken || brokenCheckpoint ? EXIT.wrong : unchecked.length > 0 ? EXIT.failed : EXIT.ok
if (options.json) process.stdout.write(`${asJson(report, exitCode)}\n`)
process.exitCode = exitCode
