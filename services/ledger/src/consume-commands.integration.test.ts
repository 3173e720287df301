// Which records of ledger.commands need a gateway's MAC, on a real Postgres.
import { randomBytes, randomUUID } from 'node:crypto'
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, createCommandVerifier } from '@pennywire/kafka/command-mac.ts'
import { headerOf, type IncomingRecord, type RawRecord } from '@pennywire/kafka/record.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { createCommandHandler } from './consume-commands.ts'
import { postgresStore } from './sql/store.ts'
import { createLedgerDatabase, readBalances } from './sql/test-database.ts'
import { limitsOf } from './test-ledger.ts'

const { superuserUrl, registryUrl } = inject('stack')
const keys = [{ kid: 'test', key: randomBytes(32) }]
const sign = createCommandSigner(keys)

let codec: Codec
let database: Awaited<ReturnType<typeof createLedgerDatabase>>
beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
  database = await createLedgerDatabase(superuserUrl)
})
afterAll(() => database.drop())

const opening = (offset: bigint, partition: number, signing: (record: RawRecord) => RawRecord) => {
  const userId = randomUUID()
  const walletId = walletIdOf(userId, 'USD', 0)
  const value = codec.encode('pennywire.ledger.WalletOpenRequested', {
    ...{ commandId: walletId, walletId, userId, currency: 'USD', requestedAt: 1_000, tier: 'unverified' },
  })
  const { headers } = signing({ topic: 'ledger.commands', key: walletId, value, headers: {} })
  const record: IncomingRecord = {
    ...{ topic: 'ledger.commands', partition, offset, timestamp: 0, key: Buffer.from(walletId), value },
    headers: Object.entries(headers).map(([name, text]) => [name, Buffer.from(text as string)]),
  }
  return { walletId, record }
}

test('M1 D1: commands need a MAC from where the topic ended when the first ledger checked; strangers stop nothing', async () => {
  const sql = database.open()
  const store = postgresStore(sql, sql)
  const halted: string[] = []
  const setAside: string[] = []
  const consumer = {
    seek: () => {},
    hold: () => {},
    halt: (_place: object, reason: string) => void halted.push(reason),
  }
  const handler = () =>
    createCommandHandler({
      ...{ store, codec, limitDefaults: limitsOf({}), verifyCommand: createCommandVerifier(keys) },
      readTails: async () => new Map(),
      logger: createLogger('test', { level: 'silent', instance: 'test' }),
      publisher: {
        publish: async record => void setAside.push(String(record.headers.dead_letter_offset)),
      },
      relay: { assign: () => {}, offer: () => {}, repeat: () => {} },
    })
  const begin = async (end: bigint) => {
    const { handle, positions } = handler()
    const at = { topic: 'ledger.commands' as const, partition: 0 }
    await positions!([at], async () => [{ ...at, offset: end, first: 0n }], consumer as never)
    return (records: IncomingRecord[]) => handle(records, consumer as never)
  }
  const unsigned = (record: RawRecord) => record

  // State left by a version without MACs: two commands are decided, two more are in the topic.
  await store.readPositions([0])
  await sql`update ledger.partitions set next_offset = 2 where partition = 0`
  const before = [opening(2n, 0, unsigned), opening(3n, 0, unsigned)]
  const forged = Array.from({ length: 30 }, (_, n) => opening(4n + BigInt(n), 0, unsigned))
  const genuine = opening(34n, 0, sign)
  await (await begin(4n))([before[0]!.record])
  // A later start, when the topic has grown: the boundary stays where it was.
  const handle = await begin(34n)
  for (const { record } of [before[1]!, ...forged, genuine]) await handle([record])

  const wallets = [...(await readBalances(sql)).keys()]
  expect(before.every(({ walletId }) => wallets.includes(walletId))).toBe(true)
  expect(forged.some(({ walletId }) => wallets.includes(walletId))).toBe(false)
  expect(wallets).toContain(genuine.walletId)
  expect(setAside).toEqual(forged.map(({ record }) => String(record.offset)))
  expect(headerOf(genuine.record, 'pw-mac')).toMatch(/^test\./)
  expect(halted).toEqual([])
})
