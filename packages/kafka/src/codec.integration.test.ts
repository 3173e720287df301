import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { FROZEN, loadFrozen } from '@pennywire/contracts/frozen-schemas.ts'
import {
  AVRO_LOGICAL_TYPES,
  canonicalSchema,
  RECORD_NAMES,
  type RecordName,
} from '@pennywire/contracts/schemas.ts'
import avsc from 'avsc'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import { type Codec, connectRegistry, createCodec, type Registry, UndecodableRecord } from './codec.ts'

const { registryUrl } = inject('stack')
const registry = connectRegistry(registryUrl)
let codec: Codec
beforeAll(async () => {
  codec = await createCodec(registry)
})

const send = async (method: string, path: string, body: object) => {
  const response = await fetch(`${registryUrl}${path}`, {
    method,
    headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
    body: JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as { id?: number; message?: string } }
}
const register = (subject: string, schema: object) =>
  send('POST', `/subjects/${subject}/versions`, { schema: JSON.stringify(schema) })

/** The Confluent wire format: a zero byte, the schema's id, the Avro bytes. */
const wire = (id: number, payload: Buffer) => {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(id, 1)
  return Buffer.concat([head, payload])
}
const PIN_FAILED = 'pennywire.identity.PinFailed'
const pinFailed = { eventId: randomUUID(), userId: randomUUID(), attempt: 2, occurredAt: 1_700_000_000_000 }

describe('records go through the registry', () => {
  test.each(RECORD_NAMES)('%s is read as it was written', async name => {
    const frozen = loadFrozen(FROZEN).findLast(version => name.endsWith(`.${version.name}`))!
    for (const { value } of frozen.examples) {
      const bytes = codec.encode(name, value as never)
      expect([bytes[0], bytes.readUInt32BE(1)]).toEqual([0, await registry.idOf(name)])
      const decoded = await codec.decode(bytes)
      expect(decoded.type).toBe(name)
      expect(decoded.value).toMatchObject(value)
    }
  })

  test('S1: a record of another version is read by our own reader, with more fields or fewer', async () => {
    const schema = JSON.parse(canonicalSchema(PIN_FAILED))
    schema.fields.push({ name: 'device', type: 'string', default: '' })
    const { body } = await register(`test-${randomUUID()}`, schema)
    const writer = avsc.Type.forSchema(schema, { logicalTypes: AVRO_LOGICAL_TYPES })
    const payload = writer.toBuffer({ ...pinFailed, device: 'phone' })
    const { type, value } = await codec.decode(wire(body.id!, payload))
    expect([type, { ...value }]).toEqual([PIN_FAILED, pinFailed])
  })

  test('a value that does not fit its schema is not written', () => {
    expect(() => codec.encode(PIN_FAILED, { ...pinFailed, attempt: '2' as never })).toThrow('invalid "int"')
  })
})

describe('D1: bytes that can never be read are told apart', () => {
  const good = () => codec.encode(PIN_FAILED, pinFailed)
  test.each<[string, () => Buffer | null]>([
    ['nothing', () => null],
    ['no bytes', () => Buffer.alloc(0)],
    ['only a prefix', () => good().subarray(0, 5)],
    ['text', () => Buffer.from('{"transferId": 1}')],
    ['another first byte', () => Buffer.concat([Buffer.from([1]), good().subarray(1)])],
    ['too few bytes', () => good().subarray(0, -3)],
    ['too many bytes', () => Buffer.concat([good(), Buffer.from([0])])],
    ['random bytes under a good id', () => wire(good().readUInt32BE(1), Buffer.alloc(40, 0xff))],
    ['an id that the registry does not know', () => wire(2_000_000_000, good().subarray(5))],
  ])('%s', async (_what, bytes) => {
    await expect(codec.decode(bytes())).rejects.toBeInstanceOf(UndecodableRecord)
    // The codec still decodes other records.
    expect((await codec.decode(good())).type).toBe(PIN_FAILED)
  })

  test('D1: bytes of another record than ce_type names: a registry whose ids were mixed up', async () => {
    const record = (type: string) => ({
      value: good(),
      headers: [['ce_type', Buffer.from(type)]] as Array<[string, Buffer]>,
    })
    expect((await codec.decodeRecord(record(PIN_FAILED))).type).toBe(PIN_FAILED)
    await expect(codec.decodeRecord(record('pennywire.identity.PinLocked'))).rejects.toThrow(
      UndecodableRecord,
    )
    expect((await codec.decodeRecord({ value: good(), headers: [] })).type).toBe(PIN_FAILED)
  })

  test('a record that is none of ours', async () => {
    const schema = {
      type: 'record',
      name: 'Other',
      namespace: 'elsewhere',
      fields: [{ name: 'it', type: 'int' }],
    }
    const { body } = await register(`test-${randomUUID()}`, schema)
    await expect(codec.decode(wire(body.id!, Buffer.from([2])))).rejects.toThrow('elsewhere.Other')
    await expect(codec.decode(wire(body.id!, Buffer.from([2])))).rejects.toBeInstanceOf(UndecodableRecord)
  })
})

describe('a registry that cannot be asked holds the record instead', () => {
  /** Ids come from the real registry; the schema of a newer writer must be fetched by `schemaOf`. */
  const codecWith = (schemaOf: Registry['schemaOf']) => createCodec({ idOf: registry.idOf, schemaOf })
  const unknown = wire(2_000_000_000, Buffer.from([2]))

  test('one that is away', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    await new Promise(resolve => server.close(resolve))
    const away = await codecWith(connectRegistry(`http://127.0.0.1:${port}`).schemaOf)
    const refused = await away.decode(unknown).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(Error)
    expect(refused).not.toBeInstanceOf(UndecodableRecord)
    await expect(createCodec(connectRegistry(`http://127.0.0.1:${port}`))).rejects.toThrow()
  })

  test.each([500, 503, 429, 401])('one that answers %d', async status => {
    const server = createServer((_request, response) => response.writeHead(status).end('{}'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    try {
      const broken = await codecWith(connectRegistry(url).schemaOf)
      const refused = await broken.decode(unknown).catch((error: unknown) => error)
      expect(refused).toBeInstanceOf(Error)
      expect(refused).not.toBeInstanceOf(UndecodableRecord)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
})

describe('S1: the registry refuses what breaks a reader', () => {
  test.each(RECORD_NAMES)('%s is registered once, however often it is registered', async name => {
    // Other tests on this stack may have added versions.
    const versions = async () => (await fetch(`${registryUrl}/subjects/${name}/versions`)).json()
    const before = await versions()
    const id = await registry.idOf(name)
    expect(await registry.register(name)).toBe(id)
    const writer = await registry.schemaOf(id)
    expect(writer.name).toBe(name)
    expect(await versions()).toEqual(before)
    const config = await (await fetch(`${registryUrl}/config/${name}`)).json()
    expect(config).toEqual({ compatibilityLevel: 'FULL_TRANSITIVE' })
  })

  test.each(RECORD_NAMES)('%s takes no field without default', async name => {
    const schema = JSON.parse(canonicalSchema(name as RecordName))
    schema.fields.push({ name: 'broken', type: 'string' })
    const { status, body } = await register(name, schema)
    expect([status, body.message]).toEqual([409, expect.stringContaining('broken')])
  })

  test('every version counts, not only the newest', async () => {
    const subject = `test-${randomUUID()}`
    const version = (...fields: object[]) => ({
      type: 'record',
      name: 'Moved',
      namespace: 'pennywire.test',
      fields: [{ name: 'id', type: 'string' }, ...fields],
    })
    const first = await register(subject, version({ name: 'note', type: 'string', default: '' }))
    await send('PUT', `/config/${subject}`, { compatibility: 'FULL_TRANSITIVE' })
    expect(first.status).toBe(200)
    expect((await register(subject, version())).status).toBe(200)
    const third = await register(subject, version({ name: 'note', type: 'int', default: 0 }))
    expect(third.status).toBe(409)
  })
})
