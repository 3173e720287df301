import { describe, expect, test } from 'vitest'
import { changeOf, logEntryOf } from './log-entry.ts'
import { examplesOf } from './schema-examples.ts'
import { type AnyRecord, canonicalSchema, RECORD_NAMES, type RecordName } from './schemas.ts'

const exampleOf = (type: RecordName): AnyRecord =>
  ({ type, value: examplesOf(JSON.parse(canonicalSchema(type)), type).full }) as AnyRecord
const entryOf = (type: RecordName, over: object = {}, headers: Record<string, string> = {}) => {
  const record = exampleOf(type)
  Object.assign(record.value, over)
  return logEntryOf(
    Object.entries(headers).map(([name, value]) => [name, Buffer.from(value)]),
    record,
  )
}
const [STAFF, OWNER] = ['11111111-1111-8111-8111-111111111111', '22222222-2222-8222-8222-222222222222']

/** Fields with an id of nothing that is searched for. */
const NO_SUBJECT = ['eventId']

test.each(RECORD_NAMES)('%s is found by every id in it', name => {
  const schema = JSON.parse(canonicalSchema(name))
  const isUuid = (type: unknown): boolean =>
    Array.isArray(type) ? type.some(isUuid) : (type as { logicalType?: string }).logicalType === 'uuid'
  const { value } = exampleOf(name)
  const ids = (schema.fields as Array<{ name: string; type: unknown }>)
    .filter(field => isUuid(field.type) && !NO_SUBJECT.includes(field.name))
    .map(field => (value as unknown as Record<string, unknown>)[field.name])
  const subjects = entryOf(name).subjects
  expect(subjects.map(({ id }) => id)).toEqual(expect.arrayContaining(ids))
  expect(new Set(subjects.map(({ kind, id }) => `${kind} ${id}`)).size).toBe(subjects.length)
})

test('the wallets, users and linked transfers of entries are subjects as well', () => {
  const { subjects } = entryOf('pennywire.ledger.TransferCompleted', {
    entries: [
      { walletId: OWNER, userId: null, sequence: 1 },
      { walletId: STAFF, userId: STAFF, sequence: 2 },
    ],
    linked: [{ transferId: OWNER, type: 'fee' }],
  })
  expect(subjects).toEqual(
    expect.arrayContaining([
      { kind: 'wallet', id: OWNER },
      { kind: 'user', id: STAFF },
      { kind: 'transfer', id: OWNER },
    ]),
  )
})

describe('who did it', () => {
  test.each<[string, RecordName, object, Record<string, string>, string | null]>([
    ['the header first', 'pennywire.ledger.TransferRequested', { userId: OWNER }, { actor: STAFF }, STAFF],
    ['staff, where the event names them', 'pennywire.identity.RoleChanged', { byUserId: STAFF }, {}, STAFF],
    ['else its user', 'pennywire.identity.PinSet', { userId: OWNER }, {}, OWNER],
    ['who asked the ledger', 'pennywire.ledger.WalletFrozen', { userId: STAFF, source: 'staff' }, {}, STAFF],
    ['nobody, for a timer', 'pennywire.ledger.HoldVoidRequested', { source: 'timer' }, {}, null],
    [
      'nobody, for the payment provider',
      'pennywire.ledger.TransferReversed',
      { source: 'provider' },
      {},
      null,
    ],
    ['nobody known, for a failed sign-in', 'pennywire.identity.LoginFailed', { userId: OWNER }, {}, null],
    ['nobody, where a header is no id', 'pennywire.identity.LoginFailed', {}, { actor: 'x; drop' }, null],
  ])('%s', (_what, type, over, headers, actor) => {
    expect(entryOf(type, over, headers).actorId).toBe(actor)
  })
})

test('headers of any bytes become nothing, never an error', () => {
  for (const text of ['\0', 'a'.repeat(10_000), 'x y', '', '\ud800']) {
    const names = ['ce_type', 'request_id', 'actor', 'actor_role', 'actor_key', 'address_hash', 'traceparent']
    expect(
      logEntryOf(
        names.map(name => [name, Buffer.from(text)]),
        null,
      ),
    ).toEqual({
      ...{ action: 'unknown', actorId: null, actorRole: null, actorKey: null, requestId: null },
      ...{ traceId: null, addressHash: null, refusal: null, subjects: [] },
    })
  }
})

test('a record that nobody can decode is found by its headers; of repeated ones the last counts', () => {
  const entry = logEntryOf(
    [
      ['ce_type', Buffer.from('pennywire.ledger.Later')],
      ['request_id', Buffer.from('first')],
      ['request_id', Buffer.from('last')],
      ['traceparent', Buffer.from(`00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`)],
    ],
    null,
  )
  expect(entry).toMatchObject({ action: 'Later', requestId: 'last', traceId: 'a'.repeat(32) })
})

test('what staff were shown is of the kind that the route says, and of the kind that a search states', () => {
  const view = (route: string, objectIds: string[]) =>
    entryOf('pennywire.identity.StaffViewed', { route, objectIds, userId: STAFF }).subjects
  expect(view('/v1/admin/wallets/:id', [OWNER])).toContainEqual({ kind: 'wallet', id: OWNER })
  expect(view('/v1/admin/users', [OWNER])).toContainEqual({ kind: 'user', id: OWNER })
  expect(
    view('/v1/admin/audit-logs', [`transfer:${OWNER}`, 'ledger.events/0/1/2', `x:${OWNER}`, OWNER]),
  ).toEqual([
    { kind: 'user', id: STAFF },
    { kind: 'transfer', id: OWNER },
  ])
})

test.each<[RecordName, object, string | null]>([
  ['pennywire.ledger.TransferRejected', { code: 'WALLET_FROZEN' }, 'WALLET_FROZEN'],
  ['pennywire.ledger.CommandRefused', { code: 'NOT_REVERSIBLE' }, 'NOT_REVERSIBLE'],
  ['pennywire.identity.RequestsRefused', { code: '' }, 'several'],
  ['pennywire.identity.LoginFailed', { reason: 'wrong_password' }, 'wrong_password'],
  ['pennywire.identity.PinFailed', {}, 'INVALID_PIN'],
  ['pennywire.ledger.TransferRejected', { code: 'a code\0' }, null],
  ['pennywire.ledger.TransferCompleted', {}, null],
])('%s with %j is refused as %s', (type, over, refusal) => {
  expect(entryOf(type, over).refusal).toBe(refusal)
})

test('records that change something say what was before', () => {
  const changed = RECORD_NAMES.filter(name => changeOf(exampleOf(name)) !== null)
  expect(changed.map(name => name.split('.').at(-1))).toEqual([
    ...['AccountDeactivated', 'AccountReactivated', 'MailBlocked', 'MailUnblocked', 'RoleChanged'],
    ...['SecondFactorDisabled', 'SecondFactorEnabled', 'LimitChanged', 'WalletClosed', 'WalletFrozen'],
    'WalletUnfrozen',
  ])
})
