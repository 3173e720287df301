import { FROZEN, loadFrozen } from '@pennywire/contracts/frozen-schemas.ts'
import { isIdentityEvent, isLedgerEvent } from '@pennywire/contracts/schemas.ts'
import { describe, expect, test } from 'vitest'
import { createDecoder, exactType, isKnown } from './decode.ts'
import { UnusableEvent } from './events.ts'
import { SCHEMAS } from './generated/events.ts'

const framed = (id: number, payload: Buffer) => {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(id, 1)
  return Buffer.concat([prefix, payload])
}
const COMPLETED = 'pennywire.ledger.TransferCompleted'
const schema = SCHEMAS[COMPLETED] as { fields: { name: string; type: unknown }[] }

const transfer = (entries: object[], more: object = {}) => ({
  ...{
    transferId: 'id',
    type: 'transfer',
    userId: 'u',
    fromWalletId: null,
    toWalletId: null,
    amountMinor: 1n,
  },
  ...{ currency: 'USD', fingerprint: Buffer.alloc(16), requestedAt: 1, completedAt: 2, note: null },
  ...{ metadata: null, commandId: null, commandFingerprint: null, holdMinor: null, linked: [], entries },
  ...more,
})
const entry = (balanceAfterMinor: bigint, sequence: unknown = 1) => ({
  ...{ walletId: 'w', userId: null, currency: 'USD', amountMinor: -1n, balanceAfterMinor, sequence },
})

describe('amounts are exact to 64 bits', () => {
  const type = exactType(schema)
  const decode = createDecoder(async () => schema)
  test.each([
    0n,
    2n ** 52n + 1n,
    -(2n ** 52n) - 1n,
    2n ** 53n + 1n,
    -(2n ** 53n) - 1n,
    2n ** 63n - 1n,
    -(2n ** 63n),
  ])('%s', async amount => {
    const bytes = framed(1, type.toBuffer(transfer([entry(amount)])))
    const decoded = await decode(bytes)
    expect(decoded).toMatchObject({ type: COMPLETED, value: { entries: [{ balanceAfterMinor: amount }] } })
  })

  test('a count that no number holds is refused, not rounded', async () => {
    const all = JSON.parse(
      JSON.stringify(schema).replaceAll(
        '"name":"sequence","type":"long"',
        '"name":"sequence","type":{"type":"long","logicalType":"minor-units"}',
      ),
    )
    const bytes = framed(1, exactType(all).toBuffer(transfer([entry(1n, 2n ** 53n)])))
    await expect(decode(bytes)).rejects.toThrow(/9007199254740992 is no exact number/)
  })
})

test('every version of every event that was ever sent is read, with defaults for the fields that it lacks', async () => {
  const versions = loadFrozen(FROZEN).filter(({ schema: { namespace, name } }) => {
    const full = `${namespace}.${name}`
    return isLedgerEvent(full) || isIdentityEvent(full)
  })
  expect(new Set(versions.map(({ schema: { namespace, name } }) => `${namespace}.${name}`))).toEqual(
    new Set(Object.keys(SCHEMAS)),
  )
  for (const { schema: written, name, examples } of versions) {
    const decode = createDecoder(async () => written)
    for (const { bytes, value } of examples) {
      const decoded = await decode(framed(1, bytes))
      expect(decoded?.type.endsWith(`.${name}`)).toBe(true)
      expect(isKnown(decoded?.type)).toBe(true)
      expect(decoded?.value).toMatchObject(value)
      const fields = (SCHEMAS[decoded!.type] as typeof schema).fields.map(field => field.name)
      expect(Object.keys(decoded!.value).sort()).toEqual(fields.sort())
    }
  }
})

test('a later version’s fields are passed over; a type that is unknown gives nothing', async () => {
  const later = structuredClone(schema)
  later.fields.unshift({ name: 'added', type: 'string' })
  const bytes = framed(7, exactType(later).toBuffer(transfer([entry(5n)], { added: 'new' })))
  const decoded = await createDecoder(async () => later)(bytes)
  expect(decoded?.value).toEqual(transfer([entry(5n)]))
  const other = { type: 'record', name: 'Unheard', namespace: 'pennywire.ledger', fields: [] }
  expect(await createDecoder(async () => other)(framed(1, Buffer.from([1])))).toBeUndefined()
})

test('bytes that are no record, or not what their schema says, are unusable; a registry that is away is not', async () => {
  const decode = createDecoder(async () => schema)
  await expect(decode(Buffer.from('of no schema'))).rejects.toThrow(UnusableEvent)
  await expect(decode(framed(1, Buffer.from([200])))).rejects.toThrow(UnusableEvent)
  let asked = 0
  const flaky = createDecoder(async () => {
    if (++asked === 1) throw new Error('away')
    return schema
  })
  const bytes = framed(1, exactType(schema).toBuffer(transfer([])))
  await expect(flaky(bytes)).rejects.toThrow('away')
  await flaky(bytes)
  await flaky(bytes)
  expect(asked).toBe(2)
})
