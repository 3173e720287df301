// D1: a record that a consumer cannot handle becomes a dead letter while its partition flows; redriven, it is applied
// once.

import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { avroType, canonicalSchema, type RecordName, type Records } from '@pennywire/contracts/schemas.ts'
import { transferRequested } from '@pennywire/contracts/test-records.ts'
import type { Topic } from '@pennywire/contracts/topics.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, loadCommandMacKeys, signCommands } from '@pennywire/kafka/command-mac.ts'
import { createPublisher, type Publisher } from '@pennywire/kafka/publisher.ts'
import type { RawRecord } from '@pennywire/kafka/record.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { ask, balanceOf, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { kafka, kafkaEnv, registryUrl } = inject('stack')
const { databaseUrls, env: serviceEnv } = inject('system')
const { COMMAND_MAC_FILE } = serviceEnv.gateway
const command = join(import.meta.dirname, '..', 'packages', 'kafka', 'src', 'dead-letters-command.ts')

let publisher: Publisher
let alice: Person
let from: Wallet
let to: Wallet
let bob: Person

beforeAll(async () => {
  const logger = createLogger('test', { level: 'silent', instance: 'test' })
  publisher = signCommands(
    await createPublisher(createKafkaClient({ connection: kafka, clientId: 'dead-letters-test', logger })),
    createCommandSigner(loadCommandMacKeys(COMMAND_MAC_FILE!)),
  )
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(bob, 'USD')
})
afterAll(() => publisher.stop())

/** Runs the command as an operator does. */
const deadLetters = async (...args: string[]): Promise<{ code: number; text: string }> => {
  const env = { ...process.env, ...kafkaEnv.operator, REGISTRY_URL: registryUrl, COMMAND_MAC_FILE }
  return promisify(execFile)(process.execPath, [command, ...args], { env }).then(
    ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }),
    error => ({ code: error.code as number, text: error.stdout + error.stderr }),
  )
}

/** The `list` output for the dead letter with this key, once it exists: place, origin, state and reason. */
const listed = (consumer: string, key: string) =>
  vi.waitFor(
    async () => {
      const { text } = await deadLetters('list', consumer)
      const lines = text.split('\n')
      const index = lines.findIndex(line => line.startsWith('    key ') && line.includes(key))
      if (index === -1) throw new Error(`no dead letter with key ${key} yet:\n${text}`)
      const [place, , origin, state] = lines[index - 1]!.split('  ')
      return { place: place!, origin: origin!, state: state!, reason: lines[index]! }
    },
    { timeout: 20_000, interval: 100 },
  )

/** Registers a schema under a subject; its id. */
const registerSchema = async (subject: string, schema: object): Promise<number> => {
  const response = await fetch(`${registryUrl}/subjects/${subject}/versions`, {
    method: 'POST',
    headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
    body: JSON.stringify({ schema: JSON.stringify(schema) }),
  })
  expect(response.status).toBe(200)
  return ((await response.json()) as { id: number }).id
}

/** Bytes under a schema id that is not registered yet, and `register`, which registers the schema. */
const writtenAhead = async <Name extends RecordName>(name: Name, value: Records[Name]) => {
  // Ids rise, but a schema that stands under another subject already may use one up: the next one follows a new schema's.
  const probe = { type: 'record', name: `probe_${randomUUID().replaceAll('-', '')}`, fields: [] }
  const id = (await registerSchema(probe.name, probe)) + 1
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(id, 1)
  // The next version has one more optional field in front, so that decoding with today's version fails.
  const schema = JSON.parse(canonicalSchema(name))
  schema.fields.unshift({ name: `added${id}`, type: 'string', default: '' })
  const bytes = Buffer.concat([prefix, Buffer.from([0]), avroType(name).toBuffer(value)])
  const register = async () => expect(await registerSchema(name, schema)).toBe(id)
  return { id, bytes, register }
}

