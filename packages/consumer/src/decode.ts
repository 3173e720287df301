// Avro in the registry's wire format, read exactly: avsc 5.7.9 alone reads a long below -(2^52) with the wrong sign, and
// refuses one beyond 2^53.
import avsc from 'avsc'
import { UnusableEvent } from './events.ts'
import { type EventName, type Events, SCHEMAS } from './generated/events.ts'

const MAGIC_BYTE = 0
const PREFIX_BYTES = 5
const ASKED_WITHIN_MS = 5_000

const longType = <Value>(read: (long: bigint) => Value, isValid: (value: unknown) => value is Value) =>
  avsc.types.LongType.__with({
    fromBuffer: (bytes: Buffer) => read(bytes.readBigInt64LE()),
    toBuffer: (value: Value) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigInt64LE(BigInt(value as bigint))
      return bytes
    },
    fromJSON: (value: number | string) => read(BigInt(value)),
    toJSON: String,
    isValid,
    compare: (a: Value, b: Value) => (a < b ? -1 : Number(a > b)),
  })

/** Amounts, of any 64 bits. */
const amountType = longType(
  long => long,
  value => typeof value === 'bigint',
)
/** Counts and times: numbers, and refused where a number would not be exact. */
const countType = longType(
  long => {
    const count = Number(long)
    if (!Number.isSafeInteger(count)) throw new RangeError(`${long} is no exact number`)
    return count
  },
  (value): value is number => Number.isSafeInteger(value),
)

const typeHook = (schema: unknown): avsc.Type | undefined => {
  if (schema === 'long') return countType
  const { type, logicalType } = (schema ?? {}) as { type?: unknown; logicalType?: unknown }
  if (type !== 'long') return undefined
  return logicalType === 'minor-units' ? amountType : countType
}

/** The Avro type of a schema, with exact longs. */
export const exactType = (schema: object): avsc.Type =>
  avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { typeHook: typeHook as never })

/** Answers with the schema of an id; rejects with UnusableEvent where the registry has none, else while it is away. */
export type SchemaSource = (id: number) => Promise<object>

/** The schemas of a registry with the Confluent API, such as Apicurio's at /apis/ccompat/v7. */
export const fromRegistry =
  (url: string, headers: Record<string, string> = {}): SchemaSource =>
  async id => {
    const answer = await fetch(`${url}/schemas/ids/${id}`, {
      headers,
      signal: AbortSignal.timeout(ASKED_WITHIN_MS),
    })
    // Only the registry's own "no such id" proves that the record is at fault.
    if (answer.status === 404) throw new UnusableEvent(`schema id ${id} is unknown to the registry`)
    if (!answer.ok) throw new Error(`the registry answers ${answer.status}`)
    return JSON.parse(((await answer.json()) as { schema: string }).schema) as object
  }

export type Decoded<Name extends EventName = EventName> = {
  [Each in Name]: { type: Each; value: Events[Each] }
}[Name]

/** Decodes a value; undefined where its type is unknown to this version of the kit: further types come. */
export type Decode = (bytes: Buffer) => Promise<Decoded | undefined>

/**
 * Records of all versions are read as this version's types: fields that they lack have their defaults, fields that are
 * unknown are passed over. A schema is asked for once, because what an id means never changes.
 */
export const createDecoder = (schemaOf: SchemaSource): Decode => {
  const types = new Map(Object.entries(SCHEMAS).map(([name, schema]) => [name, exactType(schema)]))
  type Reader = ((payload: Buffer) => Decoded) | undefined
  const readers = new Map<number, Reader>()

  const readerOf = async (id: number): Promise<Reader> => {
    if (readers.has(id)) return readers.get(id)
    const schema = await schemaOf(id)
    const writer = exactType(schema)
    const name = writer.name as EventName
    const type = types.get(name)
    const resolver = type?.createResolver(writer)
    const reader: Reader =
      type && (payload => ({ type: name, value: type.fromBuffer(payload, resolver) }) as Decoded)
    readers.set(id, reader)
    return reader
  }

  return async bytes => {
    if (bytes.length <= PREFIX_BYTES || bytes[0] !== MAGIC_BYTE)
      throw new UnusableEvent('not in the registry’s wire format')
    const reader = await readerOf(bytes.readUInt32BE(1))
    try {
      return reader?.(bytes.subarray(PREFIX_BYTES))
    } catch (error) {
      throw new UnusableEvent(`not what its schema says: ${(error as Error).message}`)
    }
  }
}

const NAMES = new Set<string>(Object.keys(SCHEMAS))
/** Whether this version of the kit knows a type of event. */
export const isKnown = (type: string | undefined): type is EventName => type !== undefined && NAMES.has(type)
