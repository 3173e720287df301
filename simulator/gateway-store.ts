import type { DueHold } from '../services/gateway/src/holds/sql/hold-reads.ts'
import type {
  HoldFacts,
  PartyFacts,
  TransferFacts,
  TransferLookup,
  TransferLookupKeys,
  WalletBrief,
  WalletFacts,
} from '../services/gateway/src/ledger/sql/ledger-reads.ts'
import type { LedgerStatus } from '../services/gateway/src/payments/sql/payment-reads.ts'
import type { NewPayment, Payment, Settlement } from '../services/gateway/src/payments/sql/payments.ts'
import type {
  NewPendingRequest,
  PendingRequest,
} from '../services/gateway/src/transfers/sql/pending-requests.ts'
import { entryKey, eventKey, type HoldTableRow, type Tables, type WalletRow } from './ledger-tables.ts'

/** The gateway's tables that the simulation needs, beside the ledger's. */
export type GatewayTables = {
  pending: Map<string, Omit<PendingRequest, 'isOpen'>>
  payments: Map<string, Payment>
}

// Each function stands for one statement of services/gateway/src/*/sql/; tests/store-conformance/ compares the two.

const party = (tables: Tables, walletId: string | null, sequence: number | null): PartyFacts | null => {
  if (walletId === null) return null
  const wallet = tables.wallets.get(walletId)
  const entry = sequence === null ? undefined : tables.entries.get(entryKey(walletId, sequence))
  return {
    walletId,
    userId: wallet?.userId ?? null,
    code: wallet?.code ?? null,
    balanceAfter: entry?.balanceAfter ?? null,
    sequence: sequence === null ? null : BigInt(sequence),
  }
}

const reversedOf = (tables: Tables, id: string): bigint =>
  tables.reversals.of(id).reduce((sum, { amount }) => sum + amount, 0n)

const inSuspense = (tables: Tables, walletId: string | null): boolean =>
  tables.wallets.get(walletId ?? '')?.system?.startsWith('suspense:') ?? false

const suspendedOf = (tables: Tables, id: string): bigint =>
  tables.reversals
    .of(id)
    .filter(({ transferId }) => inSuspense(tables, tables.transfers.get(transferId)!.toWallet))
    .reduce((sum, { amount }) => sum + amount, 0n)

const holdFacts = ({ status, amount, captured, untilMs, endedAt }: HoldTableRow): HoldFacts => ({
  status,
  amount,
  captured: captured ?? 0n,
  until: untilMs === null ? null : new Date(untilMs),
  endedAt,
})

const HOW_ENDED = {
  voided: { rejectionCode: 'HOLD_ENDED', rejectionDetail: 'The hold was let go.' },
  expired: { rejectionCode: 'HOLD_EXPIRED', rejectionDetail: 'The hold was not captured in time.' },
}

/** readTransfers, for one id: a transfer, or a hold that did not become one. */
export const readTransfer = (tables: Tables, id: string): TransferFacts | undefined => {
  const row = tables.transfers.get(id)
  const held = tables.holds.get(id)
  const hold = held?.type === 'hold' ? held : undefined
  if (row) {
    const { fromWallet, fromSequence, toWallet, toSequence, partition: _, seq: __, ...facts } = row
    return {
      ...facts,
      from: party(tables, fromWallet, fromSequence),
      to: party(tables, toWallet, toSequence),
      reversed: reversedOf(tables, id),
      suspended: suspendedOf(tables, id),
      hold: hold ? holdFacts(hold) : null,
    }
  }
  if (!hold || hold.status === 'captured') return undefined
  const { type, status, userId, walletId, toWalletId, amount, currency, fingerprint, note, metadata } = hold
  const how = status === 'active' ? { rejectionCode: null, rejectionDetail: null } : HOW_ENDED[status]
  return {
    id,
    type,
    status: status === 'active' ? 'pending' : 'rejected',
    userId,
    from: party(tables, walletId, null),
    to: party(tables, toWalletId, null),
    amount,
    currency,
    fingerprint,
    note,
    metadata,
    requestedAt: hold.requestedAt,
    decidedAt: hold.endedAt ?? new Date(hold.placedMs),
    ...how,
    rejectionLimit: null,
    rejectionUsed: null,
    originalId: null,
    linkedTo: null,
    reversed: reversedOf(tables, id),
    suspended: suspendedOf(tables, id),
    hold: holdFacts(hold),
  }
}