const transferRequest = (over: Partial<Records['pennywire.ledger.TransferRequested']> = {}) =>
  transferRequested({
    ...{ userId: alice.id, fromWalletId: from.id, toWalletId: to.id, amountMinor: 125n },
    ...{ requestedAt: Date.now(), ...over },
  })

/** A valid transfer of the same sender, and so of the same partition, completes. */
const partitionFlows = async () => expect((await send(alice, to, '0.01')).status).toBe(201)

describe('ledger.commands', () => {
  const publish = (value: Buffer | null, more: Partial<RawRecord> = {}) =>
    publisher.publish({ topic: 'ledger.commands' satisfies Topic, key: from.id, value, headers: {}, ...more })

  test('bytes that are no record are set aside as they came, and what is behind them completes', async () => {
    const marker = randomBytes(16)
    const header = Buffer.from([0, 0xff, 0x80])
    await publish(Buffer.concat([Buffer.from('hello'), marker]), { headers: { odd: [header, 'twice'] } })
    await publish(null)
    await partitionFlows()
    const { place, origin, state, reason } = await listed('ledger', from.id)
    expect([origin, state]).toEqual([expect.stringMatching(/^ledger\.commands\/\d+\/\d+$/), 'waiting'])
    expect(reason).toContain('not in the Confluent wire format')
    const shown = (await deadLetters('show', 'ledger', place)).text
    expect(shown).toContain(`0x${Buffer.from('hello').toString('hex')}${marker.toString('hex')}`)
    expect(shown).toContain('header       odd: 0x00ff80\nheader       odd: twice\n')
    expect(shown).toContain('decoded      not now: not in the Confluent wire format')

    // Redriven, it would become a dead letter again, and ten in a row would halt the partition.
    const refused = await deadLetters('redrive', 'ledger', place)
    expect([refused.code, refused.text]).toEqual([
      1,
      expect.stringContaining('not sent: it still cannot be read'),
    ])
    const forced = await deadLetters('redrive', 'ledger', place, '--force')
    expect([forced.code, forced.text]).toEqual([
      0,
      expect.stringContaining(`${place}  sent to ledger.commands/`),
    ])
    await vi.waitFor(
      async () => {
        const { text } = await deadLetters('list', 'ledger')
        expect(text).toContain(`${origin}  redriven `)
        expect(text.match(new RegExp(`key ${from.id}`, 'g'))?.length).toBe(3)
      },
      { timeout: 20_000 },
    )
    await partitionFlows()
  })

  test('a schema that nobody knows is waited for, not lost: registered later, the record applies once', async () => {
    const request = transferRequest()
    const { id, bytes, register } = await writtenAhead('pennywire.ledger.TransferRequested', request)
    await publish(bytes, { headers: { ce_subject: request.transferId, case: 'unknown-schema' } })
    await partitionFlows()
    const before = Number(await balanceOf(bob, to))
    const place = await vi.waitFor(
      async () => {
        const { text } = await deadLetters('list', 'ledger')
        const lines = text.split('\n')
        const index = lines.findIndex(line => line.includes(`schema id ${id} is unknown to the registry`))
        expect(lines[index]).toContain(`key ${from.id}`)
        return lines[index - 1]!.split('  ')[0]!
      },
      { timeout: 20_000, interval: 100 },
    )
    expect((await deadLetters('redrive', 'ledger', place)).code).toBe(1)

    await register()
    expect((await deadLetters('show', 'ledger', place)).text).toContain(
      `"transferId": "${request.transferId}"`,
    )
    // Two operators redrive it at once, and one repeats.
    const both = await Promise.all([
      deadLetters('redrive', 'ledger', place),
      deadLetters('redrive', 'ledger', place),
    ])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    await vi.waitFor(
      async () =>
        expect((await alice.ask('GET', `/v1/transfers/${request.transferId}`)).body?.status).toBe(
          'completed',
        ),
      { timeout: 20_000, interval: 100 },
    )
    const again = await deadLetters('redrive', 'ledger', place)
    expect(again.text).toMatch(
      /it was redriven .* \(2 times\) before: what is applied already is not applied again/,
    )
    expect((await deadLetters('list', 'ledger')).text).toMatch(
      new RegExp(`${place} .* redriven .* \\(3 times\\)`),
    )
    await partitionFlows()
    expect(Number(await balanceOf(bob, to))).toBeCloseTo(before + 1.25 + 0.01)
    expect((await deadLetters('redrive', 'ledger', '--all')).text).not.toContain(`${place}  sent`)
    await partitionFlows()
  })

  test('a record that breaks the handler is answered and set aside; sent again its answer stands', async () => {
    const codec = await createCodec(connectRegistry(registryUrl))
    const request = transferRequest({ type: 'teleport' })
    const before = await balanceOf(bob, to)
    await publish(codec.encode('pennywire.ledger.TransferRequested', request))
    await vi.waitFor(
      async () => {
        const { body } = await alice.ask('GET', `/v1/transfers/${request.transferId}`)
        expect([body?.status, body?.rejection?.code]).toEqual(['rejected', 'INTERNAL_ERROR'])
      },
      { timeout: 20_000, interval: 100 },
    )
    const { text } = await deadLetters('list', 'ledger')
    const lines = text.split('\n')
    const index = lines.findLastIndex(line => line.includes('type teleport is not known to this version'))
    const place = lines[index - 1]!.split('  ')[0]!
    expect((await deadLetters('redrive', 'ledger', place)).code).toBe(0)
    expect(await balanceOf(bob, to)).toBe(before)
    await partitionFlows()
    const { body } = await alice.ask('GET', `/v1/transfers/${request.transferId}`)
    expect([body.status, body.rejection.code]).toEqual(['rejected', 'INTERNAL_ERROR'])
  })
})

