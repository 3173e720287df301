import { RECORDED_TOPICS, TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createTopicCheck } from '@pennywire/kafka/check-topics.ts'
import { createBrokerCheck, createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
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
import { createCheckpointTopic } from './checkpoint-topic.ts'
import { auditSettings } from './config.ts'
import { startLogIndex } from './index-log.ts'
import { createRecorder } from './record-topics.ts'
import { startCheckpoints } from './sign-checkpoints.ts'

const config = loadConfig(auditSettings, process.env)
const logger = createLogger('audit', { level: config.LOG_LEVEL, instance: config.INSTANCE_ID })

const sql = openDatabase(config.DATABASE_URL, {
  applicationName: config.INSTANCE_ID,
  maxConnections: 4,
})
const client = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: config.INSTANCE_ID,
  logger,
})
const brokers = createBrokerCheck(client)
const publisher = await createPublisher(client)
const checkpoints = startCheckpoints({
  ...{ sql, logger, clock: systemClock, keys: config.CHECKPOINT_KEY_FILE },
  topic: createCheckpointTopic({ client, publisher, logger }),
  file: config.CHECKPOINT_FILE,
  everySeconds: config.CHECKPOINT_SECONDS,
  everyRecords: config.CHECKPOINT_RECORDS,
})
const recorder = createRecorder(sql, checkpoints.onRecorded)
const consumer = await startConsumer({
  client,
  logger,
  groupId: 'audit',
  topics: RECORDED_TOPICS,
  gathers: true,
  positions: recorder.positions,
  handle: recorder.handle,
})
measureConsumer(consumer)
const logIndex = startLogIndex({
  sql,
  openCodec: () => createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config))),
  clock: systemClock,
  logger,
})
measuredGauge(
  'audit_unindexed_records',
  'Records of the trail that its index does not hold yet',
  logIndex.behind,
)
measuredGauge('audit_waiting_records', 'Records that have come and are not recorded yet', consumer.waiting)

// Alarms only, no readiness check: the ledger's readiness fails, and the records stored here are right until then.
const topics = createTopicCheck(client, Object.keys(TOPICS) as Topic[], config)
const foundation = watchFoundation({
  checks: { topics: topics.find, postgres: () => findPostgresFaults(sql) },
  logger,
  clock: systemClock,
})

const operations = await listen(
  operationsRoutes(
    {
      postgres: () => ping(sql),
      kafka: brokers.check,
      consumer: consumer.check,
    },
    1_000 * config.OPS_KEEP_SECONDS,
  ),
  { host: config.OPS_HOST, port: config.OPS_PORT },
)
logger.info({ port: operations.port }, 'recording')

onShutdown(logger, [
  consumer.stop,
  logIndex.stop,
  checkpoints.stop,
  publisher.stop,
  foundation.stop,
  topics.close,
  operations.stop,
  brokers.close,
  () => sql.end({ timeout: 5 }),
])
