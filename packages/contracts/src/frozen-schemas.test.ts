import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import avsc from 'avsc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  currentSchemas,
  FREEZE_COMMAND,
  FROZEN,
  freeze,
  frozenFaults,
  loadFrozen,
  standingOf,
} from './frozen-schemas.ts'
import type { RecordSchema } from './schema-compatibility.ts'
import { AVRO_LOGICAL_TYPES, avroType, RECORD_NAMES, type RecordName } from './schemas.ts'

const frozen = loadFrozen(FROZEN)
const typeOf = (schema: RecordSchema) =>
  avsc.Type.forSchema(schema as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })

/** An Avro default converted to a value: a default of type bytes is written as text, of money as a number. */
const defaultOf = (type: unknown, fallback: unknown): unknown => {
  if (type === 'bytes') return Buffer.from(fallback as string, 'latin1')
  return (type as { logicalType?: string }).logicalType === 'minor-units'
    ? BigInt(fallback as number)
    : fallback
}

/** The value that a reader of `schema` decodes from another version's: unknown members dropped, missing defaulted. */
const asReadBy = (schema: unknown, value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(item => asReadBy((schema as { items: unknown }).items, item))
  const { fields } = schema as Partial<RecordSchema>
  if (!fields) return value
  const members = value as Record<string, unknown>
  return Object.fromEntries(
    fields.map(({ name, type, default: fallback }) => [
      name,
      name in members ? asReadBy(type, members[name]) : defaultOf(type, fallback),
    ]),
  )
}

describe('S1: what was ever sent stays readable', () => {
  test('the frozen files are as they were frozen', () => expect(frozenFaults(FROZEN)).toEqual([]))

  test('the versions of each record have no hole', () => {
    for (const { name } of currentSchemas()) {
      const versions = frozen.filter(one => one.name === name).map(({ version }) => version)
      expect(versions, name).toEqual(versions.map((_, index) => index + 1))
    }
  })

  test.each(currentSchemas().map(schema => [schema.name, schema] as const))(
    '%s is what its newest frozen version says, and readers of all of them can live with it',
    (_name, schema) => {
      expect(standingOf(schema, frozen), `mend the schema, or run ${FREEZE_COMMAND}`).toEqual({
        kind: 'frozen',
      })
    },
  )

  test('a record that was ever sent still has a schema', () => {
    const names = currentSchemas().map(({ name }) => name)
    for (const { name } of frozen) expect(names).toContain(name)
  })

  test.each(frozen.map(version => [`${version.name} v${version.version}`, version] as const))(
    'the examples of %s are read by this code, and were written as they say',
    (_name, { name, schema, examples }) => {
      const writer = typeOf(schema)
      const current = currentSchemas().find(one => one.name === name)!
      const reader = avroType(`${current.namespace}.${name}` as RecordName)
      expect(examples.length).toBe(2)
      for (const { value, bytes } of examples) {
        expect(writer.toBuffer(value).equals(bytes)).toBe(true)
        // avsc returns an instance of a class of its own: compare only its members.
        expect({ ...(reader.fromBuffer(bytes, reader.createResolver(writer)) as object) }).toMatchObject(
          asReadBy(current, value) as object,
        )
      }
    },
  )
})

