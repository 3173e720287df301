import { Agent } from 'node:https'
import registryClient from '@kafkajs/confluent-schema-registry'
import {
  type AnyRecord,
  AVRO_LOGICAL_TYPES,
  avroType,
  canonicalSchema,
  RECORD_NAMES,
  type RecordName,
  type Records,
} from '@pennywire/contracts/schemas.ts'
import type avsc from 'avsc'
import { headerOf, type IncomingRecord } from './record.ts'

const { SchemaRegistry, SchemaType, COMPATIBILITY } = registryClient

const MAGIC_BYTE = 0
const PREFIX_BYTES = 5

/** Bytes that can never be decoded, however often they are delivered: the record must be set aside. */
export class UndecodableRecord extends Error {
  override name = 'UndecodableRecord'
}

/** The registry operations that the codec uses: the Confluent client's; tests of undecodable bytes need no registry. */
export type Registry = {
  schemaOf: (id: number) => Promise<avsc.Type>
  idOf: (name: RecordName) => Promise<number>
}

/** The basic-authentication credentials for a registry, and the authority (PEM) of its certificate. */
export type RegistryAccess = { username?: string; password?: string; ca?: string }

/** The access that registrySettings describe. */
export const registryAccessOf = (settings: {
  REGISTRY_USERNAME?: string | undefined
  REGISTRY_PASSWORD?: string | undefined
  REGISTRY_CA_FILE?: string | undefined
}): RegistryAccess => ({
  ...(settings.REGISTRY_USERNAME === undefined ? {} : { username: settings.REGISTRY_USERNAME }),
  ...(settings.REGISTRY_PASSWORD === undefined ? {} : { password: settings.REGISTRY_PASSWORD }),
  ...(settings.REGISTRY_CA_FILE === undefined ? {} : { ca: settings.REGISTRY_CA_FILE }),
})

/** Connects to a registry with the Confluent API (Apicurio's is at /apis/ccompat/v7). */
export const connectRegistry = (
  url: string,
  { username, password = '', ca }: RegistryAccess = {},
): Registry & { register: (name: RecordName) => Promise<number> } => {
  const client = new SchemaRegistry(
    {
      host: url,
      ...(username === undefined ? {} : { auth: { username, password } }),
      ...(ca === undefined ? {} : { agent: new Agent({ ca }) }),
      retry: { maxRetryTimeInSecs: 2, initialRetryTimeInSecs: 0.1, factor: 0, multiplier: 2, retries: 4 },
    },
    { [SchemaType.AVRO]: { logicalTypes: AVRO_LOGICAL_TYPES } },
  )
  const schema = (name: RecordName) => ({
    type: SchemaType.AVRO as typeof SchemaType.AVRO,
    schema: canonicalSchema(name),
  })
  return {
    register: async name => {
      const registered = await client.register(schema(name), {
        subject: name,
        compatibility: COMPATIBILITY.FULL_TRANSITIVE,
      })
      return registered.id
    },
    idOf: name => client.getRegistryIdBySchema(name, schema(name)),
    schemaOf: async id => {
      try {
        return (await client.getSchema(id)) as unknown as avsc.Type
      } catch (error) {
        // Only the registry's own "no such id" proves that the record is at fault. An unreachable registry gives other
        // codes (400 in this client) and must hold the partition instead.
        if ((error as { status?: number }).status === 404) {
          throw new UndecodableRecord(`schema id ${id} is unknown to the registry`)
        }
        throw error
      }
    },
  }
}

export type Codec = {
  /** Encodes a record in the Confluent wire format, under the id pinned at start. Throws if the value does not fit. */
  encode: <Name extends RecordName>(name: Name, value: Records[Name]) => Buffer
  /**
   * Decodes a record written with any registered version, using this code's own reader schema. Rejects with
   * UndecodableRecord if no retry can help, with another error if the registry could not be queried.
   */
  decode: (bytes: Buffer | null) => Promise<AnyRecord>
  /**
   * Decodes a record from Kafka. Its header `ce_type` must match the decoded type: a registry whose ids were mixed up
   * (restored, replaced) may return a schema that decodes the bytes as another record.
   */
  decodeRecord: (record: Pick<IncomingRecord, 'value' | 'headers'>) => Promise<AnyRecord>
  /** The id under which each record is encoded, pinned at start. */
  schemaIds: ReadonlyMap<RecordName, number>
}

/** Pins the registry id of each record's schema: one look-up each at start, none per record. */
export const createCodec = async (registry: Registry): Promise<Codec> => {
  const types = new Map(RECORD_NAMES.map(name => [name, avroType(name)]))
  const ids = new Map(
    await Promise.all(RECORD_NAMES.map(async name => [name, await registry.idOf(name)] as const)),
  )
  const readers = new Map<number, { name: RecordName; read: (payload: Buffer) => unknown }>()

  const readerFor = async (id: number) => {
    const known = readers.get(id)
    if (known) return known
    const writer = await registry.schemaOf(id)
    const name = writer.name as RecordName
    const type = types.get(name)
    if (!type) throw new UndecodableRecord(`${name} (schema id ${id}) is no record of this version`)
    const resolver = id === ids.get(name) ? undefined : type.createResolver(writer)
    const reader = { name, read: (payload: Buffer) => type.fromBuffer(payload, resolver) }
    readers.set(id, reader)
    return reader
  }

  const codec: Codec = {
    schemaIds: ids,
    encode: (name, value) => {
      const payload = types.get(name)!.toBuffer(value)
      const bytes = Buffer.allocUnsafe(PREFIX_BYTES + payload.length)
      bytes.writeUInt8(MAGIC_BYTE, 0)
      bytes.writeUInt32BE(ids.get(name)!, 1)
      payload.copy(bytes, PREFIX_BYTES)
      return bytes
    },
    decode: async bytes => {
      if (!bytes || bytes.length <= PREFIX_BYTES || bytes[0] !== MAGIC_BYTE) {
        throw new UndecodableRecord('not in the Confluent wire format')
      }
      const { name, read } = readers.get(bytes.readUInt32BE(1)) ?? (await readerFor(bytes.readUInt32BE(1)))
      try {
        return { type: name, value: read(bytes.subarray(PREFIX_BYTES)) } as AnyRecord
      } catch (error) {
        throw new UndecodableRecord(`not a ${name}: ${(error as Error).message}`)
      }
    },
    decodeRecord: async record => {
      const decoded = await codec.decode(record.value)
      const type = headerOf(record, 'ce_type')
      if (type !== undefined && type !== decoded.type) {
        throw new UndecodableRecord(
          `ce_type says ${type}, but its schema id is of ${decoded.type}: the registry's ids are not those it was written with`,
        )
      }
      return decoded
    },
  }
  return codec
}
