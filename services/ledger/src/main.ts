import { createRegistryCheck } from '@pennywire/kafka/check-registry.ts'
import { createTopicCheck } from '@pennywire/kafka/check-topics.ts'
import { createBrokerCheck, createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { createCommandVerifier } from '@pennywire/kafka/command-mac.ts'
import { measureConsumer } from '@pennywire/kafka/measure-consumer.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase, ping } from '@pennywire/runtime/database.ts'
import { operationsRoutes } from '@pennywire/runtime/health.ts'
import { listen } from '@pennywire/runtime/http-server.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import { onShutdown } from '@pennywire/runtime/shutdown.ts'
import { findPostgresFaults, watchFoundation } from '@pennywire/runtime/watch-foundation.ts'
import { BOOKS_DEADLINE_MS } from './check-books.ts'
import { ledgerSettings } from './config.ts'
import { consumeCommands } from './consume-commands.ts'
import { keepSchemas } from './keep-schemas.ts'
import { startRelay } from './publish-journal.ts'
import { findPartitionFaults } from './sql/find-partition-faults.ts'
import { readBacklog, readOldestUnpublished } from './sql/journal.ts'
import { checkLimitDefaults, writeLimitDefaults } from './sql/limit-defaults.ts'
import { readOldestSnapshotSeconds } from './sql/oldest-snapshot.ts'
import { postgresStore } from './sql/store.ts'
import { readSystemWallets } from './sql/system-wallets.ts'
import { watchBooks } from './watch-books.ts'

const config = loadConfig(ledgerSettings, process.env)
const logger = createLogger('ledger', { level: config.LOG_LEVEL, instance: config.INSTANCE_ID })

/**
 * Deadline of a batch's statements: below Kafka's session time-out, above `transaction_timeout`, which Postgres itself
 * enforces if it can.
 */
const BATCH_DEADLINE_MS = 9_000

// Postgres itself ends a batch that hangs: its locks must be released before Kafka assigns the partition to another
// ledger (session time-out 10 s), even if this process hangs.
const sql = openDatabase(config.DATABASE_URL, {
  applicationName: config.INSTANCE_ID,
  maxConnections: 4,
  deadlineMs: BATCH_DEADLINE_MS,
  connection: { transaction_timeout: 8_000, idle_in_transaction_session_timeout: 5_000, lock_timeout: 5_000 },
})
// The published mark may be late, never early: losing its last write only causes repeats, so it need not be flushed.
const relaySql = openDatabase(config.DATABASE_URL, {
  applicationName: `${config.INSTANCE_ID}-relay`,
  maxConnections: 2,
  deadlineMs: BATCH_DEADLINE_MS,
  connection: { synchronous_commit: 'off' },
})

const kafka = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: config.INSTANCE_ID,
  logger,
})
const brokers = createBrokerCheck(kafka)
const codec = await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config)))
await keepSchemas(sql, codec)
const publisher = await createPublisher(kafka)
const store = postgresStore(sql, relaySql)
const limitDefaults = { unverified: config.LIMITS_UNVERIFIED, verified: config.LIMITS_VERIFIED }
await writeLimitDefaults(sql, limitDefaults)
const relay = startRelay({ store, publisher, logger, clock: systemClock })
const consumer = await consumeCommands({
  kafka,
  logger,
  store,
  codec,
  verifyCommand: createCommandVerifier(config.COMMAND_MAC_FILE),
  limitDefaults,
  publisher,
  relay,
  maxBatch: config.MAX_BATCH,
})

measureConsumer(consumer)
measuredGauge('ledger_waiting_records', 'Commands that came and wait to be applied', consumer.waiting)
measuredGauge('ledger_unpublished_events', 'Events decided and not yet known to be in Kafka', async () =>
  Number(await readBacklog(relaySql)),
)
measuredGauge('ledger_oldest_unpublished_seconds', 'Age of the oldest of them', () =>
  readOldestUnpublished(relaySql),
)
measuredGauge(
  'ledger_oldest_snapshot_seconds',
  "Age of the oldest transaction on the ledger's server that keeps dead row versions, by any role",
  () => readOldestSnapshotSeconds(relaySql),
)
measuredGauge(
  'ledger_system_wallet_headroom_ratio',
  'Share of its bound that the fullest system wallet has left, of those without a successor',
  async () => (await readSystemWallets(relaySql)).headroom,
)
measuredGauge(
  'ledger_system_wallet_successors',
  'System wallets that succeed a full one',
  async () => (await readSystemWallets(relaySql)).successors,
)

const books = watchBooks({
  sql: openDatabase(config.DATABASE_URL, {
    applicationName: `${config.INSTANCE_ID}-books`,
    maxConnections: 1,
    deadlineMs: BOOKS_DEADLINE_MS,
    connection: { default_transaction_read_only: 'on' },
  }),
  logger,
  clock: systemClock,
  partitions: () => consumer.assigned().map(({ partition }) => partition),
  everyMs: config.BOOKS_CHECK_SECONDS * 1_000,
  everyMsFull: config.BOOKS_FULL_CHECK_SECONDS * 1_000,
  maxEvents: config.BOOKS_CHECK_EVENTS,
})

const topics = createTopicCheck(kafka, ['ledger.commands', 'ledger.events', 'ledger.dead-letters'], config)
const foundation = watchFoundation({
  checks: {
    topics: topics.find,
    registry: createRegistryCheck(config.REGISTRY_URL, registryAccessOf(config)),
    postgres: async () => [...(await findPostgresFaults(sql)), ...(await findPartitionFaults(sql))],
  },
  logger,
  clock: systemClock,
})

const operations = await listen(
  operationsRoutes(
    {
      postgres: async () => {
        await ping(sql)
        foundation.check('postgres')
        await checkLimitDefaults(sql, limitDefaults)
      },
      kafka: async () => {
        await brokers.check()
        foundation.check('topics')
      },
      consumer: consumer.check,
    },
    1_000 * config.OPS_KEEP_SECONDS,
  ),
  { host: config.OPS_HOST, port: config.OPS_PORT },
)
logger.info({ port: operations.port }, 'ledger started')

onShutdown(logger, [
  books.stop,
  foundation.stop,
  topics.close,
  consumer.stop,
  relay.stop,
  publisher.stop,
  brokers.close,
  operations.stop,
  () => relaySql.end(),
  () => sql.end(),
])
