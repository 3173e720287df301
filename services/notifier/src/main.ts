import { createSequenceWatch } from '@pennywire/consumer/watch-sequences.ts'
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
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
import { counter, measuredGauge } from '@pennywire/runtime/metrics.ts'
import { onShutdown } from '@pennywire/runtime/shutdown.ts'
import { startPurging } from '@pennywire/runtime/start-purging.ts'
import { findPostgresFaults, watchFoundation } from '@pennywire/runtime/watch-foundation.ts'
import { createAttachReceipt } from './attach-receipt.ts'
import { mailChannel } from './channels/mail.ts'
import { startWebhooks } from './channels/webhook.ts'
import { notifierSettings } from './config.ts'
import { startDelivering } from './deliver.ts'
import { createNotifying } from './notify.ts'
import { createResealer, createSecretOpener } from './open-secret.ts'
import { createPostWebhook } from './post-webhook.ts'
import { startResealing } from './reseal-secrets.ts'
import { connectMail } from './smtp.ts'
import { measureDue, writeMailedKinds } from './sql/deliveries.ts'
import { eraseLate } from './sql/erasures.ts'
import { openByKey } from './sql/open-by-key.ts'
import { purgeOld } from './sql/purge.ts'

const config = loadConfig(notifierSettings, process.env)
/** An entry that others overtook comes within moments; after so long it is lost. */
const HOLE_AFTER_MS = 60_000
const HOUR_MS = 60 * 60 * 1_000

const logger = createLogger('notifier', { level: config.LOG_LEVEL, instance: config.INSTANCE_ID })

const sql = openByKey(config.DATABASE_URL, { applicationName: config.INSTANCE_ID, maxConnections: 8 })
const wellSql = openByKey(config.DATABASE_URL, {
  applicationName: `${config.INSTANCE_ID}-webhooks`,
  maxConnections: 4,
})
const unwellSql = openByKey(config.DATABASE_URL, {
  applicationName: `${config.INSTANCE_ID}-unwell-webhooks`,
  maxConnections: 2,
  // No try that fails waits for the disk, nor makes others wait: a crash of Postgres that loses one has it made again.
  connection: { synchronous_commit: 'off' },
})
const gatewayRead = openDatabase(config.GATEWAY_READ_URL, {
  applicationName: config.INSTANCE_ID,
  maxConnections: 2,
})
// Used only for receipts that are attached.
const ledgerRead = openDatabase(config.LEDGER_READ_URL, {
  applicationName: config.INSTANCE_ID,
  maxConnections: 2,
})
const client = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: config.INSTANCE_ID,
  logger,
})
const brokers = createBrokerCheck(client)
const codec = await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config)))
const publisher = await createPublisher(client)
const mail = connectMail(config.SMTP_URL, config.MAIL_FROM, {
  allowPlaintext: config.ALLOW_PLAINTEXT === 'true',
})
await writeMailedKinds(sql, config.MAILED_KINDS)
const openSecret = await createSecretOpener(config.NOTIFIER_PRIVATE_KEY_FILE)
const receipts = createAttachReceipt({
  ledgerRead,
  gatewayRead,
  keys: config.RECEIPT_KEY_FILE,
  publicUrl: config.PUBLIC_URL,
})
const mails = startDelivering({
  sql,
  channel: mailChannel({
    sql,
    gatewayRead,
    openSecret,
    attachReceipt: receipts.attach,
    send: mail.send,
  }),
  logger,
})
const poster = createPostWebhook({
  allowPrivate: config.WEBHOOK_ALLOW_PRIVATE === 'true',
  clock: systemClock,
})
const webhooks = startWebhooks({
  ...{ sql: wellSql, unwellSql, openSecret, logger, clock: systemClock },
  post: poster.post,
  disableAfterMs: config.WEBHOOK_DISABLE_HOURS * HOUR_MS,
})
const resealing = startResealing({
  ...{ sql, logger, clock: systemClock },
  reseal: await createResealer(config.NOTIFIER_PRIVATE_KEY_FILE, openSecret),
})
const purging = startPurging({
  purge: async () => {
    await eraseLate(sql)
    return purgeOld(sql, {
      deliveryDays: config.DELIVERY_KEEP_DAYS,
      notificationDays: config.NOTIFICATION_KEEP_DAYS,
    })
  },
  purged: counter(
    'notifier_purged_rows_total',
    'Rows of mails that are over and of old notifications that were deleted',
  ),
  clock: systemClock,
  logger,
  everyMs: config.PURGE_SECONDS * 1_000,
})
const sequences = createSequenceWatch({
  clock: systemClock,
  graceMs: HOLE_AFTER_MS,
  caughtUp: () => consumer.lag().every(({ records }) => records === 0),
})
const consumer = await startConsumer({
  client,
  logger,
  groupId: 'notifier',
  topics: ['ledger.events', 'identity.events', 'notifier.commands'],
  gathers: true,
  onAssigned: sequences.reset,
  ...createNotifying({
    ...{ sql, codec, publisher, logger, sequences },
    wakeMails: mails.wake,
    wakeWebhooks: webhooks.wake,
    webhookWorthMs: config.WEBHOOK_RETRY_HOURS * HOUR_MS,
  }),
})
measureConsumer(consumer)
measuredGauge('notifier_deliveries_due', 'Deliveries that wait', async () => (await measureDue(sql)).due)
measuredGauge(
  'notifier_deliveries_overdue_seconds',
  'How long the oldest delivery waits that could be tried',
  async () => (await measureDue(sql)).overdueSeconds,
)
measuredGauge(
  'notifier_sequence_holes',
  'Wallets of which later entries came, but not this one (O2); NaN where one instance does not read all partitions',
  () => {
    const partitions = consumer.assigned().filter(({ topic }) => topic === 'ledger.events')
    if (partitions.length < LEDGER_PARTITIONS) return Number.NaN
    const holes = sequences.holes()
    for (const hole of holes.slice(0, 10)) logger.error(hole, 'an entry of a wallet did not come')
    return holes.length
  },
)
measuredGauge('notifier_waiting_records', 'Records that have come and are not handled yet', consumer.waiting)

// Alarms, and no readiness of its own: the ledger's is red, and what is recorded here is right until then.
const topics = createTopicCheck(
  client,
  ['ledger.events', 'identity.events', 'notifier.commands', 'notifier.dead-letters'],
  config,
)
const foundation = watchFoundation({
  checks: { topics: topics.find, postgres: () => findPostgresFaults(sql) },
  logger,
  clock: systemClock,
})

const operations = await listen(
  // The mail server is not asked: mails wait for it, and nothing else does.
  operationsRoutes(
    { postgres: () => ping(sql), kafka: brokers.check, consumer: consumer.check },
    1_000 * config.OPS_KEEP_SECONDS,
  ),
  { host: config.OPS_HOST, port: config.OPS_PORT },
)
logger.info({ port: operations.port }, 'notifying')

onShutdown(logger, [
  consumer.stop,
  () => Promise.all([mails.stop(), webhooks.stop()]),
  receipts.stop,
  poster.close,
  resealing.stop,
  purging.stop,
  foundation.stop,
  topics.close,
  mail.close,
  publisher.stop,
  operations.stop,
  brokers.close,
  () => gatewayRead.end({ timeout: 5 }),
  () => ledgerRead.end({ timeout: 5 }),
  () => Promise.all([wellSql.end({ timeout: 5 }), unwellSql.end({ timeout: 5 })]),
  () => sql.end({ timeout: 5 }),
])
