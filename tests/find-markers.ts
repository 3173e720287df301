// Searches everything that a system stores for texts, in the forms in which software writes them.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { inject } from 'vitest'
import { openRedis } from '../services/gateway/src/redis.ts'

const silent = createLogger('test', { level: 'silent', instance: 'test' })

/** A place that stores something, and its bytes, one text a row, record or file (latin1, so that no byte is lost). */
export type Sink = { place: string; texts: string[] }

/** Every table of every schema that is not Postgres's own, of every database on the server. */
const readTables = async (): Promise<Sink[]> => {
  const { superuser } = inject('system').databaseUrls
  const open = (name: string) =>
    openDatabase(superuser.replace(/\/[^/?]+(\?|$)/, `/${name}$1`), {
      applicationName: 'find-markers',
      maxConnections: 1,
    })
  const first = open('pennywire')
  const databases = await first<{ name: string }[]>`
    select datname as name from pg_database where datallowconn and not datistemplate`
  await first.end()
  const sinks: Sink[] = []
  // Other databases on a kept stack are those of tests that run beside or were stopped: theirs is their own.
  for (const { name } of databases.filter(({ name }) => ['pennywire', 'postgres'].includes(name))) {
    const sql = open(name)
    const tables = await sql<{ schema: string; name: string }[]>`
      select schemaname as schema, tablename as name from pg_tables
      where schemaname not in ('pg_catalog', 'information_schema')`
    for (const table of tables) {
      const texts: string[] = []
      for (const row of await sql`select * from ${sql(`${table.schema}.${table.name}`)}`) {
        for (const value of Object.values(row)) texts.push(textOf(value))
      }
      sinks.push({ place: `${name}: ${table.schema}.${table.name}`, texts })
    }
    await sql.end()
  }
  return sinks
}

const textOf = (value: unknown): string => {
  if (Buffer.isBuffer(value)) return value.toString('latin1')
  const text =
    typeof value === 'object' && value !== null
      ? JSON.stringify(value, (_key, each) => (typeof each === 'bigint' ? `${each}` : each))
      : String(value)
  return Buffer.from(text).toString('latin1')
}

/** Every topic of the brokers. */
const readTopics = async (): Promise<Sink[]> => {
  const client = createKafkaClient({
    connection: inject('stack').kafka,
    clientId: 'find-markers',
    logger: silent,
  })
  const admin = client.admin()
  await admin.connect()
  const topics = (await admin.listTopics()).filter(name => !name.startsWith('__'))
  await admin.disconnect()
  const sinks: Sink[] = []
  for (const topic of topics) {
    const texts: string[] = []
    const handle = (records: Parameters<Parameters<typeof readTopic>[0]['handle']>[0]) => {
      for (const { key, value, headers } of records) {
        texts.push(
          `${key} ${value?.toString('latin1')} ${headers.map(([name, text]) => `${name}=${text}`).join(' ')}`,
        )
      }
    }
    await readTopic({ client, logger: silent, topic: topic as never, handle })
    sinks.push({ place: `topic ${topic}`, texts })
  }
  return sinks
}

const readRedis = async (): Promise<Sink[]> => {
  const redis = openRedis(inject('stack').redisUrl, silent)
  await new Promise<void>(resolve =>
    redis.status === 'ready' ? resolve() : redis.once('ready', () => resolve()),
  )
  const texts: string[] = []
  for (let cursor = '0'; ; ) {
    const [next, keys] = await redis.scan(cursor, 'COUNT', '1000')
    for (const key of keys) {
      texts.push(key)
      const type = await redis.type(key)
      if (type === 'string') texts.push((await redis.get(key)) ?? '')
      else if (type === 'hash') texts.push(JSON.stringify(await redis.hgetall(key)))
      else if (type === 'zset') texts.push(JSON.stringify(await redis.zrange(key, '0', '-1')))
      else if (type === 'set') texts.push(JSON.stringify(await redis.smembers(key)))
      else if (type === 'list') texts.push(JSON.stringify(await redis.lrange(key, '0', '-1')))
      else if (type !== 'none') throw new Error(`${key} is a ${type}, which this search does not read`)
    }
    cursor = next
    if (cursor === '0') break
  }
  redis.disconnect()
  return [{ place: 'Redis', texts }]
}

/** The logs of all processes, and the files of our own services. */
const readFiles = (): Sink[] => {
  const { dataDir } = inject('system')
  return ['logs', 'keys', 'audit']
    .flatMap(folder => {
      try {
        return readdirSync(join(dataDir, folder), { recursive: true, withFileTypes: true }).filter(entry =>
          entry.isFile(),
        )
      } catch {
        return []
      }
    })
    .map(({ parentPath, name }) => ({
      place: `file ${join(parentPath, name)}`,
      texts: [readFileSync(join(parentPath, name), 'latin1')],
    }))
}

/** Everything that a system stores, as it is stored. */
export const readSinks = async (): Promise<Sink[]> => [
  ...(await readTables()),
  ...(await readTopics()),
  ...(await readRedis()),
  ...readFiles(),
]

/** The forms of an ASCII marker: plain in any case, hexadecimal, and base64 at each of the three alignments. */
const formsOf = (marker: string) => {
  const hex = Buffer.from(marker).toString('hex')
  const base64 = [0, 1, 2].flatMap(before => {
    const text = Buffer.concat([Buffer.alloc(before), Buffer.from(marker)]).toString('base64')
    // Without the first and last letters, which depend on the neighbours.
    const inner = text.slice(before === 0 ? 0 : 4, text.length - 4).replace(/=+$/, '')
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')]
  })
  return { insensitive: [marker.toLowerCase(), hex], exact: base64 }
}

/** Where any of the markers stands: "marker: place", each once. */
export const findMarkers = (sinks: Sink[], markers: Record<string, string>): string[] => {
  const found = new Set<string>()
  const forms = Object.entries(markers).map(([what, marker]) => ({ what, ...formsOf(marker) }))
  for (const { place, texts } of sinks) {
    for (const text of texts) {
      const lower = text.toLowerCase()
      for (const { what, insensitive, exact } of forms) {
        if (insensitive.some(form => lower.includes(form)) || exact.some(form => text.includes(form))) {
          found.add(`${what}: ${place}`)
        }
      }
    }
  }
  return [...found].sort()
}
