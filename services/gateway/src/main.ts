import type { HttpBindings } from '@hono/node-server'
import { createTopicCheck } from '@pennywire/kafka/check-topics.ts'
import { createBrokerCheck, createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, signCommands } from '@pennywire/kafka/command-mac.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { openDatabase, ping } from '@pennywire/runtime/database.ts'
import { operationsRoutes } from '@pennywire/runtime/health.ts'
import { listen } from '@pennywire/runtime/http-server.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import { onShutdown } from '@pennywire/runtime/shutdown.ts'
import { findPostgresFaults, findRedisFaults, watchFoundation } from '@pennywire/runtime/watch-foundation.ts'
import { createAnswerRefused, createApp } from './app.ts'
import { createAudit } from './audit/create-audit.ts'
import { backPressureLimitsOf, loadGatewayConfig } from './config.ts'
import { createHolds } from './holds/create-holds.ts'
import { readHoldEndedBy } from './holds/sql/hold-reads.ts'
import { connectionSubject } from './http/client-address.ts'
import type { Room } from './http/room.ts'
import { createIdentity } from './identity/create-identity.ts'
import { createLedgerDoor } from './ledger/create-ledger-door.ts'
import { readWalletByCode, type WalletFacts } from './ledger/sql/ledger-reads.ts'
import { limitRoutes } from './limits/limit-routes.ts'
import { readLimitedWallets, readSetLimits } from './limits/sql/limit-reads.ts'
import { createNotifications } from './notifications/create-notifications.ts'
import { createInTransaction } from './outbox/in-transaction.ts'
import { startOutboxRelay } from './outbox/relay-outbox.ts'
import { readOutboxAge } from './outbox/sql/outbox.ts'
import { createPayments } from './payments/create-payments.ts'
import { subjectOfPayment } from './payments/request-deposit.ts'
import {
  type Payment,
  readMethods,
  readPaymentIds,
  readPaymentsBetween,
  readPaymentsOf,
} from './payments/sql/payments.ts'
import { createPrivacy } from './privacy/create-privacy.ts'
import { createTurns } from './queues/turns.ts'
import { createReceipts } from './receipts/create-receipts.ts'
import { recipientRoutes } from './recipients/recipient-routes.ts'
import { openRedis } from './redis.ts'
import { createReversals } from './reversals/create-reversals.ts'
import { createStatements } from './statements/create-statements.ts'
import { createLiveStreams } from './streams/live-streams.ts'
import { createRequestLog } from './transfers/create-request-log.ts'
import { createTransfers } from './transfers/create-transfers.ts'
import { createWallets } from './wallets/create-wallets.ts'
import { createWebhooks } from './webhooks/create-webhooks.ts'

const config = loadGatewayConfig(process.env)
const logger = createLogger('gateway', { level: config.LOG_LEVEL, instance: config.INSTANCE_ID })
if (config.ALLOW_CHEAP_HASHES === 'true') {
  logger.warn({ bcryptCost: config.BCRYPT_COST }, 'cheap hashes are allowed: for tests and benches only')
}

// External systems.
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

// Identity, and the relay of its events.
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

