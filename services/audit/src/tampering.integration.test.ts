// docs/audit.md's table of tamperings is true: each is done to a copy of a trail, and `audit:verify` says what it says.
import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import {
  bytesOf,
  type Chain,
  type ChainedRecord,
  chainedRecordOf,
  genesisOf,
  hashAfter,
} from '@pennywire/kafka/hash-chain.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { checkpointHash, GENESIS, readCheckpoint, type SigningKey, signCheckpoint } from './checkpoint.ts'
import { checkpointKeys } from './checkpoint-keys.ts'
import { insertCheckpoint, loadChainHeads, loadCheckpointsAfter } from './sql/checkpoints.ts'
import { insertRecords, loadRecordsAfter, type StoredRecord } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'

const { superuserUrl, kafka, kafkaEnv } = inject('stack')
const logger = createLogger('test', { level: 'silent', instance: 'test' })

const newKey = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const { signing } = checkpointKeys.parse(privateKey.export({ format: 'jwk' }))
  return { signing, publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
}
const ours = newKey()
const stranger = newKey()

const folder = mkdtempSync(join(tmpdir(), 'pennywire-tampering-'))
const publicFile = join(folder, 'public.pem')
writeFileSync(publicFile, ours.publicPem)

const CHAIN: Chain = { topic: 'ledger.events', epoch: 0, partition: 1 }
const OTHER: Chain = { ...CHAIN, partition: 0 }
const PER_CHECKPOINT = 30
const CHECKPOINTS = 4
const RECORDS = CHECKPOINTS * PER_CHECKPOINT
const SIGNED_AT = Date.parse('2026-01-01T00:00:00Z')

const recordAt = (offset: number): ChainedRecord => ({
  ...{ offset: BigInt(offset), timestampMs: 1_700_000_000_000n, key: Buffer.from('key') },
  ...{ headers: Buffer.alloc(0), value: Buffer.from(`value ${offset}`) },
})

const sign = async (sql: Database, key: SigningKey, sequence: number, previous: string) => {
  const token = signCheckpoint(key, {
    ...{ sequence: BigInt(sequence), time: SIGNED_AT + sequence * 60_000, previous },
    chains: await loadChainHeads(sql),
  })
  await insertCheckpoint(sql, { sequence: BigInt(sequence), token })
  return token
}

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
const original: StoredRecord[] = []
const tokens: string[] = []

beforeAll(async () => {
  database = await createAuditDatabase(superuserUrl)
  owner = openDatabase(database.url(), { applicationName: 'test' })
  const sql = openDatabase(database.url('audit'), { applicationName: 'test' })
  const hashes = new Map([CHAIN, OTHER].map(chain => [chain, genesisOf(chain)]))
  for (let number = 1; number <= CHECKPOINTS; number++) {
    for (const chain of [CHAIN, OTHER]) {
      const rows = Array.from({ length: PER_CHECKPOINT }, (_, index) => {
        const record = recordAt((number - 1) * PER_CHECKPOINT + index)
        hashes.set(chain, hashAfter(hashes.get(chain)!, bytesOf(record)))
        return { ...chain, ...record, hash: hashes.get(chain)! }
      })
      original.push(...rows)
      await insertRecords(sql, rows)
    }
    tokens.push(
      await sign(sql, ours.signing, number, number === 1 ? GENESIS : checkpointHash(tokens.at(-1)!)),
    )
  }
  await sql.end()
})
afterAll(async () => {
  await owner.end()
  await database.drop()
  rmSync(folder, { recursive: true })
})

type Run = { exitCode: number; out: string; err: string }
const verify = (args: string[], env: Record<string, string>) =>
  new Promise<Run>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, 'verify.ts'), ...args],
      { env },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )

type Trail = { sql: Database; lines: string[] }
/** The trail as it was recorded. */
const restore = async () => {
  await owner`truncate audit.records, audit.checkpoints`
  await insertRecords(owner, original)
  for (const [index, token] of tokens.entries())
    await insertCheckpoint(owner, { sequence: BigInt(index + 1), token })
}

