import { changeOf, type LogEntry, logEntryOf } from '@pennywire/contracts/log-entry.ts'
import type { AnyRecord } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import { bytesOf, genesisOf, hashAfter, headersOf } from '@pennywire/kafka/hash-chain.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { DISABLED_REASON_PURPOSE, SECOND_FACTOR_REASON_PURPOSE } from '../identity/staff/manage-users.ts'
import { ProblemError } from '../problems/problem.ts'
import { FREEZE_REASON } from '../wallets/wallet-view.ts'
import { STAFF_REASON_PURPOSE } from '../webhooks/manage-webhooks.ts'
import type { TrailRecord } from './sql/trail-reads.ts'

/** A record of the trail, read: what it states of itself, and whether its hash is right. */
export type OpenRecord = {
  stored: TrailRecord
  /** Whether its hash follows from its bytes and the hash before it. */
  verified: boolean
  headers: Map<string, string>
  /** Null: no schema of this version reads it. */
  record: AnyRecord | null
  entry: LogEntry
}

const isVerified = (stored: TrailRecord): boolean => {
  // The first record of a chain follows its genesis; no other one does, so that a missing one before it is seen.
  const previous = stored.previous ?? genesisOf(stored)
  return hashAfter(previous, bytesOf(stored)).equals(stored.hash)
}

/** Reads stored records. Throws 503 if the registry cannot be asked about a schema. */
export const openRecords = (
  codec: Pick<Codec, 'decodeRecord'>,
  records: readonly TrailRecord[],
): Promise<OpenRecord[]> =>
  Promise.all(
    records.map(async stored => {
      const headers = headersOf(stored)
      let record: AnyRecord | null = null
      try {
        record = await codec.decodeRecord({ value: stored.value, headers })
      } catch (error) {
        if (!(error instanceof UndecodableRecord))
          throw new ProblemError('SERVICE_UNAVAILABLE', 'The schema registry does not answer; try again.')
      }
      return {
        stored,
        verified: isVerified(stored),
        headers: new Map(headers.map(([name, value]) => [name, value.toString('utf8')])),
        record,
        entry: logEntryOf(headers, record),
      }
    }),
  )

/** What no page shows: bytes, which are ciphertext or only compare requests, and secrets for the notifier. */
const isHidden = (name: string, value: unknown) => Buffer.isBuffer(value) || name === 'secret'
const isTime = (name: string) => /(At|Until)$/.test(name)

const shown = (name: string, value: unknown): unknown => {
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'number' && isTime(name)) return timeOf(BigInt(value))
  if (Array.isArray(value)) return value.map(item => shown('', item))
  if (typeof value === 'object' && value !== null) return showFields(value as Record<string, unknown>)
  return value
}
const showFields = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(fields)
      .filter(([name, value]) => !isHidden(name, value))
      .map(([name, value]) => [name, shown(name, value)]),
  )

/** A record's fields as JSON: amounts in minor units as text, times as RFC 3339, no ciphertext and no secret. */
export const dataOf = ({ value }: AnyRecord): Record<string, unknown> =>
  showFields(value as unknown as Record<string, unknown>)

/** What a record says of before and after, as JSON. */
export const shownChangeOf = (record: AnyRecord) => {
  const change = changeOf(record)
  return change && { before: showFields(change.before), after: showFields(change.after) }
}

const MAX_MS = 8_640_000_000_000_000n
/** A record's time; null where a producer set what is no time. */
export const timeOf = (ms: bigint): string | null =>
  ms >= -MAX_MS && ms <= MAX_MS ? new Date(Number(ms)).toISOString() : null

/** A reason in words, with the person and the purpose under which it is sealed. */
const sealedReasonOf = (record: AnyRecord): { userId: string; cipher: Buffer; purpose: string } | null => {
  const sealed = (userId: string | null, cipher: Buffer | null, purpose: string) =>
    userId === null || cipher === null ? null : { userId, cipher, purpose }
  switch (record.type) {
    case 'pennywire.ledger.WalletFrozen':
    case 'pennywire.ledger.WalletUnfrozen':
      return sealed(record.value.ownerId, record.value.reason, FREEZE_REASON)
    case 'pennywire.ledger.TransferReversed':
      return sealed(record.value.userId, record.value.note, 'note')
    case 'pennywire.identity.AccountDeactivated':
    case 'pennywire.identity.AccountReactivated':
      return sealed(record.value.userId, record.value.reason, DISABLED_REASON_PURPOSE)
    case 'pennywire.identity.SecondFactorDisabled':
      return sealed(record.value.userId, record.value.reason, SECOND_FACTOR_REASON_PURPOSE)
    case 'pennywire.identity.WebhookChanged':
      return sealed(record.value.userId, record.value.staffReason, STAFF_REASON_PURPOSE)
    default:
      return null
  }
}

/** The reasons that staff and users gave, in words; null where there is none, or its person is erased. */
export const openReasons = (
  personKeys: Pick<PersonKeys, 'decryptFor'>,
  records: ReadonlyArray<AnyRecord | null>,
): Promise<Array<string | null>> =>
  Promise.all(
    records.map(async record => {
      const sealed = record && sealedReasonOf(record)
      if (!sealed) return null
      // Anybody with the right to write may put bytes there that no key of ours has sealed.
      return personKeys.decryptFor(sealed.userId, sealed.cipher, sealed.purpose).catch(() => null)
    }),
  )