// Money movement, room by room.
const requestExpiresAfterMs = config.REQUEST_EXPIRES_SECONDS * 1_000
const ledger = await createLedgerDoor({
  logger,
  kafka,
  codec,
  publisher,
  readUrl: config.LEDGER_READ_URL,
  instanceId: config.INSTANCE_ID,
  limits: backPressureLimitsOf(config),
  waitsPerUser: config.WAITS_PER_USER,
  requestExpiresAfterMs,
})
const { names, personKeys, pins, tokens } = identity
const inReadTurn = createTurns('reads', 'ledger', systemClock)
const guards = identity.guardsWith(inReadTurn)
const { ledgerRead, ask } = ledger
const streams = createLiveStreams({
  clock: systemClock,
  logger,
  maxStreams: config.MAX_STREAMS,
  maxPerUser: config.MAX_STREAMS_PER_USER,
  confirmSignedIn: guards.confirmSignedIn,
})
const requestLog = createRequestLog({ logger, sql, ledger, lookMs: config.PENDING_LOOK_SECONDS * 1_000 })
const shared = {
  clock: systemClock,
  logger,
  sql,
  codec,
  guards,
  names,
  personKeys,
  ledger,
  requestLog,
  inTransaction,
}
const asTransfer = (payment: Payment) => ({
  ...payment,
  failed: payment.status === 'failed',
  subject: (wallet: WalletFacts) => subjectOfPayment(payment, wallet),
})
const transfers = createTransfers({
  ...shared,
  pins,
  tokens,
  freshPinAbove: config.FRESH_PIN_ABOVE,
  expiresAfterMs: requestExpiresAfterMs,
  readHoldEndedBy: id => readHoldEndedBy(ledgerRead, id),
  readPaymentsBetween: async (first, last) => (await readPaymentsBetween(sql, first, last)).map(asTransfer),
  readPaymentsOf: async (...asked) => (await readPaymentsOf(sql, ...asked)).map(asTransfer),
  readMethods: ids => readMethods(sql, ids),
})
const { requesting, findTransfer } = transfers
const notifier = openDatabase(config.NOTIFIER_URL, {
  applicationName: `${config.INSTANCE_ID}-at-notifier`,
  maxConnections: 4,
})
const inNotifierTurn = createTurns('reads', 'notifier', systemClock)
const notifierGuards = identity.guardsWith(inNotifierTurn)
const notifications = createNotifications({
  sql,
  guards: notifierGuards,
  names,
  notifier,
  inReadTurn: inNotifierTurn,
  streams,
})
const holds = createHolds({
  ...shared,
  requesting,
  findTransfer,
  minSeconds: config.HOLD_MIN_SECONDS,
  expiryEveryMs: config.HOLD_EXPIRY_SECONDS * 1_000,
})
const rooms: Room[] = [
  createWallets({ ...shared, inReadTurn, streams }),
  createStatements({ ...shared, inReadTurn }),
  {
    routes: [
      limitRoutes({
        guards,
        ask,
        readLimitedWallets: wanted => readLimitedWallets(ledgerRead, wanted),
        readSetLimits: (filter, after, limit) => readSetLimits(ledgerRead, filter, after, limit),
        clock: systemClock,
      }),
    ],
  },
  createReversals({
    ...shared,
    transfers,
    readPaymentIds: reference => readPaymentIds(sql, reference),
  }),
  {
    routes: [
      recipientRoutes({ guards, names, readWalletByCode: code => readWalletByCode(ledgerRead, code) }),
    ],
  },
  transfers,
  holds,
  createPayments({
    ...shared,
    announce: identity.announce,
    requesting,
    provider: {
      url: config.PROVIDER_URL,
      secrets: config.PROVIDER_SECRET_FILE,
      callbackUrl: config.CALLBACK_URL,
    },
    lookAfterMs: config.PAYMENT_LOOK_SECONDS * 1_000,
    stuckAfterSeconds: config.PAYMENT_STUCK_SECONDS,
    depositExpiresAfterMs: config.DEPOSIT_EXPIRES_SECONDS * 1_000,
    expiresAfterMs: requestExpiresAfterMs,
  }),
  notifications,
  createReceipts({
    ...shared,
    notifier,
    findTransfer,
    inReadTurn,
    keys: config.RECEIPT_KEY_FILE,
    publicUrl: config.PUBLIC_URL,
  }),
  createWebhooks({
    guards: notifierGuards,
    notifier,
    announce: identity.announce,
    confirmPassword: identity.confirmPassword,
    staff: identity.manageUsers,
    readSessionEnd: identity.readSessionEnd,
    personKeys,
    inTransaction,
    logger,
    allowPrivate: config.WEBHOOK_ALLOW_PRIVATE === 'true',
    clock: systemClock,
  }),
  createPrivacy({
    ...shared,
    identity,
    notifier,
    listTransfers: transfers.listTransfers,
    listHolds: holds.listHolds,
    waitMs: config.DELETION_WAIT_DAYS * 24 * 60 * 60 * 1_000,
  }),
  createAudit({
    ...shared,
    notifier,
    hashAddress: identity.hashAddress,
    readUrl: config.AUDIT_READ_URL,
    instanceId: config.INSTANCE_ID,
  }),
]

// Alarms only, not part of readiness: a load balancer would remove every gateway, reads too. The ledger's readiness
// fails.
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
  hashAddress: identity.hashAddress,
  countRefusal: identity.refusals.count,
  apiDocs: config.API_DOCS === 'true',
  routes: [...identity.routes, ...rooms.flatMap(({ routes }) => routes)],
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
// Listens last: once it reports ready, the API takes requests.
const operations = await listen(
  operationsRoutes(
    {
      postgres: () => ping(sql),
      redis: identity.check,
      kafka: brokers.check,
      ...ledger.readiness,
      notifierViews: () => ping(notifier),
      clock: ledger.checkClock,
    },
    1_000 * config.OPS_KEEP_SECONDS,
  ),
  { host: config.OPS_HOST, port: config.OPS_PORT },
)
logger.info({ port: server.port, opsPort: operations.port }, 'listening')

onShutdown(logger, [
  // Takes no new requests and lets the running ones finish; streams would not, and are ended.
  () => Promise.all([server.stop(), streams.stop()]),
  identity.stop,
  foundation.stop,
  topics.close,
  () => Promise.all([...rooms.map(({ stop }) => stop?.()), requestLog.stop(), ledger.stop()]),
  () => notifier.end({ timeout: 5 }),
  ledger.close,
  relay.stop,
  publisher.stop,
  brokers.close,
  operations.stop,
  () => redis.quit(),
  () => notifier.end(),
  () => sql.end(),
])