/** Tampers with the trail and a copy of the file, verifies them, and restores the trail. */
const verifyAfter = async (
  tamper: (trail: Trail) => Promise<unknown> | unknown,
  { args = [] as string[], env = {} as Record<string, string>, withFile = true } = {},
): Promise<Run> => {
  const file = join(folder, 'checkpoints.txt')
  try {
    const lines = [...tokens]
    await tamper({ sql: owner, lines })
    writeFileSync(file, lines.map(line => `${line}\n`).join(''))
    const files = withFile ? ['--checkpoint-file', file] : []
    return await verify(['--public-key', publicFile, ...files, ...args], {
      AUDIT_DATABASE_URL: database.url('audit'),
      ...env,
    })
  } finally {
    await restore()
  }
}

/** Recomputes all hashes of a chain from one offset on, as a forger does who has read the code. */
const rehash = async (sql: Database, chain: Chain, from: bigint) => {
  const [before] = from === 0n ? [] : await loadRecordsAfter(sql, chain, from - 2n, 1)
  let previous = before?.hash ?? genesisOf(chain)
  for (const record of await loadRecordsAfter(sql, chain, from - 1n, 1_000_000)) {
    previous = hashAfter(previous, bytesOf(record))
    await sql`
      update audit.records set hash = ${previous}
      where topic = ${chain.topic} and partition = ${chain.partition} and record_offset = ${record.offset}`
  }
}

const replace = (sql: Database, sequence: number, token: string) =>
  sql`update audit.checkpoints set token = ${token} where sequence = ${sequence}`

/** Checkpoint 2 with another time, signed anew. */
const again = (key: SigningKey, sequence: number, previous?: string) => {
  const read = readCheckpoint(tokens[sequence - 1]!, null)
  if (!('checkpoint' in read)) throw new Error('unreadable')
  const { checkpoint } = read
  return signCheckpoint(key, {
    ...checkpoint,
    previous: previous ?? checkpoint.previous,
    time: checkpoint.time + 1_000,
  })
}
const flipped = (token: string) => {
  const [header, payload, signature] = token.split('.') as [string, string, string]
  const text = Buffer.from(payload, 'base64url').toString().replace('"records":"30"', '"records":"31"')
  return `${header}.${Buffer.from(text).toString('base64url')}.${signature}`
}

const REAL: Chain = { topic: 'notifier.dead-letters', epoch: 0, partition: 0 }
/** Puts what a real topic holds in place of the trail, so that it can be compared with the brokers. */
const recordRealTopic = async (sql: Database) => {
  const client = createKafkaClient({ connection: kafka, clientId: 'tampering-test', logger })
  const publisher = await createPublisher(client)
  await publisher.publishAll(
    ['one', 'two', 'three'].map(text => ({
      ...{ topic: 'notifier.dead-letters' as const, key: text, value: Buffer.from(text), headers: {} },
    })),
  )
  await publisher.stop()
  await sql`truncate audit.records, audit.checkpoints`
  let hash = genesisOf(REAL)
  let last = -1n
  await readTopic({
    client,
    logger,
    topic: 'notifier.dead-letters',
    handle: async records => {
      await insertRecords(
        sql,
        records.map(record => {
          const chained = chainedRecordOf(record)
          hash = hashAfter(hash, bytesOf(chained))
          last = record.offset
          return { ...REAL, ...chained, hash }
        }),
      )
    },
  })
  return { hash, last }
}

type Case = {
  /** As in the first column of the table. */
  what: string
  tamper: (trail: Trail) => Promise<unknown> | unknown
  /** Where it is named: an offset of CHAIN, or a checkpoint. */
  at: string
  env?: Record<string, string>
  withFile?: boolean
}
const inChain = (offset: number) => `ledger.events epoch 0 partition 1 offset ${offset}`
const inDatabase = (sequence: number) => `${sequence} in the database`
const inFile = (sequence: number) => `${sequence} in the file`