/** readOutcomes, for one id. */
export const readOutcome = (
  tables: Tables,
  commandId: string,
): { fingerprint: Buffer; bytes: Buffer } | undefined => {
  const row = tables.commands.get(commandId)
  const event = row && tables.journal.get(eventKey(row.partition, row.seq))
  return row && event && { fingerprint: row.fingerprint, bytes: event.bytes }
}

/** readLedgerStatuses */
export const readLedgerStatuses = (tables: Tables, ids: string[]): Map<string, LedgerStatus> =>
  new Map(
    ids.flatMap((id): [string, LedgerStatus][] => {
      const hold = tables.holds.get(id)
      const row = tables.transfers.get(id)
      if (!hold && !row) return []
      const ledgerStatus: LedgerStatus = {
        id,
        hold: hold ? { status: hold.status, type: hold.type, fingerprint: hold.fingerprint } : null,
        transfer: row
          ? {
              type: row.type,
              status: row.status,
              amount: row.amount,
              currency: row.currency,
              fingerprint: row.fingerprint,
              rejectionCode: row.rejectionCode,
              rejectionDetail: row.rejectionDetail,
              inSuspense: inSuspense(tables, row.toWallet),
            }
          : null,
        reversed: reversedOf(tables, id),
      }
      return [[id, ledgerStatus]]
    }),
  )

/** readHoldEndedBy */
export const readHoldEndedBy = (tables: Tables, commandId: string): string | undefined => {
  for (const hold of tables.holds.values()) {
    if (hold.endCommand === commandId) return hold.id
  }
  return undefined
}

const byDue = (a: { until: Date; id: string }, b: { until: Date; id: string }) =>
  a.until.getTime() - b.until.getTime() || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/** readDueHolds */
export const readDueHolds = (
  tables: Tables,
  nowMs: number,
  after: { until: Date; id: string },
  limit: number,
): DueHold[] => {
  const now = new Date(Math.floor(nowMs))
  return [...tables.holds.values()]
    .flatMap(({ id, type, status, userId, walletId, toWalletId, untilMs }) =>
      status === 'active' && type === 'hold' && untilMs !== null && untilMs < nowMs
        ? [{ id, userId, walletId, toWalletId: toWalletId!, until: new Date(untilMs), now }]
        : [],
    )
    .filter(hold => byDue(hold, after) > 0)
    .sort(byDue)
    .slice(0, limit)
}

const brief = (wallet: WalletRow | undefined): WalletBrief | null =>
  wallet && wallet.userId !== null && wallet.code !== null
    ? { id: wallet.id, userId: wallet.userId, code: wallet.code, currency: wallet.currency }
    : null

const walletWhere = (tables: Tables, holds: (wallet: WalletRow) => boolean): WalletRow | undefined => {
  for (const wallet of tables.wallets.values()) if (holds(wallet)) return wallet
  return undefined
}

const senderOf = (tables: Tables, { userId, fromWalletId, currency }: TransferLookupKeys) => {
  if (fromWalletId !== null) {
    const wallet = tables.wallets.get(fromWalletId)
    return wallet?.userId === userId ? wallet : undefined
  }
  return openWalletOf(tables, userId, currency)
}

/** The user's open wallet in a currency. */
export const openWalletOf = (tables: Tables, userId: string, currency: string): WalletRow | undefined =>
  walletWhere(
    tables,
    wallet => wallet.userId === userId && wallet.currency === currency && wallet.status !== 'closed',
  )

