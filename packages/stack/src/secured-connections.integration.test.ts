// Servers that require TLS and authentication: a client with the right settings connects, one with a wrong authority,
// name or password does not. Kafka and Postgres are separate real servers; the registry is the stack's, behind a TLS
// proxy.
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request as plainRequest } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createKafkaClient, type KafkaConnection, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { type Guard, startGuard } from './connect-guard.ts'
import { loadPasswords, SUPERUSER } from './database-passwords.ts'
import { asNobody, giveToServer, ownFolder } from './embedded/as-nobody.ts'
import { findJava, javaFlags } from './embedded/java.ts'
import { fetchArtifact } from './embedded/maven.ts'
import { startPostgres } from './embedded/postgres.ts'
import type { ServerContext } from './embedded/server-context.ts'
import { makeKeys } from './keys.ts'
import { runToEnd, startProcess } from './managed-process.ts'
import { findFreePort } from './ports.ts'
import { makeCertificates, type TestCertificates } from './test-certificates.ts'

const START_MS = 120_000
const { registryUrl } = inject('stack')
const logger = createLogger('test', { level: 'silent', instance: 'test' })

let folder: string
let guard: Guard
let context: ServerContext
let server: TestCertificates
let other: TestCertificates
const stops: Array<() => void> = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pennywire-secured-'))
  guard = await startGuard(folder, () => {})
  await makeKeys(folder)
  context = {
    ...{ dataDir: folder, guard, java: await findJava(), order: 1, report: () => {} },
    logFile: name => join(folder, `${name}.log`),
  }
  server = makeCertificates(folder, 'server')
  other = makeCertificates(folder, 'other')
}, START_MS)
afterAll(async () => {
  for (const stop of stops) stop()
  await guard.stop()
  rmSync(folder, { recursive: true })
})

describe('Kafka over SASL_SSL', () => {
  let port: number
  const PASSWORD = 'scram-password-of-the-test'

  beforeAll(async () => {
    port = await findFreePort()
    const controller = await findFreePort()
    const inner = await findFreePort()
    const home = ownFolder(join(folder, 'kafka'))
    const pem = join(home, 'server.pem')
    writeFileSync(pem, readFileSync(server.keyFile, 'utf8') + readFileSync(server.certFile, 'utf8'))
    const plain = `org.apache.kafka.common.security.plain.PlainLoginModule required user_plainuser="${PASSWORD}";`
    const scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;'
    const properties = {
      'process.roles': 'broker,controller',
      'node.id': 1,
      'controller.quorum.voters': `1@127.0.0.1:${controller}`,
      listeners: `CLIENTS://127.0.0.1:${port},INNER://127.0.0.1:${inner},CONTROLLER://127.0.0.1:${controller}`,
      'advertised.listeners': `CLIENTS://127.0.0.1:${port},INNER://127.0.0.1:${inner}`,
      'listener.security.protocol.map': 'CLIENTS:SASL_SSL,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT',
      'inter.broker.listener.name': 'INNER',
      'controller.listener.names': 'CONTROLLER',
      'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
      'listener.name.clients.plain.sasl.jaas.config': plain,
      'listener.name.clients.scram-sha-256.sasl.jaas.config': scram,
      'listener.name.clients.scram-sha-512.sasl.jaas.config': scram,
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': pem,
      'log.dirs': 'log',
      'offsets.topic.replication.factor': 1,
    }
    writeFileSync(
      join(home, 'server.properties'),
      Object.entries(properties)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    )
    for (const file of [pem, join(home, 'server.properties')]) giveToServer(file)
    const jars = await fetchArtifact('kafka', { ...context, logFile: context.logFile('maven') })
    const run = (...args: string[]) => ({
      ...asNobody(context.java, [...javaFlags(256), '-cp', join(jars, '*'), ...args]),
      ...{ name: 'Kafka (secured)', cwd: home, logFile: context.logFile('kafka'), order: 1 },
    })
    const user = (mechanism: string) => `--add-scram=${mechanism}=[name=scramuser,password=${PASSWORD}]`
    await runToEnd(
      guard,
      run(
        ...[
          'kafka.tools.StorageTool',
          'format',
          '--cluster-id=AAAAAAAAAAAAAAAAAAAAAA',
          '--config=server.properties',
        ],
        ...[user('SCRAM-SHA-256'), user('SCRAM-SHA-512')],
      ),
    )
    await startProcess(guard, {
      ...run('kafka.Kafka', 'server.properties'),
      isReady: async () => (await brokersOf(connectionBy('plain', 'plainuser'))) === 1,
      readyWithinMs: 90_000,
    })
  }, START_MS)

  const connectionBy = (
    mechanism: string,
    username: string,
    password = PASSWORD,
    ca = server.caFile,
  ): KafkaConnection => {
    const file = join(folder, 'kafka-password')
    writeFileSync(file, `${password}\n`)
    return kafkaConnectionOf(
      loadConfig(kafkaSettings, {
        ...{ KAFKA_BROKERS: `127.0.0.1:${port}`, KAFKA_TLS: 'true', KAFKA_CA_FILE: ca },
        ...{ KAFKA_SASL_MECHANISM: mechanism, KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD_FILE: file },
      }),
    )
  }
  const brokersOf = async (connection: KafkaConnection) => {
    const admin = createKafkaClient({ connection, clientId: 'secured', logger }).admin({
      retry: { retries: 0 },
    })
    try {
      await admin.connect()
      return (await admin.describeCluster()).brokers.length
    } finally {
      await admin.disconnect()
    }
  }

  test.each([
    ['plain', 'plainuser'],
    ['scram-sha-256', 'scramuser'],
    ['scram-sha-512', 'scramuser'],
  ])('by %s', async (mechanism, user) => expect(await brokersOf(connectionBy(mechanism, user))).toBe(1))

  test('a wrong password is refused', () =>
    expect(brokersOf(connectionBy('scram-sha-512', 'scramuser', 'wrong'))).rejects.toThrow(
      /[Aa]uthentication/,
    ))
  test('a broker of another authority is refused', () =>
    expect(brokersOf(connectionBy('plain', 'plainuser', PASSWORD, other.caFile))).rejects.toThrow(
      /certificate/,
    ))
  test('so is plain text', async () => {
    const { sasl } = connectionBy('plain', 'plainuser')
    await expect(brokersOf({ brokers: [`127.0.0.1:${port}`], sasl: sasl! })).rejects.toThrow()
  })
})