const CASES: Case[] = [
  {
    what: 'a record edited',
    tamper: ({ sql }) => sql`update audit.records set value = 'x' where partition = 1 and record_offset = 7`,
    at: inChain(7),
  },
  {
    what: 'a record deleted',
    tamper: ({ sql }) => sql`delete from audit.records where partition = 1 and record_offset = 7`,
    at: inChain(8),
  },
  {
    what: 'the first record deleted',
    tamper: ({ sql }) => sql`delete from audit.records where partition = 1 and record_offset = 0`,
    at: inChain(1),
  },
  {
    what: 'a record inserted between two',
    tamper: async ({ sql }) => {
      await sql`update audit.records set record_offset = record_offset + 10001 where partition = 1 and record_offset >= 50`
      await sql`update audit.records set record_offset = record_offset - 10000 where partition = 1 and record_offset > 9999`
      const [before] = await loadRecordsAfter(sql, CHAIN, 48n, 1)
      const record = { ...recordAt(50), value: Buffer.from('inserted') }
      await insertRecords(sql, [{ ...CHAIN, ...record, hash: hashAfter(before!.hash, bytesOf(record)) }])
    },
    at: inChain(51),
  },
  {
    what: 'two records exchanged',
    tamper: async ({ sql }) => {
      await sql`update audit.records set record_offset = -1 where partition = 1 and record_offset = 20`
      await sql`update audit.records set record_offset = 20 where partition = 1 and record_offset = 21`
      await sql`update audit.records set record_offset = 21 where partition = 1 and record_offset = -1`
    },
    at: inChain(20),
  },
  {
    what: 'records cut off at the end',
    tamper: ({ sql }) => sql`delete from audit.records where partition = 1 and record_offset >= 100`,
    at: inChain(100),
  },
  {
    what: 'a record rewritten with recomputed hashes',
    tamper: async ({ sql }) => {
      await sql`update audit.records set value = 'x' where partition = 1 and record_offset = 40`
      await rehash(sql, CHAIN, 40n)
    },
    at: inChain(59), // The first checkpoint behind it ends there.
  },
  {
    what: 'a whole chain removed',
    tamper: ({ sql }) => sql`delete from audit.records where partition = 1`,
    at: inChain(0),
  },
  {
    what: 'a record rewritten after the last checkpoint',
    tamper: async ({ sql }) => {
      const { last } = await recordRealTopic(sql)
      await sql`update audit.records set value = 'x' where record_offset = ${last}`
      await rehash(sql, REAL, last)
    },
    at: 'notifier.dead-letters epoch 0 partition 0 offset …',
    env: kafkaEnv.audit,
    withFile: false,
  },
  {
    what: 'a record added at the end with a right hash',
    tamper: async ({ sql }) => {
      const { hash, last } = await recordRealTopic(sql)
      const record = { ...recordAt(0), offset: last + 1n }
      await insertRecords(sql, [{ ...REAL, ...record, hash: hashAfter(hash, bytesOf(record)) }])
    },
    at: 'notifier.dead-letters epoch 0 partition 0 offset …',
    env: kafkaEnv.audit,
    withFile: false,
  },
  {
    what: 'a checkpoint removed',
    tamper: ({ sql }) => sql`delete from audit.checkpoints where sequence = 2`,
    at: inDatabase(2),
  },
  {
    what: 'the last checkpoint removed from the database',
    tamper: ({ sql }) => sql`delete from audit.checkpoints where sequence = ${CHECKPOINTS}`,
    at: inDatabase(CHECKPOINTS),
  },
  {
    what: 'the last checkpoint removed from the file',
    tamper: ({ lines }) => lines.pop(),
    at: inFile(CHECKPOINTS),
  },
  {
    what: 'a checkpoint changed',
    tamper: ({ sql }) => replace(sql, 1, flipped(tokens[0]!)),
    at: inDatabase(1),
  },
  {
    what: 'a checkpoint signed by another key',
    tamper: ({ sql }) => replace(sql, 2, again(stranger.signing, 2)),
    at: inDatabase(2),
  },
  {
    what: 'a checkpoint overwritten with anything',
    tamper: ({ sql }) => replace(sql, 2, 'anything'),
    at: inDatabase(2),
  },
  {
    what: 'two checkpoints exchanged in the file',
    tamper: ({ lines }) => lines.splice(1, 2, lines[2]!, lines[1]!),
    at: inFile(2),
  },
  {
    what: 'two checkpoints exchanged in the database',
    tamper: async ({ sql }) => {
      await replace(sql, 2, tokens[2]!)
      await replace(sql, 3, tokens[1]!)
    },
    at: inDatabase(2),
  },
  {
    what: 'a checkpoint signed anew with the stolen key',
    tamper: async ({ sql, lines }) => {
      lines[1] = again(ours.signing, 2)
      await replace(sql, 2, lines[1])
    },
    at: inDatabase(3),
  },
  {
    what: 'all checkpoints signed anew with the stolen key, in one place',
    tamper: ({ lines }) => {
      for (let number = 1; number <= CHECKPOINTS; number++)
        lines[number - 1] = again(
          ours.signing,
          number,
          number === 1 ? GENESIS : checkpointHash(lines[number - 2]!),
        )
    },
    at: inFile(1),
  },
]