describe('freezing', () => {
  let root: string
  let directory: URL
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'frozen-'))
    directory = pathToFileURL(`${root}/`)
  })
  afterEach(() => rmSync(root, { recursive: true }))

  const schema = (...more: object[]) =>
    ({
      type: 'record',
      name: 'Moved',
      namespace: 'pennywire.test',
      doc: 'One.',
      fields: [{ name: 'id', type: 'string' }, ...more],
    }) as unknown as RecordSchema
  const money = { name: 'amountMinor', type: { type: 'long', logicalType: 'minor-units' }, default: 5 }

  test('adds a version where the schema changed, and only there', () => {
    expect(freeze([schema()], directory)).toEqual({ added: ['Moved v1'], refused: [] })
    expect(freeze([schema()], directory)).toEqual({ added: [], refused: [] })
    expect(freeze([{ ...schema(), doc: 'Other words.' }], directory)).toEqual({ added: [], refused: [] })
    expect(freeze([schema(money)], directory)).toEqual({ added: ['Moved v2'], refused: [] })
    expect(loadFrozen(directory).map(({ version, schema: { fields } }) => [version, fields.length])).toEqual([
      [1, 1],
      [2, 2],
    ])
    expect(frozenFaults(directory)).toEqual([])
  })

  test('an old example is read by a newer schema with its defaults', () => {
    freeze([schema()], directory)
    const [first] = loadFrozen(directory)
    const newer = schema(money, { name: 'digest', type: 'bytes', default: 'ÿ' })
    const reader = typeOf(newer)
    const resolver = reader.createResolver(typeOf(first!.schema))
    const read = reader.fromBuffer(first!.examples[0]!.bytes, resolver) as object
    expect({ ...read }).toEqual(asReadBy(newer, first!.examples[0]!.value))
    expect({ ...read }).toEqual({ id: 'the id', amountMinor: 5n, digest: Buffer.from([0xff]) })
  })

  test('S1: refuses what breaks any version, names the field and the version, and writes nothing at all', () => {
    const optional = { name: 'note', type: ['null', 'string'], default: null }
    freeze([schema(optional)], directory)
    freeze([schema()], directory)
    // Compatible with v2, which has no note, but not with v1.
    const other = schema({ name: 'note', type: 'bytes', default: '' })
    const { added, refused } = freeze([{ ...schema(), name: 'Another' }, other], directory)
    expect(added).toEqual([])
    expect(refused).toContain('Moved.note was "union" and is "bytes" (v1)')
    expect(existsSync(new URL('Another/', directory))).toBe(false)
  })

  test('S1: a frozen file that was removed, changed or put there by hand is noticed, and nothing is added', () => {
    freeze([schema()], directory)
    freeze([schema(money)], directory)
    const faultsAfter = (change: (copy: string) => void) => {
      const copy = mkdtempSync(join(tmpdir(), 'frozen-'))
      try {
        cpSync(root, copy, { recursive: true })
        change(copy)
        const { added, refused } = freeze(
          [schema(money), { ...schema(), name: 'New' }],
          pathToFileURL(`${copy}/`),
        )
        expect(added).toEqual([])
        return refused
      } finally {
        rmSync(copy, { recursive: true })
      }
    }
    expect(faultsAfter(copy => rmSync(join(copy, 'Moved/v2.example.json')))).toEqual([
      'Moved/v2.example.json was removed',
    ])
    expect(faultsAfter(copy => rmSync(join(copy, 'Moved'), { recursive: true }))).toHaveLength(4)
    expect(faultsAfter(copy => appendFileSync(join(copy, 'Moved/v1.avsc'), '\n'))).toEqual([
      'Moved/v1.avsc was changed',
    ])
    const edit = (copy: string) => {
      const file = join(copy, 'Moved/v1.example.json')
      writeFileSync(file, readFileSync(file, 'utf8').replace('the id', 'an id'))
    }
    expect(faultsAfter(edit)).toEqual(['Moved/v1.example.json was changed'])
    expect(faultsAfter(copy => cpSync(join(copy, 'Moved/v1.avsc'), join(copy, 'Moved/v3.avsc')))).toEqual([
      `Moved/v3.avsc was not frozen by ${FREEZE_COMMAND}`,
    ])
  })

  test('S1: a schema ahead of its newest frozen version is told to be frozen', () => {
    freeze([schema()], directory)
    expect(standingOf(schema(money), loadFrozen(directory))).toEqual({ kind: 'to be frozen', version: 2 })
  })
})

test('every record has another short name, by which it is frozen', () => {
  const names = RECORD_NAMES.map(name => name.split('.').at(-1))
  expect(new Set(names).size).toBe(names.length)
})
