// Examples of records as they come: each text is one that its field has, amounts and balances add up, times follow each
// other. The frozen examples, which only cover every type of value, cannot be read as a story.
import { createHash } from 'node:crypto'
import avsc from 'avsc'
import type { RecordSchema } from './avro-words.ts'
import { AVRO_LOGICAL_TYPES } from './schemas.ts'

/** When the examples' requests were made, and when they were decided. */
export const REQUESTED_AT = Date.UTC(2026, 0, 15, 12)
export const DECIDED_AT = REQUESTED_AT + 180
const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
/** When things happen, from the request on; what is not listed is decided a moment later. */
const TIMES: Record<string, number> = {
  requestedAt: REQUESTED_AT,
  authenticatedAt: REQUESTED_AT - MINUTE_MS,
  expiresAt: REQUESTED_AT + 5 * MINUTE_MS,
  lockedUntil: REQUESTED_AT + 15 * MINUTE_MS,
  holdUntil: REQUESTED_AT + 7 * DAY_MS,
}

/** The texts of fields, by name, or by `Record.name` where records differ. */
const TEXTS: Record<string, string> = {
  action: 'send',
  addressHash: 'k1.9sT3mYq2cVfE4oZbXh0uTg',
  authenticatedBy: 'step_up',
  changed: 'url',
  code: 'PW-7K3M9Q2B',
  'CommandRefused.code': 'WALLET_NOT_FOUND',
  'TransferRejected.code': 'INSUFFICIENT_BALANCE',
  commandType: 'WalletFreezeRequested',
  currency: 'USD',
  data: '{"amount":"12.50","currency":"USD","code":"DEPOSIT_FAILED"}',
  detail: 'The wallet holds less than this amount.',
  'CommandRefused.detail': 'There is no such wallet.',
  eventTypes: 'transfer.completed',
  fields: 'fullName',
  how: 'changed',
  'SignupReplaced.how': 'signup',
  issuer: 'https://accounts.example.com',
  method: 'password',
  objectIds: '575ce9c4-3325-8704-80f9-ad4f1e1c3182',
  origin: 'https://hooks.example.com',
  previousRole: 'user',
  previousSource: 'self',
  previousTier: 'unverified',
  reason: 'voided',
  'ApiKeyRevoked.reason': 'revoked_by_user',
  'LoginFailed.reason': 'wrong_password',
  'MailBlocked.reason': 'bounced',
  'SessionRevoked.reason': 'logout',
  'WebhookChanged.reason': 'asked',
  requestId: '0f7c2a9e-4c1b-4f0e-9b53-2d1a6f0c8e11',
  role: 'moderator',
  route: '/v1/admin/wallets/:id',
  scopes: 'transfers:write',
  secret: 'eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSJ9..4c2k0yEo.Jx0s9w.9mYt3A',
  source: 'self',
  'HoldCaptureRequested.source': 'user',
  'HoldVoidRequested.source': 'user',
  'ReversalRequested.source': 'staff',
  'TransferReversed.source': 'staff',
  keeps: 'perTransaction',
  state: 'active',
  template: 'verify_email',
  tier: 'unverified',
  type: 'transfer',
  'HoldEnded.type': 'hold',
  'HoldPlaced.type': 'hold',
  'NoticeRequested.type': 'deposit_rejected',
  'LinkedTransfer.type': 'fee',
}

const digestOf = (text: string) => createHash('sha256').update(text).digest()

/** The same id for the same text, so that a record's ids agree with those of others. */
const idOf = (name: string): string => {
  const hex = digestOf(name).toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

const AMOUNT = 1_250n
const [SENDER, RECIPIENT] = [idOf('the wallet that pays'), idOf('the wallet that receives')]
const [PAYER, PAYEE] = [idOf('userId'), idOf('the user who receives')]

const entry = (
  walletId: string,
  userId: string,
  amountMinor: bigint,
  balanceAfterMinor: bigint,
  sequence: number,
) => ({ walletId, userId, currency: 'USD', amountMinor, balanceAfterMinor, sequence })

/** What must agree within a record. */
const STORIES: Record<string, Record<string, unknown>> = {
  TransferRequested: { fromWalletId: SENDER, toWalletId: RECIPIENT, holdUntil: null },
  TransferCompleted: {
    ...{ fromWalletId: SENDER, toWalletId: RECIPIENT, amountMinor: AMOUNT, commandId: null, holdMinor: null },
    entries: [entry(SENDER, PAYER, -AMOUNT, 8_750n, 7), entry(RECIPIENT, PAYEE, AMOUNT, 2_250n, 3)],
    linked: [],
  },
  TransferReversed: {
    ...{ fromWalletId: RECIPIENT, toWalletId: SENDER, amountMinor: AMOUNT, linked: [] },
    ...{ originalAmountMinor: AMOUNT, reversedMinor: AMOUNT, userId: idOf('a member of staff') },
    entries: [entry(RECIPIENT, PAYEE, -AMOUNT, 1_000n, 4), entry(SENDER, PAYER, AMOUNT, 10_000n, 8)],
  },
  TransferRejected: { fromWalletId: SENDER, toWalletId: RECIPIENT },
  HoldPlaced: { fromWalletId: SENDER, toWalletId: RECIPIENT },
  HoldEnded: { fromWalletId: SENDER, toWalletId: RECIPIENT },
  LimitChanged: { tier: null },
  LimitChangeRequested: { tier: null, perTransactionMinor: null, keeps: ['perTransaction'] },
}

type Schema = {
  type: string
  logicalType?: string
  name?: string
  items?: unknown
  fields?: Array<{ name: string; type: unknown }>
}

/** Throws, with the place where it belongs, where a text has no example. */
const exampleValue = (of: unknown, record: string, field: string): unknown => {
  if (Array.isArray(of))
    return exampleValue(
      of.find(branch => branch !== 'null'),
      record,
      field,
    )
  const schema = (typeof of === 'string' ? { type: of } : of) as Schema
  switch (schema.logicalType ?? schema.type) {
    case 'uuid':
      return field === 'walletId' ? SENDER : idOf(field)
    case 'timestamp-millis':
      return TIMES[field] ?? DECIDED_AT
    case 'minor-units':
      return AMOUNT
    case 'int':
    case 'long':
      return 7
    case 'boolean':
      return true
    case 'bytes':
      return digestOf(field).subarray(0, 16)
    case 'string': {
      const text = TEXTS[`${record}.${field}`] ?? TEXTS[field]
      if (text === undefined)
        throw new Error(`event-examples.ts: TEXTS needs an example of ${record}.${field}`)
      return text
    }
    case 'array':
      return [exampleValue(schema.items, record, field)]
    case 'record':
      return Object.fromEntries(
        schema.fields!.map(({ name, type }) => [name, exampleValue(type, schema.name!, name)]),
      )
    default:
      throw new Error(`event-examples.ts: no example of ${record}.${field}, of ${JSON.stringify(of)}`)
  }
}

/**
 * An example of a record in Avro's JSON encoding: a value of a union is an object that names its branch, and bytes are
 * a text with one character for each byte.
 */
export const exampleInAvroJson = (schema: RecordSchema): Record<string, unknown> => {
  const value = { ...(exampleValue(schema, '', '') as object), ...STORIES[schema.name] }
  const type = avsc.Type.forSchema(schema as unknown as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
  return JSON.parse(type.toString(value)) as Record<string, unknown>
}
