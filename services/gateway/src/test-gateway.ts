import { randomBytes, randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { avroType, RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { type Codec, createCodec } from '@pennywire/kafka/codec.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { compactDecrypt, exportJWK, generateKeyPair, type JWK } from 'jose'
import { Secret, TOTP } from 'otpauth'
import { createApp } from './app.ts'
import { loadGatewayConfig } from './config.ts'
import type { Guards, Routes } from './http/define-route.ts'
import { createIdentity } from './identity/create-identity.ts'
import { createInTransaction } from './outbox/in-transaction.ts'
import { openRedis } from './redis.ts'
import { decodeOutbox } from './sql/test-database.ts'

/** For tests: a codec whose registry is in memory. Bytes and schemas are the real ones. */
const createTestCodec = (): Promise<Codec> =>
  createCodec({
    idOf: async name => RECORD_NAMES.indexOf(name) + 1,
    schemaOf: async id => avroType(RECORD_NAMES[id - 1]!),
  })

/** For tests: keys as files, as settings name them. Two gateways with the same keys accept each other's tokens. */
export const createTestKeys = async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pennywire-gateway-keys-'))
  const file = (name: string, value: object) => {
    const path = join(folder, name)
    writeFileSync(path, JSON.stringify(value))
    return path
  }
  const secret = (kid: string) => ({ kid, key: randomBytes(32).toString('base64url') })
  const signing = await generateKeyPair('RS256', { extractable: true })
  const notifier = await generateKeyPair('ECDH-ES+A256KW', { extractable: true, crv: 'P-256' })
  const signingKey: JWK = { ...(await exportJWK(signing.privateKey)), kid: 'test-key' }
  return {
    signingKey,
    notifierKey: notifier.privateKey,
    env: {
      JWT_KEY_FILE: file('jwt.json', signingKey),
      PIN_PEPPER_FILE: file('pepper.json', secret('pepper-1')),
      COMMAND_MAC_FILE: file('command-mac.json', secret('command-mac-1')),
      RECEIPT_KEY_FILE: file('receipt.json', secret('receipt-1')),
      SECOND_FACTOR_KEY_FILE: file('second-factor.json', secret('second-factor-1')),
      PERSON_KEK_FILE: file('kek.json', secret('kek-1')),
      ADDRESS_HMAC_FILE: file('address.json', secret('address-1')),
      NOTIFIER_PUBLIC_KEY_FILE: file('notifier.json', {
        ...(await exportJWK(notifier.publicKey)),
        kid: 'n-1',
      }),
      PROVIDER_SECRET_FILE: file('provider.json', { secret: randomBytes(32).toString('base64url') }),
    },
    /** `file` writes a further file beside the keys; `read` returns the content of one. */
    file,
    read: (name: string) => readFileSync(join(folder, name), 'utf8'),
    remove: () => rmSync(folder, { recursive: true }),
  }
}

export type TestKeys = Awaited<ReturnType<typeof createTestKeys>>

/** For tests: an address that no other test uses. */
export const drawAddress = () => `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}`

type Answer = {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of many routes, looked at by the tests
  body: any
  text: string
  headers: Headers
}

/** For tests: the gateway's identity part with real Postgres and Redis, called in memory. */
export const createTestGateway = async (deps: {
  sql: Database
  databaseUrl: string
  redisUrl: string
  keys: TestKeys
  env?: Record<string, string>
  /** Further routes behind the same guards. */
  routes?: (guards: Guards) => Routes
}) => {
  const config = loadGatewayConfig({
    INSTANCE_ID: 'gateway-test',
    HTTP_PORT: '0',
    OPS_PORT: '0',
    // Kafka, the registry and the provider are never contacted.
    ALLOW_PLAINTEXT: 'true',
    KAFKA_BROKERS: 'none:9092',
    REGISTRY_URL: 'http://none',
    DATABASE_URL: deps.databaseUrl,
    LEDGER_READ_URL: deps.databaseUrl,
    NOTIFIER_URL: deps.databaseUrl,
    AUDIT_READ_URL: deps.databaseUrl,
    REDIS_URL: deps.redisUrl,
    PUBLIC_URL: 'http://pennywire.test',
    PROVIDER_URL: 'http://none',
    CALLBACK_URL: 'http://none',
    ALLOW_CHEAP_HASHES: 'true',
    BCRYPT_COST: '4',
    ...Object.fromEntries(
      ['SIGNUP', 'LOGIN', 'LOGIN_ACCOUNT', 'PIN', 'MAIL', 'DEFAULT', 'API_KEY', 'API_KEYS'].map(name => [
        `RATE_LIMIT_${name}`,
        '10000/60',
      ]),
    ),
    ...deps.keys.env,
    ...deps.env,
  })
  const logLines: string[] = []
  const logger = createLogger(
    'gateway',
    { level: 'debug', instance: 'test' },
    new Writable({
      write: (chunk, _encoding, done) => {
        logLines.push(String(chunk))
        done()
      },
    }),
  )
  const redis = openRedis(config.REDIS_URL, logger)
  const codec = await createTestCodec()
  const identity = await createIdentity({
    config,
    logger,
    sql: deps.sql,
    redis,
    codec,
    inTransaction: createInTransaction(deps.sql, () => {}),
  })
  const app = createApp({
    logger,
    publicUrl: config.PUBLIC_URL,
    trustedProxies: config.TRUSTED_PROXIES,
    guards: identity.guards,
    hashAddress: identity.hashAddress,
    countRefusal: identity.refusals.count,
    apiDocs: true,
    routes: [...identity.routes, ...(deps.routes ? [deps.routes(identity.guards)] : [])],
  })

  /** Step-up tokens of staff's sessions, by access token. */
  const stepUps = new Map<string, string>()

  const ask = async (
    method: string,
    path: string,
    options: { body?: unknown; token?: string; address?: string; headers?: Record<string, string> } = {},
  ): Promise<Answer> => {
    const env = { incoming: { socket: { remoteAddress: options.address ?? '192.0.2.1' } } }
    const stepUp = path.startsWith('/v1/admin/') ? stepUps.get(options.token ?? '') : undefined
    const init: RequestInit = {
      method,
      headers: {
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
        ...(stepUp === undefined ? {} : { 'step-up-token': stepUp }),
        ...options.headers,
      },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    }
    const response = await app.request(path, init, env)
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json') ?? false
    return {
      status: response.status,
      body: isJson && text !== '' ? JSON.parse(text) : undefined,
      text,
      headers: response.headers,
    }
  }

  /** The secret of the newest mail to a user, decrypted as by the notifier. */
  const mailedSecret = async (userId: string): Promise<Record<string, string>> => {
    const mails = (await decodeOutbox(deps.sql, codec)).filter(
      record => record.type === 'pennywire.notifier.MailRequested' && record.key === userId,
    )
    const mail = mails.at(-1)!
    if (mail.type !== 'pennywire.notifier.MailRequested') throw new Error('no mail')
    const { plaintext } = await compactDecrypt(mail.value.secret, deps.keys.notifierKey)
    return JSON.parse(Buffer.from(plaintext).toString())
  }
  const mailedToken = async (userId: string): Promise<string> => (await mailedSecret(userId)).token!

  const signUp = async (person: { email?: string; password?: string; fullName?: string } = {}) => {
    const credentials = {
      email: person.email ?? `${randomBytes(6).toString('hex')}@example.com`,
      password: person.password ?? 'Correct-Horse-7',
    }
    const { status, body } = await ask('POST', '/v1/auth/signup', {
      body: { ...credentials, fullName: person.fullName ?? 'Alice Smith' },
    })
    if (status !== 201) throw new Error(`sign-up answered ${status}: ${JSON.stringify(body)}`)
    return { id: body.id as string, ...credentials }
  }

  const logIn = async (person: { email: string; password: string }) => {
    const { email, password } = person
    const { body } = await ask('POST', '/v1/auth/login', { body: { email, password } })
    return body as { accessToken: string; refreshToken: string }
  }

  /** A verified, signed-in user. */
  const signedInUser = async (person: { email?: string; password?: string; fullName?: string } = {}) => {
    const user = await signUp(person)
    await ask('POST', '/v1/auth/verify-email', { body: { token: await mailedToken(user.id) } })
    return { ...user, ...(await logIn(user)) }
  }
  type SignedIn = Awaited<ReturnType<typeof signedInUser>>

  /** Enables the second factor in a session; its calls of staff's routes carry its step-up token from then on. */
  const withSecondFactor = async <User extends SignedIn>(user: User): Promise<User & { secret: string }> => {
    const post = (path: string, body: object, token = user.accessToken) =>
      ask('POST', `/v1/auth/${path}`, { token, body })
    const { secret } = (await post('2fa/enable', { password: user.password })).body
    const code = (steps: number) =>
      new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 })
    await post('2fa/confirm', { code: code(0) })
    const { accessToken, refreshToken } = (await post('refresh', { refreshToken: user.refreshToken })).body
    const { stepUpToken } = (await post('2fa/step-up', { code: code(1) }, accessToken)).body
    stepUps.set(accessToken, stepUpToken)
    return { ...user, accessToken, refreshToken, secret: secret as string }
  }

  return {
    config,
    identity,
    app,
    codec,
    redis,
    logLines,
    ask,
    mailedSecret,
    mailedToken,
    signUp,
    logIn,
    signedInUser,
    withSecondFactor,
    /** The same for a user with a staff role: their tokens carry it. */
    signedInStaff: async (person: { email?: string } = {}) => withSecondFactor(await signedInUser(person)),
    stop: () => {
      identity.stop()
      redis.disconnect()
    },
  }
}

export type TestGateway = Awaited<ReturnType<typeof createTestGateway>>
