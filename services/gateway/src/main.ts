import type { HttpBindings } from '@hono/node-server'
import { createTopicCheck } from '@pennywire/kafka/check-topics.ts'
import { createBrokerCheck, createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, signCommands } from '@pennywire/kafka/command-mac.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { operationsRoutes } from '@pennywire/runtime/health.ts'
import { listen } from '@pennywire/runtime/http-server.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import { onShutdown } from '@pennywire/runtime/shutdown.ts'
import { findPostgresFaults, findRedisFaults, watchFoundation } from '@pennywire/runtime/watch-foundation.ts'
import { createAnswerRefused, createApp } from './app.ts'
import { loadGatewayConfig } from './config.ts'
import { createMoney } from './create-money.ts'
import { connectionSubject } from './http/client-address.ts'
import { createIdentity } from './identity/create-identity.ts'
import { createInTransaction } from './outbox/in-transaction.ts'
import { startOutboxRelay } from './outbox/relay-outbox.ts'
import { readOutboxAge } from './outbox/sql/outbox.ts'
import { openRedis } from './redis.ts'
import { checkDatabase } from './sql/check-database.ts'

const config = loadGatewayConfig(process.env)
const logger = createLogger('gateway', { level: config.LOG_LEVEL, instance: config.INSTANCE_ID })
if (config.ALLOW_CHEAP_HASHES === 'true') {
  logger.warn({ bcryptCost: config.BCRYPT_COST }, 'cheap hashes are allowed: for tests and benches only')
}

// What others run.
const sql = openDatabase(config.DATABASE_URL, { applicationName: config.INSTANCE_ID })
const redis = openRedis(config.REDIS_URL, logger, config.REDIS_CA_FILE)
const kafka = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: config.INSTANCE_ID,
  logger,
})
const brokers = createBrokerCheck(kafka)
const codec = await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config)))
const publisher = signCommands(await createPublisher(kafka), createCommandSigner(config.COMMAND_MAC_FILE))

// Who somebody is.
const relay = startOutboxRelay({ sql, publisher, logger })
measuredGauge(
  'gateway_outbox_records',
  'Records of the outbox that are not in Kafka yet',
  async () => (await readOutboxAge(sql)).records,
)
measuredGauge(
  'gateway_outbox_oldest_seconds',
  'Age of the oldest of them',
  async () => (await readOutboxAge(sql)).oldestSeconds,
)
const inTransaction = createInTransaction(sql, relay.wake)
const identity = await createIdentity({ config, logger, sql, redis, codec, inTransaction })

// What moves money.
const money = await createMoney({ config, logger, sql, kafka, codec, publisher, identity, inTransaction })

// Alarms, and no readiness of its own: a load balancer would take every gateway away, reads too. The ledger's is red.
const topics = createTopicCheck(kafka, ['ledger.commands', 'identity.events', 'notifier.commands'], config)
const foundation = watchFoundation({
  checks: {
    topics: topics.find,
    postgres: () => findPostgresFaults(sql),
    redis: async () => findRedisFaults(await redis.info('memory')),
  },
  logger,
  clock: systemClock,
})

const app = createApp({
  logger,
  publicUrl: config.PUBLIC_URL,
  trustedProxies: config.TRUSTED_PROXIES,
  guards: identity.guards,
  apiDocs: config.API_DOCS === 'true',
  routes: [...identity.routes, ...money.routes],
})
const fetch = (request: Request, env: unknown) => app.fetch(request, env as HttpBindings)
const server = await listen(
  { fetch },
  {
    host: config.HTTP_HOST,
    port: config.HTTP_PORT,
    maxConnections: config.MAX_CONNECTIONS,
    maxConnectionsPerClient: config.MAX_CONNECTIONS_PER_ADDRESS,
    clientOf: address => connectionSubject(address, config.TRUSTED_PROXIES),
    answerRefused: createAnswerRefused(config.PUBLIC_URL),
  },
)
// The last to listen: what it calls ready takes requests.
const operations = await listen(
  operationsRoutes(
    {
      postgres: () => checkDatabase(sql),
      redis: identity.check,
      kafka: brokers.check,
      ...money.readiness,
    },
    1_000 * config.OPS_KEEP_SECONDS,
  ),
  { host: config.OPS_HOST, port: config.OPS_PORT },
)
logger.info({ port: server.port, opsPort: operations.port }, 'listening')

onShutdown(logger, [
  server.stop, // takes no new requests and lets the running ones finish
  identity.stop,
  foundation.stop,
  topics.close,
  money.stop,
  relay.stop,
  publisher.stop,
  brokers.close,
  operations.stop,
  () => redis.quit(),
  () => sql.end(),
])
