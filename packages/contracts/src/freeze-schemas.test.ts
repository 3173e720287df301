// The gate `npm run schemas:freeze`, run on a copy of this package whose schemas a developer changes.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import avsc from 'avsc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadFrozen } from './frozen-schemas.ts'
import { AVRO_LOGICAL_TYPES } from './schemas.ts'

const original = join(import.meta.dirname, '..')
const NEWEST = loadFrozen(pathToFileURL(`${original}/frozen/`)).findLast(
  ({ name }) => name === 'TransferCompleted',
)!

let copy: string
beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), 'contracts-'))
  for (const folder of ['events', 'frozen', 'src', 'package.json'])
    cpSync(join(original, folder), join(copy, folder), { recursive: true })
  symlinkSync(join(original, 'node_modules'), join(copy, 'node_modules'))
})
afterEach(() => rmSync(copy, { recursive: true }))

type Field = { name: string; type: unknown; doc?: string; default?: unknown }
type Schema = { fields: Field[] }
const entriesOf = ({ fields }: Schema): Schema =>
  (fields.find(({ name }) => name === 'entries')!.type as { items: Schema }).items
const fieldOf = ({ fields }: Schema, name: string): Field => fields.find(field => field.name === name)!

/** Changes TransferCompleted in the copy, and runs the command there. */
const freezeAfter = (change: (schema: Schema) => void) => {
  const file = join(copy, 'events', 'TransferCompleted.avsc')
  const schema = JSON.parse(readFileSync(file, 'utf8')) as Schema
  change(schema)
  writeFileSync(file, JSON.stringify(schema))
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(copy, 'src', 'freeze-schemas.ts')], {
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

const next = `v${NEWEST.version + 1}`

test('S1: an unchanged schema passes, and nothing is frozen', () => {
  expect(freezeAfter(() => {})).toEqual({ status: 0, stdout: 'no schema has changed\n', stderr: '' })
})

test('S1: a field with a default passes, and old and new consumers read both versions', () => {
  const result = freezeAfter(schema => {
    schema.fields.unshift({ name: 'channel', type: 'string', doc: 'Added.', default: 'app' })
    entriesOf(schema).fields.push({ name: 'memo', type: ['null', 'string'], doc: 'Added.', default: null })
  })
  expect(result).toEqual({ status: 0, stdout: `frozen: TransferCompleted ${next}\n`, stderr: '' })

  const versions = loadFrozen(pathToFileURL(`${copy}/frozen/`)).filter(
    ({ name }) => name === 'TransferCompleted',
  )
  expect(versions.map(({ version }) => version)).toEqual(
    [...Array(NEWEST.version + 1).keys()].map(n => n + 1),
  )
  const typeOf = (schema: object) =>
    avsc.Type.forSchema(schema as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
  const newer = versions.at(-1)!
  type Value = { channel?: string; entries: { sequence: number; memo?: string | null }[] }
  for (const older of versions.slice(0, -1)) {
    const [before, now] = [typeOf(older.schema), typeOf(newer.schema)]
    for (const { value, bytes } of older.examples) {
      // A new consumer reads what an old producer wrote: the added fields have their defaults.
      const read = now.fromBuffer(bytes, now.createResolver(before)) as Value
      expect(read.channel).toBe('app')
      expect(read.entries.map(({ sequence, memo }) => [sequence, memo])).toEqual(
        (value as Value).entries.map(({ sequence }) => [sequence, null]),
      )
    }
    for (const { value, bytes } of newer.examples) {
      // An old consumer reads what a new producer writes: it does not see the added fields.
      const read = before.fromBuffer(bytes, before.createResolver(now)) as Value
      expect(read).not.toHaveProperty('channel')
      expect(read.entries.map(({ sequence }) => sequence)).toEqual(
        (value as Value).entries.map(({ sequence }) => sequence),
      )
      for (const entry of read.entries) expect(entry).not.toHaveProperty('memo')
    }
  }
  expect(newer.examples.some(({ value }) => (value as Value).entries.length > 0)).toBe(true)
})

describe('S1: a change that breaks a reader is refused with the name of its field', () => {
  test.each<[string, (schema: Schema) => void, string]>([
    [
      'a field without a default',
      ({ fields }) => fields.push({ name: 'channel', type: 'string', doc: 'Added.' }),
      'TransferCompleted.channel is new and has no default for old records',
    ],
    [
      'a field of an entry taken away',
      schema => {
        const entries = entriesOf(schema)
        entries.fields = entries.fields.filter(({ name }) => name !== 'sequence')
      },
      'TransferCompleted.entries[].sequence is gone, and an old reader has no default for it',
    ],
    [
      'a field renamed',
      schema => {
        fieldOf(schema, 'amountMinor').name = 'amount'
      },
      'TransferCompleted.amountMinor is gone',
    ],
    [
      'an amount in another unit',
      schema => {
        fieldOf(entriesOf(schema), 'balanceAfterMinor').type = 'long'
      },
      'TransferCompleted.entries[].balanceAfterMinor was "long minor-units" and is "long"',
    ],
    [
      'another default',
      schema => {
        fieldOf(schema, 'linked').default = [{ transferId: '', type: '' }]
      },
      'TransferCompleted.linked has another default',
    ],
  ])('%s', (_what, change, message) => {
    const before = readFileSync(join(copy, 'frozen', 'SHA256SUMS'), 'utf8')
    const { status, stdout, stderr } = freezeAfter(change)
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toContain(`refused: ${message}`)
    expect(readFileSync(join(copy, 'frozen', 'SHA256SUMS'), 'utf8')).toBe(before)
    expect(existsSync(join(copy, 'frozen', 'TransferCompleted', `${next}.avsc`))).toBe(false)
  })
})