/** lookUpTransfers, for one set of keys. */
export const lookUpTransfers = (tables: Tables, question: TransferLookupKeys): TransferLookup => {
  const { transferId, toWalletId, toWalletCode } = question
  const recipient =
    toWalletId === null
      ? walletWhere(tables, ({ code }) => code !== null && code === toWalletCode)
      : tables.wallets.get(toWalletId)
  return {
    decided: tables.transfers.has(transferId) || tables.commands.has(transferId),
    sender: brief(senderOf(tables, question)),
    recipient: brief(recipient),
  }
}

export const readWallets = (tables: Tables, ids: string[]): WalletFacts[] =>
  ids.flatMap(id => {
    const wallet = tables.wallets.get(id)
    if (!wallet) return []
    const { system: _, held, sequence, tier: __, usage: ___, ...facts } = wallet
    return { ...facts, available: wallet.balance - held, sequence: BigInt(sequence) }
  })

export const writePending = ({ pending }: GatewayTables, requests: NewPendingRequest[]): void => {
  for (const { command: _, ...request } of requests) {
    const known = pending.get(request.transferId)
    if (!known) pending.set(request.transferId, { ...request })
    else if (known.fingerprint.equals(request.fingerprint)) {
      if (request.expiresAt > known.expiresAt) known.expiresAt = request.expiresAt
      known.acknowledged ||= request.acknowledged
    }
  }
}

const KEPT_AFTER_EXPIRY_MS = 60_000

export const readPending = ({ pending }: GatewayTables, id: string, nowMs: number): PendingRequest[] => {
  const request = pending.get(id)
  return request && (request.acknowledged || request.expiresAt.getTime() > nowMs - KEPT_AFTER_EXPIRY_MS)
    ? [{ ...request, isOpen: true }]
    : []
}

/** writePayment */
export const writePayment = ({ payments }: GatewayTables, payment: NewPayment): Payment => {
  const known = payments.get(payment.id) ?? {
    ...payment,
    status: 'created' as const,
    ...{ providerReference: null, failureCode: null, failureReason: null },
    ...{ orderedAt: null, orderAttempts: 0, done: false },
  }
  payments.set(payment.id, known)
  return { ...known }
}

export const markPaymentOrdering = (
  { payments }: GatewayTables,
  id: string,
  orderAttempts: number,
  nowMs: number,
): Date | undefined => {
  const payment = payments.get(id)
  const may =
    payment &&
    (payment.status === 'created' || payment.status === 'ordering') &&
    payment.orderAttempts === orderAttempts &&
    (payment.kind === 'withdrawal' || payment.expiresAt!.getTime() > nowMs)
  if (!may) return undefined
  const orderedAt = new Date(Math.floor(nowMs))
  Object.assign(payment, { status: 'ordering', orderedAt, orderAttempts: orderAttempts + 1 })
  return orderedAt
}

export const markPaymentPending = (
  { payments }: GatewayTables,
  id: string,
  providerReference: string | null,
): void => {
  const payment = payments.get(id)
  if (payment?.status === 'created' || payment?.status === 'ordering')
    Object.assign(payment, { status: 'pending', providerReference })
}

export const settlePayment = (
  { payments }: GatewayTables,
  id: string,
  { status, providerReference, failureCode, failureReason, orderAttempts }: Settlement,
): boolean => {
  const payment = payments.get(id)
  const may =
    payment &&
    (orderAttempts === null
      ? payment.status === 'created' ||
        payment.status === 'ordering' ||
        payment.status === 'pending' ||
        (status === 'returned' && payment.status === 'confirmed') ||
        (status === 'confirmed' && payment.status === 'failed' && payment.kind === 'deposit')
      : (payment.status === 'created' || payment.status === 'ordering') &&
        payment.orderAttempts === orderAttempts)
  if (!may) return false
  const reference = providerReference ?? payment.providerReference
  Object.assign(payment, { status, providerReference: reference, failureCode, failureReason, done: false })
  return true
}

export const markPaymentDone = (
  { payments }: GatewayTables,
  id: string,
  status: Payment['status'],
): boolean => {
  const payment = payments.get(id)
  if (payment?.status !== status || payment.done) return false
  payment.done = true
  return true
}
