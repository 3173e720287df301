import avsc from 'avsc'
import { describe, expect, test } from 'vitest'
import { MAX_MINOR } from './money.ts'
import { AVRO_LOGICAL_TYPES, avroType, canonicalSchema, RECORD_NAMES } from './schemas.ts'

type Field = { name: string; type: unknown; doc?: string }

/** Every part of a schema that is an object, the schema itself first, with the path to it. */
const partsOf = (schema: unknown, at: string): Array<{ at: string; part: Record<string, unknown> }> => {
  if (Array.isArray(schema)) return schema.flatMap(branch => partsOf(branch, at))
  if (typeof schema !== 'object' || schema === null) return []
  const part = schema as Record<string, unknown>
  const fields = (part.fields ?? []) as Field[]
  return [
    { at, part },
    ...partsOf(part.items, `${at}[]`),
    ...partsOf(part.values, `${at}{}`),
    ...fields.flatMap(({ name, type }) => partsOf(type, `${at}.${name}`)),
  ]
}
const fieldsOf = (name: string, schema: unknown) =>
  partsOf(schema, name).flatMap(({ at, part }) =>
    ((part.fields ?? []) as Field[]).map(field => ({ at: `${at}.${field.name}`, field })),
  )

/** Violations of our own contract rules by a schema that is valid Avro. */
const faultsOf = (name: string, schema: unknown): string[] => [
  ...partsOf(schema, name).flatMap(({ at, part }) => [
    ...(part.type === 'record' && !part.doc ? [`${at} has no doc`] : []),
    ...(part.type === 'enum' && part.default === undefined ? [`${at} is an enum without default`] : []),
  ]),
  ...fieldsOf(name, schema).flatMap(({ at, field }) => [
    ...(field.doc?.trim() ? [] : [`${at} has no doc`]),
    ...(/^(code|type|currency|reason|template|status)$|(Code|Type|Currency)$/.test(field.name) &&
    field.type !== 'string' &&
    // A free-text reason is ciphertext.
    JSON.stringify(field.type) !== '["null","bytes"]'
      ? [`${at} is a word that may get new values, so it must be a string`]
      : []),
    ...(/Minor$/.test(field.name) && !JSON.stringify(field.type).includes('"minor-units"')
      ? [`${at} is money, so it must be minor-units`]
      : []),
    ...(/At$|Until$/.test(field.name) && !JSON.stringify(field.type).includes('"timestamp-millis"')
      ? [`${at} is a time, so it must be timestamp-millis`]
      : []),
  ]),
]

test.each(RECORD_NAMES)('S1: %s explains itself and leaves room for new words', name =>
  expect(faultsOf(name, JSON.parse(canonicalSchema(name)))).toEqual([]),
)

test('S1: each fault of a schema is found, inner records included', () => {
  const inner = { type: 'record', name: 'I', fields: [{ name: 'code', type: ['null', 'int'], doc: 'x' }] }
  const schema = {
    type: 'record',
    name: 'R',
    doc: 'R.',
    fields: [
      { name: 'list', type: { type: 'array', items: inner }, doc: 'x' },
      { name: 'kind', type: { type: 'enum', name: 'E', symbols: ['A'] }, doc: ' ' },
      { name: 'amountMinor', type: 'long', doc: 'x' },
      { name: 'endedAt', type: 'long', doc: 'x' },
    ],
  }
  expect(faultsOf('R', schema)).toEqual([
    'R.list[] has no doc',
    'R.kind is an enum without default',
    'R.kind has no doc',
    'R.amountMinor is money, so it must be minor-units',
    'R.endedAt is a time, so it must be timestamp-millis',
    'R.list[].code is a word that may get new values, so it must be a string',
  ])
})

test.each(RECORD_NAMES)('%s goes to the registry as one line', name =>
  expect(canonicalSchema(name)).not.toMatch(/\n|": /),
)

test('every record has an Avro type of its full name', () => {
  for (const name of RECORD_NAMES) expect(avroType(name).name).toBe(name)
})

describe('money in Avro is exact or refused', () => {
  const typeOf = (type: unknown) =>
    avsc.Type.forSchema(type as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
  const money = typeOf({ type: 'long', logicalType: 'minor-units' })
  const long = typeOf('long')

  /** A long's bytes by the Avro specification (zigzag, then seven bits a byte), in exact arithmetic. */
  const bytesOf = (value: bigint): string => {
    const bytes: number[] = []
    let rest = value < 0n ? -2n * value - 1n : 2n * value
    for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
    return Buffer.from([...bytes, Number(rest)]).toString('hex')
  }

  // Unpatched avsc writes a number below -(2^52) as a positive one (mtth/avsc#455).
  const edges = [
    0n,
    63n,
    64n,
    2n ** 27n,
    2n ** 30n,
    2n ** 31n,
    2n ** 52n,
    5_000_000_000_000_000n,
    MAX_MINOR - 1n,
  ]
  test.each(
    [...edges, MAX_MINOR]
      .flatMap(edge => [edge, edge + 1n, -edge, -edge - 1n, 1n - edge])
      .filter(minor => minor <= MAX_MINOR && minor >= -MAX_MINOR),
  )('%d is the same after writing and reading', minor => {
    expect(money.toBuffer(minor).toString('hex')).toBe(bytesOf(minor))
    expect(money.fromBuffer(money.toBuffer(minor))).toBe(minor)
    // Readers in other languages see a plain long of the same value.
    expect(long.fromBuffer(money.toBuffer(minor))).toBe(Number(minor))
  })

  test.each([MAX_MINOR + 1n, -MAX_MINOR - 1n, 2n ** 63n])('%d is refused', minor =>
    expect(() => money.toBuffer(minor)).toThrow('pass 2^53'),
  )

  test.each([[5], [1.5], ['5'], [null], [undefined], [Number.NaN]])(
    '%j, which is no bigint, is refused',
    value => {
      expect(() => money.toBuffer(value)).toThrow('invalid')
      expect(money.isValid(value)).toBe(false)
    },
  )

  test('what another writer wrote as a plain long is read as money', () => {
    const resolver = money.createResolver(long)
    expect(money.fromBuffer(long.toBuffer(-1_250), resolver)).toBe(-1_250n)
    const again = money.createResolver(typeOf({ type: 'long', logicalType: 'minor-units' }))
    expect(money.fromBuffer(money.toBuffer(MAX_MINOR), again)).toBe(MAX_MINOR)
  })

  test.each(['string', 'double', 'boolean'])('a writer of %s is refused', other =>
    expect(() => money.createResolver(typeOf(other))).toThrow(),
  )

  test('a long that a number cannot hold is refused on reading, not rounded', () => {
    const beyond = Buffer.from('feffffffffffffffff01', 'hex') // 2^63 - 1, as another language may write it
    expect(() => money.fromBuffer(beyond)).toThrow('precision')
  })
})