describe('Postgres with sslmode=verify-full', () => {
  let url: string
  beforeAll(async () => {
    const port = await findFreePort()
    await startPostgres(context, port)
    const data = join(folder, 'postgres', 'data')
    for (const [from, to] of [
      [server.certFile, 'server.crt'],
      [server.keyFile, 'server.key'],
    ] as const) {
      copyFileSync(from, join(data, to))
      giveToServer(join(data, to))
    }
    url = `postgres://${SUPERUSER}:${loadPasswords(folder)[SUPERUSER]}@127.0.0.1:${port}/postgres`
    const sql = openDatabase(url, { applicationName: 'set-up', maxConnections: 1 })
    await sql`alter system set ssl = on`
    await sql`select pg_reload_conf()`
    await sql.end()
  }, START_MS)

  const ask = async (options: string) => {
    const sql = openDatabase(`${url}${options}`, { applicationName: 'secured', maxConnections: 1 })
    try {
      const [row] = await sql<{ ssl: boolean }[]>`select ssl from pg_stat_ssl where pid = pg_backend_pid()`
      return row?.ssl
    } finally {
      await sql.end({ timeout: 1 })
    }
  }

  test('the connection is encrypted, by the right authority', async () => {
    expect(await ask(`?sslmode=verify-full&sslrootcert=${server.caFile}`)).toBe(true)
    expect(await ask('')).toBe(false)
  })
  test('a server of another authority, or of none that is known, is refused', async () => {
    await expect(ask(`?sslmode=verify-full&sslrootcert=${other.caFile}`)).rejects.toThrow(/certificate/)
    await expect(ask('?sslmode=verify-full')).rejects.toThrow(/certificate/)
  })
  test('a right certificate of another name is refused', async () => {
    const elsewhere = url.replace('127.0.0.1', 'localhost')
    const sql = openDatabase(`${elsewhere}?sslmode=verify-full&sslrootcert=${server.caFile}`, {
      ...{ applicationName: 'secured', maxConnections: 1 },
    })
    await expect(sql`select 1`).rejects.toThrow(/altnames/)
    await sql.end({ timeout: 1 })
  })
})

test('the registry: https and basic authentication', async () => {
  const expected = `Basic ${Buffer.from('gateway:registry-password').toString('base64')}`
  const end = createHttps(
    { key: readFileSync(server.keyFile), cert: readFileSync(server.certFile) },
    (incoming, answer) => {
      if (incoming.headers.authorization !== expected) return void answer.writeHead(401).end('{}')
      const { hostname, port } = new URL(registryUrl)
      const { method, url: path, headers } = incoming
      incoming.pipe(
        plainRequest({ hostname, port, method, path, headers }, inner => {
          answer.writeHead(inner.statusCode!, inner.headers)
          inner.pipe(answer)
        }),
      )
    },
  ).on('tlsClientError', () => {})
  await new Promise<void>(resolve => end.listen(0, '127.0.0.1', resolve))
  stops.push(() => end.close())
  const url = `https://127.0.0.1:${(end.address() as AddressInfo).port}${new URL(registryUrl).pathname}`
  const ask = (over: Record<string, string>) => {
    const settings = loadConfig(registrySettings, {
      ...{ REGISTRY_URL: url, REGISTRY_USERNAME: 'gateway', REGISTRY_PASSWORD: 'registry-password' },
      ...{ REGISTRY_CA_FILE: server.caFile, ...over },
    })
    return connectRegistry(settings.REGISTRY_URL, registryAccessOf(settings)).idOf(
      'pennywire.ledger.WalletOpened',
    )
  }
  expect(await ask({})).toBeGreaterThan(0)
  await expect(ask({ REGISTRY_PASSWORD: 'wrong' })).rejects.toThrow()
  await expect(ask({ REGISTRY_CA_FILE: other.caFile })).rejects.toThrow()
})
