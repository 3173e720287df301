import { describe, expect, test } from 'vitest'
import { findUnsafeSettings, isLoopback } from './unsafe-settings.ts'

/** The settings of a safe production start. */
const SAFE = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://pay.example.com',
  PROVIDER_URL: 'https://provider.example.com',
  CALLBACK_URL: 'https://pay.example.com/v1/provider/callbacks',
  REGISTRY_URL: 'https://registry.internal/apis/ccompat/v7',
  REGISTRY_USERNAME: 'gateway',
  REGISTRY_PASSWORD: 'r4nd0m-registry',
  KAFKA_BROKERS: 'kafka-1.internal:9093,kafka-2.internal:9093',
  KAFKA_TLS: 'true',
  KAFKA_SASL_USERNAME: 'gateway',
  KAFKA_SASL_PASSWORD: 'r4nd0m-kafka',
  REDIS_URL: 'rediss://gateway:r4nd0m-redis@redis.internal:6379',
  DATABASE_URL: 'postgres://gateway:r4nd0m-db@db.internal/pennywire?sslmode=verify-full&sslrootcert=/ca.pem',
  LEDGER_READ_URL: 'postgresql://ledger_reader:r4nd0m-read@127.0.0.1/pennywire',
  SMTP_URL: 'smtp://mailer:r4nd0m-mail@mail.internal:587',
  ALLOW_CHEAP_HASHES: 'false',
  WEBHOOK_ALLOW_PRIVATE: 'false',
}
const names = [...Object.keys(SAFE), 'ALLOW_PLAINTEXT']
const found = (over: Record<string, string | undefined>) => {
  const settings = Object.fromEntries(
    Object.entries({ ...SAFE, ...over }).filter(([, value]) => value !== undefined),
  )
  return findUnsafeSettings(settings, names).map(({ name, message }) => `${name}: ${message}`)
}

test('production starts where every setting is safe', () => expect(found({})).toEqual([]))
test('so it does with several database hosts, each held to its certificate', () =>
  expect(
    found({
      DATABASE_URL: 'postgres://g:r4nd0m@db-1.internal:5432,db-2.internal:5432/p?sslmode=verify-full',
    }),
  ).toEqual([]))

