// What the audit log finds a record by, and states of it. The audit service writes its index with this, and the gateway
// shows with it what a record says: never what the index says.
import type { AnyRecord } from './schemas.ts'

/** The kinds of things that records are about. */
/** The action of a record that cannot be decoded. */
export const UNKNOWN_ACTION = 'unknown'

export const SUBJECT_KINDS = [
  'user',
  'wallet',
  'transfer',
  'command',
  'session',
  'apiKey',
  'webhook',
] as const
export type SubjectKind = (typeof SUBJECT_KINDS)[number]
export type Subject = { kind: SubjectKind; id: string }

export type LogEntry = {
  /** The record's name without its namespace; `unknown` where no header of ours states one. */
  action: string
  /** Who did it: a user or a member of staff; null: the system, or unknown. */
  actorId: string | null
  /** Their highest role then. Records of a version before do not state it. */
  actorRole: string | null
  /** The API key by which they did. */
  actorKey: string | null
  requestId: string | null
  traceId: string | null
  addressHash: string | null
  /** Of a refusal: its code. */
  refusal: string | null
  /** Everything that it names, each once. */
  subjects: Subject[]
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const KIND_OF_FIELD: Readonly<Record<string, SubjectKind>> = {
  userId: 'user',
  ownerId: 'user',
  toUserId: 'user',
  byUserId: 'user',
  walletId: 'wallet',
  fromWalletId: 'wallet',
  toWalletId: 'wallet',
  transferId: 'transfer',
  originalId: 'transfer',
  // A hold is a transfer that is not booked yet, under the same id.
  holdId: 'transfer',
  commandId: 'command',
  sessionId: 'session',
  keyId: 'apiKey',
  replacesKeyId: 'apiKey',
  webhookId: 'webhook',
}
/** Maximum ids of one record: of a list that staff were shown there are a hundred. */
const MOST_SUBJECTS = 400

/** What the ids that staff were shown are of, by the route. */
const KIND_OF_ROUTE: ReadonlyArray<[beginning: string, kind: SubjectKind]> = [
  ['/v1/admin/users', 'user'],
  ['/v1/admin/wallets', 'wallet'],
  ['/v1/admin/transfers', 'transfer'],
  ['/v1/admin/holds', 'transfer'],
  ['/v1/admin/webhooks', 'webhook'],
]

/** Events about an account that its user need not have caused. */
const NOT_BY_ITS_USER = new Set([
  'LoginFailed',
  'MailBlocked',
  'SignupReplaced',
  'MailRequested',
  'NoticeRequested',
])
/** Where a command or event was not asked for by a person: a timer, the payment provider, the rule about PINs. */
const NOT_BY_A_PERSON = new Set(['timer', 'provider', 'pin', 'kyc'])

/** Events that are a refusal themselves, by the code with which the request was answered. */
const REFUSALS: Readonly<Record<string, string>> = {
  PinFailed: 'INVALID_PIN',
  PinLocked: 'PIN_LOCKED',
  SecondFactorFailed: '2FA_INVALID',
  SecondFactorLocked: '2FA_LOCKED',
}

const addSubjects = (value: Record<string, unknown>, to: Map<string, Subject>): void => {
  const add = (kind: SubjectKind, id: unknown) => {
    if (typeof id !== 'string' || !UUID.test(id) || to.size >= MOST_SUBJECTS) return
    to.set(`${kind} ${id}`, { kind, id })
  }
  for (const [name, field] of Object.entries(value)) {
    const kind = KIND_OF_FIELD[name]
    if (kind) add(kind, field)
    // Entries, and linked transfers.
    else if (Array.isArray(field))
      for (const item of field)
        if (typeof item === 'object' && item !== null) addSubjects(item as Record<string, unknown>, to)
  }
  if (typeof value.route === 'string' && Array.isArray(value.objectIds)) {
    const kind = KIND_OF_ROUTE.find(([beginning]) => (value.route as string).startsWith(beginning))?.[1]
    for (const objectId of value.objectIds) {
      // The search of the audit log states the kind of what was searched for.
      const [, named, id] = /^([A-Za-z]+):(.+)$/.exec(String(objectId)) ?? []
      const ofKind = SUBJECT_KINDS.find(one => one === named) ?? kind
      if (ofKind) add(ofKind, id ?? objectId)
    }
  }
}

const refusalOf = (action: string, value: Record<string, unknown>): string | null => {
  if (REFUSALS[action]) return REFUSALS[action]
  const code =
    action === 'TransferRejected' || action === 'CommandRefused' || action === 'RequestsRefused'
      ? value.code
      : action === 'LoginFailed'
        ? value.reason
        : null
  if (code === '') return 'several'
  return typeof code === 'string' && /^[A-Za-z0-9_]{1,64}$/.test(code) ? code : null
}

/**
 * What a record states of itself, by its headers (in the order received) and its decoded value; null where no schema of
 * this version reads it. The result fits the columns of the index for headers of any bytes.
 */
export const logEntryOf = (
  headers: ReadonlyArray<readonly [name: string, value: Buffer]>,
  record: AnyRecord | null,
): LogEntry => {
  const header = (name: string, form: RegExp): string | null => {
    const text = headers.findLast(([found]) => found === name)?.[1].toString('utf8')
    return text !== undefined && form.test(text) ? text : null
  }
  const type = record?.type ?? header('ce_type', /^pennywire\.[a-z]{1,32}\.[A-Za-z]{1,64}$/)
  const action = type?.slice(type.lastIndexOf('.') + 1) ?? UNKNOWN_ACTION
  const value = (record?.value ?? {}) as unknown as Record<string, unknown>
  const subjects = new Map<string, Subject>()
  addSubjects(value, subjects)
  const byItself =
    NOT_BY_ITS_USER.has(action) || NOT_BY_A_PERSON.has(String(value.source)) ? null : value.userId
  const actorId = header('actor', UUID) ?? value.byUserId ?? byItself ?? null
  return {
    action,
    actorId: typeof actorId === 'string' && UUID.test(actorId) ? actorId : null,
    actorRole:
      header('actor_role', /^[a-z_]{1,32}$/) ??
      (typeof value.role === 'string' && action === 'RequestsRefused' ? value.role : null),
    actorKey: header('actor_key', UUID),
    requestId:
      header('request_id', /^[A-Za-z0-9._-]{1,128}$/) ??
      (typeof value.requestId === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(value.requestId)
        ? value.requestId
        : null),
    traceId: header('traceparent', /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)?.slice(3, 35) ?? null,
    addressHash:
      header('address_hash', /^[A-Za-z0-9._-]{1,128}$/) ??
      (typeof value.addressHash === 'string' && /^[A-Za-z0-9._-]{1,128}$/.test(value.addressHash)
        ? value.addressHash
        : null),
    refusal: refusalOf(action, value),
    subjects: [...subjects.values()],
  }
}

/** What a record says of something before and after; null where it changes nothing, or says only one of both. */
export const changeOf = (
  record: AnyRecord,
): { before: Record<string, unknown>; after: Record<string, unknown> } | null => {
  switch (record.type) {
    case 'pennywire.identity.RoleChanged':
      return { before: { role: record.value.previousRole }, after: { role: record.value.role } }
    case 'pennywire.identity.AccountDeactivated':
      return { before: { disabled: false }, after: { disabled: true } }
    case 'pennywire.identity.AccountReactivated':
      return { before: { disabled: true }, after: { disabled: false } }
    case 'pennywire.identity.SecondFactorEnabled':
      return { before: { secondFactor: false }, after: { secondFactor: true } }
    case 'pennywire.identity.SecondFactorDisabled':
      return { before: { secondFactor: true }, after: { secondFactor: false } }
    case 'pennywire.identity.MailBlocked':
      return { before: { mailBlocked: false }, after: { mailBlocked: true } }
    case 'pennywire.identity.MailUnblocked':
      return { before: { mailBlocked: true }, after: { mailBlocked: false } }
    case 'pennywire.ledger.WalletFrozen':
      return {
        before: { frozenBy: record.value.previousSource },
        after: { frozenBy: record.value.source },
      }
    case 'pennywire.ledger.WalletUnfrozen':
      return { before: { frozenBy: record.value.previousSource }, after: { frozenBy: null } }
    case 'pennywire.ledger.WalletClosed':
      return { before: { closed: false }, after: { closed: true } }
    case 'pennywire.ledger.LimitChanged': {
      const { value } = record
      if (value.tier !== null) return { before: { tier: value.previousTier }, after: { tier: value.tier } }
      return {
        before: {
          perTransactionMinor: value.previousPerTransactionMinor,
          dailyMinor: value.previousDailyMinor,
          monthlyMinor: value.previousMonthlyMinor,
        },
        after: {
          perTransactionMinor: value.perTransactionMinor,
          dailyMinor: value.dailyMinor,
          monthlyMinor: value.monthlyMinor,
        },
      }
    }
    default:
      return null
  }
}