const TABLE = new Map(
  readFileSync(join(import.meta.dirname, '../../../docs/audit.md'), 'utf8')
    .split('## What is found\n')[1]!
    .split('\n## ')[0]!
    .split('\n')
    .filter(line => line.startsWith('|'))
    .slice(2)
    .map(line => line.split('|').map(cell => cell.trim()))
    .map(([, what, , message]) => [what!, message!]),
)
const patternOf = (shown: string) => shown.split('…').map(RegExp.escape).join('[^\\n]*?')

test('the table has each case, and no other', () =>
  expect([...TABLE.keys()].toSorted()).toEqual(CASES.map(({ what }) => what).toSorted()))

test('what nobody touched is whole, in each place', async () => {
  const { exitCode, out, err } = await verifyAfter(() => {})
  expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' })
  for (const source of ['the database', 'the file'])
    expect(out).toContain(
      `checkpoints in ${source}: 4, the last is 4 of 2026-01-01T00:04:00.000Z by key ${ours.signing.kid}\n`,
    )
  expect(out.trimEnd().split('\n').at(-1)).toBe(`${2 * RECORDS} records, 0 broken`)
})

test.each(CASES)('A1: $what: it is found, and its place named', { timeout: 60_000 }, async one => {
  const { tamper, at, what, ...options } = one
  const { exitCode, out } = await verifyAfter(tamper, options)
  const named = new RegExp(
    `^first broken( checkpoint)?: ${patternOf(at)}: ${patternOf(TABLE.get(what)!)}$`,
    'm',
  )
  expect(out).toMatch(named)
  expect(exitCode).toBe(1)
})

