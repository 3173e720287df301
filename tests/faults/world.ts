// The fault suite's access to the system under test. The same in both forms of the suite.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createKafkaClient, type KafkaClient } from '@pennywire/kafka/client.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger, type Logger } from '@pennywire/runtime/logger.ts'
import { waitUntil } from '@pennywire/stack/wait-until.ts'
import type { StackContext, SystemContext } from '../stack-context.ts'

export type ServiceName = 'gateway' | 'ledger' | 'notifier' | 'audit'
export type Instance = { name: string; url: string; opsUrl: string }

export type World = {
  stack: StackContext
  system: SystemContext
  /** The gateways that clients use; clients fail over from one to the next. */
  gateways: string[]
  /** The names of the further gateways. */
  furtherGateways: string[]
  /** The URL of every service's `/readyz`, including further gateways. */
  opsUrls: string[]
  /** The whole database, as the superuser, because the checks read all schemas. */
  sql: Database
  kafka: KafkaClient
  codec: Codec
  logger: Logger
  /** A signal, `stop` or `restart` for one of the system's processes; see tests/control.ts. */
  control: (name: string, action: string) => Promise<void>
  startInstance: (service: ServiceName, settings?: Record<string, string>) => Promise<Instance>
  close: () => Promise<void>
}

const root = join(import.meta.dirname, '..', '..')

export const openWorld = async (stack: StackContext, system: SystemContext): Promise<World> => {
  const logger = createLogger('faults', { level: 'silent', instance: 'faults' })
  const post = async (path: string, body?: object) => {
    const response = await fetch(`${system.controlUrl}/${path}`, {
      method: 'POST',
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const answer = await response.text()
    if (!response.ok) throw new Error(`${path}: ${answer}`)
    return answer
  }
  const sql = openDatabase(system.databaseUrls.superuser, {
    applicationName: 'faults',
    maxConnections: 4,
    deadlineMs: 60_000,
  })
  return {
    stack,
    system,
    gateways: [system.gatewayUrl],
    furtherGateways: [],
    opsUrls: Object.values(system.opsUrls),
    sql,
    kafka: createKafkaClient({ connection: stack.kafka, clientId: 'faults', logger }),
    codec: await createCodec(connectRegistry(stack.registryUrl)),
    logger,
    control: async (name, action) => {
      await post(`${name}/${action}`)
    },
    startInstance: async (service, settings) => JSON.parse(await post(`${service}/start`, settings)),
    close: () => sql.end({ timeout: 5 }),
  }
}

/** Runs one of the system's commands; returns its exit code, its output, and that on stdout alone. */
export const runScript = async (
  script: string,
  env: Record<string, string>,
  ...args: string[]
): Promise<{ code: number | null; output: string; stdout: string }> => {
  const child = spawn(process.execPath, [join(root, script), ...args], { env: { ...process.env, ...env } })
  const exited = new Promise<number | null>(resolve => child.once('exit', resolve))
  const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return { code, output: out + err, stdout: out }
}

/** Waits for the condition; the error on timeout names `what`. */
export const until = (what: string, seconds: number, condition: () => Promise<boolean> | boolean) =>
  waitUntil(what, async () => condition(), { deadlineMs: 1_000 * seconds })

export const readiness = async (url: string): Promise<{ ready: boolean; text: string }> => {
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) })
  return { ready: response.ok, text: await response.text() }
}

/** Waits until every service reports ready. */
export const untilHealthy = async (world: World, seconds: number): Promise<void> => {
  for (const url of world.opsUrls)
    await until(`${url}/readyz`, seconds, async () => {
      const { ready, text } = await readiness(url)
      if (!ready) throw new Error(text)
      return true
    })
}

/** Calls `run` for all items, `atOnce` at a time. */
export const forEach = async <Item>(
  items: Item[],
  atOnce: number,
  run: (item: Item, index: number) => Promise<void>,
): Promise<void> => {
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const index = next++
      await run(items[index]!, index)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

/** The end offset of each partition of a topic. */
export const topicEnds = async (world: World, topic: string): Promise<Map<number, bigint>> => {
  const admin = world.kafka.admin()
  await admin.connect()
  try {
    const offsets = await admin.fetchTopicOffsets(topic)
    return new Map(offsets.map(({ partition, high }) => [partition, BigInt(high)]))
  } finally {
    await admin.disconnect()
  }
}
