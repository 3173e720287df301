import { walletIdOf } from '@pennywire/contracts/ids.ts'
import type {
  PartyFacts,
  TransferFacts,
  TransferGroundwork,
  TransferQuestion,
  WalletBrief,
  WalletFacts,
} from '../services/gateway/src/sql/ledger-reads.ts'
import type { Payment } from '../services/gateway/src/sql/payments.ts'
import type { PendingRequest } from '../services/gateway/src/sql/pending-requests.ts'
import type { Tables, WalletRow } from './memory-store.ts'

/** What the gateway keeps beside the ledger's tables. */
export type GatewayTables = { pending: Map<string, PendingRequest>; payments: Map<string, Payment> }

// Each of these is one statement of services/gateway/src/sql/, held against it by tests/store-conformance.test.ts.

const party = (tables: Tables, walletId: string | null, sequence: number | null): PartyFacts | null => {
  if (walletId === null) return null
  const wallet = tables.wallets.get(walletId)
  const entry = sequence === null ? undefined : tables.entries.get(walletId)?.[sequence - 1]
  return {
    walletId,
    userId: wallet?.userId ?? null,
    code: wallet?.code ?? null,
    balanceAfter: entry?.balanceAfter ?? null,
  }
}

/** readTransfers, for one. */
export const readTransfer = (tables: Tables, id: string): TransferFacts | undefined => {
  const row = tables.transfers.get(id)
  if (!row) return undefined
  const { fromWallet, fromSequence, toWallet, toSequence, partition: _, seq: __, ...facts } = row
  return { ...facts, from: party(tables, fromWallet, fromSequence), to: party(tables, toWallet, toSequence) }
}

const brief = (wallet: WalletRow | undefined): WalletBrief | null =>
  wallet && wallet.userId !== null && wallet.code !== null
    ? { id: wallet.id, userId: wallet.userId, code: wallet.code, currency: wallet.currency }
    : null

const walletWhere = (tables: Tables, holds: (wallet: WalletRow) => boolean): WalletRow | undefined => {
  for (const wallet of tables.wallets.values()) if (holds(wallet)) return wallet
  return undefined
}

const senderOf = (tables: Tables, { userId, fromWalletId, currency }: TransferQuestion) => {
  const wallet = tables.wallets.get(fromWalletId ?? walletIdOf(userId, currency, 0))
  if (fromWalletId !== null) return wallet?.userId === userId ? wallet : undefined
  if (wallet && wallet.status !== 'closed') return wallet
  return walletWhere(
    tables,
    other => other.userId === userId && other.currency === currency && other.status !== 'closed',
  )
}

/** readGroundwork, for one question. */
export const readGroundwork = (tables: Tables, question: TransferQuestion): TransferGroundwork => {
  const { transferId, toWalletId, toWalletCode } = question
  const recipient =
    toWalletId === null
      ? walletWhere(tables, ({ code }) => code !== null && code === toWalletCode)
      : tables.wallets.get(toWalletId)
  return {
    decided: tables.transfers.has(transferId),
    sender: brief(senderOf(tables, question)),
    recipient: brief(recipient),
  }
}

export const readWallets = (tables: Tables, ids: string[]): WalletFacts[] =>
  ids.flatMap(id => {
    const wallet = tables.wallets.get(id)
    if (!wallet) return []
    const { system: _, held, sequence: __, ...facts } = wallet
    return { ...facts, available: wallet.balance - held, closedAt: null }
  })

export const writePending = ({ pending }: GatewayTables, requests: PendingRequest[]): void => {
  for (const request of requests) {
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
    ? [{ ...request }]
    : []
}

export const settlePayment = (
  { payments }: GatewayTables,
  ...[id, status, providerReference, failureReason]: [string, 'confirmed' | 'failed', string, string | null]
): boolean => {
  const payment = payments.get(id)
  if (!payment || payment.status === 'confirmed' || payment.status === 'failed') return false
  Object.assign(payment, { status, providerReference, failureReason })
  return true
}
