import type { CompletedTransfer } from '@pennywire/documents/describe-receipt.ts'
import type { Database } from '@pennywire/runtime/database.ts'

type Row = Omit<CompletedTransfer, 'from' | 'to'> & {
  fromUser: string | null
  fromCode: string | null
  toUser: string | null
  toCode: string | null
}

/** A completed transfer as the ledger has it; undefined where it has none of this id. */
export const readCompletedTransfer = async (
  ledgerRead: Database,
  id: string,
): Promise<CompletedTransfer | undefined> => {
  const [row] = await ledgerRead<[Row?]>`
    select t.id, t.type, t.amount, t.currency, t.decided_at as "completedAt",
      f.user_id as "fromUser", f.code as "fromCode", r.user_id as "toUser", r.code as "toCode"
    from ledger_api.transfers t
    left join ledger_api.wallets f on f.id = t.from_wallet
    left join ledger_api.wallets r on r.id = t.to_wallet
    where t.id = ${id} and t.status = 'completed'`
  if (!row) return undefined
  const { fromUser, fromCode, toUser, toCode, ...transfer } = row
  return {
    ...transfer,
    from: { userId: fromUser, code: fromCode },
    to: { userId: toUser, code: toCode },
  }
}
