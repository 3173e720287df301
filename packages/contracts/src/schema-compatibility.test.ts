import avsc from 'avsc'
import { describe, expect, test } from 'vitest'
import { incompatibilities, type RecordSchema } from './schema-compatibility.ts'

const record = (...fields: object[]) =>
  ({ type: 'record', name: 'Moved', namespace: 'pennywire.test', fields }) as unknown as RecordSchema

const id = { name: 'id', type: 'string' }
const field = (type: unknown, rest: object = {}) => record(id, { name: 'it', type, ...rest })
const kind = (symbols: string[], rest: object = {}) => ({ type: 'enum', name: 'Kind', symbols, ...rest })
const entries = (name: string, ...fields: object[]) => ({
  type: 'array',
  items: { type: 'record', name, namespace: 'pennywire.test', fields },
})
const millis = { type: 'long', logicalType: 'timestamp-millis' }
const money = { type: 'long', logicalType: 'minor-units' }

/** Whether Avro's own resolution accepts the pair in both directions. */
const avroAlone = (older: RecordSchema, newer: RecordSchema): 'passes' | 'refuses' => {
  try {
    const [before, now] = [older, newer].map(schema => avsc.Type.forSchema(schema as avsc.Schema))
    now!.createResolver(before!)
    before!.createResolver(now!)
    return 'passes'
  } catch {
    return 'refuses'
  }
}

describe('S1: a change that breaks a reader is refused, and the field is named', () => {
  test.each<[string, RecordSchema, RecordSchema, string, 'passes' | 'refuses']>([
    [
      'a new field without default',
      record(id),
      field('string'),
      'Moved.it is new and has no default',
      'refuses',
    ],
    ['a field taken away', field('string'), record(id), 'Moved.it is gone', 'refuses'],
    [
      'a field renamed',
      field('string'),
      record(id, { name: 'that', type: 'string' }),
      'Moved.it is gone',
      'refuses',
    ],
    ['another type', field('string'), field('int'), 'Moved.it was "string" and is "int"', 'refuses'],
    ['a wider number', field('int'), field('long'), 'Moved.it was "int" and is "long"', 'refuses'],
    ['text become bytes', field('string'), field('bytes'), 'Moved.it was "string" and is "bytes"', 'passes'],
    [
      'a time in another unit',
      field(millis),
      field({ type: 'long', logicalType: 'timestamp-micros' }),
      'Moved.it was "long timestamp-millis"',
      'passes',
    ],
    ['money become a number', field(money), field('long'), 'Moved.it was "long minor-units"', 'passes'],
    [
      'an id become any text',
      field({ type: 'string', logicalType: 'uuid' }),
      field('string'),
      'Moved.it',
      'passes',
    ],
    ['null no longer allowed', field(['null', 'int']), field('int'), 'Moved.it was "union"', 'refuses'],
    ['null allowed', field('int'), field(['null', 'int']), 'Moved.it was "int" and is "union"', 'refuses'],
    [
      'one more branch',
      field(['null', 'string']),
      field(['null', 'string', 'int']),
      'may now be "int"',
      'refuses',
    ],
    [
      'a branch that avsc reads as text',
      field(['null', 'string']),
      field(['null', 'string', 'bytes']),
      'may now be "bytes"',
      'passes',
    ],
    [
      'a branch taken away',
      field(['null', 'string', 'int']),
      field(['null', 'string']),
      'may no longer be "int"',
      'refuses',
    ],
    [
      'another default',
      field('string', { default: 'a' }),
      field('string', { default: 'b' }),
      'Moved.it has another default',
      'passes',
    ],
    [
      'a symbol without default',
      field(kind(['A'])),
      field(kind(['A', 'B'])),
      'Moved.it got the symbol B',
      'refuses',
    ],
    [
      'a symbol taken away, even with a default',
      field(kind(['A', 'B'], { default: 'A' })),
      field(kind(['A'], { default: 'A' })),
      'Moved.it lost the symbol B',
      'passes',
    ],
    [
      'another default symbol',
      field(kind(['A', 'B'], { default: 'A' })),
      field(kind(['A', 'B'], { default: 'B' })),
      'Moved.it has another default symbol',
      'passes',
    ],
    [
      'other items',
      field({ type: 'array', items: 'string' }),
      field({ type: 'array', items: 'bytes' }),
      'Moved.it[] was "string"',
      'passes',
    ],
    [
      'other values',
      field({ type: 'map', values: 'string' }),
      field({ type: 'map', values: 'bytes' }),
      'Moved.it{} was "string"',
      'passes',
    ],
    [
      'an inner field without default',
      field(entries('Entry', id)),
      field(entries('Entry', id, { name: 'more', type: 'int' })),
      'Moved.it[].more is new',
      'refuses',
    ],
    [
      'an inner record renamed',
      field(entries('Entry', id)),
      field(entries('Line', id)),
      'Moved.it[] was "record pennywire.test.Entry"',
      'refuses',
    ],
    [
      'the record renamed',
      record(id),
      { ...record(id), name: 'Sent' },
      'Moved was "record pennywire.test.Moved"',
      'refuses',
    ],
    [
      'the record in another namespace',
      record(id),
      { ...record(id), namespace: 'x' },
      'and is "record x.Moved"',
      'refuses',
    ],
  ])('%s', (_what, older, newer, reason, alone) => {
    expect(incompatibilities(older, newer).join('\n')).toContain(reason)
    // Where Avro alone accepts the change, only this check protects the readers.
    expect(avroAlone(older, newer)).toBe(alone)
  })

  test('a wrong default is found by Avro itself', () => {
    const wrong = field(['null', 'string'], { default: 'not null' })
    expect(incompatibilities(record(id), wrong)).toEqual([expect.stringContaining('not null')])
  })

  test('every broken field is named, not only the first', () => {
    const newer = record({ name: 'one', type: 'int' }, { name: 'two', type: 'int' })
    expect(incompatibilities(record(id), newer)).toHaveLength(3)
  })
})

describe('a change that both sides can live with is allowed', () => {
  test.each<[string, RecordSchema, RecordSchema]>([
    ['nothing', field(money), field(money)],
    ['a new field with a default', record(id), field('string', { default: '' })],
    ['a new optional field', record(id), field(['null', money], { default: null })],
    ['a field with a default taken away', field(['null', 'string'], { default: null }), record(id)],
    ['a default where there was none', field('string'), field('string', { default: '' })],
    ['other words in a doc', field('string', { doc: 'a' }), field('string', { doc: 'b' })],
    [
      'another order of the fields',
      record(id, { name: 'it', type: 'int' }),
      record({ name: 'it', type: 'int' }, id),
    ],
    [
      'a new symbol where readers have a default',
      field(kind(['A'], { default: 'A' })),
      field(kind(['A', 'B'], { default: 'A' })),
    ],
    [
      'an inner field with a default',
      field(entries('Entry', id)),
      field(entries('Entry', id, { name: 'more', type: 'int', default: 0 })),
    ],
  ])('%s', (_what, older, newer) => {
    expect(incompatibilities(older, newer)).toEqual([])
    expect(avroAlone(older, newer)).toBe('passes')
  })
})
