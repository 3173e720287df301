import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Language } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { createListHolds } from '../holds/list-holds.ts'
import { viewApiKey } from '../identity/api-keys/api-key-routes.ts'
import type { ApiKeys } from '../identity/api-keys/api-keys.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { findUser } from '../identity/persons/sql/users.ts'
import type { LoginHistory } from '../identity/sessions/login-history.ts'
import { viewSessions } from '../identity/sessions/session-routes.ts'
import type { Sessions } from '../identity/sessions/sessions.ts'
import type { ExternalIdentities } from '../identity/sign-in/external-identities.ts'
import { type RequestPlace, readWalletsOf } from '../ledger/sql/ledger-reads.ts'
import { viewAllLimits } from '../limits/limit-view.ts'
import { readLimitedWallets } from '../limits/sql/limit-reads.ts'
import { viewNotices } from '../notifications/notice-view.ts'
import { readNotices, readPreferences } from '../notifications/sql/notifications.ts'
import { readMethods, readPaymentsOf } from '../payments/sql/payments.ts'
import type { createListTransfers } from '../transfers/list-transfers.ts'
import { type HoldView, METHOD_PURPOSE, type TransferView } from '../transfers/transfer-view.ts'
import { viewWallets } from '../wallets/wallet-view.ts'
import { listEndpoints } from '../webhooks/sql/webhooks.ts'
import type { ExportPage, ExportSections } from './compose-export.ts'
import { readErasure } from './sql/erasures.ts'
import { countFamiliar, readAccountDates } from './sql/exports.ts'

const PAGE = 100
const LAST_SEQ = 2n ** 63n - 1n
const ANY_TRANSFER = {
  ...{ type: null, status: null, direction: null, counterpartyId: null, minAmount: null, maxAmount: null },
  ...{ since: null, until: null, walletId: null, currency: null },
}
const FORMAT = 'pennywire-export-1'

export type ExportSources = {
  sql: Database
  ledgerRead: Database
  notifier: Database
  names: Names
  personKeys: PersonKeys
  sessions: Pick<Sessions, 'list'>
  logins: Pick<LoginHistory, 'list'>
  apiKeys: Pick<ApiKeys, 'list'>
  externalIdentities: Pick<ExternalIdentities, 'list'>
  listTransfers: ReturnType<typeof createListTransfers>
  listHolds: ReturnType<typeof createListHolds>
}