describe('the command', () => {
  test('without a public key it says that no signature is checked', async () => {
    const { exitCode, out } = await verify([], { AUDIT_DATABASE_URL: database.url('audit') })
    expect(out).toContain('the signatures of the checkpoints are NOT checked: no --public-key is given\n')
    expect(exitCode).toBe(0)
  })

  test('--json: one document, with the same verdict', async () => {
    const whole = await verifyAfter(() => {}, { args: ['--json'] })
    expect(JSON.parse(whole.out)).toMatchObject({
      ...{ ok: true, records: 2 * RECORDS, broken: 0, firstBroken: null, signaturesChecked: true },
      ...{ checkpoints: CHECKPOINTS, unchecked: [] },
    })
    const broken = await verifyAfter(({ sql }) => replace(sql, 2, 'anything'), { args: ['--json'] })
    expect(broken.exitCode).toBe(1)
    expect(JSON.parse(broken.out)).toMatchObject({
      ok: false,
      sources: [{ firstBroken: { sequence: '2', source: 'the database' } }, { firstBroken: null }],
    })
  })

  test('--help has no effect and needs no setting', async () => {
    const { exitCode, out } = await verify(['--help'], {})
    expect(out).toMatch(/^usage: npm run audit:verify/)
    expect(exitCode).toBe(0)
  })

  test.each([
    ['an unknown option', ['--colour'], "Unknown option '--colour'"],
    ['a key file that is missing', ['--public-key', '/nowhere'], 'ENOENT'],
    ['a key file of something else', ['--public-key', import.meta.filename], 'holds no Ed25519 public key'],
  ])('exit code 2: %s', async (_what, args, message) => {
    const { exitCode, err } = await verify(args, { AUDIT_DATABASE_URL: database.url('audit') })
    expect(err).toContain(message)
    expect(exitCode).toBe(2)
  })

  test('exit code 2: no database', async () => {
    const { exitCode, err } = await verify([], {})
    expect(err).toContain('setting AUDIT_DATABASE_URL')
    expect(exitCode).toBe(2)
  })

  test.each<[string, string[], Record<string, string>]>([
    ['the database is away', [], { AUDIT_DATABASE_URL: 'postgres://audit:secret@127.0.0.1:1/pennywire' }],
    ['the file is missing', ['--checkpoint-file', '/nowhere/checkpoints.txt'], {}],
  ])('exit code 3: %s', async (_what, args, env) => {
    const { exitCode, err } = await verify(args, { AUDIT_DATABASE_URL: database.url('audit'), ...env })
    expect(err).toMatch(/^could not be checked: .+/m)
    expect(exitCode).toBe(3)
  })

  test('before the first checkpoint the service has no file yet; afterwards it must be there', async () => {
    const env = { AUDIT_DATABASE_URL: database.url('audit'), CHECKPOINT_FILE: '/nowhere/checkpoints.txt' }
    const before = await verifyAfter(
      async ({ sql }) => {
        await sql`truncate audit.checkpoints`
      },
      { withFile: false, env },
    )
    expect(before.out).toContain('no checkpoint is signed yet')
    expect(before.exitCode).toBe(0)
    const after = await verify([], env)
    expect(after.err).toMatch(/^could not be checked: the checkpoint file cannot be read/m)
    expect(after.exitCode).toBe(3)
  })

  test('a torn last line of the file is told, and is no fault', async () => {
    const { exitCode, out } = await verifyAfter(({ lines }) => lines, { withFile: false })
    expect(exitCode).toBe(0)
    const file = join(folder, 'torn.txt')
    writeFileSync(file, `${tokens.join('\n')}\n${tokens[0]!.slice(0, 40)}`)
    const torn = await verify(['--checkpoint-file', file], { AUDIT_DATABASE_URL: database.url('audit') })
    expect(torn.out).toContain('the last line of the file is torn')
    expect(torn.exitCode).toBe(0)
    expect(out).not.toContain('torn')
  })

  test('a database of an older version, without the table, is told as such', async () => {
    await owner`alter table audit.checkpoints rename to hidden`
    const { exitCode, out } = await verify([], { AUDIT_DATABASE_URL: database.url('audit') })
    await owner`alter table audit.hidden rename to checkpoints`
    expect(out).toContain('the database has no table of checkpoints: it is of an older version')
    expect(out).toContain('no checkpoint is signed yet')
    expect(exitCode).toBe(0)
  })

  test('the checkpoints read back are those that were signed', async () => {
    const sql = openDatabase(database.url('audit'), { applicationName: 'test' })
    expect((await loadCheckpointsAfter(sql, 0n, 9)).map(({ token }) => token)).toEqual(tokens)
    await sql.end()
  })
})