describe('production is refused where this alone is unsafe, which is named:', () => {
  test.each<[Record<string, string | undefined>, string]>([
    [{ PUBLIC_URL: 'http://pay.example.com' }, 'PUBLIC_URL: pay.example.com is another machine'],
    [
      { PROVIDER_URL: 'http://provider.example.com' },
      'PROVIDER_URL: provider.example.com is another machine',
    ],
    [{ PROVIDER_URL: 'http://127.0.0.1:9000' }, 'PROVIDER_URL: must be https in production: the sandbox'],
    [{ CALLBACK_URL: 'http://pay.example.com/x' }, 'CALLBACK_URL: pay.example.com is another machine'],
    [{ REGISTRY_URL: 'http://registry.internal' }, 'REGISTRY_URL: registry.internal is another machine'],
    [{ REGISTRY_PASSWORD: undefined }, 'REGISTRY_USERNAME: REGISTRY_PASSWORD is empty'],
    [{ REGISTRY_PASSWORD: 'changeme' }, 'REGISTRY_USERNAME: REGISTRY_PASSWORD is one that everybody knows'],
    [{ KAFKA_TLS: 'false' }, 'KAFKA_BROKERS: kafka-1.internal is another machine, and KAFKA_TLS is not true'],
    [{ KAFKA_TLS: undefined, KAFKA_BROKERS: '127.0.0.1:9,far:9' }, 'KAFKA_BROKERS: far is another machine'],
    [{ KAFKA_SASL_PASSWORD: '' }, 'KAFKA_SASL_USERNAME: KAFKA_SASL_PASSWORD is empty'],
    [
      { KAFKA_SASL_PASSWORD: 'kafka' },
      'KAFKA_SASL_USERNAME: KAFKA_SASL_PASSWORD is one that everybody knows',
    ],
    [{ REDIS_URL: 'redis://gateway:r4nd0m@redis.internal' }, 'REDIS_URL: redis.internal is another machine'],
    [{ REDIS_URL: 'redis://127.0.0.1:6379' }, 'REDIS_URL: its password is empty'],
    [
      { REDIS_URL: 'rediss://gateway:redis@redis.internal' },
      'REDIS_URL: its password is one that everybody knows',
    ],
    [
      { DATABASE_URL: 'postgres://gateway:r4nd0m@db.internal/p' },
      'DATABASE_URL: db.internal is another machine',
    ],
    [
      { DATABASE_URL: 'postgres://g:r4nd0m@db.internal/p?sslmode=require' },
      'DATABASE_URL: db.internal is another',
    ],
    [
      { DATABASE_URL: 'postgres://g:r4nd0m@127.0.0.1:5432,db-2.internal:5432/p' },
      'DATABASE_URL: db-2.internal is another machine, and the connection is not sslmode=verify-full',
    ],
    [
      { DATABASE_URL: 'postgres://g:postgres@127.0.0.1:5432,127.0.0.1:5433/p' },
      'DATABASE_URL: its password is one that everybody knows',
    ],
    [{ DATABASE_URL: 'postgres://gateway@127.0.0.1/p' }, 'DATABASE_URL: its password is empty'],
    [
      { LEDGER_READ_URL: 'postgres://l:local-ledger@127.0.0.1/p' },
      'LEDGER_READ_URL: its password is one that',
    ],
    [{ SMTP_URL: 'smtp://mailer@mail.internal' }, 'SMTP_URL: its password is empty'],
    [{ ALLOW_CHEAP_HASHES: 'true' }, 'ALLOW_CHEAP_HASHES: must not be true in production'],
    [{ WEBHOOK_ALLOW_PRIVATE: 'true' }, 'WEBHOOK_ALLOW_PRIVATE: must not be true in production'],
    [{ ALLOW_PLAINTEXT: 'true' }, 'ALLOW_PLAINTEXT: must not be true in production'],
  ])('%o', (over, message) => expect(found(over)).toEqual([expect.stringContaining(message)]))
})

describe('outside of production', () => {
  const NODE_ENV = undefined
  test('plain text to another machine is refused, and allowed by a setting that the line names', () => {
    const over = {
      NODE_ENV,
      KAFKA_TLS: 'false',
      REDIS_URL: 'redis://redis.internal',
      REGISTRY_URL: 'http://registry',
    }
    expect(found(over)).toEqual([
      'REGISTRY_URL: registry is another machine, and the connection is not https://; ALLOW_PLAINTEXT=true allows it',
      'KAFKA_BROKERS: kafka-1.internal is another machine, and KAFKA_TLS is not true; ALLOW_PLAINTEXT=true allows it',
      'REDIS_URL: redis.internal is another machine, and the connection is not rediss://; ALLOW_PLAINTEXT=true allows it',
    ])
    expect(found({ ...over, ALLOW_PLAINTEXT: 'true' })).toEqual([])
  })
  test('this machine needs neither, and tests may be cheap', () =>
    expect(
      found({
        NODE_ENV,
        ...{
          KAFKA_TLS: undefined,
          KAFKA_BROKERS: '127.0.0.1:9092,localhost:9092',
          PUBLIC_URL: 'http://localhost',
        },
        ...{ REDIS_URL: 'redis://127.0.0.1', PROVIDER_URL: 'http://[::1]:9', ALLOW_CHEAP_HASHES: 'true' },
      }),
    ).toEqual([]))
})

test.each([
  ['127.0.0.1', true],
  ['127.8.9.1', true],
  ['localhost', true],
  ['[::1]', true],
  ['127.0.0.1.example.com', false],
  ['localhost.example.com', false],
  ['10.0.0.1', false],
  ['0.0.0.0', false],
])('%s is this machine: %s', (host, is) => expect(isLoopback(host)).toBe(is))