/** Everything about one person, as their export has it: of others only what they see, by masked names. */
export const createExportSections = (sources: ExportSources) => {
  const { sql, ledgerRead, notifier, names, personKeys } = sources

  /** What another person wrote to this one is theirs: it is left out. */
  const ownTexts = async <View extends TransferView | HoldView>(userId: string, items: View[]) => {
    const own = new Set((await readWalletsOf(ledgerRead, userId)).map(({ id }) => id))
    return items.map(item =>
      item.from === null || own.has(item.from.walletId) ? item : { ...item, note: null, metadata: null },
    )
  }

  /** A list that is read by the last item's id, newest first. */
  const byId =
    <Row extends { id: string }>(
      list: (page: { before: string | undefined; limit: number }) => Promise<Row[]>,
      view: (rows: Row[]) => object[],
    ) =>
    async (cursor: string | undefined): Promise<ExportPage> => {
      const rows = await list({ before: cursor, limit: PAGE })
      return { items: view(rows), nextCursor: rows.length < PAGE ? null : rows.at(-1)!.id }
    }

  return (userId: string): ExportSections => [
    { name: 'format', read: async () => FORMAT },
    {
      name: 'profile',
      read: async () => {
        const user = await findUser(sql, userId)
        if (!user) return null
        const { id, email, fullName, roles, createdAt, passwordHash } = user
        const dates = await readAccountDates(sql, userId)
        return { id, email, fullName, roles, createdAt, hasPassword: passwordHash !== null, ...dates }
      },
    },
    {
      name: 'deletion',
      read: async () => {
        const erasure = await readErasure(sql, userId)
        return erasure ? { requestedAt: erasure.requestedAt, dueAt: erasure.dueAt } : null
      },
    },
    { name: 'preferences', read: () => readPreferences(notifier, userId) },
    { name: 'familiar', read: () => countFamiliar(sql, userId) },
    {
      name: 'sessions',
      readPage: byId(
        page => sources.sessions.list({ userId, ...page }),
        rows => viewSessions(rows, null).map(({ current: _, ...session }) => session),
      ),
    },
    {
      name: 'logins',
      readPage: byId(
        page => sources.logins.list({ userId, ...page }),
        rows => rows,
      ),
    },
    {
      name: 'identities',
      readPage: async () => ({ items: await sources.externalIdentities.list(userId), nextCursor: null }),
    },
    {
      name: 'apiKeys',
      readPage: byId(
        page => sources.apiKeys.list({ userId, ...page }),
        rows => rows.map(viewApiKey),
      ),
    },
    {
      name: 'webhooks',
      readPage: async () => ({ items: await listEndpoints(notifier, userId), nextCursor: null }),
    },
    {
      name: 'wallets',
      readPage: async () => ({
        items: await viewWallets(personKeys, await readWalletsOf(ledgerRead, userId)),
        nextCursor: null,
      }),
    },
    {
      name: 'payments',
      readPage: async cursor => {
        const before: RequestPlace =
          cursor === undefined
            ? { requestedAt: new Date('9999-01-01'), id: 'ffffffff-ffff-ffff-ffff-ffffffffffff' }
            : readPlace(cursor)
        const payments = await readPaymentsOf(sql, userId, before, null, PAGE)
        const sealed = await readMethods(
          sql,
          payments.map(({ id }) => id),
        )
        const opened = await personKeys.decryptAll(
          sealed.map(({ method }) => ({ userId, cipher: method, purpose: METHOD_PURPOSE })),
        )
        const methods = new Map(sealed.map(({ id }, index) => [id, opened[index]]))
        const items = payments.map(({ id, kind, walletId, amount, currency, status, requestedAt }) => ({
          ...{ id, kind, walletId, amount: formatAmount(amount, currency), currency, status, requestedAt },
          method: methods.get(id) ?? null,
        }))
        const last = payments.at(-1)
        return { items, nextCursor: last && payments.length === PAGE ? placeText(last) : null }
      },
    },
    {
      name: 'limits',
      readPage: async () => ({
        items: viewAllLimits(await readLimitedWallets(ledgerRead, { userId, walletId: null })),
        nextCursor: null,
      }),
    },
    {
      name: 'transfers',
      readPage: async cursor => {
        const { items, nextCursor } = await sources.listTransfers(userId, ANY_TRANSFER, cursor, PAGE)
        return { items: await ownTexts(userId, items), nextCursor }
      },
    },
    {
      name: 'holds',
      readPage: async cursor => {
        const any = { status: null, direction: null }
        const { items, nextCursor } = await sources.listHolds(userId, any, cursor, PAGE)
        return { items: await ownTexts(userId, items), nextCursor }
      },
    },
    {
      name: 'notifications',
      readPage: async cursor => {
        const before = cursor === undefined ? LAST_SEQ : BigInt(cursor)
        const notices = await readNotices(notifier, userId, before, false, PAGE)
        const language: Language = (await readPreferences(notifier, userId)).language ?? 'en'
        return {
          items: await viewNotices(names, language, notices),
          nextCursor: notices.length < PAGE ? null : String(notices.at(-1)!.seq),
        }
      },
    },
  ]
}

const placeText = ({ requestedAt, id }: RequestPlace): string =>
  JSON.stringify({ at: requestedAt.getTime(), id })
const readPlace = (cursor: string): RequestPlace => {
  const { at, id } = JSON.parse(cursor) as { at: number; id: string }
  return { requestedAt: new Date(at), id }
}