test('notifier.commands: a mail under a schema that is registered later is taken once, sent again twice at once', async () => {
  const sql = openDatabase(databaseUrls.superuser, {
    applicationName: 'dead-letters-test',
    maxConnections: 1,
  })
  try {
    const commandId = randomUUID()
    const { id, bytes, register } = await writtenAhead('pennywire.notifier.MailRequested', {
      commandId,
      userId: alice.id,
      template: 'verify_email',
      secret: 'not for this notifier',
      expiresAt: Date.now() + 60_000,
      requestedAt: Date.now(),
    })
    await publisher.publish({ topic: 'notifier.commands', key: alice.id, value: bytes, headers: {} })
    const { place, reason } = await listed('notifier', alice.id)
    expect(reason).toContain(`schema id ${id} is unknown to the registry`)
    // The partition flows: Alice's mails come by the same key.
    const email = `${randomUUID()}@example.com`
    await ask('POST', '/v1/auth/signup', { body: { email, password: 'Correct-horse-9', fullName: 'Carol' } })
    await register()
    const both = await Promise.all(['a', 'b'].map(() => deadLetters('redrive', 'notifier', place)))
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    const countOf = async () =>
      (await sql`select 1 from notifier.deliveries where command_id = ${commandId}`).length
    await vi.waitFor(async () => expect(await countOf()).toBe(1), { timeout: 20_000 })
    expect((await deadLetters('list', 'notifier')).text).toMatch(
      new RegExp(`${place} .* redriven .* \\(2 times\\)`),
    )
  } finally {
    await sql.end()
  }
})

test.each([
  [['list'], 2, 'usage:'],
  [['list', 'gateway'], 2, 'usage:'],
  [['redrive', 'ledger'], 2, 'usage:'],
  [['redrive', 'ledger', '0/1', '--all'], 2, 'usage:'],
  [['redrive', 'ledger', '--all', '--sign'], 2, 'usage:'],
  [['redrive', 'ledger', '0/1', '--everything'], 2, 'usage:'],
  [['show', 'ledger', '0/999999'], 1, '0/999999: there is no such dead letter of the ledger'],
])('dead-letters %s ends with %d', async (args, code, text) =>
  expect(await deadLetters(...args)).toEqual({ code, text: expect.stringContaining(text) }),
)
