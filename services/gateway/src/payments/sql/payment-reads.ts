// Payments in the ledger's published views: read over a separate connection, and compared in the program.
import { type Database, type Tx, UUID } from '@pennywire/runtime/database.ts'

/** The hold and the transfer of a payment in the ledger, by its id. Amounts are minor units. */
export type LedgerStatus = {
  id: string
  hold: { status: 'active' | 'captured' | 'voided' | 'expired'; type: string; fingerprint: Buffer } | null
  transfer: {
    type: string
    status: 'completed' | 'rejected'
    amount: bigint
    currency: string
    fingerprint: Buffer
    rejectionCode: string | null
    rejectionDetail: string | null
    /** The money is in a suspense wallet, because the user's could not take it. */
    inSuspense: boolean
  } | null
  /** The reversed amount of the transfer. */
  reversed: bigint
}

type LedgerStatusRow = {
  id: string
  holdStatus: 'active' | 'captured' | 'voided' | 'expired' | null
  holdType: string
  holdFingerprint: Buffer
  type: string | null
  status: 'completed' | 'rejected'
  amount: bigint
  currency: string
  fingerprint: Buffer
  rejectionCode: string | null
  rejectionDetail: string | null
  inSuspense: boolean
  reversed: bigint
}

/** One status for each id that is a hold or a transfer in the ledger. */
export const readLedgerStatuses = async (
  sql: Database | Tx,
  ids: string[],
): Promise<Map<string, LedgerStatus>> => {
  const rows = await sql<LedgerStatusRow[]>`
    select q.id, h.status as "holdStatus", h.type as "holdType", h.fingerprint as "holdFingerprint", t.type, t.status,
      t.amount, t.currency, t.fingerprint, t.rejection_code as "rejectionCode", t.rejection_detail as "rejectionDetail",
      coalesce(w.system like 'suspense:%', false) as "inSuspense",
      coalesce((select sum(r.amount) from ledger_api.reversals r where r.original_id = q.id), 0)::bigint as reversed
    from unnest(${sql.array(ids, UUID)}) as q (id)
    left join ledger_api.holds h on h.id = q.id
    left join ledger_api.transfers t on t.id = q.id
    left join ledger_api.wallets w on w.id = t.to_wallet
    where h.id is not null or t.id is not null`
  return new Map(
    rows.map(row => [
      row.id,
      {
        id: row.id,
        hold:
          row.holdStatus === null
            ? null
            : { status: row.holdStatus, type: row.holdType, fingerprint: row.holdFingerprint },
        transfer:
          row.type === null
            ? null
            : {
                type: row.type,
                status: row.status,
                amount: row.amount,
                currency: row.currency,
                fingerprint: row.fingerprint,
                rejectionCode: row.rejectionCode,
                rejectionDetail: row.rejectionDetail,
                inSuspense: row.inSuspense,
              },
        reversed: row.reversed,
      },
    ]),
  )
}

export type OutsideTransfer = { id: string; type: 'deposit' | 'withdrawal'; amount: bigint; currency: string }

/** One page of the ledger's movements to and from the outside world, in id order, above `after`. */
export const readOutsideTransfers = (
  sql: Database,
  after: string,
  limit: number,
): Promise<OutsideTransfer[]> =>
  sql<OutsideTransfer[]>`
    select id, type, amount, currency from ledger_api.transfers
    where id > ${after} and status = 'completed' and type in ('deposit', 'withdrawal') order by id limit ${limit}`

/** One page of the withdrawals whose money is held, in id order, above `after`. */
export const readHeldWithdrawals = (
  sql: Database,
  after: string,
  limit: number,
): Promise<{ id: string; amount: bigint; currency: string }[]> =>
  sql<{ id: string; amount: bigint; currency: string }[]>`
    select id, amount, currency from ledger_api.holds
    where id > ${after} and type = 'withdrawal' and status = 'active' order by id limit ${limit}`

/** Suspense wallets with a balance: the money has an owner. */
export const readSuspense = (
  sql: Database,
): Promise<{ id: string; system: string; currency: string; balance: bigint }[]> =>
  sql<{ id: string; system: string; currency: string; balance: bigint }[]>`
    select id, system, currency, balance from ledger_api.wallets
    where system like 'suspense:%' and balance <> 0 order by system`
